//! Servers of a running lab: weights, joining and leaving.

use std::rc::Rc;

use super::directors::Director;
use super::error::Error;
use super::health::Id;
use super::protocol::Reply;
use super::serve::Supervisor;
use super::{Event, Result};
use crate::director::{ServerSpec, ServiceSpec};

/// Why a server's weight or membership changes, for the event.
pub(super) const ASKED: &str = "asked for";

/// A server that a command names.
struct Named {
    director: Rc<Director>,
    service: String,
    server: ServerSpec,
}

impl Supervisor {
    /// The director of a service.
    pub(super) fn director_of(&self, service: &str) -> Result<Rc<Director>> {
        let state = self.state.borrow();
        let mut directors = state.directors.iter();
        directors
            .find(|d| d.serves(service))
            .cloned()
            .ok_or_else(|| self.no_service(service))
    }

    pub(super) fn no_service(&self, service: &str) -> Error {
        let names = self.service_names();
        Error::Refused(if names.is_empty() {
            format!("lab {} has no services", self.lab.name())
        } else {
            format!(
                "lab {} has no service {service}; its services are {}",
                self.lab.name(),
                names.join(", ")
            )
        })
    }

    pub(super) fn service_names(&self) -> Vec<String> {
        let services = self.lab.services().iter();
        services.map(|s| s.name().to_string()).collect()
    }

    /// Gives a server another weight, and tells so. For commands and for health checks.
    ///
    /// # Errors
    /// The director cannot do it.
    pub(super) async fn set_weight(
        &self,
        director: &Director,
        service: &str,
        server: &ServerSpec,
        weight: u32,
        why: &str,
    ) -> Result<()> {
        let (to, at) = (server.clone(), service.to_owned());
        director
            .run(move |live| live.set_weight(&at, &to, weight))
            .await?;
        if weight != server.weight {
            self.event(&Event::Weight {
                service: service.to_owned(),
                server: server.name.clone(),
                from: server.weight,
                to: weight,
                why: why.to_owned(),
            });
        }
        Ok(())
    }

    /// To `service weight`.
    pub(super) async fn weigh(
        &self,
        service: Option<&str>,
        server: &str,
        weight: u32,
    ) -> Result<Reply> {
        if let Some((service, id)) = self.dead(service, server) {
            self.check_weighed(&service, &id, weight, false);
            let warning = format!(
                "server {}:{} of service {service} is dead: it gets weight {weight} when it lives \
                 again",
                id.node, id.port
            );
            return Ok(Reply::Changed {
                service,
                server: id.node,
                warnings: vec![warning],
            });
        }
        let named = self.named(service, server).await?;
        self.set_weight(
            &named.director,
            &named.service,
            &named.server,
            weight,
            ASKED,
        )
        .await?;
        self.check_weighed(&named.service, &Id::from(&named.server), weight, true);
        Ok(Reply::Changed {
            service: named.service,
            server: named.server.name,
            warnings: Vec::new(),
        })
    }

    /// To `service remove`: at once.
    pub(super) async fn remove_server(&self, service: Option<&str>, server: &str) -> Result<Reply> {
        if let Some((service, id)) = self.dead(service, server)
            && self.is_absent(&service, &id)
        {
            self.check_removed(&service, &id);
            return Ok(self.has_left(service, id.node, 0));
        }
        let named = self.named(service, server).await?;
        let (at, which) = (named.service.clone(), named.server.clone());
        let left = named
            .director
            .run(move |live| {
                let table = live.table()?;
                live.remove_server(&at, &which)?;
                let services = table.iter().filter(|s| s.name == at);
                let mut servers = services.flat_map(|s| &s.servers);
                let own = servers.find(|s| s.address == which.address && s.port == which.port);
                Ok(own.map_or(0, |s| s.active + s.inactive))
            })
            .await?;
        self.check_removed(&named.service, &Id::from(&named.server));
        Ok(self.has_left(named.service, named.server.name, left))
    }

    fn has_left(&self, service: String, server: String, connections: u64) -> Reply {
        self.event(&Event::ServerRemoved {
            service: service.clone(),
            server: server.clone(),
            connections,
        });
        Reply::Changed {
            service,
            server,
            warnings: Vec::new(),
        }
    }

    /// Finds the server that a command means; the service may be left out where that is clear.
    async fn named(&self, service: Option<&str>, server: &str) -> Result<Named> {
        if let Some(name) = service {
            self.director_of(name)?;
        }
        let directors = self.state.borrow().directors.clone();
        let mut found = Vec::new();
        let mut servers = Vec::new();
        for director in directors {
            for spec in director.run(|live| live.services()).await? {
                if service.is_some_and(|s| s != spec.name) {
                    continue;
                }
                servers.extend(labels(&spec));
                found.extend(matching(&spec, server).map(|s| Named {
                    director: Rc::clone(&director),
                    service: spec.name.clone(),
                    server: s.clone(),
                }));
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(self.no_server(service, server, servers)),
            _ => Err(several(server, &found)),
        }
    }

    fn no_server(&self, service: Option<&str>, server: &str, mut known: Vec<String>) -> Error {
        known.sort();
        known.dedup();
        let whose = match service {
            Some(service) => format!("service {service} has"),
            None => match self.service_names().as_slice() {
                [] => return self.no_service(server),
                [one] => format!("service {one} has"),
                more => format!("services {} have", more.join(", ")),
            },
        };
        Error::Refused(if known.is_empty() {
            format!("{whose} no server {server}, and no other one")
        } else {
            format!("{whose} no server {server}; there are {}", known.join(", "))
        })
    }
}

/// How the servers of a service are named: by node, with the port where a node serves twice.
pub(super) fn labels(service: &ServiceSpec) -> impl Iterator<Item = String> {
    service.servers.iter().map(|server| {
        let mut all = service.servers.iter();
        if all.any(|s| s.name == server.name && s.port != server.port) {
            format!("{}:{}", server.name, server.port)
        } else {
            server.name.clone()
        }
    })
}

/// The servers of that name, `node` or `node:port`.
fn matching<'a>(service: &'a ServiceSpec, name: &str) -> impl Iterator<Item = &'a ServerSpec> {
    let (node, port) = match name.split_once(':') {
        Some((node, port)) => (node.to_owned(), port.parse::<u16>().ok().or(Some(0))),
        None => (name.to_owned(), None),
    };
    let servers = service.servers.iter();
    servers.filter(move |s| s.name == node && port.is_none_or(|p| p == s.port))
}

fn several(server: &str, found: &[Named]) -> Error {
    let first = &found[0].service;
    Error::Refused(if found.iter().all(|f| f.service == *first) {
        let names: Vec<_> = found
            .iter()
            .map(|f| format!("{}:{}", f.server.name, f.server.port))
            .collect();
        format!(
            "service {first} has server {server} at several ports: say which of {}",
            names.join(", ")
        )
    } else {
        let mut names: Vec<_> = found.iter().map(|f| f.service.as_str()).collect();
        names.dedup();
        format!(
            "server {server} is in services {}: say in which, before the server's name",
            names.join(", ")
        )
    })
}
