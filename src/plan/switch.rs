//! Names in the switch's namespace.

use std::collections::{HashMap, HashSet};

use super::build::interfaces;
use crate::lab::Lab;

/// Bytes of an interface name without its closing zero (IFNAMSIZ - 1).
const IFNAME_MAX: usize = 15;

/// Names of bridges and ports in the switch namespace: readable where they fit into 15 bytes.
pub(super) struct SwitchNames {
    bridges: HashMap<String, String>,
    ports: HashMap<(String, String), String>,
}

impl SwitchNames {
    pub(super) fn new(lab: &Lab) -> Self {
        let mut bridges = HashMap::new();
        let mut ports = HashMap::new();
        for (n, network) in lab.networks().iter().enumerate() {
            let name = network.name().as_str();
            let reserved = matches!(name, "lo" | "all" | "default");
            // A readable name has no '.', a port's has one, and a numbered one an '_': no clash.
            let bridge = if name.len() <= IFNAME_MAX && !reserved {
                name.to_owned()
            } else {
                format!("br_{n}")
            };
            bridges.insert(name.to_owned(), bridge);
        }
        let hosts = lab
            .networks()
            .iter()
            .filter(|n| n.host().is_some())
            .map(|n| ("host".to_owned(), n.name().to_string()));
        let nodes = interfaces(lab).map(|(n, i, _)| (n.name().to_string(), i.name().to_string()));
        // A node may be called "host" too; the second of two equal names gets a number.
        let mut used = HashSet::new();
        for (n, (node, interface)) in nodes.chain(hosts).enumerate() {
            let readable = format!("{node}.{interface}");
            let port = if readable.len() <= IFNAME_MAX && used.insert(readable.clone()) {
                readable
            } else {
                format!("port_{n}")
            };
            ports.insert((node, interface), port);
        }
        Self { bridges, ports }
    }

    pub(super) fn bridge(&self, network: &str) -> String {
        self.bridges.get(network).cloned().unwrap_or_default()
    }

    pub(super) fn port(&self, node: &str, interface: &str) -> String {
        self.ports
            .get(&(node.to_owned(), interface.to_owned()))
            .cloned()
            .unwrap_or_default()
    }
}
