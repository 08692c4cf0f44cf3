//! What each machine did with a packet, and why, in words.

use std::net::IpAddr;

use super::types::{Hop, Way};
use crate::trace::proof::view::View;
use crate::trace::topology::{TopoNode, TopoService, Topology};

/// A packet's way with what decisions need to know of it.
pub(super) struct Decider<'a> {
    pub view: &'a View<'a>,
    pub topology: Option<&'a Topology>,
    /// Whether it goes towards the server's side.
    pub to: bool,
    /// Whether it opens a connection: then the director chooses.
    pub opens: bool,
}

impl Decider<'_> {
    /// Fills in the decisions: at what sends, what came before tells what it did.
    pub fn decide(&self, hops: &mut [Hop]) {
        for n in 0..hops.len() {
            let came = hops[..n]
                .iter()
                .rev()
                .find(|h| h.node == hops[n].node && h.direction == Some(Way::In))
                .cloned();
            let last = n + 1 == hops.len();
            let decision = match (&hops[n].direction, came) {
                (Some(Way::Out), None) => Some(self.sent(&hops[n])),
                (Some(Way::Out), Some(came)) => Some(self.passed(&came, &hops[n])),
                (Some(Way::In), _) if last => self.taken(&hops[n]),
                _ => None,
            };
            hops[n].decision = decision;
        }
    }

    fn service(&self) -> Option<&TopoService> {
        self.view.service
    }

    fn node(&self, name: &str) -> Option<&TopoNode> {
        self.topology?.node(name)
    }

    fn is_director(&self, hop: &Hop) -> bool {
        self.view.director.as_ref().is_some_and(|d| {
            d.name == hop.node
                || d.station
                    .is_some_and(|s| self.view.stations.name(Some(s), None) == hop.node)
        })
    }

    fn next(hop: &Hop) -> &str {
        hop.to.as_deref().or(hop.to_mac.as_deref()).unwrap_or("?")
    }

    /// Where a packet begins: how its sender came to the next machine.
    fn sent(&self, hop: &Hop) -> String {
        let next = Self::next(hop);
        // A capture may begin behind a router: one off the TTL shows it.
        let what = if !matches!(hop.ttl, 64 | 128 | 255) {
            format!("{} sends it on", hop.node)
        } else if self.to {
            format!("{} asks {}", hop.node, hop.dst)
        } else if self.service().is_some_and(|s| s.vip == hop.src.ip()) {
            format!(
                "{} answers {} itself, with the VIP as the source",
                hop.node,
                hop.dst.ip()
            )
        } else {
            format!("{} answers {}", hop.node, hop.dst.ip())
        };
        let destination = hop.dst.ip();
        let Some(node) = self.node(&hop.node) else {
            return format!("{what}: the frame goes to {next}");
        };
        let gateway = node.gateway.filter(|gateway| {
            let holder = self.topology.and_then(|t| t.holder(*gateway));
            holder == Some(next)
        });
        let how = match (self.network_of(node, destination), gateway) {
            (Some(network), _) => format!(
                "{destination} is on its own network, {network}, so the frame goes straight to {next}"
            ),
            (None, Some(gateway)) => format!(
                "{destination} is on none of its networks, so the frame goes to its gateway, {next} \
                 ({gateway})"
            ),
            (None, None) => format!("the frame goes to {next}"),
        };
        format!("{what}; {how}")
    }

    /// The network that an address is on, if the node has an interface there.
    fn network_of(&self, node: &TopoNode, address: IpAddr) -> Option<&str> {
        let networks = &self.topology?.networks;
        let network = networks.iter().find(|n| {
            n.subnet.contains(&address) && node.interfaces.iter().any(|i| i.network == n.name)
        });
        network.map(|n| n.name.as_str())
    }

    /// What a machine did that received a packet and sent it on.
    fn passed(&self, came: &Hop, went: &Hop) -> String {
        if self.is_director(went) {
            return self.balanced(came, went);
        }
        let by = went
            .point
            .split_once(':')
            .map_or(went.point.as_str(), |(_, interface)| interface);
        let ttl = ttl(came, went);
        let route = match self.node(&went.node) {
            Some(node) => {
                let destination = went.dst.ip();
                let outer = went
                    .tunnel
                    .as_ref()
                    .and_then(|t| t.rsplit(' ').next()?.parse().ok());
                match self.network_of(node, outer.unwrap_or(destination)) {
                    Some(network) => format!(" to {network}, a network of its own"),
                    None => " by its default route".to_owned(),
                }
            }
            None => String::new(),
        };
        let changed = if (came.src, came.dst) == (went.src, went.dst) {
            String::new()
        } else {
            format!(
                ", rewriting {} > {} to {} > {}",
                came.src, came.dst, went.src, went.dst
            )
        };
        format!(
            "{} routes it{route}: out by {by} to {}, with new MAC addresses and {ttl}{changed}",
            went.node,
            Self::next(went)
        )
    }

    /// What the director did.
    fn balanced(&self, came: &Hop, went: &Hop) -> String {
        let (node, next, ttl) = (&went.node, Self::next(went), ttl(came, went));
        let (engine, scheduler) = match self.service() {
            Some(service) => (
                match service.engine.as_deref() {
                    Some("nft") => "nftables, before the IP layer,",
                    Some("ipvs") => "IPVS",
                    _ => "the director",
                },
                format!(" ({})", service.scheduler),
            ),
            None => ("the director", String::new()),
        };
        if !self.to {
            return if came.src == went.src {
                format!("{node} passes the answer on to {next}, {ttl}")
            } else {
                format!(
                    "on {node} {engine} puts the VIP back: source {} becomes {}, {ttl}",
                    came.src, went.src
                )
            };
        }
        let server = self
            .topology
            .and_then(|t| {
                let outer = went
                    .tunnel
                    .as_ref()
                    .and_then(|text| text.rsplit(' ').next()?.parse().ok());
                t.holder(outer.unwrap_or(went.dst.ip()))
            })
            .filter(|_| went.tunnel.is_some() || came.dst != went.dst);
        let server = server.unwrap_or(next);
        let chooses = if self.opens {
            format!("on {node} {engine} chooses{scheduler} {server}")
        } else {
            format!(
                "on {node} {engine} keeps the connection with {server}, chosen{scheduler} at its \
                 opening,"
            )
        };
        if let Some(tunnel) = &went.tunnel {
            return format!("{chooses} and wraps the packet: {tunnel}; inside, {ttl}");
        }
        if came.dst != went.dst {
            return format!(
                "{chooses} and rewrites the destination, {} to {}; {ttl}",
                came.dst, went.dst
            );
        }
        format!(
            "{chooses} and changes the MAC addresses alone: the frame goes to {next}, the packet in \
             it is still for {}, {ttl}",
            went.dst
        )
    }

    /// What the last machine does with it.
    fn taken(&self, hop: &Hop) -> Option<String> {
        let node = &hop.node;
        if !self.to {
            return Some(format!("{node} has its answer"));
        }
        let service = self.service()?;
        if !service.servers.iter().any(|s| s.node == *node) {
            return None;
        }
        let port = hop.dst.port();
        Some(match (service.method.as_str(), service.accept.as_deref()) {
            ("nat", _) => format!("{node} is addressed itself: its socket on port {port} takes it"),
            ("tun", _) => format!(
                "{node} unwraps it and finds the VIP on its tunnel device: its socket on port {port} \
                 takes it"
            ),
            (_, Some("loopback")) => format!(
                "{node} has the VIP on lo, silent to ARP: its socket on port {port} takes it"
            ),
            _ => format!(
                "{node} does not have the VIP; NAT REDIRECT hands the packet to its socket on port \
                 {port}"
            ),
        })
    }
}

fn ttl(came: &Hop, went: &Hop) -> String {
    if came.ttl == went.ttl {
        format!("TTL still {}", went.ttl)
    } else {
        format!("TTL {} to {}", came.ttl, went.ttl)
    }
}
