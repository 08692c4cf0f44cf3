//! Who is meant: a node's name, a service, an address, with a port or not.

use std::net::{IpAddr, SocketAddr};

use crate::trace::topology::{TopoService, Topology};
use crate::trace::words::list;
use crate::trace::{Error, Target};

/// One end of a way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// As the user named it.
    pub name: String,
    pub addresses: Vec<IpAddr>,
    pub port: Option<u16>,
}

impl End {
    /// What a word of the command line means.
    pub fn parse(word: &str, topology: Option<&Topology>) -> Result<Self, Error> {
        let end = |addresses, port| Self {
            name: word.to_owned(),
            addresses,
            port,
        };
        if let Ok(both) = word.parse::<SocketAddr>() {
            return Ok(end(vec![both.ip()], Some(both.port())));
        }
        if let Ok(address) = word.parse::<IpAddr>() {
            return Ok(end(vec![address], None));
        }
        let Some(topology) = topology else {
            return Err(Error::NothingToExplain(format!(
                "{word:?} is no address; captures without a lab know no names: give addresses, as \
                 192.168.10.168 or 172.28.128.3:8080"
            )));
        };
        let (name, port) = match word.rsplit_once(':').map(|(n, p)| (n, p.parse().ok())) {
            Some((name, Some(port))) => (name, Some(port)),
            _ => (word, None),
        };
        if let Some(service) = service(topology, name) {
            return Ok(end(vec![service.vip], port.or(Some(service.port))));
        }
        if let Some(node) = topology.node(name) {
            let addresses = node.interfaces.iter().flat_map(|i| i.addresses.clone());
            return Ok(end(addresses.collect(), port));
        }
        if name == Topology::HOST && !topology.host.is_empty() {
            let addresses = topology.host.iter().map(|h| h.address);
            return Ok(end(addresses.collect(), port));
        }
        let mut names: Vec<&str> = topology.nodes.iter().map(|n| n.name.as_str()).collect();
        names.extend(topology.services.iter().map(|s| s.name.as_str()));
        if !topology.services.is_empty() {
            names.push("VIP");
        }
        Err(Error::NothingToExplain(format!(
            "lab {} has nothing called {name}; it has {}",
            topology.lab,
            list(&names)
        )))
    }
}

/// `VIP` is the first service, as in every /etc/hosts.
fn service<'t>(topology: &'t Topology, name: &str) -> Option<&'t TopoService> {
    if name.eq_ignore_ascii_case("vip") {
        return topology.services.first();
    }
    topology.services.iter().find(|s| s.name == name)
}

/// What to trace between two ends; without the second, what the first asked of any service.
pub(super) fn target(
    from: &End,
    to: Option<&End>,
    topology: Option<&Topology>,
) -> Result<Target, Error> {
    let services = || {
        let all = topology.into_iter().flat_map(|t| &t.services);
        all.map(|s| s.vip).collect::<Vec<_>>()
    };
    let (server, port) = match to {
        Some(to) => (to.addresses.clone(), to.port),
        None => (services(), None),
    };
    if server.is_empty() {
        return Err(Error::NothingToExplain(
            "to whom? give the other end as well: nslab explain FROM TO".to_owned(),
        ));
    }
    Ok(Target {
        server,
        port,
        protocol: None,
        client: Some(from.addresses.clone()),
        client_port: from.port,
        echo: port.is_none(),
    })
}
