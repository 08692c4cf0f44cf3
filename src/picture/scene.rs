//! What a picture of a lab shows, whichever syntax it is drawn in.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::lab::{Lab, Mac};
use crate::trace::{TopoService, Topology};

/// A lab as its pictures know it. Places are indices: names need not be unique in foreign captures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// The lab's name.
    pub name: String,
    /// Layer-2 segments.
    pub networks: Vec<Segment>,
    /// Machines, the host among them.
    pub machines: Vec<Machine>,
    /// Load-balanced services.
    pub services: Vec<Balanced>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name.
    pub name: String,
    /// Its subnet; empty if it is not known.
    pub subnet: String,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Whether it is the host that the lab runs on.
    pub host: bool,
    /// Whether it forwards packets.
    pub forward: bool,
    /// Its image.
    pub image: Option<String>,
    /// Its interfaces.
    pub ports: Vec<Port>,
    /// Its default gateway.
    pub gateway: Option<Gateway>,
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its address.
    pub address: IpAddr,
    /// Whose address that is: an index of [`Scene::machines`].
    pub machine: Option<usize>,
}

/// An interface of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its network: an index of [`Scene::networks`].
    pub network: usize,
    /// Addresses, the first with its prefix length.
    pub addresses: Vec<String>,
    /// Its MAC address.
    pub mac: Option<Mac>,
}

/// A load-balanced service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balanced {
    /// Its name.
    pub name: String,
    /// `VIP:port/protocol`.
    pub address: String,
    /// The machine that balances.
    pub director: usize,
    /// Scheduler, as `ipvsadm -s` takes it.
    pub scheduler: String,
    /// How a packet reaches the server: `dr`, `nat`, `tun`.
    pub method: String,
    /// Realservers.
    pub servers: Vec<Realserver>,
}

/// A realserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realserver {
    /// Its machine.
    pub machine: usize,
    /// Its weight.
    pub weight: u32,
    /// The interfaces that requests go from and to, where director and server share a network:
    /// indices of the director's and the server's [`Machine::ports`].
    pub link: Option<(usize, usize)>,
}

impl Machine {
    /// What it is without regard to services.
    fn kind(&self) -> Vec<String> {
        let words = [(self.host, "the host itself"), (self.forward, "router")];
        let those = words.iter().filter(|(is, _)| *is);
        those.map(|(_, word)| (*word).to_owned()).collect()
    }
}

impl Scene {
    /// The picture of a lab file.
    pub fn of(lab: &Lab) -> Self {
        let mut scene = Self::from(&Topology::new(lab, &BTreeMap::new()));
        for (machine, node) in scene.machines.iter_mut().zip(lab.nodes()) {
            machine.image = node.image().cloned();
        }
        scene
    }

    /// The host is one machine, however many networks it joins.
    fn add_host(&mut self, topology: &Topology, networks: &HashMap<&String, usize>) {
        let mut ports = Vec::new();
        for side in &topology.host {
            if let Some(&network) = networks.get(&side.network) {
                let prefix = topology.networks[network].subnet.prefix_len();
                ports.push(Port {
                    name: side.interface.clone(),
                    network,
                    addresses: vec![format!("{}/{prefix}", side.address)],
                    mac: Some(side.mac),
                });
            }
        }
        if !ports.is_empty() {
            self.machines.push(Machine {
                name: Topology::HOST.to_owned(),
                host: true,
                forward: false,
                image: None,
                ports,
                gateway: None,
            });
        }
    }

    fn add_service(&mut self, service: &TopoService, machines: &HashMap<String, usize>) {
        let Some(&director) = machines.get(&service.director) else {
            return;
        };
        let servers = service.servers.iter().filter_map(|s| {
            let machine = *machines.get(&s.node)?;
            Some(Realserver {
                machine,
                weight: s.weight,
                link: self.shared(director, machine),
            })
        });
        let address = SocketAddr::new(service.vip, service.port);
        let balanced = Balanced {
            name: service.name.clone(),
            address: format!("{address}/{}", service.protocol),
            director,
            scheduler: service.scheduler.clone(),
            method: service.method.clone(),
            servers: servers.collect(),
        };
        self.services.push(balanced);
    }

    /// Interfaces of two machines on a network that both are on.
    pub fn shared(&self, a: usize, b: usize) -> Option<(usize, usize)> {
        let (a, b) = (&self.machines[a].ports, &self.machines[b].ports);
        a.iter().enumerate().find_map(|(n, port)| {
            let other = b.iter().position(|p| p.network == port.network)?;
            Some((n, other))
        })
    }

    /// Whose each MAC address is: machine and port.
    pub fn ports_by_mac(&self) -> HashMap<Mac, (usize, usize)> {
        let ports = |(m, machine): (usize, &'_ Machine)| {
            let owned: Vec<_> = (machine.ports.iter().enumerate())
                .filter_map(|(p, port)| Some((port.mac?, (m, p))))
                .collect();
            owned
        };
        self.machines.iter().enumerate().flat_map(ports).collect()
    }

    /// What a machine does, in words: one line each.
    pub fn roles(&self, machine: usize) -> Vec<String> {
        let m = &self.machines[machine];
        let mut roles = m.kind();
        for s in &self.services {
            if s.director == machine {
                roles.push(format!("director of {}", s.name));
            }
            for server in s.servers.iter().filter(|r| r.machine == machine) {
                roles.push(format!(
                    "realserver of {}, weight {}",
                    s.name, server.weight
                ));
            }
        }
        if let Some(image) = &m.image {
            roles.push(format!("image {image}"));
        }
        roles
    }

