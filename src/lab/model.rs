//! The model: what a lab is once every question about the file has been answered.
//!
//! Fields are readable inside this room only; everyone else reads through the getters, and nobody
//! outside can build one.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::names::{IfName, LabName, Mac, NetworkName, NodeName, ServiceName};

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
    pub(super) command: Option<Vec<String>>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) volumes: Vec<Volume>,
    pub(super) cap_add: Vec<String>,
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
    /// Command that runs instead of the image's, or in an image-less node.
    command: Option<&Vec<String>> = option,
    /// Environment added to the image's.
    env: &BTreeMap<String, String> = borrow,
    /// Host folders and files shown inside.
    volumes: &[Volume] = borrow,
    /// Capabilities on top of a container's default ones, as `CAP_NET_ADMIN`.
    cap_add: &[String] = borrow,
    /// Sysctls set after nslab's own, `net.*` only.
    sysctls: &BTreeMap<String, String> = borrow,
    /// When its main process is started again.
    restart: Restart = copy,
    /// What `up` waits for.
    ready: Option<&Ready> = option,
});

impl Node {
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

/// A host path shown inside a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) read_only: bool,
}

getters!(Volume {
    /// Path on the host; relative ones are taken from the lab file's folder.
    source: &PathBuf = borrow,
    /// Absolute path inside the node.
    target: &PathBuf = borrow,
    /// Whether it is mounted read-only.
    read_only: bool = copy,
});

/// When a node's main process is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// When it ends with another code than 0 or by a signal (the default).
    OnFailure,
    /// Always.
    Always,
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

/// A load-balanced service.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    pub(super) name: ServiceName,
    pub(super) vip: IpAddr,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) director: NodeName,
    pub(super) scheduler: Scheduler,
    pub(super) method: Method,
    pub(super) accept: Accept,
    pub(super) servers: Vec<Server>,
    pub(super) engine: EngineChoice,
}

getters!(Service {
    /// Its name.
    name: &ServiceName = borrow,
    /// The virtual IP address; an address or alias of the director.
    vip: IpAddr = copy,
    /// Port on the VIP and, in DR, on the servers.
    port: u16 = copy,
    /// Transport protocol.
    protocol: Protocol = copy,
    /// The node that balances.
    director: &NodeName = borrow,
    /// How a server is chosen.
    scheduler: Scheduler = copy,
    /// How a packet reaches the server.
    method: Method = copy,
    /// How the servers take packets for the VIP.
    accept: Accept = copy,
    /// The realservers, in the file's order; at least one.
    servers: &[Server] = borrow,
    /// Which engine the file asks for.
    engine: EngineChoice = copy,
});

/// A realserver of a service.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    pub(super) node: NodeName,
    pub(super) address: IpAddr,
    pub(super) mac: Mac,
    pub(super) interface: IfName,
    pub(super) via: IfName,
    pub(super) weight: u32,
}

getters!(Server {
    /// Its node.
    node: &NodeName = borrow,
    /// Its real address (RIP) on the network that it shares with the director.
    address: IpAddr = copy,
    /// MAC address of its interface there.
    mac: Mac = copy,
    /// The server's own interface there.
    interface: &IfName = borrow,
    /// The director's interface there.
    via: &IfName = borrow,
    /// Its weight; 0 takes no new connections.
    weight: u32 = copy,
});

/// Transport protocol of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP (the default).
    Tcp,
    /// UDP.
    Udp,
}

/// IPVS scheduler names, as `ipvsadm -s` takes them (ipvsadm(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Source hashing.
    Sh,
}

impl Scheduler {
    /// The name in the file and for the kernel.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Sh => "sh",
        }
    }
}

/// How the director hands a packet to a realserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Direct routing: only the MAC addresses change; the server answers the client itself.
    Dr,
}

/// How realservers take packets that are addressed to the VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// NAT REDIRECT in prerouting, as the original lab; the VIP is on no interface.
    Redirect,
    /// The VIP on `lo`, with `arp_ignore=1` and `arp_announce=2`.
    Loopback,
}

/// The engine that a service asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// Kernel IPVS where the kernel has it, else nft; `up` and `ps` say which.
    Auto,
    /// Kernel IPVS or an error.
    Ipvs,
    /// The nftables netdev-ingress engine.
    Nft,
}

/// What is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capture {
    pub(super) scope: CaptureScope,
    pub(super) snaplen: u32,
}

getters!(Capture {
    /// Which interfaces.
    scope: &CaptureScope = borrow,
    /// Bytes kept of each frame (default 262144, tcpdump's).
    snaplen: u32 = copy,
});

impl Capture {
    /// Whether this interface of this node is captured.
    pub fn wants(&self, node: &NodeName, interface: &IfName) -> bool {
        match &self.scope {
            CaptureScope::All => true,
            CaptureScope::Off => false,
            CaptureScope::Only(list) => list.iter().any(|(n, i)| n == node && i == interface),
        }
    }
}

/// Which interfaces are captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureScope {
    /// Every interface of every node.
    All,
    /// None.
    Off,
    /// These.
    Only(Vec<(NodeName, IfName)>),
}
