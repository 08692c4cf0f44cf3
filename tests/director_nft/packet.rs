//! IPv4 packets made by hand.

use std::net::Ipv4Addr;

use super::lab::{CLIENT, PORT, VIP};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;
pub const ECN: u8 = 0x40;
pub const CWR: u8 = 0x80;

/// What is sent; everything has a usual value.
#[derive(Clone)]
pub struct Packet {
    pub source: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub id: u16,
    /// The 16 bits of flags and offset.
    pub fragment: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

/// The ones' complement sum of RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

/// A TCP segment without data to the service.
pub fn tcp(port: u16, flags: u8) -> Packet {
    let mut segment = [port.to_be_bytes(), PORT.to_be_bytes()].concat();
    segment.extend(1000_u32.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    Packet {
        source: CLIENT,
        protocol: 6,
        ttl: 64,
        id: 0x1234,
        fragment: 0x4000,
        options: vec![],
        payload: segment,
    }
}

/// A UDP datagram to a port of the VIP.
pub fn udp(port: u16, to: u16, data: &[u8]) -> Packet {
    let len = u16::try_from(8 + data.len()).unwrap();
    let mut payload = [
        port.to_be_bytes(),
        to.to_be_bytes(),
        len.to_be_bytes(),
        [0, 0],
    ]
    .concat();
    payload.extend(data);
    Packet {
        protocol: 17,
        payload,
        ..tcp(0, 0)
    }
}

impl Packet {
    /// Its bytes, with right checksums.
    pub fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let len = u16::try_from(header + self.payload.len()).unwrap();
        let mut out = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
        out.extend(len.to_be_bytes());
        out.extend(self.id.to_be_bytes());
        out.extend(self.fragment.to_be_bytes());
        out.extend([self.ttl, self.protocol, 0, 0]);
        out.extend(self.source.octets());
        out.extend(VIP.octets());
        out.extend(&self.options);
        let sum = checksum(&out);
        out[10..12].copy_from_slice(&sum);
        let mut payload = self.payload.clone();
        let at = if self.protocol == 6 { 16 } else { 6 };
        // Fragments but the first have other things there.
        let offset = self.fragment & 0x1fff;
        if offset == 0 {
            let mut pseudo = [self.source.octets(), VIP.octets()].concat();
            pseudo.extend([0, self.protocol]);
            pseudo.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            pseudo.extend(&payload);
            let sum = checksum(&pseudo);
            payload[at..at + 2].copy_from_slice(&sum);
        }
        out.extend(payload);
        out
    }
}
