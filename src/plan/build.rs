//! From a lab to its steps.

use ipnet::IpNet;

use super::accept::Acceptance;
use super::switch::SwitchNames;
use super::sysctls::{link_sysctls, namespace_sysctls, switch_sysctls};
use super::{CaptureTarget, Plan, SWITCH, Step, checks, direct};
use crate::kernel::{BridgeSpec, FIRST_INDEX, Ns, Sysctl, VethSpec, cgroup};
use crate::lab::{Interface, Lab, Node, ReadyKind};
use crate::spec::text::quote;

/// Makes the plan of a lab.
pub fn build(lab: &Lab) -> Plan {
    let mut steps = Vec::new();
    let switch = Ns::named(SWITCH);
    let names = SwitchNames::new(lab);
    steps.push(Step::Netns { ns: switch.clone() });
    steps.push(Step::Sysctls {
        ns: switch.clone(),
        values: switch_sysctls(lab),
    });
    for network in lab.networks() {
        let bridge = BridgeSpec {
            name: names.bridge(network.name().as_str()),
            mtu: network.mtu(),
            mac: lab.checker(network).map(|c| c.mac.octets()),
        };
        steps.push(Step::Bridge {
            ns: switch.clone(),
            bridge,
        });
    }
    let roles = Acceptance::of_nodes(lab);
    for (node, role) in lab.nodes().iter().zip(&roles) {
        let ns = Ns::named(node.name().as_str());
        steps.push(Step::Netns { ns: ns.clone() });
        let values = namespace_sysctls(node, role.arp());
        steps.push(Step::Sysctls { ns, values });
    }
    for (node, interface, number) in interfaces(lab) {
        steps.push(Step::Veth(VethSpec {
            ns: Ns::named(node.name().as_str()),
            name: interface.name().to_string(),
            index: Some(number),
            mac: interface.mac().octets(),
            mtu: interface.mtu(),
            switch: switch.clone(),
            port: names.port(node.name().as_str(), interface.name().as_str()),
            bridge: names.bridge(interface.network().as_str()),
            mark: None,
        }));
    }
    configure_links(lab, &roles, &mut steps);
    set_up(lab, &roles, &mut steps);
    let interfaces: Vec<_> = interfaces(lab)
        .filter(|(node, interface, _)| lab.capture().wants(node.name(), interface.name()))
        .map(|(node, interface, _)| CaptureTarget {
            node: node.name().to_string(),
            interface: interface.name().to_string(),
        })
        .collect();
    if !interfaces.is_empty() {
        steps.push(Step::Capture { interfaces });
    }
    connect(lab, &names, &mut steps);
    host_side(lab, &names, &mut steps);
    wait_for_links(lab, &names, &mut steps);
    for (node, role) in lab.nodes().iter().zip(&roles) {
        steps.extend(role.rules(node));
    }
    steps.extend(direct::directors(lab));
    checks::steps(lab, &mut steps);
    steps.extend(lab.nodes().iter().filter_map(|node| limits(lab, node)));
    for node in lab.nodes().iter().filter(|n| n.has_process()) {
        steps.push(Step::Start {
            node: node.name().to_string(),
            what: main_process(node),
        });
    }
    for node in lab.nodes() {
        if let Some(ready) = node.ready() {
            let probe = match ready.kind() {
                ReadyKind::Http { host, port, path } => format!("http://{host}:{port}{path}"),
                ReadyKind::Tcp(port) => format!("tcp port {port}"),
            };
            steps.push(Step::Ready {
                node: node.name().to_string(),
                probe,
            });
        }
    }
    Plan {
        lab: lab.name().to_string(),
        steps,
    }
}

/// What runs in a node, as far as the lab file says it: an image is not asked.
fn main_process(node: &Node) -> String {
    let words = |argv: &[String]| quote(&argv.join(" "));
    let own = |argv: Option<&Vec<String>>| argv.cloned().unwrap_or_default();
    match (node.image(), node.entrypoint(), node.command()) {
        (None, _, command) => words(&own(command)),
        (Some(image), None, None) => format!("that of image {image}"),
        (Some(image), None, Some(command)) => {
            format!("that of image {image} with {}", words(command))
        }
        (Some(image), Some(entrypoint), command) => {
            let argv = [entrypoint.clone(), own(command)].concat();
            format!("{} in image {image}", words(&argv))
        }
    }
}

/// Limits of a node, also of one that has nothing to run: commands enter it.
fn limits(lab: &Lab, node: &Node) -> Option<Step> {
    let limits = node.limits()?;
    let node = node.name().to_string();
    Some(Step::Limits {
        group: cgroup::group_of(lab.name().as_str(), &node),
        limits: cgroup::Limits {
            memory: limits.memory(),
            cpus_milli: limits.cpus_milli(),
            pids: limits.pids(),
        },
        node,
    })
}

/// Every node interface with the index that it gets.
pub(super) fn interfaces(lab: &Lab) -> impl Iterator<Item = (&Node, &Interface, u32)> {
    lab.nodes().iter().flat_map(|node| {
        node.interfaces()
            .iter()
            .zip(FIRST_INDEX..)
            .map(move |(i, index)| (node, i, index))
    })
}

