//! What a realserver needs so that it takes packets which are addressed to a VIP.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Step;
use super::sysctls::{Arp, link_sysctls};
use crate::director;
use crate::kernel::{Ns, Sysctl, TunnelSpec};
use crate::lab::{Accept, Lab, Method, Node, Server, Service};

/// What a node accepts beside its own addresses: pure data, for the plan of a lab and for a server
/// that joins a service while the lab runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acceptance {
    /// VIPs on `lo`.
    loopback: Vec<IpAddr>,
    /// Ends of tunnels, with the VIPs on each.
    tunnels: Vec<(TunnelSpec, Vec<IpAddr>)>,
    /// VIP, IP protocol and port of what REDIRECT turns to the node itself.
    redirects: Vec<(IpAddr, u8, u16)>,
}

impl Acceptance {
    /// That of each node of a lab, in the lab's order.
    pub(super) fn of_nodes(lab: &Lab) -> Vec<Self> {
        let mut all = vec![Self::default(); lab.nodes().len()];
        let position: std::collections::HashMap<_, _> = lab
            .nodes()
            .iter()
            .enumerate()
            .map(|(n, node)| (node.name().as_str(), n))
            .collect();
        for service in lab.services() {
            for server in service.servers() {
                if let Some(&n) = position.get(server.node().as_str()) {
                    all[n].add(&lab.nodes()[n], service, server);
                }
            }
        }
        all
    }

    /// That of a node as a lab's file has it.
    pub fn of(lab: &Lab, node: &Node) -> Self {
        let mut own = Self::default();
        for service in lab.services() {
            let servers = service.servers().iter();
            for server in servers.filter(|s| s.node() == node.name()) {
                own.add(node, service, server);
            }
        }
        own
    }

    /// Adds what `node` needs as `server` of `service`. In NAT that is nothing: packets come with
    /// the server's own address.
    pub fn add(&mut self, node: &Node, service: &Service, server: &Server) {
        let vip = service.vip();
        match (service.accept(), service.method()) {
            (Accept::None, _) => {}
            (Accept::Redirect, _) => {
                let entry = (vip, service.protocol().number(), service.port());
                push_new(&mut self.redirects, entry);
            }
            (Accept::Loopback, Method::Tun) => {
                let local = server.address();
                let known = self.tunnels.iter().position(|(t, _)| t.local == local);
                let n = known.unwrap_or_else(|| {
                    let name = self.free_name(node, local);
                    self.tunnels.push((TunnelSpec { name, local }, Vec::new()));
                    self.tunnels.len() - 1
                });
                push_new(&mut self.tunnels[n].1, vip);
            }
            (Accept::Loopback, _) => push_new(&mut self.loopback, vip),
        }
    }

    /// A name for a tunnel's end that no interface of the node has. 0 is the kernel's own there:
    /// `tunl0`, `ip6tnl0`.
    fn free_name(&self, node: &Node, local: IpAddr) -> String {
        let kind = if local.is_ipv6() { "ip6tnl" } else { "ipip" };
        let taken = |name: &String| {
            node.interface(name).is_some() || self.tunnels.iter().any(|(t, _)| t.name == *name)
        };
        let mut names = (1..).map(|n| format!("{kind}{n}"));
        names.find(|name| !taken(name)).unwrap_or_default()
    }

    /// Whether the node has VIPs, on `lo` or on tunnels, that it must not answer ARP for.
    pub(super) fn arp(&self) -> Arp {
        if self.loopback.is_empty() && self.tunnels.is_empty() {
            Arp::ORDINARY
        } else {
            Arp::SILENT
        }
    }

    /// Tunnels and addresses, before links are up.
    pub(super) fn links(&self, node: &Node) -> Vec<Step> {
        let ns = Ns::named(node.name().as_str());
        let address = |link: &str, vip: IpAddr| Step::Address {
            ns: ns.clone(),
            link: link.to_owned(),
            address: IpNet::from(vip),
        };
        let mut steps: Vec<Step> = self.loopback.iter().map(|v| address("lo", *v)).collect();
        for (tunnel, vips) in &self.tunnels {
            steps.push(Step::Tunnel {
                ns: ns.clone(),
                tunnel: tunnel.clone(),
            });
            steps.extend(vips.iter().map(|v| address(&tunnel.name, *v)));
        }
        steps
    }

    /// Tunnels up.
    pub(super) fn ups(&self, node: &Node) -> Vec<Step> {
        let up = |(tunnel, _): &(TunnelSpec, _)| Step::Up {
            ns: Ns::named(node.name().as_str()),
            link: tunnel.name.clone(),
        };
        self.tunnels.iter().map(up).collect()
    }

    /// REDIRECT rules.
    pub(super) fn rules(&self, node: &Node) -> Option<Step> {
        (!self.redirects.is_empty()).then(|| Step::Accept {
            ns: Ns::named(node.name().as_str()),
            ruleset: director::realserver_redirect(&self.redirects),
        })
    }

