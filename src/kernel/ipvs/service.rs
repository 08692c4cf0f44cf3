//! Virtual services.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{BitOr, BitOrAssign};

use netlink_packet_core::{DecodeError, DefaultNla};
use serde::{Serialize, Serializer};

use super::attributes::{self, Attributes};
use super::stats::Stats;

/// `IPVS_SVC_ATTR_*`.
const AF: u16 = 1;
const PROTOCOL: u16 = 2;
const ADDR: u16 = 3;
const PORT: u16 = 4;
const FWMARK: u16 = 5;
const SCHED_NAME: u16 = 6;
const FLAGS: u16 = 7;
const TIMEOUT: u16 = 8;
const NETMASK: u16 = 9;
const STATS: u16 = 10;
const PE_NAME: u16 = 11;
const STATS64: u16 = 12;

/// `IP_VS_SVC_F_HASHED`: the kernel's own mark on every service.
const HASHED: u32 = 2;

/// A transport protocol that IPVS balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Its IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The transport of an IP protocol number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.number() == number)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What names a service; unique in a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKey {
    /// A virtual address.
    Address {
        /// Its transport protocol.
        transport: Transport,
        /// Virtual IP address.
        address: IpAddr,
        /// Port; 0 stands for all ports and takes persistence.
        port: u16,
    },
    /// Packets that the firewall marked.
    Fwmark {
        /// The mark, not 0.
        mark: u32,
        /// Whether it is about IPv6 packets.
        ipv6: bool,
    },
}

impl ServiceKey {
    /// Whether it is about IPv6.
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Address { address, .. } => address.is_ipv6(),
            Self::Fwmark { ipv6, .. } => *ipv6,
        }
    }

    /// What names a service to the kernel.
    pub(super) fn attributes(&self) -> Vec<DefaultNla> {
        let mut all = vec![attributes::u16(AF, attributes::family(self.is_ipv6()))];
        match *self {
            Self::Address {
                transport,
                address,
                port,
            } => all.extend([
                attributes::u16(PROTOCOL, transport.number().into()),
                attributes::address(ADDR, address),
                attributes::port(PORT, port),
            ]),
            Self::Fwmark { mark, .. } => all.push(attributes::u32(FWMARK, mark)),
        }
        all
    }

    fn read(a: &Attributes) -> Result<Self, DecodeError> {
        let ipv6 = a.ipv6(AF)?;
        if a.get(FWMARK).is_some() {
            return Ok(Self::Fwmark {
                mark: a.u32(FWMARK)?,
                ipv6,
            });
        }
        let protocol = a.u16(PROTOCOL)?;
        let transport = u8::try_from(protocol)
            .ok()
            .and_then(Transport::of_number)
            .ok_or_else(|| format!("a service is of IP protocol {protocol}"))?;
        Ok(Self::Address {
            transport,
            address: a.address(ADDR, ipv6)?,
            port: a.port(PORT)?,
        })
    }
}

/// As `ipvsadm -L -n` begins a service's line.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address {
                transport,
                address,
                port,
            } => write!(f, "{transport} {}", SocketAddr::new(address, port)),
            Self::Fwmark { mark, ipv6: false } => write!(f, "FWM {mark}"),
            Self::Fwmark { mark, ipv6: true } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// A service's flags, `IP_VS_SVC_F_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ServiceFlags(u32);

impl ServiceFlags {
    /// A client's connections stay on one server for the timeout.
    pub const PERSISTENT: Self = Self(0x1);
    /// Each packet is scheduled by itself (UDP).
    pub const ONE_PACKET: Self = Self(0x4);
    /// The scheduler's first flag: `sh-fallback`, `mh-fallback`.
    pub const SCHED_1: Self = Self(0x8);
    /// The scheduler's second flag: `sh-port`, `mh-port`.
    pub const SCHED_2: Self = Self(0x10);
    /// The scheduler's third flag; no scheduler has one.
    pub const SCHED_3: Self = Self(0x20);

    const NAMES: [(Self, &str); 5] = [
        (Self::PERSISTENT, "persistent"),
        (Self::ONE_PACKET, "one-packet"),
        (Self::SCHED_1, "flag-1"),
        (Self::SCHED_2, "flag-2"),
        (Self::SCHED_3, "flag-3"),
    ];

    /// Schedulers' flags by the names that `ipvsadm -b` takes.
    const OF_SCHEDULERS: [(&str, Self); 4] = [
        ("sh-fallback", Self::SCHED_1),
        ("sh-port", Self::SCHED_2),
        ("mh-fallback", Self::SCHED_1),
        ("mh-port", Self::SCHED_2),
    ];

    /// Whether all of these are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// A scheduler's flag by its name: `sh-port` and so on, or `flag-1` to `flag-3`.
    pub fn of_scheduler(name: &str) -> Option<Self> {
        Self::OF_SCHEDULERS
            .into_iter()
            .find(|f| f.0 == name)
            .map(|f| f.1)
            .or_else(|| {
                let generic = Self::NAMES.into_iter().find(|f| f.1 == name)?.0;
                (generic.0 >= Self::SCHED_1.0).then_some(generic)
            })
    }

