//! Services: what is balanced, how, and among whom.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::lab::names::{IfName, Mac, NodeName, ServiceName};

/// A load-balanced service.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    pub(in crate::lab) name: ServiceName,
    pub(in crate::lab) vip: IpAddr,
    pub(in crate::lab) port: u16,
    pub(in crate::lab) protocol: Protocol,
    pub(in crate::lab) director: NodeName,
    pub(in crate::lab) scheduler: Scheduler,
    pub(in crate::lab) scheduler_flags: Vec<SchedulerFlag>,
    pub(in crate::lab) persistent: Option<Persistence>,
    pub(in crate::lab) one_packet: bool,
    pub(in crate::lab) method: Method,
    pub(in crate::lab) accept: Accept,
    pub(in crate::lab) servers: Vec<Server>,
    pub(in crate::lab) engine: EngineChoice,
    pub(in crate::lab) check: Option<Check>,
    pub(in crate::lab) on_fail: OnFail,
}

getters!(Service {
    /// Its name.
    name: &ServiceName = borrow,
    /// The virtual IP address; an address or alias of the director.
    vip: IpAddr = copy,
    /// Port on the VIP and, but for NAT, on the servers.
    port: u16 = copy,
    /// Transport protocol.
    protocol: Protocol = copy,
    /// The node that balances.
    director: &NodeName = borrow,
    /// How a server is chosen.
    scheduler: Scheduler = copy,
    /// The scheduler's flags, each once.
    scheduler_flags: &[SchedulerFlag] = borrow,
    /// Whether, and how long, a client stays with its server over several connections.
    persistent: Option<Persistence> = copy,
    /// Whether each datagram is scheduled by itself (UDP only).
    one_packet: bool = copy,
    /// How a packet reaches the server.
    method: Method = copy,
    /// How the servers take packets for the VIP.
    accept: Accept = copy,
    /// The realservers, in the file's order; at least one.
    servers: &[Server] = borrow,
    /// Which engine the file asks for.
    engine: EngineChoice = copy,
    /// How it is found out whether a server lives.
    check: Option<&Check> = option,
    /// What becomes of a server that the check calls dead.
    on_fail: OnFail = copy,
});

/// A realserver of a service.
#[derive(Debug, Clone, Serialize)]
pub struct Server {
    pub(in crate::lab) node: NodeName,
    pub(in crate::lab) address: IpAddr,
    pub(in crate::lab) port: u16,
    pub(in crate::lab) mac: Mac,
    pub(in crate::lab) interface: IfName,
    pub(in crate::lab) via: IfName,
    pub(in crate::lab) weight: u32,
    pub(in crate::lab) upper: u32,
    pub(in crate::lab) lower: u32,
}

getters!(Server {
    /// Its node.
    node: &NodeName = borrow,
    /// Its real address (RIP), of the VIP's family: on the network that it shares with the
    /// director, if there is one. With NAT and tunnels it may be some hops away.
    address: IpAddr = copy,
    /// The port at which it listens: the service's, but NAT may map it.
    port: u16 = copy,
    /// MAC address of its interface there.
    mac: Mac = copy,
    /// The server's own interface there.
    interface: &IfName = borrow,
    /// The director's interface towards it.
    via: &IfName = borrow,
    /// Its weight; 0 takes no new connections.
    weight: u32 = copy,
    /// Connections from which on it takes no new ones; 0 is no limit.
    upper: u32 = copy,
    /// Connections below which it takes new ones again after `upper` was reached; 0 leaves it to
    /// the kernel (three quarters of `upper`, `ip_vs_dest_totalconns` in ip_vs_conn.c).
    lower: u32 = copy,
});

/// Persistence of a service (`ipvsadm -p`): a client's connections all go to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Persistence {
    pub(in crate::lab) timeout: Duration,
    pub(in crate::lab) prefix: u8,
}

getters!(Persistence {
    /// How long after its last connection a client keeps its server, in whole seconds.
    timeout: Duration = copy,
    /// Bits of a client's address that make it the same client (`ipvsadm -M`): all by default.
    prefix: u8 = copy,
});

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub(in crate::lab) kind: CheckKind,
    pub(in crate::lab) every: Duration,
    pub(in crate::lab) timeout: Duration,
    pub(in crate::lab) rise: u32,
    pub(in crate::lab) fall: u32,
}

getters!(Check {
    /// What is tried.
    kind: &CheckKind = borrow,
    /// Time between two tries (default 2 s).
    every: Duration = copy,
    /// How long a try may take (default 1 s).
    timeout: Duration = copy,
    /// Successes in a row that make a dead server a live one (default 2).
    rise: u32 = copy,
    /// Failures in a row that make a live server a dead one (default 3).
    fall: u32 = copy,
});

