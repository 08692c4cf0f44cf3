//! What an engine is told: services as their director has to know them.

use std::net::IpAddr;

use serde::Serialize;

use crate::lab::{Method, SchedulerFlag};

/// One service as its director has to know it. Made by `plan` from a valid lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceSpec {
    /// The service's name; unique in a lab.
    pub name: String,
    /// Virtual IP address.
    pub vip: IpAddr,
    /// Destination port on the VIP.
    pub port: u16,
    /// `IPPROTO_TCP` (6), `IPPROTO_UDP` (17) or `IPPROTO_SCTP` (132).
    pub protocol: u8,
    /// How packets reach the servers.
    pub method: Method,
    /// The scheduler's IPVS name, as `rr`.
    pub scheduler: String,
    /// The scheduler's flags.
    pub scheduler_flags: Vec<SchedulerFlag>,
    /// Whether a client stays with its server over several connections.
    pub persistent: Option<Persistence>,
    /// Whether each datagram is scheduled by itself.
    pub one_packet: bool,
    /// The director's interfaces on which clients' packets can come in, with their MAC addresses.
    pub devices: Vec<Device>,
    /// The realservers in the file's order.
    pub servers: Vec<ServerSpec>,
}

/// How long, and to whom, a service is persistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Persistence {
    /// Seconds after a client's last connection.
    pub timeout_s: u32,
    /// Bits of an address that make a client, up to 32 or 128.
    pub prefix: u8,
}

/// An interface of the director.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Name in the director's namespace.
    pub name: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

/// A realserver as the director sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerSpec {
    /// Node name.
    pub name: String,
    /// Real address (RIP).
    pub address: IpAddr,
    /// Port at which it listens: the service's, but in NAT.
    pub port: u16,
    /// Ethernet address of its interface with that address; the director's next hop only where
    /// both share a network.
    pub mac: [u8; 6],
    /// The director's interface that leads to it; one of [`ServiceSpec::devices`].
    pub via: String,
    /// Weight; 0 takes no new connections.
    pub weight: u32,
    /// Connections at which it takes no new ones; 0 is no limit.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0 leaves that to the kernel.
    pub lower: u32,
}

impl ServiceSpec {
    /// The name of its protocol in lab files.
    pub fn protocol_name(&self) -> &'static str {
        match self.protocol {
            17 => "udp",
            132 => "sctp",
            _ => "tcp",
        }
    }
}
