//! Services: VIP, director, servers.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::nodes::Nodes;
use super::{Checker, KnownNode, shared};
use crate::lab::model::{Accept, EngineChoice, Method, Node, Protocol, Scheduler, Server, Service};
use crate::lab::names::ServiceName;
use crate::spec::{
    At, Code, Diagnostic, Field, RawServer, RawService, Span, any_of, did_you_mean, quote,
};

/// Services by what clients connect to, and where that is written.
type Taken = HashMap<(IpAddr, u16, Protocol), (String, Span)>;

impl Checker {
    pub(super) fn services(&mut self, raw: &[RawService], nodes: &Nodes) -> Vec<Service> {
        let mut taken = Taken::new();
        raw.iter()
            .filter_map(|r| self.service(r, nodes, &mut taken))
            .collect()
    }

    fn service(&mut self, raw: &RawService, nodes: &Nodes, taken: &mut Taken) -> Option<Service> {
        let name = self.name("service", &raw.name, ServiceName::new);
        if let Some(node) = nodes.get(&raw.name.value) {
            let message = format!(
                "service and node are both called {}",
                quote(&raw.name.value)
            );
            let d = Diagnostic::new(
                Code::NameClash,
                raw.name.span,
                message,
                "the service",
                "both names are in every node's /etc/hosts: rename one",
            )
            .and(node.span, "the node");
            self.push(d);
        }
        let port = raw.port.get().and_then(|at| self.port(at));
        let protocol = self.word(
            &raw.protocol,
            "protocol",
            &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)],
            Protocol::Tcp,
        );
        let scheduler = self.scheduler(&raw.scheduler);
        let method = self.method(&raw.method);
        let accept = self.word(
            &raw.accept,
            "accept",
            &[
                ("redirect", Accept::Redirect),
                ("loopback", Accept::Loopback),
            ],
            Accept::Redirect,
        );
        let engines = [
            ("auto", EngineChoice::Auto),
            ("ipvs", EngineChoice::Ipvs),
            ("nft", EngineChoice::Nft),
        ];
        let engine = self.word(&raw.engine, "engine", &engines, EngineChoice::Auto);
        let director = raw
            .director
            .get()
            .and_then(|at| self.known(at, "director", nodes));
        let vip = raw.vip.get().and_then(|at| self.vip(at, director, nodes));
        if let (Some(vip), Some(port), Some(protocol), Some(at)) =
            (vip, port, protocol, raw.vip.get())
        {
            let key = (vip, port, protocol);
            if let Some((first, place)) = taken.get(&key) {
                let message = format!(
                    "services `{first}` and {} are both at {vip}:{port}",
                    quote(&raw.name.value)
                );
                let d = Diagnostic::new(
                    Code::DuplicateService,
                    at.span,
                    message,
                    "the same address and port",
                    "give one of the two another VIP or port",
                )
                .and(*place, format!("service `{first}`"));
                self.push(d);
            } else {
                taken.insert(key, (raw.name.value.clone(), at.span));
            }
        }
        let servers = self.servers(raw, director, nodes, port);
        self.weights(raw, scheduler, &servers);
        Some(Service {
            name: name?,
            vip: vip?,
            port: port?,
            protocol: protocol?,
            director: director?.node.as_ref()?.name.clone(),
            scheduler: scheduler?,
            method: method?,
            accept: accept?,
            servers,
            engine: engine?,
        })
    }

    fn scheduler(&mut self, field: &Field<String>) -> Option<Scheduler> {
        let known = [Scheduler::Rr, Scheduler::Wrr, Scheduler::Sh];
        let at = match field {
            Field::Absent => return Some(Scheduler::Rr),
            Field::Bad => return None,
            Field::Set(at) => at,
        };
        let found = known.into_iter().find(|s| s.as_str() == at.value);
        if found.is_none() {
            let help = format!("this version has {}", any_of(&known.map(Scheduler::as_str)));
            self.report(
                Code::UnknownScheduler,
                at.span,
                format!("unknown scheduler {}", quote(&at.value)),
                "unknown scheduler",
                help,
            );
        }
        found
    }

    fn method(&mut self, field: &Field<String>) -> Option<Method> {
        match field {
            Field::Absent => Some(Method::Dr),
            Field::Bad => None,
            Field::Set(at) if at.value == "dr" => Some(Method::Dr),
            Field::Set(at) => {
                let message = format!("forwarding method {} is not available", quote(&at.value));
                self.report(
                    Code::MethodUnavailable,
                    at.span,
                    message,
                    "not available",
                    "this version forwards by direct routing: write `method = \"dr\"`",
                );
                None
            }
        }
    }

    /// A node that a service names; `None` when it does not exist, which is reported.
    fn known<'a>(
        &mut self,
        at: &At<String>,
        role: &str,
        nodes: &'a Nodes,
    ) -> Option<&'a KnownNode> {
        let known = nodes.get(&at.value);
        if known.is_none() {
            let help = did_you_mean(
                &at.value,
                nodes.names(),
                "the lab's nodes are",
                "the lab has no nodes",
            );
            self.report(
                Code::UnknownNode,
                at.span,
                format!("{role} {} is not a node of the lab", quote(&at.value)),
                "unknown node",
                help,
            );
        }
        known
    }

    fn vip(
        &mut self,
        at: &At<String>,
        director: Option<&KnownNode>,
        nodes: &Nodes,
    ) -> Option<IpAddr> {
        let vip = self.address(at)?;
        if vip.is_ipv6() {
            self.report(
                Code::Ipv6Service,
                at.span,
                format!("VIP {vip} is an IPv6 address"),
                "IPv6",
                "services are IPv4 in this version; take an IPv4 VIP",
            );
            return None;
        }
        let director = director?
            .node
            .as_ref()
            .filter(|_| !director.is_some_and(|d| d.doubtful))?;
        let owns = |n: &Node| {
            n.interfaces
                .iter()
                .any(|i| i.address.addr() == vip || i.aliases.contains(&vip))
        };
        if owns(director) {
            return Some(vip);
        }
        let other = nodes
            .list
            .iter()
            .filter_map(|n| n.node.as_ref())
            .find(|n| owns(n));
        let (label, message) = match other {
            Some(other) => (
                format!("belongs to `{}`", other.name),
                format!(
                    "VIP {vip} belongs to node `{}`, not to the director `{}`",
                    other.name, director.name
                ),
            ),
            None => (
                "belongs to nobody".to_owned(),
                format!("VIP {vip} belongs to nobody"),
            ),
        };
        let help = format!(
            "take an address of `{0}`, or add it to an interface of `{0}`: `aliases = [\"{vip}\"]`",
            director.name
        );
        self.report(Code::VipUnowned, at.span, message, label, help);
        None
    }

    fn servers(
        &mut self,
        raw: &RawService,
        director: Option<&KnownNode>,
        nodes: &Nodes,
        port: Option<u16>,
    ) -> Vec<Server> {
        let Some(list) = raw.servers.get() else {
            return Vec::new();
        };
        if list.value.is_empty() {
            let message = format!("service {} has no servers", quote(&raw.name.value));
            self.report(
                Code::NoServers,
                list.span,
                message,
                "empty",
                "name at least one node: `servers = [\"server1\"]`",
            );
        }
        let mut seen: HashMap<&str, Span> = HashMap::new();
        let mut servers = Vec::new();
        for r in &list.value {
            let Some(at) = r.node.get() else { continue };
            if let Some(first) = seen.insert(&at.value, at.span) {
                let message = format!("server {} is listed twice", quote(&at.value));
                let d = Diagnostic::new(
                    Code::ServerTwice,
                    at.span,
                    message,
                    "listed again",
                    "remove one; `weight` gives a server more",
                )
                .and(first, "listed first");
                self.push(d);
                continue;
            }
            servers.extend(self.server(r, at, director, nodes, port));
        }
        servers
    }

    fn server(
        &mut self,
        raw: &RawServer,
        at: &At<String>,
        director: Option<&KnownNode>,
        nodes: &Nodes,
        port: Option<u16>,
    ) -> Option<Server> {
        if let (Some(mapped), Some(port)) = (raw.port.get(), port)
            && mapped.value != i64::from(port)
        {
            let message = format!(
                "server {} listens on port {}, the service on {port}",
                quote(&at.value),
                mapped.value
            );
            let help = format!(
                "direct routing changes MAC addresses only: the server must listen on port {port}"
            );
            self.report(
                Code::PortMapping,
                mapped.span,
                message,
                "no port mapping in direct routing",
                help,
            );
        }
        let weight = match raw.weight.get() {
            None => 1,
            Some(at) => match u32::try_from(at.value) {
                Ok(n @ 0..=65_535) => n,
                _ => {
                    self.report(
                        Code::BadWeight,
                        at.span,
                        format!("weight {} is out of range", at.value),
                        "out of range",
                        "a weight is a number from 0 to 65535; 0 takes no new connections",
                    );
                    return None;
                }
            },
        };
        let known = self.known(at, "server", nodes)?;
        let (server, director_known) = (known.node.as_ref()?, director?);
        let director = director_known.node.as_ref()?;
        if server.name == director.name {
            self.report(
                Code::ServerIsDirector,
                at.span,
                format!("{} is both director and server", quote(&at.value)),
                "the director itself",
                "take the director out of `servers`",
            );
            return None;
        }
        let Some((there, here)) = shared(server, director) else {
            if !known.doubtful && !director_known.doubtful {
                let message = format!(
                    "server `{}` and director `{}` are on no shared network",
                    server.name, director.name
                );
                self.report(
                    Code::ServerNotShared,
                    at.span,
                    message,
                    "on no shared network",
                    "direct routing works within one network: put both on it",
                );
            }
            return None;
        };
        Some(Server {
            node: server.name.clone(),
            address: there.address.addr(),
            mac: there.mac,
            interface: there.name.clone(),
            via: here.name.clone(),
            weight,
        })
    }

    fn weights(&mut self, raw: &RawService, scheduler: Option<Scheduler>, servers: &[Server]) {
        let Some(list) = raw.servers.get() else {
            return;
        };
        if !servers.is_empty()
            && servers.len() == list.value.len()
            && servers.iter().all(|s| s.weight == 0)
        {
            let message = format!(
                "all servers of service {} have weight 0",
                quote(&raw.name.value)
            );
            self.report(
                Code::AllWeightsZero,
                list.span,
                message,
                "nobody takes new connections",
                "clients will wait in vain, unless weights are raised later",
            );
        }
        let distinct: HashSet<_> = servers
            .iter()
            .map(|s| s.weight)
            .filter(|w| *w > 0)
            .collect();
        if scheduler == Some(Scheduler::Rr) && distinct.len() > 1 {
            let span = raw.scheduler.get().map_or(raw.name.span, |at| at.span);
            self.report(
                Code::WeightIgnored,
                span,
                "scheduler `rr` does not look at weights",
                "ignores weights",
                "write `scheduler = \"wrr\"`; with `rr` a weight only tells 0 from others",
            );
        }
    }
}