    /// The set ones' names; those of schedulers as `scheduler` calls them.
    pub fn names(self, scheduler: &str) -> Vec<&'static str> {
        Self::NAMES
            .into_iter()
            .filter(|(flag, _)| self.contains(*flag))
            .map(|(flag, generic)| {
                Self::OF_SCHEDULERS
                    .into_iter()
                    .find(|(name, f)| {
                        *f == flag && name.split_once('-').is_some_and(|n| n.0 == scheduler)
                    })
                    .map_or(generic, |(name, _)| name)
            })
            .collect()
    }
}

impl BitOr for ServiceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ServiceFlags {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// Which clients persistence takes for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Netmask {
    /// Of an IPv4 service; the kernel takes masks with holes as well.
    V4(Ipv4Addr),
    /// Prefix length, 1 to 128, of an IPv6 service. 0 is kept by services of firewall marks only.
    V6(u32),
}

impl Netmask {
    /// Each address is a client of its own.
    pub fn host(ipv6: bool) -> Self {
        if ipv6 {
            Self::V6(128)
        } else {
            Self::V4(Ipv4Addr::BROADCAST)
        }
    }

    /// The mask of a prefix length, unless that is longer than an address.
    pub fn of_prefix(ipv6: bool, length: u8) -> Option<Self> {
        match (ipv6, u32::from(length)) {
            (true, 1..=128) => Some(Self::V6(length.into())),
            (false, length @ 0..=32) => {
                let bits = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                Some(Self::V4(Ipv4Addr::from_bits(bits)))
            }
            _ => None,
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::V4(mask) => u32::from_ne_bytes(mask.octets()),
            Self::V6(length) => length,
        }
    }

    fn of_number(ipv6: bool, number: u32) -> Self {
        if ipv6 {
            Self::V6(number)
        } else {
            Self::V4(number.to_ne_bytes().into())
        }
    }
}

/// As `ipvsadm -M` takes it.
impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(mask) => mask.fmt(f),
            Self::V6(length) => length.fmt(f),
        }
    }
}

impl Serialize for Netmask {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A service as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceConf {
    /// What names it.
    pub key: ServiceKey,
    /// The scheduler's name, e.g. `rr`; at most 15 bytes.
    pub scheduler: String,
    /// Flags.
    pub flags: ServiceFlags,
    /// How long a client stays on its server after its last connection, seconds; counts with
    /// [`ServiceFlags::PERSISTENT`] only.
    pub timeout_s: u32,
    /// Which clients are one to persistence.
    pub netmask: Netmask,
    /// The persistence engine's name: `sip` is the only one that kernels have.
    pub persistence_engine: Option<String>,
}

impl ServiceConf {
    /// A service without flags.
    pub fn new(key: ServiceKey, scheduler: impl Into<String>) -> Self {
        Self {
            key,
            scheduler: scheduler.into(),
            flags: ServiceFlags::default(),
            timeout_s: 0,
            netmask: Netmask::host(key.is_ipv6()),
            persistence_engine: None,
        }
    }

    /// The same with persistence.
    #[must_use]
    pub fn persistent(mut self, timeout_s: u32, netmask: Netmask) -> Self {
        self.flags |= ServiceFlags::PERSISTENT;
        self.timeout_s = timeout_s;
        self.netmask = netmask;
        self
    }

    pub(super) fn attributes(&self) -> Vec<DefaultNla> {
        let mut all = self.key.attributes();
        all.push(attributes::text(SCHED_NAME, &self.scheduler));
        // Between the scheduler and the flags, where ipvsadm has it.
        all.extend(
            self.persistence_engine
                .iter()
                .map(|name| attributes::text(PE_NAME, name)),
        );
        // Flags and the mask of those that are to be set or cleared: all.
        let flags = [self.flags.0.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat();
        all.extend([
            DefaultNla::new(FLAGS, flags),
            attributes::u32(TIMEOUT, self.timeout_s),
            attributes::u32(NETMASK, self.netmask.number()),
        ]);
        all
    }

    fn read(a: &Attributes) -> Result<Self, DecodeError> {
        let key = ServiceKey::read(a)?;
        let flags = ServiceFlags(a.flags(FLAGS)? & !HASHED);
        Ok(Self {
            key,
            scheduler: a.text(SCHED_NAME)?,
            flags,
            timeout_s: a.u32(TIMEOUT)?,
            netmask: Netmask::of_number(key.is_ipv6(), a.u32(NETMASK)?),
            persistence_engine: a
                .get(PE_NAME)
                .map(|_| a.text(PE_NAME))
                .transpose()?
                .filter(|name| !name.is_empty()),
        })
    }
}

/// A service as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// How it was set up.
    pub conf: ServiceConf,
    /// Counters.
    pub stats: Stats,
}

impl Service {
    pub(super) fn read(a: &Attributes) -> Result<Self, DecodeError> {
        Ok(Self {
            conf: ServiceConf::read(a)?,
            stats: Stats::read(a, STATS64, STATS)?,
        })
    }
}

/// With the flags by name.
impl Serialize for ServiceConf {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = s.serialize_struct("ServiceConf", 6)?;
        out.serialize_field("key", &self.key)?;
        out.serialize_field("scheduler", &self.scheduler)?;
        out.serialize_field("flags", &self.flags.names(&self.scheduler))?;
        out.serialize_field("timeout_s", &self.timeout_s)?;
        out.serialize_field("netmask", &self.netmask)?;
        out.serialize_field("persistence_engine", &self.persistence_engine)?;
        out.end()
    }
}
