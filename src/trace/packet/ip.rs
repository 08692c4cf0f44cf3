//! IPv4 and IPv6 headers, extension headers, fragments, and tunnels.

use std::net::IpAddr;

use super::{Fragment, Ip, Payload, Tunnel, be16, be32, transport};

/// How many packets may be wrapped into each other; a frame cannot make us recurse deeper.
const DEPTH: usize = 4;
/// IPv6 extension headers that are followed before giving up.
const EXTENSIONS: usize = 8;

/// `IPPROTO_*` (include/uapi/linux/in.h, in6.h).
const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const IPIP: u8 = 4;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const IPV6: u8 = 41;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const SCTP: u8 = 132;

/// Reads the packet that starts at `at`. `wire` is how many bytes the layer below had for it on
/// the wire; it stands in where the header says length 0 (segmentation offload, jumbograms).
/// `None` if the fixed header is not whole or is no IP header.
pub(super) fn read(frame: &[u8], at: usize, wire: u32, depth: usize) -> Option<Ip> {
    match frame.get(at)? >> 4 {
        4 => v4(frame, at, wire, depth),
        6 => v6(frame, at, wire, depth),
        _ => None,
    }
}

fn v4(frame: &[u8], at: usize, wire: u32, depth: usize) -> Option<Ip> {
    let fixed: &[u8; 20] = frame.get(at..)?.first_chunk()?;
    let header = usize::from(fixed[0] & 0x0f) * 4;
    if header < 20 {
        return None;
    }
    let length = match be16(fixed, 2)? {
        0 => wire,
        n => u32::from(n),
    };
    let bits = be16(fixed, 6)?;
    let fragment = (bits & 0x3fff != 0).then_some(Fragment {
        offset: u32::from(bits & 0x1fff) * 8,
        more: bits & 0x2000 != 0,
    });
    let address = |at: usize| -> Option<IpAddr> {
        let four: [u8; 4] = fixed.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::from(four))
    };
    let mut ip = Ip {
        src: address(12)?,
        dst: address(16)?,
        ttl: fixed[8],
        id: be16(fixed, 4).map(u32::from),
        df: bits & 0x4000 != 0,
        fragment,
        protocol: fixed[9],
        length,
        checksum: frame.get(at..at + header).map(checksum_holds),
        payload: Payload::Other,
        start: at,
        header,
    };
    ip.payload = payload(frame, &ip, depth);
    Some(ip)
}

/// The ones' complement sum over a header with its checksum is all ones (RFC 1071).
fn checksum_holds(header: &[u8]) -> bool {
    let mut sum: u32 = header
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

fn v6(frame: &[u8], at: usize, wire: u32, depth: usize) -> Option<Ip> {
    let fixed: &[u8; 40] = frame.get(at..)?.first_chunk()?;
    let length = match be16(fixed, 4)? {
        0 => wire,
        n => u32::from(n) + 40,
    };
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = fixed.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::from(bytes))
    };
    let mut ip = Ip {
        src: address(8)?,
        dst: address(24)?,
        ttl: fixed[7],
        id: None,
        df: true,
        fragment: None,
        protocol: fixed[6],
        length,
        checksum: None,
        payload: Payload::Other,
        start: at,
        header: 40,
    };
    ip.payload = match extensions(frame, &mut ip) {
        Ok(()) => payload(frame, &ip, depth),
        Err(what) => Payload::cut(what),
    };
    Some(ip)
}

/// Walks the extension headers (RFC 8200, section 4), so that `protocol` and `header` are those of
/// what comes after them.
fn extensions(frame: &[u8], ip: &mut Ip) -> Result<(), &'static str> {
    const CUT: &str = "IPv6 extension header";
    for _ in 0..EXTENSIONS {
        let at = ip.start + ip.header;
        let byte = |n: usize| frame.get(at + n).copied().ok_or(CUT);
        let len = match ip.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY => (usize::from(byte(1)?) + 1) * 8,
            AUTHENTICATION => (usize::from(byte(1)?) + 2) * 4,
            FRAGMENT => {
                let bits = be16(frame, at + 2).ok_or(CUT)?;
                ip.id = Some(be32(frame, at + 4).ok_or(CUT)?);
                ip.fragment = Some(Fragment {
                    offset: u32::from(bits & 0xfff8),
                    more: bits & 1 != 0,
                });
                8
            }
            _ => return Ok(()),
        };
        ip.protocol = byte(0)?;
        ip.header += len;
        if ip.fragment.is_some_and(|f| f.offset > 0) {
            return Ok(());
        }
    }
    Ok(())
}

