//! What the supervisor tells while it works. Reporters turn it into text, progress bars or JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::capture::Stats as CaptureStats;
use crate::kernel::cgroup::Controller;
pub use crate::merge::Merged;

/// One thing that happened. As JSON: one object a line, the kind under `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// `done` of `total` steps of the plan are carried out.
    Step {
        /// Steps that are done.
        done: usize,
        /// Steps in all.
        total: usize,
    },
    /// All namespaces, links, addresses and routes are there.
    NetworkUp {
        /// Nodes.
        nodes: usize,
        /// Their interfaces.
        interfaces: usize,
        /// Milliseconds since `up` began.
        ms: u64,
    },
    /// Captures run.
    Capturing {
        /// On so many interfaces.
        interfaces: usize,
        /// Into this folder.
        folder: PathBuf,
    },
    /// A director was programmed.
    Director {
        /// Its node.
        node: String,
        /// `ipvs` or `nft`.
        engine: String,
        /// Why this one.
        reason: String,
        /// Its services.
        services: Vec<String>,
    },
    /// A node's main process was started.
    Started {
        /// Which node.
        node: String,
    },
    /// A node's probe succeeded.
    Ready {
        /// Which node.
        node: String,
        /// Milliseconds since its process was started.
        ms: u64,
    },
    /// A main process ended.
    Exited {
        /// Which node.
        node: String,
        /// How, in words.
        how: String,
        /// Milliseconds until it is started again, if it is.
        restart_in_ms: Option<u64>,
    },
    /// A node has reached one of its limits.
    LimitReached {
        /// Which node.
        node: String,
        /// Of memory: the kernel has killed processes. Of pids: it has refused forks.
        limit: Controller,
        /// The limit: bytes, or processes and threads.
        most: u64,
        /// How many, since it was told last.
        times: u64,
    },
    /// A server has another weight.
    Weight {
        /// The service.
        service: String,
        /// The server's node.
        server: String,
        /// The weight that it had.
        from: u32,
        /// The weight that it has; 0 takes no new connections.
        to: u32,
        /// Why, in words.
        why: String,
    },
    /// A server has joined a service.
    ServerAdded {
        /// The service.
        service: String,
        /// The server's node.
        server: String,
        /// Its weight.
        weight: u32,
    },
    /// A server has left a service.
    ServerRemoved {
        /// The service.
        service: String,
        /// The server's node.
        server: String,
        /// Connections that it still had. Their packets are dropped.
        connections: u64,
    },
    /// The health check of a service calls one of its servers dead.
    ServerDied {
        /// The service.
        service: String,
        /// The server's node.
        server: String,
        /// The server's port.
        port: u16,
        /// What the last check met.
        why: String,
        /// Checks in a row that failed.
        failed: u32,
        /// Whether the director forgets it; else its weight is 0.
        removed: bool,
    },
    /// The health check of a service calls a dead server alive again.
    ServerRevived {
        /// The service.
        service: String,
        /// The server's node.
        server: String,
        /// The server's port.
        port: u16,
        /// Checks in a row that passed.
        passed: u32,
        /// Its weight from now on.
        weight: u32,
    },
    /// A service has no server left that lives and takes connections.
    NoServers {
        /// The service.
        service: String,
    },
    /// A service has such a server again.
    Served {
        /// The service.
        service: String,
    },
    /// Something that the user should know and that stops nothing.
    Warning {
        /// In words.
        text: String,
    },
    /// The lab is up.
    Up {
        /// Its name.
        lab: String,
        /// Milliseconds since `up` began.
        ms: u64,
    },
    /// `up` failed; everything is being undone.
    Failed {
        /// Why.
        error: String,
        /// The last lines that the guilty node printed.
        log: Vec<String>,
    },
    /// The lab goes down; main processes have been asked to end and have not yet.
    Stopping {
        /// Their nodes.
        nodes: Vec<String>,
        /// Milliseconds until the last of them is killed.
        left_ms: u64,
    },
    /// Captures were stopped on request; frames are missing from here on.
    CaptureStopped {
        /// `node:interface` each.
        interfaces: Vec<String>,
    },
    /// Captures were started on request.
    CaptureStarted {
        /// `node:interface` each.
        interfaces: Vec<String>,
    },
    /// Final counts of the captures.
    Captured {
        /// One an interface.
        interfaces: Vec<CaptureStats>,
    },
    /// All captures were merged into one file.
    Merged(Merged),
    /// The lab is gone.
    Down {
        /// Its name.
        lab: String,
        /// What could not be undone.
        errors: Vec<String>,
    },
}
