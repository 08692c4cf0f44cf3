//! Destinations: the realservers of a service.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{DecodeError, DefaultNla};
use serde::Serialize;

use super::attributes::{self, Attributes};
use super::stats::Stats;

/// `IPVS_DEST_ATTR_*`.
const ADDR: u16 = 1;
const PORT: u16 = 2;
const FWD_METHOD: u16 = 3;
const WEIGHT: u16 = 4;
const U_THRESH: u16 = 5;
const L_THRESH: u16 = 6;
const ACTIVE_CONNS: u16 = 7;
const INACT_CONNS: u16 = 8;
const PERSIST_CONNS: u16 = 9;
const STATS: u16 = 10;
const ADDR_FAMILY: u16 = 11;
const STATS64: u16 = 12;
const TUN_TYPE: u16 = 13;
const TUN_PORT: u16 = 14;
const TUN_FLAGS: u16 = 15;

/// How packets reach a destination, `IP_VS_CONN_F_FWD_MASK`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forwarding {
    /// NAT: addresses and ports are rewritten, answers come back through the director.
    Masquerade,
    /// The director's own sockets. The kernel takes it by itself for its own addresses; set by hand
    /// it is no more than what `ipvsadm -L` shows then.
    Local,
    /// In a tunnel, see [`Tunnel`].
    Tunnel,
    /// Direct Routing: only MAC addresses change.
    DirectRoute,
}

impl Forwarding {
    const ALL: [Self; 4] = [
        Self::Masquerade,
        Self::Local,
        Self::Tunnel,
        Self::DirectRoute,
    ];
}

/// As `ipvsadm -L` has it.
impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Masquerade => "Masq",
            Self::Local => "Local",
            Self::Tunnel => "Tunnel",
            Self::DirectRoute => "Route",
        })
    }
}

/// What a tunnel wraps packets in, `IP_VS_CONN_F_TUNNEL_TYPE_*`; counts with [`Forwarding::Tunnel`]
/// only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// IP in IP (RFC 2003), or IPv6 (RFC 2473).
    #[default]
    Ipip,
    /// Generic UDP Encapsulation, since Linux 5.3.
    Gue {
        /// Destination port of the UDP packets, not 0.
        port: u16,
    },
    /// GRE (RFC 2784), since Linux 5.4.
    Gre,
}

/// A tunnel's checksums, `IP_VS_TUNNEL_ENCAP_FLAG_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// None.
    #[default]
    Off,
    /// Of the outer header (GUE, GRE).
    Full,
    /// Remote checksum offload (GUE).
    Remote,
}

impl TunnelChecksum {
    const ALL: [Self; 3] = [Self::Off, Self::Full, Self::Remote];
}

/// A destination as it is to be. Address and port name it within its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct DestinationConf {
    /// Real address (RIP).
    pub address: IpAddr,
    /// Port; the service's own with anything but [`Forwarding::Masquerade`].
    pub port: u16,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// The kind of tunnel.
    pub tunnel: Tunnel,
    /// The tunnel's checksums.
    pub checksum: TunnelChecksum,
    /// Weight, up to 2147483647; 0 takes no new connections.
    pub weight: u32,
    /// Connections beyond which it takes no new ones; 0 is no bound.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0 stands for three quarters of `upper`.
    pub lower: u32,
}

impl DestinationConf {
    /// A destination of weight 1 without thresholds, behind an IPIP tunnel if it is a tunnel.
    pub fn new(address: IpAddr, port: u16, forwarding: Forwarding) -> Self {
        Self {
            address,
            port,
            forwarding,
            tunnel: Tunnel::default(),
            checksum: TunnelChecksum::default(),
            weight: 1,
            upper: 0,
            lower: 0,
        }
    }

