//! The only room with effects on the kernel. It knows nothing of labs: namespaces have names,
//! links have specs, and that is all.
//!
//! [`Kernel`] is the seam: [`Linux`] does the work over netlink and syscalls, [`Recorder`] writes
//! down what it was told and can be made to fail at any call, so that order and undoing are tested
//! without root.

mod answers;
pub mod cgroup;
mod error;
mod ethtool;
pub mod ipvs;
mod linux;
pub mod mount;
mod netlink;
pub mod netns;
pub mod nft;
pub mod probe;
pub mod process;
mod recorder;
mod sysctl;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

pub use error::Error;
pub use linux::Linux;
pub use recorder::Recorder;

/// What a kernel call gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Index of the first link that is made in a namespace of nslab's own. The kernel makes links there
/// by itself, one for each kind of tunnel that it has or has loaded: `tunl0`, `sit0`, `gre0`,
/// `gretap0` ..., from 2 upwards.
pub const FIRST_INDEX: u32 = 64;

/// A network namespace by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ns {
    /// The namespace that nslab was started in; nothing is made there but what a lab asks for.
    Host,
    /// A namespace that nslab made and pinned under this name.
    Named(Arc<str>),
}

impl Ns {
    /// The pinned namespace of that name.
    pub fn named(name: &str) -> Self {
        Self::Named(Arc::from(name))
    }
}

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.pad("(host)"),
            Self::Named(name) => f.pad(name),
        }
    }
}

impl Serialize for Ns {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// One sysctl: its dotted name below `/proc/sys` and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sysctl {
    /// Name with dots, e.g. `net.ipv4.conf.all.rp_filter`. A `/` stands for a dot inside an
    /// interface name, as sysctl(8) has it.
    pub key: String,
    /// Text that is written.
    pub value: String,
    /// Whether a kernel without this key is all right (IPv6 that is to be off and is not there).
    pub optional: bool,
}

impl Sysctl {
    /// A sysctl that has to exist.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            optional: false,
        }
    }

    /// A sysctl that may be missing.
    pub fn optional(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            optional: true,
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// A bridge, made up and without spanning tree and multicast snooping: a plain switch that
/// forwards from the first frame on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BridgeSpec {
    /// Interface name.
    pub name: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its own MAC address, which matters if it takes part in the network itself; else the kernel
    /// takes one of a port's.
    pub mac: Option<[u8; 6]>,
}

/// A way for packets that bear a mark: to an address by a given neighbour, whoever else has that
/// address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MarkedPath {
    /// The mark (`SO_MARK`, socket(7)); it numbers the path's routing table too.
    pub mark: u32,
    /// The destination.
    pub to: IpAddr,
    /// The neighbour.
    pub via: IpAddr,
    /// The neighbour's MAC address, so that nobody is asked for it.
    pub mac: [u8; 6],
    /// The link to it.
    pub link: String,
}

impl fmt::Display for MarkedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mark,
            to,
            via,
            mac,
            link,
        } = self;
        let mac = crate::lab::Mac::from(*mac);
        write!(f, "mark {mark} to {to} via {via} mac {mac} on {link}")
    }
}

/// A veth pair: one end inside a namespace, the other a port of a bridge in another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VethSpec {
    /// Namespace of the near end.
    pub ns: Ns,
    /// Name of the near end.
    pub name: String,
    /// Interface index of the near end, so that nobody has to ask for it afterwards; `None` lets
    /// the kernel choose (in the host's namespace, where others make links too).
    pub index: Option<u32>,
    /// MAC address of the near end.
    pub mac: [u8; 6],
    /// MTU of both ends, bytes.
    pub mtu: u32,
    /// Namespace of the far end.
    pub switch: Ns,
    /// Name of the far end.
    pub port: String,
    /// The bridge that the far end is a port of.
    pub bridge: String,
    /// Text put on a near end in the host's namespace (`ip link` shows it as alias), so that it
    /// can be recognised as nslab's own when everything else is lost.
    pub mark: Option<String>,
}

/// The far end of tunnels: an interface of its own, whose other end is whoever sends. What arrives at
/// `local` wrapped in IP comes out of it (RFC 2003, and RFC 2473 for IPv6 in IPv6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelSpec {
    /// Interface name.
    pub name: String,
    /// The address that outer packets go to; the family decides on the kind, `ipip` or `ip6tnl`.
    pub local: IpAddr,
}

impl TunnelSpec {
    /// The kind as `ip link add type` has it.
    pub const fn kind(&self) -> &'static str {
        match self.local {
            IpAddr::V4(_) => "ipip",
            IpAddr::V6(_) => "ip6tnl",
        }
    }
}

impl fmt::Display for TunnelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, kind, local) = (&self.name, self.kind(), self.local);
        write!(f, "tunnel {name} type {kind} local {local} remote any")
    }
}

/// Effects on the kernel, each complete when its call returns.
pub trait Kernel {
    /// Makes a network namespace and pins it, so that it lives without a process in it.
    fn add_netns(&mut self, ns: &Ns) -> Result<()>;
    /// Writes sysctls as a process in `ns` sees them.
    fn set_sysctls(&mut self, ns: &Ns, values: &[Sysctl]) -> Result<()>;
    /// Makes a bridge and sets it up.
    fn add_bridge(&mut self, ns: &Ns, bridge: &BridgeSpec) -> Result<()>;
    /// Makes a veth pair; both ends stay down.
    fn add_veth(&mut self, veth: &VethSpec) -> Result<()>;
    /// Makes the end of a tunnel; it stays down.
    fn add_tunnel(&mut self, ns: &Ns, tunnel: &TunnelSpec) -> Result<()>;
    /// Turns tx-checksum, TSO, GSO and GRO off, so that captures look like a wire.
    fn disable_offloads(&mut self, ns: &Ns, link: &str) -> Result<()>;
    /// Adds an address to a link.
    fn add_address(&mut self, ns: &Ns, link: &str, address: IpNet) -> Result<()>;
    /// Sets a link up.
    fn set_link_up(&mut self, ns: &Ns, link: &str) -> Result<()>;
    /// Waits until links are operational. Setting a link up returns before that: the kernel handles
    /// a new carrier in a work queue (net/core/link_watch.c), and until then frames are dropped and
    /// bridge ports do not forward.
    fn wait_operational(&mut self, ns: &Ns, links: &[String]) -> Result<()>;
    /// Adds a default route.
    fn add_default_route(&mut self, ns: &Ns, via: IpAddr) -> Result<()>;
    /// Adds a path for marked packets: a rule, a routing table, a neighbour.
    fn add_marked_path(&mut self, ns: &Ns, path: &MarkedPath) -> Result<()>;
    /// Deletes a link (and with it its veth peer). A link that is not there is not an error.
    fn delete_link(&mut self, ns: &Ns, link: &str) -> Result<()>;
    /// Puts a ruleset into the namespace's nftables in one transaction.
    fn apply_nft(&mut self, ns: &Ns, ruleset: &nft::Ruleset) -> Result<()>;
    /// Adds services and their destinations to the namespace's IPVS: all or none.
    fn apply_ipvs(&mut self, ns: &Ns, table: &ipvs::Table) -> Result<()>;
    /// Sees to it that a control group is not there, or fails if it is somebody else's.
    fn clear_cgroup(&mut self, folder: &cgroup::Folder) -> Result<()>;
    /// Makes a control group with its limits; gives what could not be limited, and why.
    fn add_cgroup(
        &mut self,
        folder: &cgroup::Folder,
    ) -> Result<Vec<(cgroup::Controller, cgroup::Lack)>>;
}
