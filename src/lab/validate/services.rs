//! Services: VIP, director, servers.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Owner, Port, Validator};
use crate::lab::model::{Accept, EngineChoice, Method, Protocol, Scheduler, Server, Service};
use crate::lab::names::ServiceName;
use crate::spec::text::{did_you_mean, quote};
use crate::spec::{At, Code, Diagnostic, Field, RawServer, RawService, Span, keys};

impl Validator<'_> {
    pub(super) fn build_services(&mut self) -> Option<Vec<Service>> {
        let raw = self.raw;
        let mut all = Some(Vec::new());
        let mut places: HashMap<(IpAddr, u16, Protocol), Span> = HashMap::new();
        for service in &raw.services {
            let built = self.build_service(service, &mut places);
            all = all.zip(built).map(|(mut list, service)| {
                list.push(service);
                list
            });
        }
        all
    }

    fn build_service(
        &mut self,
        raw: &RawService,
        places: &mut HashMap<(IpAddr, u16, Protocol), Span>,
    ) -> Option<Service> {
        let name = self.name(
            &raw.name,
            "service",
            Code::BadName,
            "the service",
            ServiceName::new,
        );
        self.clash(&raw.name);
        let vip = raw.vip.get().and_then(|at| self.vip(at));
        let port = raw.port.get().and_then(|at| self.port(at));
        let protocol = self.word(
            "protocol",
            &raw.protocol,
            Protocol::Tcp,
            keys::PROTOCOLS,
            protocol,
        );
        let director = raw
            .director
            .get()
            .and_then(|at| self.service_node(at, "director"));
        let scheduler = self.scheduler(&raw.scheduler);
        let method = self.method(&raw.method);
        let accept = self.word(
            "accept",
            &raw.accept,
            Accept::Redirect,
            keys::ACCEPTS,
            accept,
        );
        let engine = self.word(
            "engine",
            &raw.engine,
            EngineChoice::Auto,
            keys::ENGINES,
            engine,
        );
        if let (Some(vip), Some(director)) = (&vip, director) {
            self.vip_is_the_directors(vip, director, raw);
        }
        if let (Some(vip), Some(port), Some(protocol)) = (&vip, port, protocol) {
            let place = raw.port.get().map_or(vip.span, |at| at.span);
            if let Some(first) = places.insert((vip.value, port, protocol), place) {
                let d = Diagnostic::new(
                    Code::DuplicateService,
                    place,
                    format!(
                        "service {} is at {}:{port} as another one",
                        quote(&raw.name.value),
                        vip.value
                    ),
                    "taken already",
                    "give it another port or VIP, or list all servers in one service",
                )
                .and(first, "the first one's");
                self.diagnostics.push(d);
            }
        }
        let servers = self.servers(raw, director, scheduler);
        let director = self.nodes[director?].name.clone();
        Some(Service {
            name: name?,
            vip: vip?.value,
            port: port?,
            protocol: protocol?,
            director: director?,
            scheduler: scheduler?,
            method: method?,
            accept: accept?,
            servers: servers?,
            engine: engine?,
        })
    }

    /// Nodes and services stand in the same /etc/hosts.
    fn clash(&mut self, name: &At<String>) {
        if let Some(&node) = self.node_index.get(name.value.as_str()) {
            let d = Diagnostic::new(
                Code::NameClash,
                name.span,
                format!("service {} has the name of a node", quote(&name.value)),
                "taken by a node",
                "both are in every node's /etc/hosts: give the service another name",
            )
            .and(self.nodes[node].raw.name.span, "the node");
            self.diagnostics.push(d);
        }
    }

    fn vip(&mut self, at: &At<String>) -> Option<At<IpAddr>> {
        let value = self.address(at)?;
        if value.is_ipv6() {
            self.report(
                Code::Ipv6Service,
                at.span,
                "IPv6 services are not available in this version",
                "an IPv6 address",
                "give the service an IPv4 address of its director",
            );
            return None;
        }
        Some(At {
            value,
            span: at.span,
        })
    }

    fn vip_is_the_directors(&mut self, vip: &At<IpAddr>, director: usize, raw: &RawService) {
        let name = &self.nodes[director].raw.name.value;
        let service = quote(&raw.name.value);
        let owner = self.owners.get(&vip.value).copied();
        let d = match owner {
            Some((Owner::Node(n), _)) if n == director => return,
            Some((owner, place)) => Diagnostic::new(
                Code::VipUnowned,
                vip.span,
                format!(
                    "VIP {} of service {service} belongs to {}, not to its director {}",
                    vip.value,
                    self.owner_name(owner),
                    quote(name)
                ),
                "not the director's",
                "take an address of the director, or name the owner as the director",
            )
            .and(place, format!("{}'s address", self.owner_name(owner))),
            // One of its addresses could not be read: that one may be it.
            None if self.nodes[director].addresses_unsure => return,
            None => Diagnostic::new(
                Code::VipUnowned,
                vip.span,
                format!("VIP {} of service {service} belongs to nobody", vip.value),
                "no node has this address",
                format!(
                    "add `aliases = [\"{}\"]` to an interface of {}, or take its own address",
                    vip.value,
                    quote(name)
                ),
            )
            .and(self.nodes[director].raw.name.span, "the director"),
        };
        self.diagnostics.push(d);
    }

    fn scheduler(&mut self, field: &Field<String>) -> Option<Scheduler> {
        match field {
            Field::Absent => Some(Scheduler::Rr),
            Field::Bad => None,
            Field::Set(at) => scheduler(&at.value).or_else(|| {
                self.report(
                    Code::UnknownScheduler,
                    at.span,
                    format!("unknown scheduler {}", quote(&at.value)),
                    "no such scheduler",
                    "there are `rr` (round robin), `wrr` (weighted round robin) and `sh` (source \
                     hashing)",
                );
                None
            }),
        }
    }

    fn method(&mut self, field: &Field<String>) -> Option<Method> {
        match field {
            Field::Absent => Some(Method::Dr),
            Field::Bad => None,
            Field::Set(at) => match at.value.as_str() {
                "dr" => Some(Method::Dr),
                "nat" | "tun" => {
                    self.report(
                        Code::MethodUnavailable,
                        at.span,
                        format!(
                            "method {} is not available in this version",
                            quote(&at.value)
                        ),
                        "not available",
                        "use `method = \"dr\"`, direct routing",
                    );
                    None
                }
                _ => {
                    let help = did_you_mean(
                        &at.value,
                        keys::METHODS.iter().copied(),
                        "this version has the method",
                        "",
                    );
                    self.report(
                        Code::MethodUnavailable,
                        at.span,
                        format!("unknown method {}", quote(&at.value)),
                        "no such method",
                        help,
                    );
                    None
                }
            },
        }
    }

    fn servers(
        &mut self,
        raw: &RawService,
        director: Option<usize>,
        scheduler: Option<Scheduler>,
    ) -> Option<Vec<Server>> {
        let list = raw.servers.get()?;
        if list.value.is_empty() {
            self.report(
                Code::NoServers,
                list.span,
                format!("service {} has no servers", quote(&raw.name.value)),
                "nobody would answer",
                "name at least one node, as `servers = [\"server1\"]`",
            );
        }
        let mut seen: HashMap<&str, Span> = HashMap::new();
        let mut all = Some(Vec::new());
        for server in &list.value {
            let once = server
                .node
                .get()
                .is_none_or(|at| match seen.insert(&at.value, at.span) {
                    None => true,
                    Some(first) => {
                        let d = Diagnostic::new(
                            Code::ServerTwice,
                            at.span,
                            format!("server {} is listed twice", quote(&at.value)),
                            "second time",
                            "keep one; a higher `weight` with scheduler `wrr` sends it more",
                        )
                        .and(first, "first time");
                        self.diagnostics.push(d);
                        false
                    }
                });
            let weight = self.weight(&server.weight, scheduler);
            self.no_port_mapping(server, raw);
            let built = if once {
                self.server(server, director, weight)
            } else {
                None
            };
            all = all.zip(built).map(|(mut list, server)| {
                list.push(server);
                list
            });
        }
        self.all_zero(raw, &list.value);
        all
    }

    fn all_zero(&mut self, raw: &RawService, servers: &[RawServer]) {
        let zero = |s: &RawServer| s.weight.get().is_some_and(|w| w.value == 0);
        if let Some(first) = servers.first().and_then(|s| s.weight.get())
            && servers.iter().all(zero)
        {
            self.report(
                Code::AllWeightsZero,
                first.span,
                format!(
                    "all servers of service {} have weight 0",
                    quote(&raw.name.value)
                ),
                "takes no new connections",
                "give at least one server a weight above 0",
            );
        }
    }

    fn no_port_mapping(&mut self, raw: &RawServer, service: &RawService) {
        if let Some(at) = raw.port.get()
            && let Some(port) = self.port(at)
            && let Some(wanted) = service.port.get()
            && i64::from(port) != wanted.value
        {
            let d = Diagnostic::new(
                Code::PortMapping,
                at.span,
                format!(
                    "port mapping from {} to {port} is impossible in DR",
                    wanted.value
                ),
                format!("the service's port is {}", wanted.value),
                format!(
                    "direct routing changes MAC addresses only: let the server listen on port \
                     {}, and remove `port` here",
                    wanted.value
                ),
            )
            .and(wanted.span, "the service's port");
            self.diagnostics.push(d);
        }
    }

    fn server(
        &mut self,
        raw: &RawServer,
        director: Option<usize>,
        weight: Option<u32>,
    ) -> Option<Server> {
        let at = raw.node.get()?;
        let node = self.service_node(at, "server")?;
        let director = director?;
        if node == director {
            self.report(
                Code::ServerIsDirector,
                at.span,
                format!("server {} is the director", quote(&at.value)),
                "balances this service itself",
                "name another node: in DR the director cannot be one of its own servers",
            );
            return None;
        }
        // The VIP is an IPv4 address, so the real server's must be one too.
        let ipv4 = |v: &Self, p: &Port| {
            let net = p.network.and_then(|n| v.networks[n].subnet.as_ref());
            matches!(
                net,
                None | Some(At {
                    value: IpNet::V4(_),
                    ..
                })
            )
        };
        let Some((via, port)) = self.shared(director, node, ipv4) else {
            let unsure = self.nodes[director].networks_unsure || self.nodes[node].networks_unsure;
            if !unsure {
                let name = &self.nodes[director].raw.name;
                let d = Diagnostic::new(
                    Code::ServerNotShared,
                    at.span,
                    format!(
                        "server {} shares no IPv4 network with director {}",
                        quote(&at.value),
                        quote(&name.value)
                    ),
                    "out of reach of the director",
                    "in DR a server is one hop away from its director: put both on one network",
                )
                .and(name.span, "the director")
                .and(self.nodes[node].raw.name.span, "the server");
                self.diagnostics.push(d);
            }
            return None;
        };
        Some(Server {
            node: self.nodes[node].name.clone()?,
            address: port.address.as_ref()?.value,
            mac: port.mac?,
            interface: port.name.clone()?,
            via: via.name.clone()?,
            weight: weight?,
        })
    }

    fn weight(&mut self, field: &Field<i64>, scheduler: Option<Scheduler>) -> Option<u32> {
        let at = match field {
            Field::Absent => return Some(1),
            Field::Bad => return None,
            Field::Set(at) => at,
        };
        let weight = self.number(
            at,
            "a weight",
            0..=65535,
            Code::BadWeight,
            "1 is the default; 0 takes no new connections",
        )?;
        if scheduler == Some(Scheduler::Rr) && weight > 1 {
            self.report(
                Code::WeightIgnored,
                at.span,
                format!("weight {weight} has no effect with scheduler `rr`"),
                "round robin knows 0 and not 0 only",
                "use `scheduler = \"wrr\"`, or remove the weight",
            );
        }
        Some(weight)
    }
}

fn protocol(word: &str) -> Option<Protocol> {
    match word {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

fn scheduler(word: &str) -> Option<Scheduler> {
    match word {
        "rr" => Some(Scheduler::Rr),
        "wrr" => Some(Scheduler::Wrr),
        "sh" => Some(Scheduler::Sh),
        _ => None,
    }
}

fn accept(word: &str) -> Option<Accept> {
    match word {
        "redirect" => Some(Accept::Redirect),
        "loopback" => Some(Accept::Loopback),
        _ => None,
    }
}

fn engine(word: &str) -> Option<EngineChoice> {
    match word {
        "auto" => Some(EngineChoice::Auto),
        "ipvs" => Some(EngineChoice::Ipvs),
        "nft" => Some(EngineChoice::Nft),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_known() {
        assert!(keys::PROTOCOLS.iter().all(|w| protocol(w).is_some()));
        assert!(
            keys::SCHEDULERS
                .iter()
                .all(|w| scheduler(w).map(Scheduler::as_str) == Some(*w))
        );
        assert!(keys::ACCEPTS.iter().all(|w| accept(w).is_some()));
        assert!(keys::ENGINES.iter().all(|w| engine(w).is_some()));
    }
}
