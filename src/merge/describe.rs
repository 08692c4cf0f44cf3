//! What a lab's topology says of interfaces and addresses, as pcapng has it.

use std::fmt::Write;
use std::net::IpAddr;

use crate::capture::savefile::Interface;
use crate::trace::Topology;

/// A node's interface: named `node:if`, and described as far as the topology knows it.
pub fn interface(topology: Option<&Topology>, node: &str, name: &str) -> Interface {
    let mut described = Interface {
        name: Some(format!("{node}:{name}")),
        ..Interface::default()
    };
    let Some(topology) = topology else {
        return described;
    };
    let of = topology.node(node);
    let found = of.and_then(|n| n.interfaces.iter().find(|i| i.name == name));
    let (Some(of), Some(found)) = (of, found) else {
        return described;
    };
    let mut text = format!("{name} of {node} in network {}", found.network);
    if of.forward {
        text.push_str("; forwards");
    }
    for service in &topology.services {
        if service.director == node {
            let _ = write!(text, "; director of {}", service.name);
        }
        if service.servers.iter().any(|s| s.node == node) {
            let _ = write!(text, "; realserver of {}", service.name);
        }
    }
    let network = topology.networks.iter().find(|n| n.name == found.network);
    let prefix = |address: &IpAddr| match network {
        Some(n) if n.subnet.contains(address) => n.subnet.prefix_len(),
        _ if address.is_ipv4() => 32,
        _ => 128,
    };
    described.description = Some(text);
    described.mac = Some(found.mac.octets());
    described.addresses = found.addresses.iter().map(|a| (*a, prefix(a))).collect();
    described
}

/// Names of all addresses of a lab. An address with several has the one last that is to be shown:
/// Wireshark takes the last (`add_ipv4_name` in epan/addr_resolv.c replaces).
pub fn names(topology: &Topology) -> Vec<(IpAddr, String)> {
    let nodes = topology.nodes.iter().flat_map(|node| {
        let addresses = node.interfaces.iter().flat_map(|i| &i.addresses);
        addresses.map(|address| (*address, node.name.clone()))
    });
    let host = topology.host.iter();
    let host = host.map(|h| (h.address, Topology::HOST.to_owned()));
    // As in the nodes' /etc/hosts: the first service's address is `VIP` as well.
    let services = topology
        .services
        .iter()
        .enumerate()
        .flat_map(|(n, service)| {
            let alias = (n == 0).then(|| (service.vip, "VIP".to_owned()));
            [Some((service.vip, service.name.clone())), alias]
        });
    let mut names: Vec<_> = nodes.chain(host).chain(services.flatten()).collect();
    names.dedup();
    names
}
