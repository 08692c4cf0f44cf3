//! The lab's shape beside its captures, for those who read them after `down`.

use super::Event;
use super::serve::Supervisor;
use crate::capture::write_beside;
use crate::trace::{TopoServer, Topology};

impl Supervisor {
    /// Writes `lab.json` into the folder of captures, which is there. Captures are good without it,
    /// so a failure is a warning.
    pub(super) fn write_topology(&self) {
        let engines = self
            .state
            .borrow()
            .directed
            .iter()
            .flat_map(|d| {
                let engine = d.engine.to_owned();
                d.services
                    .iter()
                    .map(move |s| (s.name.clone(), engine.clone()))
            })
            .collect();
        self.put_topology(&Topology::new(&self.lab, &engines));
    }

    fn put_topology(&self, topology: &Topology) {
        let path = self.launch.exchange.join(Topology::FILE);
        let owner = self.launch.owner.map(|o| (o.uid, o.gid));
        if let Err(e) = write_beside(&path, &topology.to_json(), owner) {
            self.event(&Event::Warning {
                text: format!("{e}; `nslab proof` will not know this lab after `down`"),
            });
        }
    }

    /// Weights and servers that change while the lab is up are told to who reads its captures: they
    /// do not show them.
    pub(super) fn reshape(&self, event: &Event) {
        let (service, what, joined) = match event {
            Event::Weight {
                service,
                server,
                from,
                to,
                ..
            } => {
                let what = format!("the weight of {server} was changed from {from} to {to}");
                (service, what, None)
            }
            Event::ServerAdded {
                service,
                server,
                weight,
            } => (
                service,
                format!("{server} joined while the lab was up"),
                Some((server, *weight)),
            ),
            Event::ServerRemoved {
                service, server, ..
            } => (
                service,
                format!("{server} was taken out while the lab was up"),
                None,
            ),
            _ => return,
        };
        // Without captures there is no such file, and nobody who would read it.
        let Ok(mut topology) = Topology::read(&self.launch.exchange.join(Topology::FILE)) else {
            return;
        };
        let addresses: Vec<_> = joined
            .and_then(|(server, _)| self.lab.node(server))
            .into_iter()
            .flat_map(crate::lab::Node::interfaces)
            .map(|i| i.address().addr())
            .collect();
        for shown in topology.services.iter_mut().filter(|s| s.name == *service) {
            shown.changed = Some(what.clone());
            let Some((node, weight)) = joined else {
                continue;
            };
            let known = shown.servers.iter().any(|s| s.node == *node);
            let family = |a: &&std::net::IpAddr| a.is_ipv4() == shown.vip.is_ipv4();
            if let (false, Some(address)) = (known, addresses.iter().find(family)) {
                shown.servers.push(TopoServer {
                    node: node.clone(),
                    address: *address,
                    port: shown.port,
                    weight,
                });
            }
        }
        self.put_topology(&topology);
    }
}
