//! The model: what a lab is once every question about the file has been answered.
//!
//! Fields are readable inside this room only; everyone else reads through the getters, and nobody
//! outside can build one.

macro_rules! getters {
    ($ty:ident { $($(#[$doc:meta])* $field:ident : $ret:ty = $how:tt),* $(,)? }) => {
        impl $ty { $(
            $(#[$doc])*
            pub fn $field(&self) -> $ret { getters!(@ $how self.$field) }
        )* }
    };
    (@ copy $e:expr) => { $e };
    (@ borrow $e:expr) => { &$e };
    (@ option $e:expr) => { $e.as_ref() };
}

/// A key's words: an enum, its words in the file, and the way between them.
macro_rules! words {
    ($(#[$doc:meta])* $ty:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $ty { $($(#[$vdoc])* $variant,)* }

        impl $ty {
            /// The word in the file.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What the file's word means.
            pub(in crate::lab) fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl serde::Serialize for $ty {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }
    };
}

mod capture;
mod process;
mod service;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::names::{IfName, LabName, Mac, NetworkName, NodeName};

pub use capture::{Capture, CaptureScope, CaptureSettings, Rotate};
pub use process::{EnvFile, Limits, Seccomp, Tmpfs, Volume};
pub use service::{
    Accept, Check, CheckKind, EngineChoice, Method, OnFail, Persistence, Protocol, Scheduler,
    SchedulerFlag, Server, Service,
};

/// A whole lab, valid by construction.
#[derive(Debug, Clone, Serialize)]
pub struct Lab {
    pub(super) name: LabName,
    pub(super) networks: Vec<Network>,
    pub(super) nodes: Vec<Node>,
    pub(super) services: Vec<Service>,
    pub(super) capture: Capture,
    /// Places in `nodes` by name: labs have up to thousands of nodes.
    #[serde(skip)]
    pub(super) node_index: HashMap<String, usize>,
}

getters!(Lab {
    /// Its name.
    name: &LabName = borrow,
    /// Networks, in the file's order.
    networks: &[Network] = borrow,
    /// Nodes, in the file's order.
    nodes: &[Node] = borrow,
    /// Services, in the file's order; the first one's address is also called `VIP`.
    services: &[Service] = borrow,
    /// What is captured and how.
    capture: &Capture = borrow,
});

impl Lab {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.node_index.get(name).and_then(|&n| self.nodes.get(n))
    }

    /// The network of that name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|n| n.name.as_str() == name)
    }
}

/// A layer-2 segment: one bridge in the namespace that the lab owns.
#[derive(Debug, Clone, Serialize)]
pub struct Network {
    pub(super) name: NetworkName,
    pub(super) subnet: IpNet,
    pub(super) mtu: u32,
    pub(super) ipv6: bool,
    pub(super) host: Option<HostSide>,
}

getters!(Network {
    /// Its name.
    name: &NetworkName = borrow,
    /// Its subnet, host bits zero.
    subnet: IpNet = copy,
    /// MTU in bytes of each interface on it (default 1500).
    mtu: u32 = copy,
    /// Whether its interfaces keep IPv6: the subnet is an IPv6 one or the file asks for it.
    ipv6: bool = copy,
    /// The host's own place on it, if it has one.
    host: Option<&HostSide> = option,
});

/// The host's own interface on a network.
#[derive(Debug, Clone, Serialize)]
pub struct HostSide {
    pub(super) ifname: IfName,
    pub(super) address: IpNet,
    pub(super) mac: Mac,
}

getters!(HostSide {
    /// Name of the veth end in the host's own namespace, `<lab>-<network>` cut to 15 bytes.
    ifname: &IfName = borrow,
    /// The host's address with the subnet's prefix length.
    address: IpNet = copy,
    /// Its MAC address.
    mac: Mac = copy,
});

/// A machine of the lab.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    pub(super) name: NodeName,
    pub(super) interfaces: Vec<Interface>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) forward: bool,
    pub(super) image: Option<String>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) workdir: Option<PathBuf>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) env_files: Vec<EnvFile>,
    pub(super) volumes: Vec<Volume>,
    pub(super) tmpfs: Vec<Tmpfs>,
    pub(super) keep: bool,
    pub(super) stop_signal: Option<i32>,
    pub(super) stop_grace: Option<Duration>,
    pub(super) limits: Option<Limits>,
    pub(super) cap_add: Vec<String>,
    pub(super) cap_drop: Vec<String>,
    pub(super) seccomp: Seccomp,
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) restart: Restart,
    pub(super) ready: Option<Ready>,
}