fn configure_links(lab: &Lab, roles: &[Acceptance], steps: &mut Vec<Step>) {
    for (node, role) in lab.nodes().iter().zip(roles) {
        let ns = Ns::named(node.name().as_str());
        let mut values = Vec::new();
        for interface in node.interfaces() {
            values.extend(link_sysctls(interface, role.arp()));
        }
        let own = node.sysctls().iter().filter(|(k, _)| !direct::is_ipvs(k));
        values.extend(own.map(|(k, v)| Sysctl::new(k, v)));
        if !values.is_empty() {
            steps.push(Step::Sysctls {
                ns: ns.clone(),
                values,
            });
        }
        for interface in node.interfaces() {
            let link = interface.name().to_string();
            steps.push(Step::Offloads {
                ns: ns.clone(),
                link: link.clone(),
            });
            let mut addresses = vec![interface.address()];
            addresses.extend(interface.aliases().iter().map(|a| IpNet::from(*a)));
            for address in addresses {
                steps.push(Step::Address {
                    ns: ns.clone(),
                    link: link.clone(),
                    address,
                });
            }
        }
        steps.extend(role.links(node));
    }
}

/// Up, but without a carrier: each link's other end, the bridge's port, is still down, so nothing
/// can pass before the captures run. What coming up itself does (routes of the subnet, IPv6's
/// addresses) is over by then.
fn set_up(lab: &Lab, roles: &[Acceptance], steps: &mut Vec<Step>) {
    for (node, role) in lab.nodes().iter().zip(roles) {
        let ns = Ns::named(node.name().as_str());
        steps.push(Step::Up {
            ns: ns.clone(),
            link: "lo".to_owned(),
        });
        for interface in node.interfaces() {
            steps.push(Step::Up {
                ns: ns.clone(),
                link: interface.name().to_string(),
            });
        }
        steps.extend(role.ups(node));
    }
}

/// The ports come up: from here on frames pass.
fn connect(lab: &Lab, names: &SwitchNames, steps: &mut Vec<Step>) {
    for (node, interface, _) in interfaces(lab) {
        let link = names.port(node.name().as_str(), interface.name().as_str());
        steps.push(Step::Up {
            ns: Ns::named(SWITCH),
            link,
        });
    }
    for node in lab.nodes() {
        if let Some(via) = node.gateway() {
            steps.push(Step::Route {
                ns: Ns::named(node.name().as_str()),
                via,
            });
        }
    }
}

/// The host joins last: the network that it finds is complete and captured.
fn host_side(lab: &Lab, names: &SwitchNames, steps: &mut Vec<Step>) {
    for network in lab.networks() {
        let Some(host) = network.host() else { continue };
        let link = host.ifname().to_string();
        steps.push(Step::Veth(VethSpec {
            ns: Ns::Host,
            name: link.clone(),
            index: None,
            mac: host.mac().octets(),
            mtu: network.mtu(),
            switch: Ns::named(SWITCH),
            port: names.port("host", network.name().as_str()),
            bridge: names.bridge(network.name().as_str()),
            mark: Some(host_mark(lab.name().as_str())),
        }));
        if !network.ipv6() {
            let key = format!("net.ipv6.conf.{}.disable_ipv6", link.replace('.', "/"));
            let values = vec![Sysctl::optional(key, "1")];
            steps.push(Step::Sysctls {
                ns: Ns::Host,
                values,
            });
        }
        steps.push(Step::Offloads {
            ns: Ns::Host,
            link: link.clone(),
        });
        let address = host.address();
        steps.push(Step::Address {
            ns: Ns::Host,
            link: link.clone(),
            address,
        });
        steps.push(Step::Up { ns: Ns::Host, link });
        let link = names.port("host", network.name().as_str());
        steps.push(Step::Up {
            ns: Ns::named(SWITCH),
            link,
        });
    }
}

/// Everything is set up; frames pass when the kernel has noticed.
fn wait_for_links(lab: &Lab, names: &SwitchNames, steps: &mut Vec<Step>) {
    let mut ports = Vec::new();
    for (node, interface, _) in interfaces(lab) {
        ports.push(names.port(node.name().as_str(), interface.name().as_str()));
    }
    let mut ends = Vec::new();
    for network in lab.networks() {
        if let Some(host) = network.host() {
            ports.push(names.port("host", network.name().as_str()));
            ends.push((Ns::Host, vec![host.ifname().to_string()]));
        }
    }
    for node in lab.nodes().iter().filter(|n| !n.interfaces().is_empty()) {
        let links = node
            .interfaces()
            .iter()
            .map(|i| i.name().to_string())
            .collect();
        ends.push((Ns::named(node.name().as_str()), links));
    }
    if !ports.is_empty() {
        steps.push(Step::Operational {
            ns: Ns::named(SWITCH),
            links: ports,
        });
    }
    steps.extend(
        ends.into_iter()
            .map(|(ns, links)| Step::Operational { ns, links }),
    );
}

/// The alias that a lab's links in the host's namespace carry.
pub(super) fn host_mark(lab: &str) -> String {
    format!("nslab lab {lab}")
}
