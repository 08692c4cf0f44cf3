//! The /etc/hosts that every node of a lab sees.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::lab::{Lab, Node};

/// Names of all nodes and services; the first service's address is `VIP` as well.
///
/// A node with several interfaces has one line each, in the file's order, so that its first
/// address is the one that its name gives (hosts(5): the first match wins) unless `for_node` shares a
/// network with it: the address on the shared network comes first then.
pub fn hosts_file(lab: &Lab, for_node: &Node) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if for_node
        .interfaces()
        .iter()
        .any(crate::lab::Interface::ipv6)
    {
        text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    let near: BTreeSet<_> = for_node
        .interfaces()
        .iter()
        .map(|i| i.network().as_str())
        .collect();
    for (n, service) in lab.services().iter().enumerate() {
        let alias = if n == 0 { " VIP" } else { "" };
        let _ = writeln!(text, "{}\t{}{alias}", service.vip(), service.name());
    }
    for node in lab.nodes() {
        let (shared, other): (Vec<_>, Vec<_>) = node
            .interfaces()
            .iter()
            .partition(|i| near.contains(i.network().as_str()));
        for interface in shared.iter().chain(&other) {
            let _ = writeln!(text, "{}\t{}", interface.address().addr(), node.name());
        }
    }
    text
}