    /// The same with another weight.
    #[must_use]
    pub fn weighted(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// What names it.
    pub(super) fn name(address: IpAddr, port: u16) -> Vec<DefaultNla> {
        vec![
            attributes::u16(ADDR_FAMILY, attributes::family(address.is_ipv6())),
            attributes::address(ADDR, address),
            attributes::port(PORT, port),
        ]
    }

    pub(super) fn attributes(&self) -> Vec<DefaultNla> {
        let (tunnel, tunnel_port) = match self.tunnel {
            Tunnel::Ipip => (0, 0),
            Tunnel::Gue { port } => (1, port),
            Tunnel::Gre => (2, 0),
        };
        let mut all = Self::name(self.address, self.port);
        all.extend([
            attributes::u32(FWD_METHOD, place(&Forwarding::ALL, &self.forwarding)),
            attributes::u32(WEIGHT, self.weight),
            attributes::u8(TUN_TYPE, tunnel),
            attributes::port(TUN_PORT, tunnel_port),
            attributes::u16(
                TUN_FLAGS,
                place(&TunnelChecksum::ALL, &self.checksum) as u16,
            ),
            attributes::u32(U_THRESH, self.upper),
            attributes::u32(L_THRESH, self.lower),
        ]);
        all
    }

    fn read(a: &Attributes, service_ipv6: bool) -> Result<Self, DecodeError> {
        // Kernels before 3.18 do not tell the family: it is the service's.
        let ipv6 = match a.get(ADDR_FAMILY) {
            Some(_) => a.ipv6(ADDR_FAMILY)?,
            None => service_ipv6,
        };
        let optional = |kind: u16| a.get(kind).is_some();
        let tunnel_port = if optional(TUN_PORT) {
            a.port(TUN_PORT)?
        } else {
            0
        };
        let checksum = if optional(TUN_FLAGS) {
            a.u16(TUN_FLAGS)?
        } else {
            0
        };
        let tunnel = match optional(TUN_TYPE)
            .then(|| a.u8(TUN_TYPE))
            .transpose()?
            .unwrap_or(0)
        {
            0 => Tunnel::Ipip,
            1 => Tunnel::Gue { port: tunnel_port },
            2 => Tunnel::Gre,
            other => return Err(format!("a destination has tunnel type {other}").into()),
        };
        let method = a.u32(FWD_METHOD)?;
        Ok(Self {
            address: a.address(ADDR, ipv6)?,
            port: a.port(PORT)?,
            forwarding: *Forwarding::ALL
                .get(method as usize)
                .ok_or_else(|| format!("a destination has forwarding method {method}"))?,
            tunnel,
            checksum: *TunnelChecksum::ALL
                .get(usize::from(checksum))
                .ok_or_else(|| format!("a destination has tunnel flags {checksum:#x}"))?,
            weight: a.u32(WEIGHT)?,
            upper: a.u32(U_THRESH)?,
            lower: a.u32(L_THRESH)?,
        })
    }
}

/// The number of a value is its place in this list.
fn place<T: PartialEq>(all: &[T], value: &T) -> u32 {
    all.iter().take_while(|v| *v != value).count() as u32
}

/// As `ipvsadm -L -n` begins a destination's line.
impl fmt::Display for DestinationConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = SocketAddr::new(self.address, self.port);
        write!(f, "{address} {} {}", self.forwarding, self.weight)
    }
}

/// A destination as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// How it was set up.
    pub conf: DestinationConf,
    /// Connections in an established state.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// Clients that persistence holds here.
    pub persistent: u32,
    /// Counters.
    pub stats: Stats,
}

impl Destination {
    pub(super) fn read(a: &Attributes, service_ipv6: bool) -> Result<Self, DecodeError> {
        Ok(Self {
            conf: DestinationConf::read(a, service_ipv6)?,
            active: a.u32(ACTIVE_CONNS)?,
            inactive: a.u32(INACT_CONNS)?,
            persistent: a.u32(PERSIST_CONNS)?,
            stats: Stats::read(a, STATS64, STATS)?,
        })
    }
}
