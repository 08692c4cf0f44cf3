//! A lab's shape as tracing has to know it: who has which MAC and IP address, what is balanced, and
//! by what.
//!
//! `up` writes it beside the captures, as `lab.json`, so that they can be understood after `down`.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::lab::{Lab, Mac};

/// Version of the file; one that is greater is not understood.
const VERSION: u32 = 1;
/// A topology file larger than this is not one: 64 MiB.
const LIMIT: u64 = 64 << 20;

/// A lab's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Version of this format.
    pub version: u32,
    /// The lab's name.
    pub lab: String,
    /// Layer-2 segments, in the lab file's order.
    pub networks: Vec<TopoNetwork>,
    /// Nodes, in the lab file's order.
    pub nodes: Vec<TopoNode>,
    /// The host's own interfaces, one for each network that it joins. They are not captured.
    pub host: Vec<TopoHost>,
    /// Where health checks come from. They are no client's traffic.
    #[serde(default)]
    pub checkers: Vec<TopoChecker>,
    /// Balanced services.
    pub services: Vec<TopoService>,
}

/// The switch's own place on a network, from which servers are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopoChecker {
    /// Which network.
    pub network: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its address.
    pub address: IpAddr,
}

/// A layer-2 segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopoNetwork {
    /// Its name.
    pub name: String,
    /// Its subnet.
    pub subnet: IpNet,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopoNode {
    /// Its name.
    pub name: String,
    /// Whether it forwards packets.
    pub forward: bool,
    /// Next hop of its default route.
    pub gateway: Option<IpAddr>,
    /// Its interfaces, in the lab file's order.
    pub interfaces: Vec<TopoInterface>,
}

/// A node's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopoInterface {
    /// Its name in the node.
    pub name: String,
    /// The segment that it is on.
    pub network: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its address and further ones (VIPs).
    pub addresses: Vec<IpAddr>,
}

/// The host's own place on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopoHost {
    /// Which network.
    pub network: String,
    /// Name of the host's interface.
    pub interface: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its address.
    pub address: IpAddr,
}

/// A balanced service. Words are those of the lab file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopoService {
    /// Its name.
    pub name: String,
    /// Virtual address.
    pub vip: IpAddr,
    /// Port on it.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// `dr`, `nat` or `tun`.
    pub method: String,
    /// `redirect` or `loopback`; nothing for NAT.
    pub accept: Option<String>,
    /// Scheduler.
    pub scheduler: String,
    /// Its flags, as `sh-port`.
    pub scheduler_flags: Vec<String>,
    /// Prefix length of the clients that stay with one server, if they do.
    pub persistent: Option<u8>,
    /// Whether health checks may change the servers' weights.
    pub checked: bool,
    /// What was changed while the lab was up, the last change only: connections are not
    /// distributed by the weights below alone then.
    pub changed: Option<String>,
    /// The engine that runs it, `ipvs` or `nft`; nothing before `up` has chosen.
    pub engine: Option<String>,
    /// The node that balances.
    pub director: String,
    /// Realservers, in the lab file's order.
    pub servers: Vec<TopoServer>,
}

/// A realserver of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopoServer {
    /// Its node.
    pub node: String,
    /// Its real address.
    pub address: IpAddr,
    /// The port that it serves on; the service's but for NAT.
    pub port: u16,
    /// Its weight when the lab came up.
    pub weight: u32,
}

