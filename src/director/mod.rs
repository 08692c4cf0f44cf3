//! Load-balancing engines behind one trait. An engine turns a [`ServiceSpec`] into a [`Program`]:
//! pure data that `kernel` carries out, so that it can be printed, compared and tested.

use std::net::IpAddr;

use serde::Serialize;

/// One service as its director has to know it. Made by `plan` from a valid lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceSpec {
    /// The service's name; unique in a lab.
    pub name: String,
    /// Virtual IP address.
    pub vip: IpAddr,
    /// Destination port on the VIP.
    pub port: u16,
    /// `IPPROTO_TCP` (6) or `IPPROTO_UDP` (17).
    pub protocol: u8,
    /// The scheduler's IPVS name: `rr`, `wrr`, `sh`.
    pub scheduler: String,
    /// The director's interfaces on which clients' packets can come in, with their MAC addresses.
    pub devices: Vec<Device>,
    /// The realservers in the file's order.
    pub servers: Vec<ServerSpec>,
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
    /// Ethernet address on the shared network.
    pub mac: [u8; 6],
    /// The director's interface that leads to it; one of [`ServiceSpec::devices`].
    pub via: String,
    /// Weight; 0 takes no new connections.
    pub weight: u32,
}
