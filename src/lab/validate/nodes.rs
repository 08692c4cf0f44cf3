//! Nodes: their interfaces, addresses and gateways.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Machine, NextHop, Owner, Port, Validator, unique_mac};
use crate::lab::model::{Interface, Node};
use crate::lab::names::{IfName, NodeName};
use crate::spec::text::{did_you_mean, quote};
use crate::spec::{At, Code, Diagnostic, Field, RawInterface, RawNode, Span};

impl<'r> Validator<'r> {
    pub(super) fn read_nodes(&mut self) {
        let raw = self.raw;
        for node in &raw.nodes {
            let machine = self.read_node(node);
            self.nodes.push(machine);
        }
    }

    fn read_node(&mut self, raw: &'r RawNode) -> Machine<'r> {
        let name = self.name(&raw.name, "node", Code::BadName, "the node", NodeName::new);
        let unsure = raw.interfaces_unsure || raw.interfaces.is_bad();
        let mut addresses_unsure = unsure;
        let mut interfaces = Vec::new();
        for i in raw.interfaces.get().map_or(&[][..], |list| &list.value) {
            let port = self.read_interface(raw, i);
            let aliases = i.aliases.get().map_or(0, |list| list.value.len());
            addresses_unsure |=
                port.address.is_none() || i.aliases.is_bad() || port.aliases.len() < aliases;
            interfaces.push(port);
        }
        let networks_unsure = unsure || interfaces.iter().any(|p| p.network.is_none());
        Machine {
            raw,
            name,
            interfaces,
            networks_unsure,
            addresses_unsure,
            next_hop: NextHop::Unknown,
        }
    }

    fn read_interface(&mut self, node: &RawNode, raw: &RawInterface) -> Port {
        let name = self.name(
            &raw.name,
            "interface",
            Code::BadInterfaceName,
            "the interface",
            IfName::new,
        );
        let network = raw.network.get().and_then(|at| self.network(at));
        let address = raw.address.get().and_then(|at| self.placed(at, network));
        let mut aliases = Vec::new();
        for alias in raw.aliases.get().map_or(&[][..], |list| &list.value) {
            let Some(at) = alias.get() else { continue };
            let Some(value) = self.address(at) else {
                continue;
            };
            let alias = At {
                value,
                span: at.span,
            };
            if self.usable(&alias) {
                self.ipv6_is_on(&alias, network);
                aliases.push(alias);
            }
        }
        let mac = match &self.lab {
            Some(lab) => {
                let parts = [lab.as_str(), &node.name.value, &raw.name.value];
                Some(unique_mac(&mut self.macs, &parts))
            }
            None => None,
        };
        Port {
            name,
            network,
            address,
            aliases,
            mac,
        }
    }

    fn network(&mut self, at: &At<String>) -> Option<usize> {
        let found = self.network_index.get(at.value.as_str()).copied();
        if found.is_none() {
            let name = quote(&at.value);
            let known = self.raw.networks.iter().map(|n| n.name.value.as_str());
            let none = format!("add a table `[networks.NAME]` for {name}");
            let help = did_you_mean(&at.value, known, "the lab has the networks", &none);
            self.report(
                Code::UnknownNetwork,
                at.span,
                format!("unknown network {name}"),
                "no such network",
                help,
            );
        }
        found
    }

    fn ipv6_is_on(&mut self, alias: &At<IpAddr>, network: Option<usize>) {
        let Some(n) = network else { return };
        if alias.value.is_ipv6() && self.networks[n].ipv6 == Some(false) {
            let name = &self.raw.networks[n].name;
            let d = Diagnostic::new(
                Code::Ipv6Off,
                alias.span,
                format!("alias {} is on a network without IPv6", alias.value),
                "IPv6 is off here",
                format!("add `ipv6 = true` to network {}", quote(&name.value)),
            )
            .and(name.span, "the network");
            self.diagnostics.push(d);
        }
    }

    /// Finds out whose each address is, and that each is one machine's only.
    pub(super) fn claim_addresses(&mut self) {
        let mut claims: Vec<(At<IpAddr>, Owner)> = self.host_claims().collect();
        for (n, node) in self.nodes.iter().enumerate() {
            for port in &node.interfaces {
                let all = port.address.iter().chain(&port.aliases);
                claims.extend(all.map(|a| (a.clone(), Owner::Node(n))));
            }
        }
        claims.sort_by_key(|(at, _)| at.span);
        for (at, owner) in claims {
            match self.owners.entry(at.value) {
                std::collections::hash_map::Entry::Vacant(e) => {
                    e.insert((owner, at.span));
                }
                std::collections::hash_map::Entry::Occupied(e) => {
                    let (first, span) = *e.get();
                    let whose = self.owner_name(first);
                    let d = Diagnostic::new(
                        Code::DuplicateAddress,
                        at.span,
                        format!("address {} is given twice", at.value),
                        format!("taken by {whose}"),
                        "each address of a lab is one interface's only; take another one",
                    )
                    .and(span, "first given here");
                    self.diagnostics.push(d);
                }
            }
        }
    }

    pub(super) fn owner_name(&self, owner: Owner) -> String {
        match owner {
            Owner::Host => "the host".to_owned(),
            Owner::Node(n) => quote(&self.nodes[n].raw.name.value),
        }
    }

    /// The networks that a node is on, as a list for messages.
    fn places(&self, node: usize) -> String {
        let mut seen = HashSet::new();
        let names: Vec<String> = self.nodes[node]
            .interfaces
            .iter()
            .filter_map(|p| p.network)
            .filter(|n| seen.insert(*n))
            .map(|n| quote(&self.raw.networks[n].name.value))
            .collect();
        let name = quote(&self.nodes[node].raw.name.value);
        if names.is_empty() {
            format!("{name} is on no network")
        } else {
            format!("{name} is on {}", names.join(", "))
        }
    }

    /// The first pair of interfaces of two nodes on one network, in the order of the first node's
    /// interfaces, of which `take` approves.
    pub(super) fn shared(
        &self,
        a: usize,
        b: usize,
        take: impl Fn(&Self, &Port) -> bool,
    ) -> Option<(&Port, &Port)> {
        self.nodes[a].interfaces.iter().find_map(|p| {
            let network = p.network?;
            self.nodes[b]
                .interfaces
                .iter()
                .find(|q| q.network == Some(network) && take(self, q))
                .map(|q| (p, q))
        })
    }

    /// The next hop of the default route: `Some(None)` without one, `None` if it is unknown.
    #[expect(
        clippy::option_option,
        reason = "no gateway and no valid gateway are two things"
    )]
    fn gateway(&mut self, node: usize) -> Option<Option<IpAddr>> {
        let raw = self.nodes[node].raw;
        match &raw.gateway {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Set(at) => {
                let address = if let Ok(address) = at.value.parse::<IpAddr>() {
                    self.literal_gateway(
                        node,
                        &At {
                            value: address,
                            span: at.span,
                        },
                    )
                } else if let Some(&gateway) = self.node_index.get(at.value.as_str()) {
                    self.named_gateway(node, gateway, at)
                } else {
                    self.unknown_gateway(at);
                    None
                };
                address.map(Some)
            }
        }
    }

    fn unknown_gateway(&mut self, at: &At<String>) {
        if at.value.contains(['.', ':', '/']) {
            self.bad_address(at);
            return;
        }
        let known = self.raw.nodes.iter().map(|n| n.name.value.as_str());
        let help = did_you_mean(&at.value, known, "the lab has the nodes", "");
        self.report(
            Code::GatewayUnknown,
            at.span,
            format!("gateway {} is no node of the lab", quote(&at.value)),
            "no such node",
            help,
        );
    }

    fn gateway_is_self(&mut self, node: usize, span: Span) {
        self.report(
            Code::GatewaySelf,
            span,
            format!(
                "node {} is its own gateway",
                quote(&self.nodes[node].raw.name.value)
            ),
            "this is the node itself",
            "name the next hop, or remove `gateway`",
        );
    }

    fn named_gateway(&mut self, node: usize, gateway: usize, at: &At<String>) -> Option<IpAddr> {
        if node == gateway {
            self.gateway_is_self(node, at.span);
            return None;
        }
        self.forwards(gateway, at.span);
        if let Some((_, port)) = self.shared(node, gateway, |_, _| true) {
            return port.address.as_ref().map(|a| a.value);
        }
        let unsure = self.nodes[node].networks_unsure || self.nodes[gateway].networks_unsure;
        if !unsure {
            let d = Diagnostic::new(
                Code::GatewayNotShared,
                at.span,
                format!(
                    "gateway {} of node {} is on no shared network",
                    quote(&at.value),
                    quote(&self.nodes[node].raw.name.value)
                ),
                self.places(gateway),
                "a gateway must be one hop away: put both on one network, or name another node",
            )
            .and(self.nodes[node].raw.name.span, self.places(node));
            self.diagnostics.push(d);
        }
        None
    }

    fn literal_gateway(&mut self, node: usize, at: &At<IpAddr>) -> Option<IpAddr> {
        let machine = &self.nodes[node];
        let subnets: Vec<Option<IpNet>> = machine
            .interfaces
            .iter()
            .map(|p| Some(self.networks[p.network?].subnet.as_ref()?.value))
            .collect();
        if !subnets.iter().flatten().any(|net| net.contains(&at.value)) {
            let unsure = machine.networks_unsure || subnets.contains(&None);
            if !unsure {
                let list: Vec<String> =
                    subnets.iter().flatten().map(|n| format!("`{n}`")).collect();
                let help = if list.is_empty() {
                    "give the node an interface, or remove `gateway`".to_owned()
                } else {
                    format!("take an address of {}", list.join(" or "))
                };
                self.report(
                    Code::GatewayOutside,
                    at.span,
                    format!(
                        "gateway {} is in no subnet of node {}",
                        at.value,
                        quote(&self.nodes[node].raw.name.value)
                    ),
                    "cannot be reached in one hop",
                    help,
                );
            }
            return None;
        }
        match self.owners.get(&at.value).map(|(owner, _)| *owner) {
            Some(Owner::Node(n)) if n == node => {
                self.gateway_is_self(node, at.span);
                return None;
            }
            Some(Owner::Node(n)) => self.forwards(n, at.span),
            Some(Owner::Host) => {}
            None if self.nodes.iter().any(|n| n.addresses_unsure) => {}
            None => self.report(
                Code::GatewayNobody,
                at.span,
                format!("gateway {} belongs to nobody", at.value),
                "no node has this address",
                "give it to a node with `forward = true`, or name that node here",
            ),
        }
        Some(at.value)
    }

    /// Warns, once a gateway, if a node that others use as their gateway does not forward.
    fn forwards(&mut self, gateway: usize, span: Span) {
        let raw = self.nodes[gateway].raw;
        let off = match &raw.forward {
            Field::Absent => true,
            Field::Bad => false,
            Field::Set(at) => !at.value,
        };
        if off && self.dead_ends.insert(gateway) {
            let name = quote(&raw.name.value);
            let place = raw.forward.get().map_or(raw.name.span, |at| at.span);
            let d = Diagnostic::new(
                Code::GatewayNoForward,
                span,
                format!("gateway {name} does not forward"),
                "packets end here",
                format!("add `forward = true` to node {name}, unless the lab is broken on purpose"),
            )
            .and(place, "does not forward");
            self.diagnostics.push(d);
        }
    }

    pub(super) fn build_nodes(&mut self) -> Option<Vec<Node>> {
        let mut all = Some(Vec::with_capacity(self.nodes.len()));
        for n in 0..self.nodes.len() {
            let node = self.build_node(n);
            all = all.zip(node).map(|(mut list, node)| {
                list.push(node);
                list
            });
        }
        all
    }

    fn build_node(&mut self, n: usize) -> Option<Node> {
        let raw = self.nodes[n].raw;
        // All are asked before one is given up: each may have something to report.
        let gateway = self.gateway(n);
        self.nodes[n].next_hop = match gateway {
            None => NextHop::Unknown,
            Some(None) => NextHop::None,
            Some(Some(via)) => NextHop::Via(via),
        };
        let process = self.process(n);
        let interfaces: Option<Vec<Interface>> = self.nodes[n]
            .interfaces
            .iter()
            .map(|p| self.build_interface(p))
            .collect();
        let forward = match &raw.forward {
            Field::Absent => false,
            Field::Bad => return None,
            Field::Set(at) => at.value,
        };
        let process = process?;
        Some(Node {
            name: self.nodes[n].name.clone()?,
            interfaces: interfaces?,
            gateway: gateway?,
            forward,
            image: process.image,
            entrypoint: process.entrypoint,
            command: process.command,
            user: process.user,
            workdir: process.workdir,
            env: process.env,
            env_files: process.env_files,
            volumes: process.mounts.volumes,
            tmpfs: process.mounts.tmpfs,
            keep: process.keep,
            stop_signal: process.stop.signal,
            stop_grace: process.stop.grace,
            limits: process.limits,
            cap_add: process.capabilities.add,
            cap_drop: process.capabilities.drop,
            seccomp: process.seccomp,
            sysctls: process.sysctls,
            restart: process.restart,
            ready: process.ready,
        })
    }

    fn build_interface(&self, port: &Port) -> Option<Interface> {
        let net = &self.networks[port.network?];
        let subnet = net.subnet.as_ref()?.value;
        Some(Interface {
            name: port.name.clone()?,
            network: net.name.clone()?,
            address: IpNet::new(port.address.as_ref()?.value, subnet.prefix_len()).ok()?,
            aliases: port.aliases.iter().map(|a| a.value).collect(),
            mac: port.mac?,
            mtu: net.mtu?,
            ipv6: net.ipv6?,
        })
    }
}