/// Why a topology file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what `up` writes.
    #[error(
        "{path} is not a lab's topology as `nslab up` writes it ({why}); run the lab again, or give \
         the capture files and --vip"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Topology {
    /// Its file's name in a lab's folder of captures.
    pub const FILE: &str = "lab.json";

    /// The topology of a lab. `engines` names the engine of each service by the service's name, as
    /// far as that is known.
    pub fn new(lab: &Lab, engines: &BTreeMap<String, String>) -> Self {
        let networks = lab.networks().iter();
        Self {
            version: VERSION,
            lab: lab.name().to_string(),
            networks: networks
                .clone()
                .map(|n| TopoNetwork {
                    name: n.name().to_string(),
                    subnet: n.subnet(),
                })
                .collect(),
            nodes: lab.nodes().iter().map(node).collect(),
            checkers: networks
                .clone()
                .filter_map(|n| {
                    let checker = lab.checker(n)?;
                    Some(TopoChecker {
                        network: n.name().to_string(),
                        mac: checker.mac,
                        address: checker.address.addr(),
                    })
                })
                .collect(),
            host: networks
                .filter_map(|n| {
                    let host = n.host()?;
                    Some(TopoHost {
                        network: n.name().to_string(),
                        interface: host.ifname().to_string(),
                        mac: host.mac(),
                        address: host.address().addr(),
                    })
                })
                .collect(),
            services: lab
                .services()
                .iter()
                .map(|s| service(s, engines.get(s.name().as_str()).cloned()))
                .collect(),
        }
    }

    /// As the file holds it.
    pub fn to_json(&self) -> Vec<u8> {
        // Maps with keys that are no strings are all that cannot be written, and there are none.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads the file that `up` wrote.
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        use std::io::Read;
        let failed = |source| TopologyError::Read {
            path: path.into(),
            source,
        };
        let content = |why: String| TopologyError::Content {
            path: path.into(),
            why,
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > LIMIT {
            return Err(content(format!("it is larger than {} MiB", LIMIT >> 20)));
        }
        let topology: Self =
            serde_json::from_slice(&bytes).map_err(|error| content(error.to_string()))?;
        if topology.version > VERSION {
            return Err(content(format!(
                "it is of version {}, and this nslab knows {VERSION}",
                topology.version
            )));
        }
        Ok(topology)
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&TopoNode> {
        self.nodes.iter().find(|n| n.name == name)
    }

    /// Whose MAC address that is: node and interface. The host's own are of node `host`.
    pub fn owner(&self, mac: Mac) -> Option<(&str, &str)> {
        let nodes = self.nodes.iter().flat_map(|n| {
            n.interfaces
                .iter()
                .map(move |i| (i.mac, n.name.as_str(), i.name.as_str()))
        });
        let host = self
            .host
            .iter()
            .map(|h| (h.mac, Self::HOST, h.interface.as_str()));
        nodes
            .chain(host)
            .find(|(m, ..)| *m == mac)
            .map(|(_, node, interface)| (node, interface))
    }

    /// What the host is called among the nodes.
    pub const HOST: &str = "host";

    /// What the switch is called as the origin of health checks. No node has this name.
    pub const CHECKER: &str = "health check";

    /// Which node has an address: its own before a VIP that several have.
    pub fn holder(&self, address: IpAddr) -> Option<&str> {
        let first = self.nodes.iter().find(|n| {
            n.interfaces
                .iter()
                .any(|i| i.addresses.first() == Some(&address))
        });
        let any = || {
            self.nodes
                .iter()
                .find(|n| n.interfaces.iter().any(|i| i.addresses.contains(&address)))
        };
        let host = || self.host.iter().any(|h| h.address == address);
        first
            .or_else(any)
            .map(|n| n.name.as_str())
            .or_else(|| host().then_some(Self::HOST))
    }
}

fn node(node: &crate::lab::Node) -> TopoNode {
    TopoNode {
        name: node.name().to_string(),
        forward: node.forward(),
        gateway: node.gateway(),
        interfaces: node
            .interfaces()
            .iter()
            .map(|i| TopoInterface {
                name: i.name().to_string(),
                network: i.network().to_string(),
                mac: i.mac(),
                addresses: std::iter::once(i.address().addr())
                    .chain(i.aliases().iter().copied())
                    .collect(),
            })
            .collect(),
    }
}

fn service(service: &crate::lab::Service, engine: Option<String>) -> TopoService {
    TopoService {
        name: service.name().to_string(),
        vip: service.vip(),
        port: service.port(),
        protocol: word(&service.protocol()).unwrap_or_default(),
        method: word(&service.method()).unwrap_or_default(),
        accept: word(&service.accept()),
        scheduler: service.scheduler().as_str().to_owned(),
        scheduler_flags: service.scheduler_flags().iter().filter_map(word).collect(),
        persistent: service.persistent().map(|p| p.prefix()),
        checked: service.check().is_some(),
        changed: None,
        engine,
        director: service.director().to_string(),
        servers: service
            .servers()
            .iter()
            .map(|s| TopoServer {
                node: s.node().to_string(),
                address: s.address(),
                port: s.port(),
                weight: s.weight(),
            })
            .collect(),
    }
}

/// The lab file's word for a choice, as serde has it.
fn word(choice: &impl Serialize) -> Option<String> {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(word)) => Some(word),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flagship() -> Topology {
        let text = include_str!("../../labs/dsr.toml");
        let lab = crate::lab::load("labs/dsr.toml".as_ref(), text).unwrap();
        let engines = BTreeMap::from([("thredds".to_owned(), "nft".to_owned())]);
        Topology::new(&lab, &engines)
    }

    #[test]
    fn the_flagship_reads_back_and_names_its_owners() {
        let topology = flagship();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(Topology::FILE);
        std::fs::write(&path, topology.to_json()).unwrap();
        assert_eq!(Topology::read(&path).unwrap(), topology);

        let router = topology.node("router").unwrap();
        assert_eq!(
            topology.owner(router.interfaces[1].mac),
            Some(("router", "eth2"))
        );
        assert_eq!(topology.owner(topology.host[0].mac).unwrap().0, "host");
        assert_eq!(topology.owner(Mac::from([9; 6])), None);
        let holder = |a: &str| topology.holder(a.parse().unwrap());
        assert_eq!(holder("172.28.128.3"), Some("lb"));
        assert_eq!(holder("172.28.128.1"), Some("host"));
        assert_eq!(holder("9.9.9.9"), None);

        let service = &topology.services[0];
        let words = [&service.protocol, &service.method, &service.scheduler];
        assert_eq!(words, ["tcp", "dr", "rr"]);
        assert_eq!(service.accept.as_deref(), Some("redirect"));
        assert_eq!(service.engine.as_deref(), Some("nft"));
        assert_eq!(service.servers[1].node, "server2");
    }

    #[test]
    fn what_is_no_topology_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.json");
        let said = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Topology::read(&path).unwrap_err().to_string()
        };
        let why = |why: &str| {
            format!(
                "{} is not a lab's topology as `nslab up` writes it ({why}); run the lab again, or \
                 give the capture files and --vip",
                path.display()
            )
        };
        assert_eq!(
            said("{}"),
            why("missing field `version` at line 1 column 2")
        );
        let newer = String::from_utf8(flagship().to_json())
            .unwrap()
            .replace("\"version\": 1", "\"version\": 2");
        assert_eq!(
            said(&newer),
            why("it is of version 2, and this nslab knows 1")
        );
    }
}
