//! From a lab to its steps.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{CaptureTarget, Plan, SWITCH, Step};
use crate::director::{self, Device, ServerSpec, ServiceSpec};
use crate::kernel::{BridgeSpec, Ns, Sysctl, VethSpec};
use crate::lab::{Accept, EngineChoice, Interface, Lab, Node, ReadyKind, Service};

/// Bytes of an interface name without its closing zero (IFNAMSIZ - 1).
const IFNAME_MAX: usize = 15;

/// Makes the plan of a lab.
pub fn build(lab: &Lab) -> Plan {
    let mut steps = Vec::new();
    let switch = Ns::named(SWITCH);
    let names = SwitchNames::new(lab);
    steps.push(Step::Netns { ns: switch.clone() });
    steps.push(Step::Sysctls {
        ns: switch.clone(),
        values: switch_sysctls(),
    });
    for network in lab.networks() {
        let bridge = BridgeSpec {
            name: names.bridge(network.name().as_str()),
            mtu: network.mtu(),
        };
        steps.push(Step::Bridge {
            ns: switch.clone(),
            bridge,
        });
    }
    let roles = Roles::new(lab);
    for node in lab.nodes() {
        let ns = Ns::named(node.name().as_str());
        steps.push(Step::Netns { ns: ns.clone() });
        let values = namespace_sysctls(node, roles.arp(node));
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
    set_up(lab, &mut steps);
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
    accept_and_direct(lab, &mut steps);
    for node in lab.nodes().iter().filter(|n| n.has_process()) {
        steps.push(Step::Start {
            node: node.name().to_string(),
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

/// Every node interface with the index that it gets: `lo` is 1, the first interface 2.
fn interfaces(lab: &Lab) -> impl Iterator<Item = (&Node, &Interface, u32)> {
    lab.nodes().iter().flat_map(|node| {
        node.interfaces()
            .iter()
            .zip(2..)
            .map(move |(i, index)| (node, i, index))
    })
}

fn configure_links(lab: &Lab, roles: &Roles, steps: &mut Vec<Step>) {
    for node in lab.nodes() {
        let ns = Ns::named(node.name().as_str());
        let mut values = Vec::new();
        for interface in node.interfaces() {
            values.extend(link_sysctls(interface, roles.arp(node)));
        }
        values.extend(node.sysctls().iter().map(|(k, v)| Sysctl::new(k, v)));
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
        for vip in roles.loopback_vips(node) {
            let (link, address) = ("lo".to_owned(), IpNet::from(vip));
            steps.push(Step::Address {
                ns: ns.clone(),
                link,
                address,
            });
        }
    }
}

/// Up, but without a carrier: each link's other end, the bridge's port, is still down, so nothing
/// can pass before the captures run. What coming up itself does (routes of the subnet, IPv6's
/// addresses) is over by then.
fn set_up(lab: &Lab, steps: &mut Vec<Step>) {
    for node in lab.nodes() {
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

fn accept_and_direct(lab: &Lab, steps: &mut Vec<Step>) {
    let mut redirects: BTreeMap<usize, Vec<(IpAddr, u8, u16)>> = BTreeMap::new();
    let mut directors: BTreeMap<usize, Vec<&Service>> = BTreeMap::new();
    let position: HashMap<_, _> = lab
        .nodes()
        .iter()
        .enumerate()
        .map(|(n, node)| (node.name().as_str(), n))
        .collect();
    for service in lab.services() {
        if let Some(n) = position.get(service.director().as_str()) {
            directors.entry(*n).or_default().push(service);
        }
        if service.accept() == Accept::Redirect {
            for server in service.servers() {
                if let Some(n) = position.get(server.node().as_str()) {
                    let entry = (service.vip(), service.protocol().number(), service.port());
                    redirects.entry(*n).or_default().push(entry);
                }
            }
        }
    }
    for (n, vips) in redirects {
        let ns = Ns::named(lab.nodes()[n].name().as_str());
        steps.push(Step::Accept {
            ns,
            ruleset: director::realserver_redirect(&vips),
        });
    }
    for (n, services) in directors {
        let node = &lab.nodes()[n];
        // One program a director: its services share an engine, because an engine owns the
        // namespace's ruleset. A file that asks for both gets the stricter wish.
        let engine = services
            .iter()
            .map(|s| s.engine())
            .find(|e| *e != EngineChoice::Auto)
            .unwrap_or(EngineChoice::Auto);
        let services = services
            .into_iter()
            .map(|s| service_spec(node, s))
            .collect();
        steps.push(Step::Director {
            ns: Ns::named(node.name().as_str()),
            engine,
            services,
        });
    }
}

fn service_spec(director: &Node, service: &Service) -> ServiceSpec {
    ServiceSpec {
        name: service.name().to_string(),
        vip: service.vip(),
        port: service.port(),
        protocol: service.protocol().number(),
        method: service.method(),
        scheduler: service.scheduler().as_str().to_owned(),
        scheduler_flags: service.scheduler_flags().to_vec(),
        persistent: service.persistent().map(|p| director::Persistence {
            // A day is the most that a file can ask for.
            timeout_s: p.timeout().as_secs() as u32,
            prefix: p.prefix(),
        }),
        one_packet: service.one_packet(),
        devices: director
            .interfaces()
            .iter()
            .map(|i| Device {
                name: i.name().to_string(),
                mac: i.mac().octets(),
            })
            .collect(),
        servers: service
            .servers()
            .iter()
            .map(|s| ServerSpec {
                name: s.node().to_string(),
                address: s.address(),
                port: s.port(),
                mac: s.mac().octets(),
                via: s.via().to_string(),
                weight: s.weight(),
                upper: s.upper(),
                lower: s.lower(),
            })
            .collect(),
    }
}

/// ARP behaviour of a node: (arp_ignore, arp_announce).
type Arp = (u8, u8);

/// Which nodes hold VIPs on `lo`, and answer ARP accordingly.
struct Roles<'a> {
    loopback: HashMap<&'a str, Vec<IpAddr>>,
}

impl<'a> Roles<'a> {
    fn new(lab: &'a Lab) -> Self {
        let mut loopback: HashMap<&str, Vec<IpAddr>> = HashMap::new();
        for service in lab
            .services()
            .iter()
            .filter(|s| s.accept() == Accept::Loopback)
        {
            for server in service.servers() {
                let vips = loopback.entry(server.node().as_str()).or_default();
                if !vips.contains(&service.vip()) {
                    vips.push(service.vip());
                }
            }
        }
        Self { loopback }
    }

    fn loopback_vips(&self, node: &Node) -> impl Iterator<Item = IpAddr> + '_ {
        self.loopback
            .get(node.name().as_str())
            .into_iter()
            .flatten()
            .copied()
    }

    /// Loopback realservers must neither answer ARP for the VIP (arp_ignore=1) nor announce it as
    /// the source of their own requests (arp_announce=2): ip-sysctl.rst, and the LVS-HOWTO's "ARP
    /// problem".
    fn arp(&self, node: &Node) -> Arp {
        if self.loopback.contains_key(node.name().as_str()) {
            (1, 2)
        } else {
            (0, 0)
        }
    }
}

/// The switch has no addresses: no IPv6 of its own on bridges and ports.
fn switch_sysctls() -> Vec<Sysctl> {
    ["all", "default"]
        .map(|c| Sysctl::optional(format!("net.ipv6.conf.{c}.disable_ipv6"), "1"))
        .to_vec()
}

/// What a namespace inherits from the host's is set explicitly: a new one copies the host's
/// `all` and `default` (net.core.devconf_inherit_init_net), so a host with rp_filter=2 or
/// ip_forward=1 would otherwise break the lab.
fn namespace_sysctls(node: &Node, (arp_ignore, arp_announce): Arp) -> Vec<Sysctl> {
    let forward = u8::from(node.forward()).to_string();
    // ip_forward first: changing it resets other keys (ip-sysctl.rst).
    let mut values = vec![Sysctl::new("net.ipv4.ip_forward", &forward)];
    for conf in ["all", "default"] {
        let mut v4 = |key: &str, value: u8| {
            values.push(Sysctl::new(
                format!("net.ipv4.conf.{conf}.{key}"),
                value.to_string(),
            ));
        };
        v4("rp_filter", 0);
        v4("arp_ignore", arp_ignore);
        v4("arp_announce", arp_announce);
        v4("arp_filter", 0);
        v4("accept_redirects", 0);
        v4("send_redirects", 0);
    }
    let ipv6 = node.interfaces().iter().any(Interface::ipv6);
    for conf in ["all", "default"] {
        let key = |key: &str| format!("net.ipv6.conf.{conf}.{key}");
        if ipv6 {
            values.push(Sysctl::new(key("disable_ipv6"), "0"));
            // No wait for duplicates: nslab has checked the addresses.
            values.push(Sysctl::new(key("accept_dad"), "0"));
            values.push(Sysctl::new(key("accept_ra"), "0"));
            values.push(Sysctl::new(key("forwarding"), &forward));
        } else {
            values.push(Sysctl::optional(key("disable_ipv6"), "1"));
        }
    }
    values
}

/// The same for one link: the kernel takes the maximum of `all` and the link's own for some keys
/// and either of them for others, so both are set.
fn link_sysctls(interface: &Interface, (arp_ignore, arp_announce): Arp) -> Vec<Sysctl> {
    let link = interface.name().as_str().replace('.', "/");
    let v4 = |key: &str, value: u8| {
        Sysctl::new(format!("net.ipv4.conf.{link}.{key}"), value.to_string())
    };
    let mut values = vec![
        v4("rp_filter", 0),
        v4("arp_ignore", arp_ignore),
        v4("arp_announce", arp_announce),
    ];
    let key = format!("net.ipv6.conf.{link}.disable_ipv6");
    values.push(if interface.ipv6() {
        Sysctl::new(key, "0")
    } else {
        Sysctl::optional(key, "1")
    });
    values
}

/// Names of bridges and ports in the switch namespace: readable where they fit into 15 bytes.
struct SwitchNames {
    bridges: HashMap<String, String>,
    ports: HashMap<(String, String), String>,
}

impl SwitchNames {
    fn new(lab: &Lab) -> Self {
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
        let mut used = std::collections::HashSet::new();
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

    fn bridge(&self, network: &str) -> String {
        self.bridges.get(network).cloned().unwrap_or_default()
    }

    fn port(&self, node: &str, interface: &str) -> String {
        self.ports
            .get(&(node.to_owned(), interface.to_owned()))
            .cloned()
            .unwrap_or_default()
    }
}
