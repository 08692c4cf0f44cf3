//! How health checks of directly routed services reach the servers, see `supervisor::health`.

use crate::kernel::{MarkedPath, Ns, Sysctl};
use crate::lab::{Checker, Lab, Network, Server};

use super::switch::SwitchNames;
use super::{SWITCH, Step};

/// Every check over the wire with the path that its packets take: (service, server, path). Marks
/// count up from 1.
pub fn check_paths(lab: &Lab) -> Vec<(String, &Server, MarkedPath)> {
    let names = SwitchNames::new(lab);
    (1..)
        .zip(lab.wire_checks())
        .filter_map(|(mark, (service, server))| {
            let path = MarkedPath {
                mark,
                to: service.vip(),
                via: server.address(),
                mac: server.mac().octets(),
                link: names.bridge(lab.network_of(server)?.as_str()),
            };
            Some((service.name().to_string(), server, path))
        })
        .collect()
}

/// Networks on which checks are made.
fn checkers(lab: &Lab) -> impl Iterator<Item = (&Network, Checker)> {
    lab.networks()
        .iter()
        .filter_map(|n| lab.checker(n).map(|c| (n, c)))
}

/// The switch answers for itself only, and forwards nothing, whatever the host does: a namespace
/// begins with the host's settings.
pub(super) fn sysctls(lab: &Lab) -> Vec<Sysctl> {
    let mut values = Vec::new();
    if checkers(lab).next().is_none() {
        return values;
    }
    values.push(Sysctl::new("net.ipv4.ip_forward", "0"));
    for conf in ["all", "default"] {
        let key = |key| format!("net.ipv4.conf.{conf}.{key}");
        // Answers come from the VIP, to which no route leads here.
        values.push(Sysctl::new(key("rp_filter"), "0"));
        values.push(Sysctl::new(key("arp_ignore"), "1"));
        values.push(Sysctl::new(key("arp_announce"), "2"));
    }
    values
}

/// What makes the checker's place on each network.
fn places(lab: &Lab) -> Vec<Step> {
    let (ns, names) = (Ns::named(SWITCH), SwitchNames::new(lab));
    let mut steps = Vec::new();
    for (network, checker) in checkers(lab) {
        let link = names.bridge(network.name().as_str());
        if checker.address.addr().is_ipv6() {
            let key = |key| format!("net.ipv6.conf.{}.{key}", link.replace('.', "/"));
            // No link-local address, so that the switch says nothing by itself.
            let values = [
                ("addr_gen_mode", "1"),
                ("accept_dad", "0"),
                ("accept_ra", "0"),
            ]
            .map(|(k, v)| Sysctl::new(key(k), v));
            let on = Sysctl::new(key("disable_ipv6"), "0");
            steps.push(Step::Sysctls {
                ns: ns.clone(),
                values: values.into_iter().chain([on]).collect(),
            });
        }
        steps.push(Step::Address {
            ns: ns.clone(),
            link,
            address: checker.address,
        });
    }
    steps
}

/// What a lab needs that has come to be checked on more networks, because a server has joined.
pub fn more_check_places(old: &Lab, new: &Lab) -> Vec<Step> {
    let known = places(old);
    let mut steps = Vec::new();
    if known.is_empty() {
        let (ns, values) = (Ns::named(SWITCH), sysctls(new));
        steps.push(Step::Sysctls { ns, values });
    }
    steps.extend(places(new).into_iter().filter(|s| !known.contains(s)));
    steps
}

/// The checker's place on each network, and its paths.
pub(super) fn steps(lab: &Lab, steps: &mut Vec<Step>) {
    let ns = Ns::named(SWITCH);
    steps.extend(places(lab));
    for (service, server, path) in check_paths(lab) {
        steps.push(Step::CheckPath {
            ns: ns.clone(),
            service,
            server: server.node().to_string(),
            path,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::plan;

    /// Lines of the plan that are about checks.
    fn lines(service: &str) -> Vec<String> {
        let text = format!(
            "name = \"x\"\n\
             [networks.lan]\nsubnet = \"10.0.0.0/24\"\nhost = \"10.0.0.254\"\n\
             [networks.other]\nsubnet = \"10.0.1.0/24\"\n\
             [nodes.lb]\n\
             interfaces.eth1 = {{ network = \"lan\", address = \"10.0.0.3\", aliases = [\"10.0.0.253\"] }}\n\
             interfaces.eth2 = {{ network = \"other\", address = \"10.0.1.3\" }}\n\
             [nodes.a]\ninterfaces.eth1 = {{ network = \"lan\", address = \"10.0.0.4\" }}\n\
             [nodes.b]\ninterfaces.eth1 = {{ network = \"lan\", address = \"10.0.0.5\" }}\n\
             [services.web]\nvip = \"10.0.0.253\"\nport = 80\ndirector = \"lb\"\n\
             servers = [\"a\", \"b\"]\n{service}\n"
        );
        let lab = crate::lab::load(Path::new("x.toml"), &text).unwrap_or_else(|d| panic!("{d}"));
        let plan = plan::build(&lab).to_string();
        let wanted = [
            "check ",
            "mark",
            "_switch: add address",
            "add bridge lan",
            "_switch: set net",
        ];
        plan.lines()
            .filter(|l| wanted.iter().any(|w| l.contains(w)))
            .map(|l| l.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn direct_routing_is_checked_from_an_address_that_nobody_has() {
        let mac = |node| crate::lab::Mac::from_seed(&["x", node, "eth1"]);
        let own = crate::lab::Mac::from_seed(&["x", "", "lan", "check"]);
        let path = |mark, node, address| {
            format!(
                "_switch: check web at {node}: mark {mark} to 10.0.0.253 via {address} mac {} on lan",
                mac(node)
            )
        };
        assert_eq!(
            lines("check = { tcp = true }"),
            [
                "_switch: set net.ipv4.ip_forward=0 net.ipv4.conf.all.rp_filter=0 \
                 net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2 \
                 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.default.arp_ignore=1 \
                 net.ipv4.conf.default.arp_announce=2 net.ipv6.conf.all.disable_ipv6=1 \
                 net.ipv6.conf.default.disable_ipv6=1"
                    .to_owned(),
                format!("_switch: add bridge lan mtu 1500 mac {own}"),
                "_switch: add address 10.0.0.252/24 to lan".to_owned(),
                path(1, "a", "10.0.0.4"),
                path(2, "b", "10.0.0.5"),
            ]
        );
    }

    #[test]
    fn a_switch_from_which_nobody_is_checked_has_no_address() {
        let plain = lines("");
        assert_eq!(plain.len(), 2, "{plain:#?}");
        assert_eq!(plain[1], "_switch: add bridge lan mtu 1500");
        for other in [
            "check = { exec = [\"true\"] }",
            "method = \"nat\"\ncheck = { tcp = true }",
            "method = \"tun\"\ncheck = { tcp = true }",
        ] {
            assert_eq!(lines(other), plain, "{other}");
        }
    }
}
