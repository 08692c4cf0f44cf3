//! Where health checks of directly routed services come from: an address on the servers' network
//! that is nobody else's.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{CheckKind, Lab, Mac, Method, Network, Server, Service};

/// The checker's place on a network: the lab's switch itself takes part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checker {
    /// Its address with the subnet's prefix length.
    pub address: IpNet,
    /// Its MAC address.
    pub mac: Mac,
}

impl Lab {
    /// The checker's place on a network; `None` if no server is checked there over the wire.
    /// Validation has seen to it that there is an address where one is needed.
    pub fn checker(&self, network: &Network) -> Option<Checker> {
        let wanted = self
            .wire_checks()
            .any(|(_, server)| self.network_of(server).is_some_and(|n| n == network.name()));
        Some(Checker {
            address: wanted.then(|| self.free_address(network)).flatten()?,
            mac: Mac::from_seed(&[self.name().as_str(), "", network.name().as_str(), "check"]),
        })
    }

    /// Services whose servers are checked over the wire, each with each of its servers: those of
    /// direct routing, and a command is no matter of the wire.
    pub fn wire_checks(&self) -> impl Iterator<Item = (&Service, &Server)> {
        self.services()
            .iter()
            .filter(|s| s.method() == Method::Dr)
            .filter(|s| {
                s.check()
                    .is_some_and(|c| !matches!(c.kind(), CheckKind::Exec(_)))
            })
            .flat_map(|service| service.servers().iter().map(move |s| (service, s)))
    }

    /// The network that a server shares with its director.
    pub fn network_of(&self, server: &Server) -> Option<&super::NetworkName> {
        let node = self.node(server.node().as_str())?;
        Some(node.interface(server.interface().as_str())?.network())
    }

    /// The highest address of a network that nobody has.
    pub(super) fn free_address(&self, network: &Network) -> Option<IpNet> {
        let interfaces = self.nodes().iter().flat_map(super::Node::interfaces);
        let mut taken: HashSet<IpAddr> = interfaces
            .flat_map(|i| i.aliases().iter().copied().chain([i.address().addr()]))
            .collect();
        taken.extend(self.services().iter().map(Service::vip));
        taken.extend(network.host().map(|h| h.address().addr()));
        let subnet = network.subnet();
        let free = match subnet {
            IpNet::V4(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                (first + 1..last)
                    .rev()
                    .map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)))
                    .find(|a| !taken.contains(a))
            }
            // The subnet's highest 128 addresses are anycast ones (RFC 2526), the lowest its routers'.
            IpNet::V6(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                (first + 1..last.saturating_sub(127))
                    .rev()
                    .map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)))
                    .find(|a| !taken.contains(a))
            }
        };
        IpNet::new(free?, subnet.prefix_len()).ok()
    }
}
