//! What rules are made of.

use std::net::IpAddr;

use serde::Serialize;

/// EtherType of IPv4 (IEEE 802 numbers).
pub const ETHERTYPE_IPV4: u32 = 0x0800;
/// `PACKET_HOST` (linux/if_packet.h): the frame is addressed to this very interface.
pub const PACKET_HOST: u32 = 0;
/// TCP flag FIN (RFC 9293, 3.1).
pub const TCP_FIN: u32 = 0x01;
/// TCP flag SYN.
pub const TCP_SYN: u32 = 0x02;
/// TCP flag RST.
pub const TCP_RST: u32 = 0x04;
/// TCP flag ACK.
pub const TCP_ACK: u32 = 0x10;

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Its IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The one with this IANA protocol number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

/// A field of a packet. Reading one of IPv4 asks first whether the packet is IPv4, and so on: a
/// packet that is not ends the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// `ether type` as in the frame: 0x8100 in a frame with a VLAN tag, unlike `meta protocol`.
    EtherType,
    /// `ether saddr`.
    EtherSource,
    /// `ether daddr`.
    EtherDestination,
    /// `ip frag-off`: the 16 bits with flags and offset; `& 0x3fff` leaves MF and the offset.
    Ip4Fragment,
    /// `ip saddr`.
    Ip4Source,
    /// `ip daddr`.
    Ip4Destination,
    /// `ip6 saddr`.
    Ip6Source,
    /// `ip6 daddr`.
    Ip6Destination,
    /// `tcp sport` or `udp sport`. The kernel finds the header behind IP options and refuses to
    /// read it in a fragment other than the first.
    SourcePort(Transport),
    /// `tcp dport` or `udp dport`.
    DestinationPort(Transport),
    /// `tcp flags`, 8 bits.
    TcpFlags,
}

/// What is known about a packet besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Meta {
    /// `meta mark`: 32 bits that travel with the packet inside this network namespace.
    Mark,
    /// `meta pkttype`, see [`PACKET_HOST`].
    PacketType,
}

/// Something that a rule can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// A field of the packet.
    Field(Field),
    /// Something about the packet.
    Meta(Meta),
}

/// A constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A number; packet fields take it in network order and in their own width, the mark in host
    /// order.
    Number(u32),
    /// An address.
    Address(IpAddr),
}

/// How a match compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
}

/// A comparison; when it fails the rule ends and the next one has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Match {
    /// What is read.
    pub left: Selector,
    /// Bits of it that count; all if `None`. For numbers only.
    pub mask: Option<u32>,
    /// How it is compared.
    pub op: Op,
    /// With what.
    pub right: Value,
}

/// A number that a rule makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    /// A constant.
    Number(u32),
    /// `numgen inc mod N`: 0, 1, ... N-1, 0, ... one step a packet; each rule counts for itself.
    Counting {
        /// N, at least 1.
        modulus: u32,
    },
    /// `jhash FIELD mod N seed S`: Jenkins' hash of the field.
    Hash {
        /// What is hashed.
        of: Field,
        /// N, at least 1.
        modulus: u32,
        /// S.
        seed: u32,
    },
    /// `KEY map @MAP`; a key that is not in the map ends the rule.
    Map {
        /// The key's parts.
        key: Vec<Selector>,
        /// The map's name.
        map: String,
    },
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes on its way.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// To a chain, and back behind this rule afterwards.
    Jump(String),
    /// To a chain; afterwards to where this chain would have gone back.
    Goto(String),
}

/// A part of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Statement {
    /// Compares.
    Match(Match),
    /// `meta mark set`.
    SetMark(Expr),
    /// `ether saddr set` or `ether daddr set`; no checksum covers them.
    SetEther {
        /// [`Field::EtherSource`] or [`Field::EtherDestination`].
        field: Field,
        /// The address.
        mac: [u8; 6],
    },
    /// `update @MAP { KEY timeout T : meta mark }`: adds the element, or sets the clock of the one
    /// that is there to T. **The value of one that is there stays as it is** (nft_dynset.c;
    /// measured on 6.18). In a full map the rule ends here.
    Update {
        /// The map's name.
        map: String,
        /// The key's parts.
        key: Vec<Selector>,
        /// T; the map's own timeout if `None`.
        timeout: Option<std::time::Duration>,
    },
    /// `delete @MAP { KEY : meta mark }`; goes on if there is no such element.
    Delete {
        /// The map's name.
        map: String,
        /// The key's parts.
        key: Vec<Selector>,
    },
    /// `KEY vmap @MAP`; a key that is not in the map ends the rule.
    Dispatch {
        /// The key's parts.
        key: Vec<Selector>,
        /// The map's name.
        map: String,
    },
    /// `counter`, of this rule alone.
    Counter,
    /// `counter name`, one of [`super::Table::counters`].
    CountInto(String),
    /// `redirect`: to this machine itself, to the port that the packet has or to this one.
    Redirect {
        /// The port.
        port: Option<u16>,
    },
    /// `fwd to`: out of that device as the frame is, past routing and its TTL.
    Forward {
        /// The device.
        device: String,
    },
    /// Ends it.
    Verdict(Verdict),
}
