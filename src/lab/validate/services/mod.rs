//! Services: VIP, director, servers.

mod check;
mod engine;
mod reach;
mod scheduler;
mod servers;

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Owner, Validator};
use crate::lab::model::{Accept, EngineChoice, Method, OnFail, Protocol, Service};
use crate::lab::names::ServiceName;
use crate::spec::text::{any_of, nearest, quote};
use crate::spec::{At, Code, Diagnostic, Field, RawService, Span, keys};

/// Address, port and protocol of each service so far, with its place.
type Places = HashMap<(IpAddr, u16, Protocol), Span>;

/// What is known of a service when its servers are looked at; `None` is what has been reported.
struct Known<'r> {
    raw: &'r RawService,
    vip: Option<IpAddr>,
    port: Option<u16>,
    director: Option<usize>,
    method: Option<Method>,
}

impl<'r> Validator<'r> {
    pub(super) fn build_services(&mut self) -> Option<Vec<Service>> {
        let raw = self.raw;
        let mut all = Some(Vec::new());
        let mut places = Places::new();
        for service in &raw.services {
            let built = self.build_service(service, &mut places);
            all = all.zip(built).map(|(mut list, service)| {
                list.push(service);
                list
            });
        }
        self.engines();
        all
    }

    fn build_service(&mut self, raw: &'r RawService, places: &mut Places) -> Option<Service> {
        let name = self.name(
            &raw.name,
            "service",
            Code::BadName,
            "the service",
            ServiceName::new,
        );
        self.clash(&raw.name);
        let vip = raw.vip.get().and_then(|at| {
            let value = self.address(at)?;
            Some(At {
                value,
                span: at.span,
            })
        });
        let port = raw.port.get().and_then(|at| self.port(at));
        let (tcp, words) = (Protocol::Tcp, keys::PROTOCOLS);
        let protocol = self.word("protocol", &raw.protocol, tcp, words, Protocol::from_word);
        let director = raw
            .director
            .get()
            .and_then(|at| self.service_node(at, "director"));
        let scheduling = self.scheduling(raw, vip.as_ref().map(|at| at.value), protocol);
        let method = self.method(&raw.method);
        let accept = self.accept(raw, method);
        let (auto, words) = (EngineChoice::Auto, keys::ENGINES);
        let engine = self.word("engine", &raw.engine, auto, words, EngineChoice::from_word);
        let check = self.check(raw, vip.as_ref().map(|at| at.value), port);
        let (weight, words) = (OnFail::Weight, keys::ON_FAILS);
        let on_fail = self.word("on_fail", &raw.on_fail, weight, words, OnFail::from_word);
        if let (Some(Some(check)), Some(accept), Some(protocol), Some(port)) =
            (&check, accept, protocol, port)
        {
            self.check_is_taken(raw, check, accept, (protocol, port));
        }
        if let (Some(vip), Some(director)) = (&vip, director) {
            self.vip_is_the_directors(vip, director, raw);
        }
        if let (Some(vip), Some(port), Some(protocol)) = (&vip, port, protocol) {
            self.is_alone(raw, vip, (vip.value, port, protocol), places);
        }
        let known = Known {
            raw,
            vip: vip.as_ref().map(|at| at.value),
            port,
            director,
            method,
        };
        let servers = self.servers(&known, scheduling.as_ref().map(|s| s.scheduler));
        let director = self.nodes[director?].name.clone();
        let scheduling = scheduling?;
        Some(Service {
            name: name?,
            vip: vip?.value,
            port: port?,
            protocol: protocol?,
            director: director?,
            scheduler: scheduling.scheduler,
            scheduler_flags: scheduling.flags,
            persistent: scheduling.persistent,
            one_packet: scheduling.one_packet,
            method: method?,
            accept: accept?,
            servers: servers?,
            engine: engine?,
            check: check?,
            on_fail: on_fail?,
        })
    }

    /// Reports a second service at the address of another.
    fn is_alone(
        &mut self,
        raw: &RawService,
        vip: &At<IpAddr>,
        place: (IpAddr, u16, Protocol),
        places: &mut Places,
    ) {
        let span = raw.port.get().map_or(vip.span, |at| at.span);
        if let Some(first) = places.insert(place, span) {
            let d = Diagnostic::new(
                Code::DuplicateService,
                span,
                format!(
                    "service {} is at {} as another one",
                    quote(&raw.name.value),
                    std::net::SocketAddr::new(place.0, place.1)
                ),
                "taken already",
                "give it another port or VIP, or list all servers in one service",
            )
            .and(first, "the first one's");
            self.diagnostics.push(d);
        }
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

    fn method(&mut self, field: &Field<String>) -> Option<Method> {
        match field {
            Field::Absent => Some(Method::Dr),
            Field::Bad => None,
            Field::Set(at) => Method::from_word(&at.value).or_else(|| {
                let near = nearest(&at.value, keys::METHODS);
                let help = if near.is_empty() {
                    "there are `dr` (direct routing), `nat` (masquerading) and `tun` (tunnelling)"
                        .to_owned()
                } else {
                    format!("did you mean {}?", any_of(&near))
                };
                let message = format!("unknown method {}", quote(&at.value));
                self.report(
                    Code::UnknownMethod,
                    at.span,
                    message,
                    "no such method",
                    help,
                );
                None
            }),
        }
    }

    /// How the servers take the VIP's packets, which not every method leaves open.
    fn accept(&mut self, raw: &RawService, method: Option<Method>) -> Option<Accept> {
        let (default, words) = (Accept::Redirect, keys::ACCEPTS);
        let read = |word: &str| Accept::from_word(word).filter(|a| *a != Accept::None);
        let accept = self.word("accept", &raw.accept, default, words, read);
        let Some(at) = raw.accept.get() else {
            return match method? {
                Method::Dr => accept,
                Method::Nat => Some(Accept::None),
                Method::Tun => Some(Accept::Loopback),
            };
        };
        let (message, label, help) = match (method?, accept?) {
            (Method::Dr, accept) => return Some(accept),
            (Method::Tun, Accept::Loopback) => return accept,
            (Method::Tun, _) => (
                "servers behind tunnels cannot take the VIP by `redirect`",
                "the tunnel's end has no other address than the VIP",
                "remove `accept`: each server gets the VIP on its tunnel device",
            ),
            (Method::Nat, _) => (
                "`accept` has no meaning in NAT",
                "packets come with the server's own address",
                "remove `accept`",
            ),
        };
        self.report(Code::AcceptMismatch, at.span, message, label, help);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::model::{Scheduler, SchedulerFlag};

    #[test]
    fn every_word_is_known() {
        fn all<T>(words: &[&str], read: fn(&str) -> Option<T>, word: fn(T) -> &'static str) {
            assert!(
                words.iter().all(|w| read(w).map(word) == Some(*w)),
                "{words:?}"
            );
        }
        all(keys::PROTOCOLS, Protocol::from_word, Protocol::as_str);
        all(keys::SCHEDULERS, Scheduler::from_word, Scheduler::as_str);
        all(
            keys::SCHEDULER_FLAGS,
            SchedulerFlag::from_word,
            SchedulerFlag::as_str,
        );
        all(keys::METHODS, Method::from_word, Method::as_str);
        all(keys::ACCEPTS, Accept::from_word, Accept::as_str);
        all(keys::ENGINES, EngineChoice::from_word, EngineChoice::as_str);
        all(keys::ON_FAILS, OnFail::from_word, OnFail::as_str);
    }
}
