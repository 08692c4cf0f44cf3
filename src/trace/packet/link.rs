//! Link layers: Ethernet with VLAN tags, raw IP, BSD loopback, Linux "cooked".

use super::{Arp, Link, Net, Packet, be16, ip};
use crate::lab::Mac;

/// `LINKTYPE_ETHERNET` (pcap-linktype(7)).
pub const LINK_ETHERNET: u32 = 1;
/// `LINKTYPE_NULL`: address family in the capturing host's byte order.
const LINK_NULL: u32 = 0;
/// `LINKTYPE_LOOP`: the same in network byte order.
const LINK_LOOP: u32 = 108;
/// `LINKTYPE_RAW`; 12 and 14 are what `DLT_RAW` is on some systems.
const LINK_RAW: [u32; 5] = [101, 12, 14, 228, 229];
/// `LINKTYPE_LINUX_SLL`.
const LINK_SLL: u32 = 113;
/// `LINKTYPE_LINUX_SLL2`.
const LINK_SLL2: u32 = 276;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and the number that QinQ had before it.
const ETHERTYPE_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// Smaller values are lengths (IEEE 802.3), not types.
const ETHERTYPE_MIN: u16 = 0x0600;

/// Takes a frame apart. `link_type` is the file's (`LINKTYPE_*`), `captured` what the file has of
/// the frame, `wire` how long it was.
pub fn dissect(link_type: u32, captured: &[u8], wire: u32) -> Packet {
    let whole = wire.max(captured.len() as u32);
    let (link, net) = match link_type {
        LINK_ETHERNET => ethernet(captured, whole),
        LINK_SLL => cooked(captured, whole),
        LINK_SLL2 => cooked2(captured, whole),
        LINK_NULL | LINK_LOOP => (Link::default(), any_ip(captured, 4, whole)),
        t if LINK_RAW.contains(&t) => (Link::default(), any_ip(captured, 0, whole)),
        _ => (Link::default(), Net::Other),
    };
    Packet {
        link,
        net,
        captured: captured.len() as u32,
        wire: whole,
    }
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    let six: [u8; 6] = frame.get(at..at + 6)?.try_into().ok()?;
    Some(Mac::from(six))
}

fn ethernet(frame: &[u8], wire: u32) -> (Link, Net) {
    let mut link = Link {
        dst: mac(frame, 0),
        src: mac(frame, 6),
        ..Link::default()
    };
    let net = after_type(frame, 12, wire, &mut link);
    (link, net)
}

/// LINKTYPE_LINUX_SLL: packet type, ARPHRD, address length, address, protocol.
fn cooked(frame: &[u8], wire: u32) -> (Link, Net) {
    let mut link = Link {
        sent: be16(frame, 0).map(|t| t == 4),
        ..Link::default()
    };
    if be16(frame, 4) == Some(6) {
        link.src = mac(frame, 6);
    }
    let net = after_type(frame, 14, wire, &mut link);
    (link, net)
}

/// LINKTYPE_LINUX_SLL2: protocol, reserved, interface index, ARPHRD, packet type, address length,
/// address.
fn cooked2(frame: &[u8], wire: u32) -> (Link, Net) {
    let mut link = Link {
        sent: frame.get(10).map(|t| *t == 4),
        ethertype: be16(frame, 0).unwrap_or(0),
        ..Link::default()
    };
    if frame.get(11) == Some(&6) {
        link.src = mac(frame, 12);
    }
    let net = if ETHERTYPE_VLAN.contains(&link.ethertype) {
        match be16(frame, 20) {
            Some(tag) => {
                link.vlans.push(tag & 0x0fff);
                after_type(frame, 22, wire, &mut link)
            }
            None => Net::Cut("VLAN tag"),
        }
    } else {
        carried(frame, 20, wire, link.ethertype)
    };
    (link, net)
}

/// Reads the EtherType at `at`, through VLAN tags, and what follows it.
fn after_type(frame: &[u8], at: usize, wire: u32, link: &mut Link) -> Net {
    let mut at = at;
    loop {
        let Some(kind) = be16(frame, at) else {
            return Net::Cut("link header");
        };
        at += 2;
        if !ETHERTYPE_VLAN.contains(&kind) {
            link.ethertype = if kind < ETHERTYPE_MIN { 0 } else { kind };
            return carried(frame, at, wire, link.ethertype);
        }
        let Some(tag) = be16(frame, at) else {
            return Net::Cut("VLAN tag");
        };
        link.vlans.push(tag & 0x0fff);
        at += 2;
    }
}

fn carried(frame: &[u8], at: usize, wire: u32, ethertype: u16) -> Net {
    match ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => any_ip(frame, at, wire),
        ETHERTYPE_ARP => arp(frame.get(at..).unwrap_or_default()),
        _ => Net::Other,
    }
}

fn any_ip(frame: &[u8], at: usize, wire: u32) -> Net {
    match frame.get(at).map(|b| b >> 4) {
        Some(4 | 6) => {
            let wire = (wire as usize).saturating_sub(at) as u32;
            ip::read(frame, at, wire, 0).map_or(Net::Cut("IP header"), Net::Ip)
        }
        Some(_) => Net::Other,
        None => Net::Cut("IP header"),
    }
}

fn arp(bytes: &[u8]) -> Net {
    let read = || {
        let ipv4 = |at: usize| {
            let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(std::net::IpAddr::from(four))
        };
        Some(Arp {
            operation: be16(bytes, 6)?,
            sender: (mac(bytes, 8)?, ipv4(14)?),
            target: (mac(bytes, 18)?, ipv4(24)?),
        })
    };
    // Ethernet (1), IPv4, lengths 6 and 4; others are no ARP that anybody traces.
    match bytes.get(..6) {
        Some([0, 1, 8, 0, 6, 4]) => read().map_or(Net::Cut("ARP"), Net::Arp),
        Some(_) => Net::Other,
        None => Net::Cut("ARP"),
    }
}
