//! Which packets a trace is about.

use std::net::{IpAddr, SocketAddr};

use super::packet::{Ip, Payload};

/// `IPPROTO_TCP`, `IPPROTO_UDP`, `IPPROTO_ICMP`, `IPPROTO_SCTP`, `IPPROTO_ICMPV6`.
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What is traced: packets to and from the server's side, by whomever or by some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server's side: a VIP, or the addresses of a node.
    pub server: Vec<IpAddr>,
    /// Port on the server's side; any if none.
    pub port: Option<u16>,
    /// Protocol (`IPPROTO_*`); TCP, UDP and SCTP if none.
    pub protocol: Option<u8>,
    /// The client's side; anybody if none.
    pub client: Option<Vec<IpAddr>>,
    /// The client's port; any if none.
    pub client_port: Option<u16>,
    /// Whether echo requests and their replies (ping) count as well.
    pub echo: bool,
}

/// A packet of a traced flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matched {
    pub to: bool,
    pub flow: FlowKey,
}

/// The ends of a flow. A ping has its identifier for the client's port and 0 for the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub protocol: u8,
}

impl Target {
    /// Everything to and from a virtual address.
    pub fn vip(vip: IpAddr, port: Option<u16>, protocol: Option<u8>) -> Self {
        Self {
            server: vec![vip],
            port,
            protocol,
            client: None,
            client_port: None,
            echo: false,
        }
    }

    /// Whether a packet (the innermost) is one of these.
    pub(crate) fn matches(&self, ip: &Ip) -> Option<Matched> {
        let ends = ends(ip)?;
        if let Some(protocol) = self.protocol
            && ends.protocol != protocol
            && !ends.echo
        {
            return None;
        }
        if ends.echo && !self.echo {
            return None;
        }
        // A ping's request goes to the server's side; between two hosts both may ping.
        let towards = self.is(ends.src, ends.dst, ends.echo);
        let back = self.is(ends.dst, ends.src, ends.echo);
        let (to, client, server) = match (towards, back) {
            (true, _) => (true, ends.src, ends.dst),
            (false, true) => (false, ends.dst, ends.src),
            (false, false) => return None,
        };
        Some(Matched {
            to,
            flow: FlowKey {
                client,
                server,
                protocol: ends.protocol,
            },
        })
    }

    fn is(&self, client: SocketAddr, server: SocketAddr, echo: bool) -> bool {
        self.server.contains(&server.ip())
            && self.port.is_none_or(|p| echo || p == server.port())
            && self
                .client
                .as_ref()
                .is_none_or(|c| c.contains(&client.ip()))
            && self.client_port.is_none_or(|p| p == client.port())
    }
}

/// Both ends of a packet, if it has ports or is an echo.
pub(crate) struct Ends {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub protocol: u8,
    pub echo: bool,
}

pub(crate) fn ends(ip: &Ip) -> Option<Ends> {
    if let (Some((sport, dport)), TCP | UDP | SCTP) = (ip.ports(), ip.protocol) {
        return Some(Ends {
            src: SocketAddr::new(ip.src, sport),
            dst: SocketAddr::new(ip.dst, dport),
            protocol: ip.protocol,
            echo: false,
        });
    }
    let Payload::Icmp(icmp) = &ip.payload else {
        return None;
    };
    let (id, _) = icmp.echo?;
    // The identifier is the pinging side's.
    let request = match ip.protocol {
        ICMP => icmp.kind == 8,
        ICMPV6 => icmp.kind == 128,
        _ => return None,
    };
    let (sport, dport) = if request { (id, 0) } else { (0, id) };
    Some(Ends {
        src: SocketAddr::new(ip.src, sport),
        dst: SocketAddr::new(ip.dst, dport),
        protocol: ip.protocol,
        echo: true,
    })
}

/// The protocol's name.
pub(crate) fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        TCP => "tcp",
        UDP => "udp",
        SCTP => "sctp",
        ICMP | ICMPV6 => "ping",
        _ => "ip",
    }
}

/// The number of a protocol's name, as the lab file has it.
pub(crate) fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(TCP),
        "udp" => Some(UDP),
        "sctp" => Some(SCTP),
        _ => None,
    }
}