    /// What makes a running node, which accepts `before`, accept this too. `self` is `before` with
    /// something added.
    pub fn steps_from(&self, before: &Self, node: &Node) -> Vec<Step> {
        let ns = Ns::named(node.name().as_str());
        let mut steps = Vec::new();
        if self.arp() != before.arp() {
            let all = ["all", "default"].iter().flat_map(|conf| {
                let key = |key: &str| format!("net.ipv4.conf.{conf}.{key}");
                [
                    Sysctl::new(key("arp_ignore"), self.arp().ignore.to_string()),
                    Sysctl::new(key("arp_announce"), self.arp().announce.to_string()),
                ]
            });
            let links = node.interfaces().iter();
            let links = links.flat_map(|i| link_sysctls(i, self.arp()));
            steps.push(Step::Sysctls {
                ns,
                values: all.chain(links).collect(),
            });
        }
        let new = Self {
            loopback: beyond(&self.loopback, &before.loopback),
            tunnels: Vec::new(),
            redirects: Vec::new(),
        };
        steps.extend(new.links(node));
        for (tunnel, vips) in &self.tunnels {
            let old = before.tunnels.iter().find(|(t, _)| t == tunnel);
            let own = Self {
                tunnels: vec![(
                    tunnel.clone(),
                    beyond(vips, old.map_or(&[][..], |(_, vips)| vips)),
                )],
                ..Self::default()
            };
            let mut links = own.links(node);
            if old.is_some() {
                links.remove(0);
            }
            steps.extend(links);
            if old.is_none() {
                steps.extend(own.ups(node));
            }
        }
        // All of them: a ruleset takes the place of what its table holds.
        if self.redirects != before.redirects {
            steps.extend(self.rules(node));
        }
        steps
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

/// What is in `list` but not in `known`.
fn beyond<T: PartialEq + Copy>(list: &[T], known: &[T]) -> Vec<T> {
    let new = list.iter().filter(|v| !known.contains(v));
    new.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = r#"
name = "x"
[networks.n]
subnet = "10.0.0.0/24"
[nodes.lb]
forward = true
interfaces.eth0 = { network = "n", address = "10.0.0.1", aliases = ["10.0.0.101", "10.0.0.102"] }
[nodes.s]
gateway = "lb"
interfaces.ipip1 = { network = "n", address = "10.0.0.2" }
[services.redirected]
vip = "10.0.0.1"
port = 80
director = "lb"
servers = ["s"]
[services.masqueraded]
vip = "10.0.0.1"
port = 81
director = "lb"
method = "nat"
servers = ["s"]
[services.looped]
vip = "10.0.0.101"
port = 80
director = "lb"
accept = "loopback"
servers = ["s"]
[services.tunnelled]
vip = "10.0.0.101"
port = 82
director = "lb"
method = "tun"
servers = ["s"]
[services.again]
vip = "10.0.0.102"
port = 82
director = "lb"
method = "tun"
protocol = "udp"
servers = ["s"]
"#;

    fn lab() -> Lab {
        crate::lab::load("x.toml".as_ref(), LAB).unwrap_or_else(|d| panic!("{d}"))
    }

    fn words(steps: impl IntoIterator<Item = Step>) -> Vec<String> {
        let text = |s: Step| s.to_string().replace("\n        ", " ").replace('\t', "");
        steps.into_iter().map(text).collect()
    }

    #[test]
    fn each_way_of_accepting_has_its_steps() {
        let lab = lab();
        let node = lab.node("s").unwrap();
        let all = Acceptance::of(&lab, node);
        assert_eq!(all, Acceptance::of_nodes(&lab)[1]);
        assert_eq!(Acceptance::of_nodes(&lab)[0], Acceptance::default());
        assert_eq!(
            words(all.links(node)),
            [
                "s: add address 10.0.0.101/32 to lo",
                "s: add tunnel ipip2 type ipip local 10.0.0.2 remote any",
                "s: add address 10.0.0.101/32 to ipip2",
                "s: add address 10.0.0.102/32 to ipip2",
            ]
        );
        assert_eq!(words(all.ups(node)), ["s: set ipip2 up"]);
        assert_eq!(
            words(all.rules(node)),
            [
                "s: program nftables table ip nslab { chain prerouting { type nat hook prerouting \
                 priority dstnat; policy accept; ip daddr 10.0.0.1 tcp dport 80 redirect } }"
            ]
        );
    }

    /// One service after the other on a running node is the same as all at once.
    #[test]
    fn a_running_node_gets_what_it_lacks() {
        let lab = lab();
        let node = lab.node("s").unwrap();
        let mut now = Acceptance::default();
        let mut join = |name: &str| {
            let before = now.clone();
            let mut services = lab.services().iter();
            let service = services.find(|s| s.name().as_str() == name).unwrap();
            now.add(node, service, &service.servers()[0]);
            words(now.steps_from(&before, node))
        };
        assert_eq!(join("masqueraded"), Vec::<String>::new());
        assert_eq!(join("redirected").len(), 1);
        assert_eq!(join("redirected"), Vec::<String>::new());
        let silent = "s: set net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 \
                      net.ipv4.conf.default.arp_ignore=1 net.ipv4.conf.default.arp_announce=2 \
                      net.ipv4.conf.ipip1.rp_filter=0 net.ipv4.conf.ipip1.arp_ignore=1 \
                      net.ipv4.conf.ipip1.arp_announce=2 net.ipv6.conf.ipip1.disable_ipv6=1";
        assert_eq!(
            join("tunnelled"),
            [
                silent,
                "s: add tunnel ipip2 type ipip local 10.0.0.2 remote any",
                "s: add address 10.0.0.101/32 to ipip2",
                "s: set ipip2 up",
            ]
        );
        assert_eq!(join("again"), ["s: add address 10.0.0.102/32 to ipip2"]);
        assert_eq!(join("looped"), ["s: add address 10.0.0.101/32 to lo"]);
        let once = Acceptance::of(&lab, node);
        assert_eq!(now.tunnels, once.tunnels);
        assert_eq!(
            (now.loopback, now.redirects),
            (once.loopback, once.redirects)
        );
    }
}
