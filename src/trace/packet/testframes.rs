//! Frames made by hand for tests: right checksums, everything else as the test asks for it.

use std::net::IpAddr;

use crate::lab::Mac;

/// A MAC address that ends in `n`.
pub(crate) fn mac(n: u8) -> Mac {
    Mac::from([2, 0, 0, 0, 0, n])
}

pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What is said of an IP packet; the rest is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IpSpec {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: u8,
    pub id: u16,
}

pub(crate) fn spec(src: &str, dst: &str, ttl: u8, id: u16) -> IpSpec {
    IpSpec {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        ttl,
        id,
    }
}

/// An IPv4 or IPv6 packet around a payload.
pub(crate) fn ip(spec: IpSpec, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (spec.src, spec.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + payload.len() as u16).to_be_bytes());
            packet.extend(spec.id.to_be_bytes());
            packet.extend([0x40, 0, spec.ttl, protocol, 0, 0]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            let check = sum(&[&packet]).to_be_bytes();
            packet[10..12].copy_from_slice(&check);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, spec.ttl]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
        }
        _ => panic!("one family"),
    }
    packet.extend(payload);
    packet
}

/// What is said of a TCP segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpSpec<'a> {
    pub ports: (u16, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub data: &'a [u8],
}

/// A TCP packet with right checksums.
pub(crate) fn tcp(at: IpSpec, tcp: TcpSpec<'_>) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(tcp.ports.0.to_be_bytes());
    segment.extend(tcp.ports.1.to_be_bytes());
    segment.extend(tcp.seq.to_be_bytes());
    segment.extend(tcp.ack.to_be_bytes());
    segment.extend([0x50, tcp.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend(tcp.data);
    let check = transport_sum(at, 6, &segment);
    segment[16..18].copy_from_slice(&check.to_be_bytes());
    ip(at, 6, &segment)
}

pub(crate) fn udp(at: IpSpec, ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(ports.0.to_be_bytes());
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    let check = transport_sum(at, 17, &datagram);
    datagram[6..8].copy_from_slice(&check.to_be_bytes());
    ip(at, 17, &datagram)
}

fn transport_sum(at: IpSpec, protocol: u8, segment: &[u8]) -> u16 {
    let mut pseudo = Vec::new();
    match (at.src, at.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            pseudo.extend(src.octets());
            pseudo.extend(dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            pseudo.extend(src.octets());
            pseudo.extend(dst.octets());
        }
        _ => panic!("one family"),
    }
    pseudo.extend([0, protocol]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    sum(&[&pseudo, segment])
}

/// An Ethernet frame; IPv4 or IPv6 by the packet's version, padded to 60 bytes.
pub(crate) fn ether(src: Mac, dst: Mac, vlans: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(dst.octets());
    frame.extend(src.octets());
    for vlan in vlans {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(if packet[0] >> 4 == 6 {
        [0x86, 0xdd]
    } else {
        [8, 0]
    });
    frame.extend(packet);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An ARP frame.
pub(crate) fn arp(operation: u16, sender: (Mac, &str), target: (Mac, &str)) -> Vec<u8> {
    let v4 = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let to = if operation == 1 {
        Mac::from([0xff; 6])
    } else {
        target.0
    };
    let mut frame = Vec::new();
    frame.extend(to.octets());
    frame.extend(sender.0.octets());
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(sender.0.octets());
    frame.extend(v4(sender.1));
    frame.extend(target.0.octets());
    frame.extend(v4(target.1));
    frame
}
