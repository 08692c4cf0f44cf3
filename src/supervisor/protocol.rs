//! The control protocol: one JSON object a line over the unix socket, a request and its reply;
//! `Down` and `Events` have many.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bus::Record;
use super::event::{CaptureStats, Event};
use crate::director::live::ServiceState;
use crate::kernel::cgroup::{Controller, Limits, Usage};
use crate::kernel::process::ProcessId;

/// What a command asks of the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// The lab at a glance.
    Status,
    /// Counts of the captures.
    Captures,
    /// Stop capturing these interfaces: `node:interface` each, or `all`.
    CaptureStop {
        /// Which.
        interfaces: Vec<String>,
    },
    /// Capture these interfaces, again or for the first time.
    CaptureStart {
        /// Which.
        interfaces: Vec<String>,
    },
    /// See to it that a node can be entered (its init may not have been needed so far).
    Enter {
        /// Which node.
        node: String,
    },
    /// What happens from now on: [`Reply::Following`], then [`Reply::Record`] and
    /// [`Reply::Skipped`] until the lab is gone or the asker is.
    Events,
    /// Services with all that is counted.
    Service {
        /// Which; all if it is left out.
        name: Option<String>,
    },
    /// Give a server another weight.
    Weight {
        /// The service, where it is not clear.
        service: Option<String>,
        /// `node`, or `node:port`.
        server: String,
        /// The weight; 0 takes no new connections.
        weight: u32,
    },
    /// Add a server to a service.
    AddServer {
        /// The service, where it is not clear.
        service: Option<String>,
        /// The server.
        server: NewServer,
    },
    /// Remove a server from a service, at once.
    RemoveServer {
        /// The service, where it is not clear.
        service: Option<String>,
        /// `node`, or `node:port`.
        server: String,
    },
    /// Take the lab down. Replies are events until [`Event::Down`].
    Down,
}

/// What the supervisor answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Captures`].
    Captures {
        /// One an interface.
        interfaces: Vec<CaptureStats>,
    },
    /// To [`Request::CaptureStop`] and [`Request::CaptureStart`].
    Turned {
        /// Those that were stopped or started.
        changed: Vec<CaptureStats>,
        /// Those that already were.
        unchanged: Vec<String>,
    },
    /// To [`Request::Enter`]: the node's target file is there now.
    Entered,
    /// To [`Request::Service`].
    Services {
        /// In the lab file's order of directors and services.
        services: Vec<ServiceTable>,
    },
    /// To [`Request::Weight`], [`Request::AddServer`] and [`Request::RemoveServer`]: it is done.
    Changed {
        /// The service.
        service: String,
        /// The server's node.
        server: String,
        /// What may not be as it was meant.
        warnings: Vec<String>,
    },
    /// To [`Request::Events`], first: records up to this number are in the log.
    Following {
        /// The number; 0 if nothing has happened.
        after: u64,
    },
    /// Something happened (during [`Request::Events`]).
    Record {
        /// What and when.
        record: Record,
    },
    /// The asker was too slow, and this many records were not kept for it.
    Skipped {
        /// How many.
        events: u64,
    },
    /// Something happened (during [`Request::Down`]).
    Event {
        /// What.
        event: Event,
    },
    /// The request was refused.
    Error {
        /// Why.
        message: String,
    },
}

/// A server that is to join a service, as a lab file would have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewServer {
    /// Its node.
    pub node: String,
    /// Its weight; 1 if it is left out.
    pub weight: Option<u32>,
    /// Its port, for method nat; the service's if it is left out.
    pub port: Option<u16>,
    /// Connections at which it takes no new ones.
    pub upper: Option<u32>,
    /// Connections below which it takes new ones again.
    pub lower: Option<u32>,
}

/// A service as it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceTable {
    /// The lab's name.
    pub lab: String,
    /// Node of its director.
    pub director: String,
    /// `ipvs` or `nft`.
    pub engine: String,
    /// `dr`, `nat` or `tun`.
    pub method: String,
    /// What its checks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What is counted.
    #[serde(flatten)]
    pub state: ServiceState,
}

/// What the health checks of a service say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Servers that live and take connections.
    pub live: usize,
    /// Servers that count as dead.
    pub dead: Vec<Dead>,
}

impl Health {
    /// Whether a server counts as dead.
    pub fn is_dead(&self, server: &str, port: u16) -> bool {
        self.dead
            .iter()
            .any(|d| d.server == server && d.port == port)
    }
}

/// A server that counts as dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// Its node.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// What the last check met; empty if that one passed, and more have to.
    pub why: String,
}

/// A lab at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub lab: String,
    /// The lab file.
    pub file: PathBuf,
    /// The supervisor.
    pub supervisor: ProcessId,
    /// Seconds since `up` began.
    pub uptime_s: u64,
    /// Folder of the capture files.
    pub exchange: PathBuf,
    /// Its nodes, in the file's order.
    pub nodes: Vec<NodeStatus>,
    /// Its services.
    pub services: Vec<ServiceStatus>,
    /// Frames that captures lost so far.
    pub dropped: u64,
}

/// A node at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `up` (nothing to run), `starting`, `running`, `ready`, `restarting`, `exited`.
    pub state: String,
    /// Pid of its init on the host, if it has one.
    pub pid: Option<i32>,
    /// Its image, if it has one.
    pub image: Option<String>,
    /// `if=address/prefix` each.
    pub addresses: Vec<String>,
    /// How often its main process was started again.
    pub restarts: u32,
    /// Its limits, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<NodeLimits>,
}

/// A node's limits, and how near it is to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLimits {
    /// What the lab's file has.
    #[serde(flatten)]
    pub limits: Limits,
    /// What of that nothing keeps on this machine.
    pub not_kept: Vec<Controller>,
    /// What is used.
    pub usage: Usage,
}

/// A service at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// `vip:port/protocol`.
    pub address: String,
    /// Its director.
    pub director: String,
    /// `ipvs` or `nft`.
    pub engine: String,
    /// `dr`, `nat` or `tun`.
    pub method: String,
    /// The scheduler.
    pub scheduler: String,
    /// `name weight` each.
    pub servers: Vec<(String, u32)>,
    /// What its checks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}
