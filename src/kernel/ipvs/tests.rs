//! What is sent, against what ipvsadm sends; what is read, from what a kernel sent it and from
//! what no kernel sends. The recordings are of scripts/record-ipvsadm.

mod answers;
mod recorded;
mod wire;

use std::net::IpAddr;

use super::{ServiceKey, Transport};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(transport: Transport, address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address {
        transport,
        address: ip(address),
        port,
    }
}

/// The service that most recordings are about.
fn tcp() -> ServiceKey {
    key(Transport::Tcp, "10.0.0.100", 8080)
}

fn tcp6() -> ServiceKey {
    key(Transport::Tcp, "fd00::100", 8080)
}

fn mark(ipv6: bool) -> ServiceKey {
    ServiceKey::Fwmark { mark: 1, ipv6 }
}
