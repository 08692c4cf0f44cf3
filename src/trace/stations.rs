//! Machines: whose a MAC address is, and whose an interface.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::collect::Trace;
use super::topology::Topology;
use crate::lab::Mac;

/// A machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Station {
    /// A node's name; or of a foreign capture that of its interface's file, its address, or its MAC
    /// address.
    pub name: String,
    pub macs: BTreeSet<Mac>,
    pub addresses: BTreeSet<IpAddr>,
    /// Whether the lab says that it forwards.
    pub forwards: bool,
    /// Its captured interfaces.
    pub points: Vec<usize>,
}

/// All machines that are known.
#[derive(Debug, Default)]
pub(crate) struct Stations {
    pub list: Vec<Station>,
    by_mac: HashMap<Mac, usize>,
    by_point: HashMap<usize, usize>,
    /// Whether they are a lab's nodes.
    pub of_lab: bool,
    /// Addresses from which servers are checked.
    pub checkers: BTreeSet<IpAddr>,
}

impl Stations {
    /// From the lab's topology, or from what was seen.
    pub fn new(trace: &Trace, topology: Option<&Topology>) -> Self {
        let mut stations = topology.map(Self::of_lab).unwrap_or_default();
        stations.meet_points(trace);
        stations.meet_macs(trace);
        stations
    }

    fn of_lab(topology: &Topology) -> Self {
        let mut stations = Self {
            of_lab: true,
            ..Self::default()
        };
        for node in &topology.nodes {
            let n = stations.add(&node.name);
            stations.list[n].forwards = node.forward;
            for interface in &node.interfaces {
                stations.owns(n, interface.mac);
                stations.list[n].addresses.extend(&interface.addresses);
            }
        }
        if !topology.host.is_empty() {
            let n = stations.add(Topology::HOST);
            for host in &topology.host {
                stations.owns(n, host.mac);
                stations.list[n].addresses.insert(host.address);
            }
        }
        for checker in &topology.checkers {
            let n = stations.add(Topology::CHECKER);
            stations.owns(n, checker.mac);
            stations.list[n].addresses.insert(checker.address);
            stations.checkers.insert(checker.address);
        }
        stations
    }

    fn add(&mut self, name: &str) -> usize {
        self.list.push(Station {
            name: name.to_owned(),
            ..Station::default()
        });
        self.list.len() - 1
    }

    fn owns(&mut self, station: usize, mac: Mac) {
        self.by_mac.insert(mac, station);
        self.list[station].macs.insert(mac);
    }

    /// Captured interfaces: by name in a lab, else by their MAC address.
    fn meet_points(&mut self, trace: &Trace) {
        for (n, point) in trace.points.iter().enumerate() {
            let node = point.name.split_once(':').map(|(node, _)| node);
            let named = node
                .and_then(|node| self.named(node))
                .filter(|_| self.of_lab);
            let station = match (named, point.mac) {
                (Some(station), _) => station,
                (None, Some(mac)) => self.of_mac(Some(mac)).unwrap_or_else(|| {
                    let station = self.add(&point.name);
                    self.owns(station, mac);
                    station
                }),
                (None, None) => continue,
            };
            self.list[station].points.push(n);
            self.by_point.insert(n, station);
        }
    }

    /// All other addresses that have part in the traced flows, each a machine of its own.
    fn meet_macs(&mut self, trace: &Trace) {
        let macs: BTreeSet<Mac> = trace
            .records
            .iter()
            .flat_map(|r| [r.src, r.dst])
            .flatten()
            .chain(trace.survey.claims.values().flat_map(|c| c.keys().copied()))
            .collect();
        let mut claimed: BTreeMap<Mac, Vec<IpAddr>> = BTreeMap::new();
        for (address, macs) in &trace.survey.claims {
            for mac in macs.keys() {
                claimed.entry(*mac).or_default().push(*address);
            }
        }
        for mac in macs {
            let addresses = claimed.remove(&mac).unwrap_or_default();
            let station = self.by_mac.get(&mac).copied().unwrap_or_else(|| {
                // An address names a machine if it is its only one and nobody else's.
                let name = match addresses[..] {
                    [one] if trace.survey.claims[&one].len() == 1 => one.to_string(),
                    _ => mac.to_string(),
                };
                let station = self.add(&name);
                self.owns(station, mac);
                station
            });
            if !self.of_lab {
                self.list[station].addresses.extend(addresses);
            }
        }
    }

    /// The machine of that name.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|s| s.name == name)
    }

    /// Whose MAC address that is.
    pub fn of_mac(&self, mac: Option<Mac>) -> Option<usize> {
        self.by_mac.get(&mac?).copied()
    }

    /// Whose interface that is.
    pub fn of_point(&self, point: usize) -> Option<usize> {
        self.by_point.get(&point).copied()
    }

    /// Who has an address, if it is one machine.
    pub fn of_address(&self, address: IpAddr) -> Option<usize> {
        let mut those = (0..self.list.len()).filter(|n| self.list[*n].addresses.contains(&address));
        let first = those.next()?;
        those.next().is_none().then_some(first)
    }

    /// The name of a machine, or what is known of it.
    pub fn name(&self, station: Option<usize>, mac: Option<Mac>) -> String {
        match (station.and_then(|s| self.list.get(s)), mac) {
            (Some(station), _) => station.name.clone(),
            (None, Some(mac)) => mac.to_string(),
            (None, None) => "?".to_owned(),
        }
    }
}
