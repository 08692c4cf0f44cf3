//! Nodes: interfaces, addresses, gateways.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::networks::Networks;
use super::{Checker, KnownNode, owner, shared};
use crate::lab::model::{Interface, Node, Restart};
use crate::lab::names::{IfName, LabName, Mac, NameError, NodeName};
use crate::spec::{At, Code, Field, RawInterface, RawNode, did_you_mean, quote};

/// Nodes by name and in the file's order.
pub(super) struct Nodes {
    pub(super) list: Vec<KnownNode>,
    index: HashMap<String, usize>,
}

impl Nodes {
    pub(super) fn get(&self, name: &str) -> Option<&KnownNode> {
        self.index.get(name).map(|n| &self.list[*n])
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<_> = self.index.iter().collect();
        names.sort_by_key(|(_, n)| **n);
        names.into_iter().map(|(name, _)| name.as_str())
    }
}

impl Checker {
    pub(super) fn nodes(&mut self, lab: &LabName, raw: &[RawNode], networks: &Networks) -> Nodes {
        let by_name: HashMap<&str, usize> = networks
            .iter()
            .enumerate()
            .map(|(n, (name, _))| (name.as_str(), n))
            .collect();
        let mut nodes = Nodes {
            list: Vec::new(),
            index: HashMap::new(),
        };
        for r in raw {
            let before = self.found.len();
            let name = self.name("node", &r.name, NodeName::new);
            let interfaces = self.interfaces(lab, r, networks, &by_name);
            let doubtful = r.interfaces.is_bad()
                || self.found.len() > before
                || r.interfaces
                    .get()
                    .is_some_and(|at| at.value.len() != interfaces.len());
            let mut node = name.map(|name| Node {
                name,
                interfaces,
                gateway: None,
                forward: r.forward.get().is_some_and(|at| at.value),
                image: None,
                command: None,
                env: Default::default(),
                volumes: Vec::new(),
                cap_add: Vec::new(),
                sysctls: Default::default(),
                restart: Restart::OnFailure,
                ready: None,
            });
            if let Some(node) = &mut node {
                self.process(r, node);
            }
            nodes.index.insert(r.name.value.clone(), nodes.list.len());
            nodes.list.push(KnownNode {
                span: r.name.span,
                node,
                doubtful,
            });
        }
        nodes
    }

    fn interfaces(
        &mut self,
        lab: &LabName,
        raw: &RawNode,
        networks: &Networks,
        by_name: &HashMap<&str, usize>,
    ) -> Vec<Interface> {
        let Some(list) = raw.interfaces.get() else {
            return Vec::new();
        };
        let made: Vec<_> = list
            .value
            .iter()
            .map(|i| self.interface(lab, raw, i, networks, by_name))
            .collect();
        made.into_iter().flatten().collect()
    }

    fn interface(
        &mut self,
        lab: &LabName,
        node: &RawNode,
        raw: &RawInterface,
        networks: &Networks,
        by_name: &HashMap<&str, usize>,
    ) -> Option<Interface> {
        let name = self.if_name(&raw.name);
        let at = raw.network.get()?;
        let Some(known) = by_name.get(at.value.as_str()).map(|n| &networks[*n].1) else {
            let names = networks.iter().map(|(name, _)| name.as_str());
            let help = did_you_mean(
                &at.value,
                names,
                "the lab's networks are",
                "add `[networks.NAME]` with a `subnet`",
            );
            let message = format!("the lab has no network {}", quote(&at.value));
            self.report(
                Code::UnknownNetwork,
                at.span,
                message,
                "unknown network",
                help,
            );
            return None;
        };
        let network = known.network.as_ref()?;
        let node_name = node.name.value.as_str();
        let who = owner(node_name, &raw.name.value);
        let address = raw.address.get().and_then(|at| {
            let address = self.inside(at, network.subnet, network.name.as_str())?;
            self.claim(address, &who, at.span);
            Some(address)
        });
        let mut aliases = Vec::new();
        for at in raw
            .aliases
            .get()
            .into_iter()
            .flat_map(|l| &l.value)
            .filter_map(Field::get)
        {
            if let Some(alias) = self.address(at) {
                if alias.is_ipv6() && !network.ipv6 {
                    let message = format!(
                        "alias {alias} is an IPv6 address, and network `{}` has IPv6 off",
                        network.name
                    );
                    self.report(
                        Code::Ipv6Off,
                        at.span,
                        message,
                        "IPv6 is off here",
                        "add `ipv6 = true` to the network",
                    );
                    continue;
                }
                self.claim(alias, &who, at.span);
                aliases.push(alias);
            }
        }
        let name = name?;
        Some(Interface {
            address: IpNet::new(address?, network.subnet.prefix_len()).ok()?,
            mac: Mac::from_seed(&[lab.as_str(), node_name, name.as_str()]),
            name,
            network: network.name.clone(),
            aliases,
            mtu: network.mtu,
            ipv6: network.ipv6,
        })
    }