fn payload(frame: &[u8], ip: &Ip, depth: usize) -> Payload {
    if ip.fragment.is_some_and(|f| f.offset > 0) {
        return Payload::Fragment;
    }
    // What the packet has, not what Ethernet padded it to.
    let end = (ip.start + ip.length as usize).min(frame.len());
    let at = ip.start + ip.header;
    let bytes = frame.get(at..end).unwrap_or_default();
    let wire = (ip.length as usize).saturating_sub(ip.header) as u32;
    match ip.protocol {
        TCP => transport::tcp(bytes, wire),
        UDP => {
            let head = transport::udp(bytes);
            if matches!(head, Payload::Udp(_))
                && ip.fragment.is_none()
                && let Some(inner) = in_udp(&frame[..end], at + 8, wire.saturating_sub(8), depth)
            {
                return wrapped(Tunnel::Gue, inner);
            }
            head
        }
        SCTP => transport::sctp(bytes),
        ICMP => transport::icmp(frame, at, end, false, depth),
        ICMPV6 => transport::icmp(frame, at, end, true, depth),
        IPIP | IPV6 if depth < DEPTH => match read(&frame[..end], at, wire, depth + 1) {
            Some(inner) => wrapped(Tunnel::Ipip, inner),
            None => Payload::cut("inner IP header"),
        },
        GRE if depth < DEPTH => match in_gre(&frame[..end], at, wire, depth) {
            Ok(Some(inner)) => wrapped(Tunnel::Gre, inner),
            Ok(None) => Payload::Other,
            Err(what) => Payload::cut(what),
        },
        _ => Payload::Other,
    }
}

fn wrapped(kind: Tunnel, inner: Ip) -> Payload {
    Payload::Tunnel {
        kind,
        inner: Box::new(inner),
    }
}

/// GRE version 0: checksum, key and sequence number are there when their flags are (RFC 2890).
fn in_gre(frame: &[u8], at: usize, wire: u32, depth: usize) -> Result<Option<Ip>, &'static str> {
    let flags = be16(frame, at).ok_or("GRE header")?;
    let protocol = be16(frame, at + 2).ok_or("GRE header")?;
    if flags & 0x0007 != 0 || !matches!(protocol, 0x0800 | 0x86dd) {
        return Ok(None);
    }
    let len = 4 + [0x8000, 0x2000, 0x1000]
        .into_iter()
        .filter(|flag| flags & flag != 0)
        .count()
        * 4;
    let wire = wire.saturating_sub(len as u32);
    read(frame, at + len, wire, depth + 1)
        .map(Some)
        .ok_or("inner IP header")
}

/// An IP packet inside of UDP: after a GUE header of version 0 (draft-ietf-intarea-gue; `struct
/// guehdr` in include/net/gue.h) or bare. UDP ports prove nothing, so a whole inner header with the
/// exact length is asked for, and, for IPv4, with a right checksum.
fn in_udp(frame: &[u8], at: usize, wire: u32, depth: usize) -> Option<Ip> {
    if depth >= DEPTH {
        return None;
    }
    let first = *frame.get(at)?;
    let skip = match first >> 6 {
        // Version 0, no control message: header length in words, then the inner protocol.
        0 if first & 0x20 == 0 && matches!(frame.get(at + 1), Some(&(IPIP | IPV6))) => {
            4 + usize::from(first & 0x1f) * 4
        }
        // Version 1 is the bare packet: 01 are the upper bits of an IP version.
        1 => 0,
        _ => return None,
    };
    let wire = wire.checked_sub(skip as u32)?;
    let inner = read(frame, at + skip, wire, depth + 1)?;
    let sound = inner.length == wire && inner.checksum != Some(false);
    sound.then_some(inner)
}
