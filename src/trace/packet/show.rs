//! A packet in one line.

use std::fmt;
use std::net::SocketAddr;

use super::{Arp, FIN, Icmp, Ip, Net, Packet, Payload, RST, SYN, Tcp};

/// One line, without the interface and the time, which the frame's file knows. `{:#}` puts the MAC
/// addresses before it.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            match (self.link.src, self.link.dst) {
                (Some(src), Some(dst)) => write!(f, "{src} > {dst} ")?,
                (Some(src), None) => write!(f, "{src} > ? ")?,
                _ => {}
            }
        }
        for vlan in &self.link.vlans {
            write!(f, "vlan {vlan} ")?;
        }
        match &self.net {
            Net::Arp(arp) => show_arp(arp, f)?,
            Net::Ip(ip) => show_ip(ip, f)?,
            Net::Other => show_other(self.link.ethertype, f)?,
            Net::Cut(what) => write!(f, "{what} not captured")?,
        }
        if self.is_cut() {
            write!(f, " (cut: {} of {} bytes)", self.captured, self.wire)?;
        }
        Ok(())
    }
}

fn show_other(ethertype: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match ethertype {
        0 => f.write_str("not IP"),
        0x88cc => f.write_str("LLDP"),
        0x8863 | 0x8864 => f.write_str("PPPoE"),
        0x8847 | 0x8848 => f.write_str("MPLS"),
        other => write!(f, "EtherType 0x{other:04x}"),
    }
}

fn show_arp(arp: &Arp, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ((mac, sender), (_, target)) = (arp.sender, arp.target);
    match arp.operation {
        // Gratuitous: asks for its own address, to tell it (RFC 5227).
        1 if sender == target => write!(f, "ARP {sender} announces itself at {mac}"),
        1 => write!(f, "ARP who has {target}? tell {sender}"),
        2 => write!(f, "ARP {sender} is at {mac}"),
        n => write!(f, "ARP operation {n} of {sender}"),
    }
}

fn show_ip(ip: &Ip, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    show_ends(ip, f)?;
    match &ip.payload {
        Payload::Tcp(tcp) => show_tcp(tcp, f)?,
        Payload::Udp(udp) => write!(f, "UDP len {}", udp.len)?,
        Payload::Sctp { .. } => f.write_str("SCTP")?,
        Payload::Icmp(icmp) => show_icmp(icmp, ip.src.is_ipv6(), f)?,
        Payload::Tunnel { kind, .. } => f.write_str(kind.as_str())?,
        Payload::Fragment => f.write_str("fragment")?,
        Payload::Other => write!(f, "IP protocol {}", ip.protocol)?,
        Payload::Cut { what, .. } => write!(f, "{what} not captured")?,
    }
    write!(f, " ttl {}", ip.ttl)?;
    if let Some(id) = ip.id {
        write!(f, " id {id}")?;
    }
    if let Some(fragment) = ip.fragment {
        let more = if fragment.more {
            ", more follow"
        } else {
            ", the last"
        };
        write!(f, " at {}{more}", fragment.offset)?;
    }
    if ip.checksum == Some(false) {
        f.write_str(" (bad IP checksum)")?;
    }
    match &ip.payload {
        Payload::Tcp(Tcp {
            http: Some(line), ..
        }) => write!(f, " \"{line}\""),
        Payload::Tunnel { inner, .. } => {
            f.write_str(" { ")?;
            show_ip(inner, f)?;
            f.write_str(" }")
        }
        _ => Ok(()),
    }
}

fn show_ends(ip: &Ip, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match ip.ports() {
        Some((sport, dport)) => write!(
            f,
            "{} > {} ",
            SocketAddr::new(ip.src, sport),
            SocketAddr::new(ip.dst, dport)
        ),
        None => write!(f, "{} > {} ", ip.src, ip.dst),
    }
}

/// The flags of a TCP segment by name, without the ACK that nearly every segment has.
pub(crate) fn flag_names(flags: u8) -> String {
    const NAMES: [(u8, &str); 5] = [
        (SYN, "SYN"),
        (FIN, "FIN"),
        (RST, "RST"),
        (super::ACK, "ACK"),
        (super::PSH, "PSH"),
    ];
    let names: Vec<_> = NAMES
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    names.join("+")
}

fn show_tcp(tcp: &Tcp, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "TCP {} seq {}", flag_names(tcp.flags), tcp.seq)?;
    if tcp.flags & super::ACK != 0 {
        write!(f, " ack {}", tcp.ack)?;
    }
    write!(f, " win {} len {}", tcp.window, tcp.len)
}

fn show_icmp(icmp: &Icmp, v6: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(if v6 { "ICMPv6 " } else { "ICMP " })?;
    let name = if v6 { name_v6(icmp) } else { name_v4(icmp) };
    match name {
        Some(name) => f.write_str(name)?,
        None => write!(f, "type {} code {}", icmp.kind, icmp.code)?,
    }
    if let Some((id, seq)) = icmp.echo {
        write!(f, " id {id} seq {seq}")?;
    }
    if let Some(quoted) = &icmp.quoted {
        f.write_str(" about ")?;
        match quoted.ports() {
            Some((sport, dport)) => write!(
                f,
                "{} > {}",
                SocketAddr::new(quoted.src, sport),
                SocketAddr::new(quoted.dst, dport)
            )?,
            None => write!(f, "{} > {}", quoted.src, quoted.dst)?,
        }
    }
    Ok(())
}

/// Names of RFC 792 and RFC 1812.
fn name_v4(icmp: &Icmp) -> Option<&'static str> {
    Some(match (icmp.kind, icmp.code) {
        (0, _) => "echo reply",
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed",
        (3, 9 | 10 | 13) => "administratively prohibited",
        (3, _) => "unreachable",
        (5, _) => "redirect",
        (8, _) => "echo request",
        (11, 0) => "TTL exceeded",
        (11, _) => "reassembly time exceeded",
        _ => return None,
    })
}

/// Names of RFC 4443 and RFC 4861.
fn name_v6(icmp: &Icmp) -> Option<&'static str> {
    Some(match icmp.kind {
        1 => "unreachable",
        2 => "packet too big",
        3 => "hop limit exceeded",
        128 => "echo request",
        129 => "echo reply",
        133 => "router solicitation",
        134 => "router advertisement",
        135 => "neighbour solicitation",
        136 => "neighbour advertisement",
        137 => "redirect",
        143 => "multicast listener report",
        _ => return None,
    })
}