    /// What a machine does, in the few words that fit into a box: with one service, its name need not
    /// be said.
    pub fn short_roles(&self, machine: usize) -> Vec<String> {
        let m = &self.machines[machine];
        let mut roles = m.kind();
        for s in &self.services {
            if s.director == machine {
                roles.push(format!("director of {}", s.name));
                roles.push(s.address.clone());
                roles.push(format!("scheduler {}, method {}", s.scheduler, s.method));
            }
            for server in s.servers.iter().filter(|r| r.machine == machine) {
                let of = if self.services.len() > 1 {
                    format!(" of {}", s.name)
                } else {
                    String::new()
                };
                roles.push(format!("realserver{of}, weight {}", server.weight));
            }
        }
        if let Some(gateway) = &m.gateway {
            let name = gateway.machine.map(|g| self.machines[g].name.clone());
            roles.push(format!(
                "gateway {}",
                name.unwrap_or_else(|| gateway.address.to_string())
            ));
        }
        if let Some(image) = &m.image {
            roles.push(format!("image {}", super::markup::shortened(image, 64)));
        }
        roles
    }

    /// Whether a machine is drawn above a network of its: those of the first network alone are, and
    /// machines between networks are above all but their first.
    pub(super) fn is_above(&self, machine: usize, port: usize) -> bool {
        let ports = &self.machines[machine].ports;
        let single = ports.iter().all(|p| p.network == ports[0].network);
        if single {
            ports[port].network == 0
        } else {
            ports[port].network != ports[0].network
        }
    }

    /// The whole picture in words, for those who do not see it.
    pub fn description(&self) -> String {
        let mut said = Vec::new();
        for (n, network) in self.networks.iter().enumerate() {
            let on: Vec<_> = self
                .machines
                .iter()
                .flat_map(|m| m.ports.iter().map(move |p| (m, p)))
                .filter(|(_, p)| p.network == n)
                .map(|(m, p)| format!("{} ({} {})", m.name, p.name, p.addresses.join(", ")))
                .collect();
            let subnet = match network.subnet.as_str() {
                "" => String::new(),
                subnet => format!(" ({subnet})"),
            };
            said.push(format!("Network {}{subnet}: {}.", network.name, list(&on)));
        }
        for m in &self.machines {
            if let Some(gateway) = &m.gateway {
                said.push(format!(
                    "Gateway of {}: {}.",
                    m.name,
                    self.gateway_name(gateway)
                ));
            }
        }
        for s in &self.services {
            let servers: Vec<_> = s
                .servers
                .iter()
                .map(|r| format!("{} (weight {})", self.machines[r.machine].name, r.weight))
                .collect();
            said.push(format!(
                "Service {} at {}: director {}, scheduler {}, method {}, realservers {}.",
                s.name,
                s.address,
                self.machines[s.director].name,
                s.scheduler,
                s.method,
                list(&servers)
            ));
        }
        said.join(" ")
    }

    /// `router (192.168.10.2)`, or the address alone.
    pub fn gateway_name(&self, gateway: &Gateway) -> String {
        match gateway.machine {
            Some(machine) => format!("{} ({})", self.machines[machine].name, gateway.address),
            None => gateway.address.to_string(),
        }
    }
}

/// Names in a row; all of them, also of a big lab: nothing is kept from those who cannot see.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        "nobody".to_owned()
    } else {
        names.join(", ")
    }
}

impl From<&Topology> for Scene {
    fn from(topology: &Topology) -> Self {
        let networks: HashMap<_, _> = topology.networks.iter().map(|n| &n.name).zip(0..).collect();
        let mut scene = Self {
            name: topology.lab.clone(),
            ..Self::default()
        };
        for n in &topology.networks {
            scene.networks.push(Segment {
                name: n.name.clone(),
                subnet: n.subnet.to_string(),
            });
        }
        for node in &topology.nodes {
            let mut ports = Vec::new();
            for i in &node.interfaces {
                // A topology read from a file may name a network that it has not.
                let Some(&network) = networks.get(&i.network) else {
                    continue;
                };
                let prefix = topology.networks[network].subnet.prefix_len();
                let mut addresses: Vec<_> = i.addresses.iter().map(ToString::to_string).collect();
                if let Some(first) = addresses.first_mut() {
                    *first = format!("{first}/{prefix}");
                }
                ports.push(Port {
                    name: i.name.clone(),
                    network,
                    addresses,
                    mac: Some(i.mac),
                });
            }
            scene.machines.push(Machine {
                name: node.name.clone(),
                host: false,
                forward: node.forward,
                image: None,
                ports,
                gateway: None,
            });
        }
        scene.add_host(topology, &networks);
        let machines: HashMap<String, usize> = (scene.machines.iter())
            .enumerate()
            .rev()
            .map(|(n, m)| (m.name.clone(), n))
            .collect();
        for (n, node) in topology.nodes.iter().enumerate() {
            scene.machines[n].gateway = node.gateway.map(|address| Gateway {
                address,
                machine: topology
                    .holder(address)
                    .and_then(|name| machines.get(name).copied()),
            });
        }
        for service in &topology.services {
            scene.add_service(service, &machines);
        }
        scene
    }
}