    fn if_name(&mut self, at: &At<String>) -> Option<IfName> {
        match IfName::new(&at.value) {
            Ok(name) => Some(name),
            Err(e) => {
                let help = match e {
                    NameError::TooLong { .. } => {
                        "Linux keeps 15 bytes for an interface name; take a shorter one, like `eth1`"
                    }
                    _ => "take a name like `eth1`",
                };
                let message = format!("interface name {} {e}", quote(&at.value));
                self.report(
                    Code::BadInterfaceName,
                    at.span,
                    message,
                    "bad interface name",
                    help,
                );
                None
            }
        }
    }

    /// Gateways need all nodes to be known.
    pub(super) fn gateways(&mut self, raw: &[RawNode], nodes: &mut Nodes, networks: &Networks) {
        for (n, r) in raw.iter().enumerate() {
            let Some(at) = r.gateway.get() else { continue };
            let Some(node) = &nodes.list[n].node else {
                continue;
            };
            let gateway = match at.value.parse::<IpAddr>() {
                Ok(address) => {
                    self.gateway_address(at, address, node, nodes.list[n].doubtful, nodes, networks)
                }
                Err(_) => self.gateway_node(at, node, nodes.list[n].doubtful, nodes),
            };
            if let Some(node) = &mut nodes.list[n].node {
                node.gateway = gateway;
            }
        }
    }

    fn gateway_address(
        &mut self,
        at: &At<String>,
        address: IpAddr,
        node: &Node,
        doubtful: bool,
        nodes: &Nodes,
        networks: &Networks,
    ) -> Option<IpAddr> {
        if node.interfaces.iter().any(|i| i.address.addr() == address) {
            self.own_gateway(at, node);
            return None;
        }
        if !node.interfaces.iter().any(|i| i.address.contains(&address)) {
            if !doubtful {
                let message = format!(
                    "gateway {address} is in none of node `{}`'s subnets",
                    node.name
                );
                self.report(
                    Code::GatewayOutside,
                    at.span,
                    message,
                    "out of reach",
                    "take an address on one of its networks, or the name of a node there",
                );
            }
            return None;
        }
        let host = networks
            .iter()
            .filter_map(|(_, n)| n.network.as_ref()?.host.as_ref())
            .any(|h| h.address.addr() == address);
        let somebody = nodes.list.iter().any(|n| n.doubtful || n.node.is_none())
            || self.addresses.contains_key(&address);
        if !host && !somebody {
            let message = format!("gateway {address} belongs to nobody in the lab");
            self.report(
                Code::GatewayNobody,
                at.span,
                message,
                "nobody has this address",
                "packets to other networks will be lost",
            );
        }
        Some(address)
    }

    fn gateway_node(
        &mut self,
        at: &At<String>,
        node: &Node,
        doubtful: bool,
        nodes: &Nodes,
    ) -> Option<IpAddr> {
        let Some(known) = nodes.get(&at.value) else {
            let help = did_you_mean(
                &at.value,
                nodes.names().filter(|n| *n != node.name.as_str()),
                "the lab's nodes are",
                "write the name of a node or an address",
            );
            let message = format!(
                "gateway {} is neither a node of the lab nor an address",
                quote(&at.value)
            );
            self.report(Code::GatewayUnknown, at.span, message, "unknown node", help);
            return None;
        };
        let gateway = known.node.as_ref()?;
        if gateway.name == node.name {
            self.own_gateway(at, node);
            return None;
        }
        let Some((_, there)) = shared(node, gateway) else {
            if !doubtful && !known.doubtful {
                let message = format!(
                    "node `{}` and its gateway `{}` are on no shared network",
                    node.name, gateway.name
                );
                let d = crate::spec::Diagnostic::new(
                    Code::GatewayNotShared,
                    at.span,
                    message,
                    "on no shared network",
                    "put both on one network, or take another gateway",
                )
                .and(known.span, "the gateway");
                self.push(d);
            }
            return None;
        };
        if !gateway.forward {
            let message = format!("gateway `{}` does not forward packets", gateway.name);
            let help = format!(
                "add `forward = true` to `[nodes.{}]`, unless the lab is to show that",
                gateway.name
            );
            self.report(
                Code::GatewayNoForward,
                at.span,
                message,
                "packets end there",
                help,
            );
        }
        Some(there.address.addr())
    }

    fn own_gateway(&mut self, at: &At<String>, node: &Node) {
        let message = format!("node `{}` is its own gateway", node.name);
        self.report(
            Code::GatewaySelf,
            at.span,
            message,
            "this is the node itself",
            "take the router of its network",
        );
    }
}