getters!(Node {
    /// Its name and hostname.
    name: &NodeName = borrow,
    /// Interfaces, in the file's order.
    interfaces: &[Interface] = borrow,
    /// Next hop of its default route.
    gateway: Option<IpAddr> = copy,
    /// Whether it forwards packets (`net.ipv4.ip_forward`).
    forward: bool = copy,
    /// Image reference as written; `None` means the host's own root, read-only.
    image: Option<&String> = option,
    /// What runs instead of the image's ENTRYPOINT, whose CMD is dropped then; empty is none.
    entrypoint: Option<&Vec<String>> = option,
    /// With an image, what stands in place of its CMD; without, the program and its arguments.
    command: Option<&Vec<String>> = option,
    /// User, and group after a `:`, by name or number, instead of the image's.
    user: Option<&String> = option,
    /// Absolute working directory instead of the image's.
    workdir: Option<&PathBuf> = option,
    /// Environment on top of the image's and of [`env_files`](Self::env_files).
    env: &BTreeMap<String, String> = borrow,
    /// Files with environment on top of the image's, a later one before an earlier one.
    env_files: &[EnvFile] = borrow,
    /// Host folders and files shown inside.
    volumes: &[Volume] = borrow,
    /// Memory filesystems.
    tmpfs: &[Tmpfs] = borrow,
    /// Whether its writable layer stays after `down` and is used again by the next `up`.
    keep: bool = copy,
    /// Number of the signal that asks its main process to end, instead of the image's.
    stop_signal: Option<i32> = copy,
    /// How long its main process has to end then.
    stop_grace: Option<Duration> = copy,
    /// What its processes may use at most.
    limits: Option<&Limits> = option,
    /// Capabilities on top of a container's default ones, as `CAP_NET_ADMIN`.
    cap_add: &[String] = borrow,
    /// Capabilities that it lacks of a container's default ones; [`ALL`](Self::ALL) is all of them.
    cap_drop: &[String] = borrow,
    /// Whether its system calls are filtered.
    seccomp: Seccomp = copy,
    /// Sysctls set after nslab's own, `net.*` only.
    sysctls: &BTreeMap<String, String> = borrow,
    /// When its main process is started again.
    restart: Restart = copy,
    /// What `up` waits for.
    ready: Option<&Ready> = option,
});

impl Node {
    /// In [`cap_drop`](Self::cap_drop): every capability that is not in [`cap_add`](Self::cap_add).
    pub const ALL: &str = "ALL";

    /// The interface of that name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.name.as_str() == name)
    }

    /// Its interface on `network`.
    pub fn on(&self, network: &NetworkName) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.network == *network)
    }

    /// Whether a main process is supervised in it (an image's or a command).
    pub fn has_process(&self) -> bool {
        self.image.is_some() || self.command.is_some()
    }
}

/// One end of a veth pair inside a node; the other end is a port of its network's bridge.
#[derive(Debug, Clone, Serialize)]
pub struct Interface {
    pub(super) name: IfName,
    pub(super) network: NetworkName,
    pub(super) address: IpNet,
    pub(super) aliases: Vec<IpAddr>,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
    pub(super) ipv6: bool,
}

getters!(Interface {
    /// Its name inside the node.
    name: &IfName = borrow,
    /// The network it is on.
    network: &NetworkName = borrow,
    /// Its address with the subnet's prefix length.
    address: IpNet = copy,
    /// More addresses on it (a VIP that is not the node's own address), added as /32 or /128.
    aliases: &[IpAddr] = borrow,
    /// Its MAC address, made from the names of lab, node and interface.
    mac: Mac = copy,
    /// MTU in bytes, the network's.
    mtu: u32 = copy,
    /// Whether IPv6 stays on.
    ipv6: bool = copy,
});

words! {
    /// When a node's main process is started again.
    Restart {
        /// Never.
        No = "no",
        /// When it ends with another code than 0 or by a signal (the default).
        OnFailure = "on-failure",
        /// Always.
        Always = "always",
    }
}

/// What `up` waits for before it calls a node ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ready {
    pub(super) kind: ReadyKind,
    pub(super) timeout: Duration,
}

getters!(Ready {
    /// The probe.
    kind: &ReadyKind = borrow,
    /// How long `up` waits for it (default 60 s).
    timeout: Duration = copy,
});

/// A readiness probe, made from inside the node's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyKind {
    /// `GET` answers with a status from 200 to 399.
    Http {
        /// Host as written in the URL; `localhost` or an address of the node.
        host: String,
        /// Port, 80 unless given.
        port: u16,
        /// Path with query, beginning with `/`.
        path: String,
    },
    /// A TCP connection to this port of 127.0.0.1 is accepted.
    Tcp(u16),
}