/// What a health check tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// `GET` from the VIP, as this server answers for it, has a status from 200 to 399.
    Http {
        /// Host as written in the URL, for the `Host` header: `VIP`, the service's name or the
        /// VIP's address.
        host: String,
        /// Port, 80 unless given.
        port: u16,
        /// Path with query, beginning with `/`.
        path: String,
    },
    /// A TCP connection to this port of the VIP is accepted by this server.
    Tcp(u16),
    /// This command, run in the server's node, ends with code 0.
    Exec(Vec<String>),
}

words! {
    /// What becomes of a dead server.
    OnFail {
        /// Its weight becomes 0: connections that it has stay (the default).
        Weight = "weight",
        /// It is taken out of the service.
        Remove = "remove",
    }
}

words! {
    /// Transport protocol of a service.
    Protocol {
        /// TCP (the default).
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
    }
}

impl Protocol {
    /// `IPPROTO_*` (include/uapi/linux/in.h).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

words! {
    /// IPVS scheduler names, as `ipvsadm -s` takes them (ipvsadm(8)); `net/netfilter/ipvs/`
    /// has one file each.
    Scheduler {
        /// Round robin.
        Rr = "rr",
        /// Weighted round robin.
        Wrr = "wrr",
        /// Least connections.
        Lc = "lc",
        /// Weighted least connections.
        Wlc = "wlc",
        /// Locality-based least connections.
        Lblc = "lblc",
        /// Locality-based least connections with replication.
        Lblcr = "lblcr",
        /// Destination hashing.
        Dh = "dh",
        /// Source hashing.
        Sh = "sh",
        /// Maglev hashing of the source.
        Mh = "mh",
        /// Shortest expected delay.
        Sed = "sed",
        /// Never queue.
        Nq = "nq",
        /// Weighted failover: the heaviest available server takes everything.
        Fo = "fo",
        /// Weighted overflow: the heaviest server until it has as many connections as its weight.
        Ovf = "ovf",
        /// Power of two choices: the better of two weighted random servers.
        Twos = "twos",
    }
}

impl Scheduler {
    /// Whether it looks at weights other than 0. In the kernel's source the others ask only
    /// whether `dest->weight` is above 0.
    pub const fn weighs(self) -> bool {
        !matches!(self, Self::Rr | Self::Lc | Self::Dh)
    }
}

words! {
    /// Flags of schedulers, as `ipvsadm -b` takes them.
    SchedulerFlag {
        /// `sh`: hash the source's port too.
        ShPort = "sh-port",
        /// `sh`: hash again where the server is unavailable.
        ShFallback = "sh-fallback",
        /// `mh`: hash the source's port too.
        MhPort = "mh-port",
        /// `mh`: hash again where the server is unavailable.
        MhFallback = "mh-fallback",
    }
}

impl SchedulerFlag {
    /// The scheduler that knows it.
    pub const fn scheduler(self) -> Scheduler {
        match self {
            Self::ShPort | Self::ShFallback => Scheduler::Sh,
            Self::MhPort | Self::MhFallback => Scheduler::Mh,
        }
    }
}

words! {
    /// How the director hands a packet to a realserver.
    Method {
        /// Direct routing: only the MAC addresses change; the server answers the client itself.
        Dr = "dr",
        /// Masquerading: the destination becomes the server's address, and answers come back
        /// through the director.
        Nat = "nat",
        /// Tunnelling: the packet travels whole inside another one to the server, which answers
        /// the client itself.
        Tun = "tun",
    }
}

words! {
    /// How realservers take packets that are addressed to the VIP.
    Accept {
        /// NAT REDIRECT in prerouting, as the original lab; the VIP is on no interface.
        Redirect = "redirect",
        /// The VIP on an interface that is silent to ARP (`arp_ignore=1`, `arp_announce=2`): `lo`
        /// in direct routing, the end of the tunnel in tunnelling.
        Loopback = "loopback",
        /// Not at all: in NAT packets come with the server's own address. No word of the file.
        None = "none",
    }
}

words! {
    /// The engine that a service asks for.
    EngineChoice {
        /// Kernel IPVS where the kernel has it, else nft; `up` and `ps` say which.
        Auto = "auto",
        /// Kernel IPVS or an error.
        Ipvs = "ipvs",
        /// The nftables netdev-ingress engine.
        Nft = "nft",
    }
}
