//! Frames taken apart: from captured bytes to what tracing and a one-line summary need.
//!
//! [`dissect`] reads no further than the bytes that were captured, says what is missing when a
//! frame was cut (`snaplen`), and never panics, whatever the bytes are.

mod ip;
mod link;
mod show;
#[cfg(test)]
pub(crate) mod testframes;
#[cfg(test)]
mod tests;
mod transport;

use std::net::IpAddr;

use serde::Serialize;

use crate::lab::Mac;

pub use link::{LINK_ETHERNET, dissect};
pub(crate) use show::flag_names;

/// One frame, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// The link layer's header.
    pub link: Link,
    /// What it carries.
    pub net: Net,
    /// Bytes that were captured.
    pub captured: u32,
    /// Bytes on the wire.
    pub wire: u32,
}

impl Packet {
    /// The IP packet in it, the outermost if it is tunnelled.
    pub fn ip(&self) -> Option<&Ip> {
        match &self.net {
            Net::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// Whether bytes of it were not captured.
    pub fn is_cut(&self) -> bool {
        self.captured < self.wire
    }
}

/// A link-layer header, as far as the link type has one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Source address.
    pub src: Option<Mac>,
    /// Destination address; Linux "cooked" captures have none.
    pub dst: Option<Mac>,
    /// VLAN ids, outermost first (IEEE 802.1Q and 802.1ad).
    pub vlans: Vec<u16>,
    /// EtherType of the payload; 0 if unknown.
    pub ethertype: u16,
    /// Whether the capturing host sent the frame; only "cooked" captures tell.
    pub sent: Option<bool>,
}

/// What a frame carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Net {
    /// ARP for IPv4.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
    /// Something else; the EtherType says what.
    Other,
    /// Too few bytes to tell: the named header is not whole.
    Cut(&'static str),
}

/// ARP for IPv4 over Ethernet (RFC 826).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Who sends it.
    pub sender: (Mac, IpAddr),
    /// Whom it is about; the address is zero in a request.
    pub target: (Mac, IpAddr),
}

/// An IP packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ip {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Identification: IPv4's field, or that of IPv6's fragment header.
    pub id: Option<u32>,
    /// "Don't fragment" (always so in IPv6).
    pub df: bool,
    /// Set on fragments.
    pub fragment: Option<Fragment>,
    /// Upper protocol after all extension headers (`IPPROTO_*`).
    pub protocol: u8,
    /// Length in bytes with the header, as the header says it.
    pub length: u32,
    /// Whether IPv4's header checksum is right; `None` for IPv6.
    pub checksum: Option<bool>,
    /// What it carries.
    pub payload: Payload,
    /// Where the header starts in the captured bytes.
    #[serde(skip)]
    pub start: usize,
    /// Length of the header with extension headers, bytes.
    #[serde(skip)]
    pub header: usize,
}

impl Ip {
    /// The innermost packet of a tunnel, or this one.
    pub fn innermost(&self) -> &Ip {
        let mut ip = self;
        while let Payload::Tunnel { inner, .. } = &ip.payload {
            ip = inner;
        }
        ip
    }

    /// Source and destination port, if the transport has any and they were captured.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match &self.payload {
            Payload::Tcp(tcp) => Some((tcp.sport, tcp.dport)),
            Payload::Udp(udp) => Some((udp.sport, udp.dport)),
            Payload::Sctp { sport, dport } => Some((*sport, *dport)),
            Payload::Cut { ports, .. } => *ports,
            _ => None,
        }
    }
}

/// Where in its packet a fragment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fragment {
    /// Offset in bytes.
    pub offset: u32,
    /// Whether others follow.
    pub more: bool,
}

/// What an IP packet carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// SCTP: its common header's ports.
    Sctp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// Another IP packet.
    Tunnel {
        /// How it is wrapped.
        kind: Tunnel,
        /// The packet inside.
        inner: Box<Ip>,
    },
    /// A fragment that is not the first: the transport's header is in another frame.
    Fragment,
    /// Another protocol.
    Other,
    /// Too few bytes: a header is not whole.
    Cut {
        /// Which header.
        what: &'static str,
        /// Source and destination port, if at least these are there (as where ICMP quotes only
        /// eight bytes).
        ports: Option<(u16, u16)>,
    },
}

/// How a packet is wrapped into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tunnel {
    /// IP in IP, any version in any (RFC 2003, RFC 2473).
    Ipip,
    /// GRE (RFC 2784, RFC 2890).
    Gre,
    /// Generic UDP encapsulation, or bare IP in UDP ("foo over UDP", Linux' `fou` module).
    Gue,
}

impl Tunnel {
    /// As people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipip => "IPIP",
            Self::Gre => "GRE",
            Self::Gue => "GUE",
        }
    }
}

/// A TCP segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tcp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Sequence number as on the wire.
    pub seq: u32,
    /// Acknowledgement number as on the wire.
    pub ack: u32,
    /// CWR, ECE, URG, ACK, PSH, RST, SYN, FIN from the highest bit down.
    pub flags: u8,
    /// Window as on the wire, unscaled.
    pub window: u16,
    /// Bytes of payload on the wire, captured or not.
    pub len: u32,
    /// The request or status line, if the payload begins with one of HTTP/1.
    pub http: Option<String>,
    /// Length of the header with options, bytes.
    #[serde(skip)]
    pub header: usize,
}

/// TCP's FIN flag.
pub const FIN: u8 = 0x01;
/// TCP's SYN flag.
pub const SYN: u8 = 0x02;
/// TCP's RST flag.
pub const RST: u8 = 0x04;
/// TCP's PSH flag.
pub const PSH: u8 = 0x08;
/// TCP's ACK flag.
pub const ACK: u8 = 0x10;

impl Tcp {
    /// Whether it opens a connection: SYN without ACK.
    pub const fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }
}

/// A UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Udp {
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Bytes of payload.
    pub len: u32,
}

/// An ICMP or ICMPv6 message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier and sequence number of an echo.
    pub echo: Option<(u16, u16)>,
    /// The packet that an error is about, as far as it is quoted.
    pub quoted: Option<Box<Ip>>,
}

impl Payload {
    const fn cut(what: &'static str) -> Self {
        Self::Cut { what, ports: None }
    }
}

/// Two bytes in network order, if they are there.
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

/// Four bytes in network order, if they are there.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}
