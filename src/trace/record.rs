//! What is kept of one frame of a traced flow at one interface.
//!
//! A record has a fixed size and no bytes of the frame: two digests stand for them, so that a
//! capture of millions of frames can be held.

use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;

use super::packet::{Ip, Payload, Tunnel};
use crate::lab::Mac;

/// One frame at one interface.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// When, nanoseconds since 1970.
    pub time: i64,
    /// Which interface: index into the trace's points.
    pub point: u32,
    /// Which file: index into the sources.
    pub source: u32,
    /// Number of the frame in its file, from 1, as Wireshark counts.
    pub number: u64,
    /// Which connection: index into the trace's connections.
    pub conn: u32,
    /// Whether it goes towards the server's side.
    pub to: bool,
    /// How it was addressed: index into the trace's forms.
    pub form: u32,
    /// Who sent it on this segment.
    pub src: Option<Mac>,
    /// Who was to receive it.
    pub dst: Option<Mac>,
    /// Whether this interface's machine sent it, where the capture tells.
    pub sent: Option<bool>,
    /// TTL of the innermost packet.
    pub ttl: u8,
    /// The same for the same packet wherever it is seen, whatever NAT did to it.
    pub ident: u64,
    /// Of all bytes of the innermost packet, TTL and header checksum aside.
    pub digest: u64,
    /// Bytes that `digest` is of: less than the packet where it was cut.
    pub digested: u32,
    /// Whether these are all of the packet.
    pub whole: bool,
    /// IPv4's header checksum was wrong.
    pub spoilt: bool,
    /// TCP's fields; flags 0 for other protocols.
    pub seq: u32,
    /// Flags.
    pub flags: u8,
    /// Bytes of payload.
    pub len: u32,
}

/// How a packet of a connection is addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// To or from the address that the client uses.
    Plain,
    /// The same, wrapped; with the outer source and destination.
    Wrapped(Tunnel, std::net::IpAddr, std::net::IpAddr),
    /// To or from another address: somebody rewrote it. With the server's side and the client's.
    Rewritten {
        /// The address that stands for the VIP.
        server: SocketAddr,
        /// The address that stands for the client.
        client: SocketAddr,
    },
}

/// The two digests of a packet: (`ident`, `digest`, bytes digested).
pub(crate) fn digests(frame: &[u8], ip: &Ip) -> (u64, u64, u32) {
    let end = (ip.start + ip.length as usize).min(frame.len());
    let bytes = frame.get(ip.start..end).unwrap_or_default();
    (ident(bytes, ip), digest(bytes), bytes.len() as u32)
}

/// Over all bytes with the fields that each router changes taken for zero.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Place and length in bytes: TTL and checksum; hop limit.
    let changing: &[(usize, usize)] = match bytes.first().map(|b| b >> 4) {
        Some(4) => &[(8, 1), (10, 2)],
        _ => &[(7, 1)],
    };
    let mut from = 0;
    for (start, length) in changing {
        hasher.write(bytes.get(from..*start).unwrap_or_default());
        from = start + length;
    }
    hasher.write(bytes.get(from..).unwrap_or_default());
    hasher.finish()
}

/// Bytes of a datagram's payload that tell it from others.
const UDP_PEEK: usize = 16;

/// Over what neither routers nor NAT change: identification, sequence numbers, flags, lengths.
/// Addresses, ports and checksums are left out.
fn ident(bytes: &[u8], ip: &Ip) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(ip.protocol);
    hasher.write_u32(ip.id.unwrap_or(0));
    hasher.write_u32(ip.fragment.map_or(0, |f| f.offset + 1));
    hasher.write_u32(ip.length.saturating_sub(ip.header as u32));
    let body = bytes.get(ip.header..).unwrap_or_default();
    match &ip.payload {
        Payload::Tcp(tcp) => {
            hasher.write_u32(tcp.seq);
            hasher.write_u32(tcp.ack);
            hasher.write_u8(tcp.flags);
            hasher.write_u16(tcp.window);
            // IPv6 has no identification; timestamps among the options tell repetitions apart.
            if ip.id.is_none() {
                hasher.write(body.get(20..tcp.header).unwrap_or_default());
            }
        }
        Payload::Udp(_) => {
            let data = body.get(8..).unwrap_or_default();
            hasher.write(data.get(..UDP_PEEK).unwrap_or(data));
        }
        Payload::Icmp(icmp) => {
            let (id, seq) = icmp.echo.unwrap_or_default();
            hasher.write_u16(id);
            hasher.write_u16(seq);
        }
        _ => {}
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::packet::testframes::{TcpSpec, ether, mac, spec, tcp};
    use super::super::packet::{ACK, LINK_ETHERNET, dissect};
    use super::*;

    fn of(src: &str, dst: &str, ttl: u8, id: u16, data: &[u8]) -> (u64, u64, u32) {
        let what = TcpSpec {
            ports: (1000, 80),
            seq: 5,
            ack: 6,
            flags: ACK,
            data,
        };
        let frame = ether(mac(1), mac(2), &[], &tcp(spec(src, dst, ttl, id), what));
        let packet = dissect(LINK_ETHERNET, &frame, frame.len() as u32);
        digests(&frame, packet.ip().unwrap())
    }

    #[test]
    fn a_router_changes_neither_digest_and_nat_not_the_identity() {
        let one = of("10.0.0.1", "10.0.0.2", 64, 7, b"data");
        assert_eq!(one, of("10.0.0.1", "10.0.0.2", 63, 7, b"data"));
        let translated = of("10.0.0.1", "10.9.9.9", 63, 7, b"data");
        assert_eq!(one.0, translated.0);
        assert_ne!(one.1, translated.1);
    }

    #[test]
    fn another_packet_has_other_digests() {
        let one = of("10.0.0.1", "10.0.0.2", 64, 7, b"data");
        let again = of("10.0.0.1", "10.0.0.2", 64, 8, b"data");
        assert_ne!(
            one.0, again.0,
            "a retransmission has an identification of its own"
        );
        let spoilt = of("10.0.0.1", "10.0.0.2", 64, 7, b"dAta");
        assert_eq!(one.0, spoilt.0);
        assert_ne!(one.1, spoilt.1, "a changed byte");
    }

    #[test]
    fn ipv6_is_told_apart_without_identification() {
        let one = of("fd00::1", "fd00::2", 64, 0, b"data");
        assert_eq!(one, of("fd00::1", "fd00::2", 63, 0, b"data"));
        assert_ne!(one.1, of("fd00::1", "fd00::2", 63, 0, b"dAta").1);
    }
}
