//! What follows from the verdicts on a service's servers: what the director has to be told, and
//! what is told to people. Pure: the results of checks and of the director's changes are fed in.

use super::verdict::{Turn, Verdict};
use crate::director::ServerSpec;
use crate::lab::OnFail;
use crate::supervisor::Event;

/// What tells a service's servers apart: node and port, as directors have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id {
    /// Its node.
    pub node: String,
    /// Its port.
    pub port: u16,
}

impl From<&ServerSpec> for Id {
    fn from(server: &ServerSpec) -> Self {
        Self {
            node: server.name.clone(),
            port: server.port,
        }
    }
}

/// A service under checks.
#[derive(Debug)]
pub struct Servers {
    service: String,
    on_fail: OnFail,
    rise: u32,
    fall: u32,
    all: Vec<Server>,
    /// Whether there was a live server when last looked at.
    served: bool,
}

/// One of its servers.
#[derive(Debug)]
struct Server {
    /// With the weight that it has when it lives.
    spec: ServerSpec,
    verdict: Verdict,
    /// Why the last check failed.
    why: Option<String>,
    /// What the director has.
    has: Place,
    /// Whether a change that the director refused was told; it is tried again with each check.
    complained: bool,
}

/// A server's place at its director.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Weight(u32),
    Absent,
}

/// A change of the running director.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Another weight.
    Weight(ServerSpec, u32),
    /// A server less.
    Remove(ServerSpec),
    /// A server more.
    Add(ServerSpec),
}

impl Servers {
    /// Of a service that has just come up.
    pub fn new(
        service: &str,
        on_fail: OnFail,
        (rise, fall): (u32, u32),
        servers: &[ServerSpec],
    ) -> Self {
        let mut this = Self {
            service: service.to_owned(),
            on_fail,
            rise,
            fall,
            all: vec![],
            served: true,
        };
        for server in servers {
            this.added(server.clone());
        }
        this
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Takes a check's result.
    pub fn checked(&mut self, server: &Id, result: Result<(), String>) -> Vec<Event> {
        let Some(at) = self.all.iter().position(|s| Id::from(&s.spec) == *server) else {
            // Removed while it was checked.
            return vec![];
        };
        let turn = self.all[at].verdict.take(result.is_ok());
        let fall = self.fall;
        let on_fail = self.on_fail;
        let s = &mut self.all[at];
        s.why = result.err();
        let service = self.service.clone();
        let Id { node, port } = server.clone();
        let mut events = vec![];
        match turn {
            None => {}
            Some(Turn::Died) => events.push(Event::ServerDied {
                service,
                server: node,
                port,
                why: s.why.clone().unwrap_or_default(),
                failed: fall,
                removed: on_fail == OnFail::Remove,
            }),
            Some(Turn::Revived) => events.push(Event::ServerRevived {
                service,
                server: node,
                port,
                passed: self.rise,
                weight: s.spec.weight,
            }),
        }
        events.extend(self.service_turn());
        events
    }

    /// What the director has to be told about a server, if anything.
    pub fn deed(&self, server: &Id) -> Option<Deed> {
        let server = self.get(server)?;
        let wanted = self.wanted(server);
        let spec = |weight| ServerSpec {
            weight,
            ..server.spec.clone()
        };
        match (server.has, wanted) {
            (has, wanted) if has == wanted => None,
            (Place::Weight(old), Place::Weight(new)) => Some(Deed::Weight(spec(old), new)),
            (Place::Weight(old), Place::Absent) => Some(Deed::Remove(spec(old))),
            (Place::Absent, Place::Weight(new)) => Some(Deed::Add(spec(new))),
            (Place::Absent, Place::Absent) => None,
        }
    }

    /// What became of the deed; a refusal is told once, however often it is repeated.
    pub fn done(&mut self, server: &Id, deed: &Deed, result: Result<(), String>) -> Option<Event> {
        let service = self.service.clone();
        let server = self.all.iter_mut().find(|s| Id::from(&s.spec) == *server)?;
        match result {
            Ok(()) => {
                // Not what is wanted by now: somebody may have changed that meanwhile.
                server.has = match deed {
                    Deed::Weight(_, weight) => Place::Weight(*weight),
                    Deed::Add(spec) => Place::Weight(spec.weight),
                    Deed::Remove(_) => Place::Absent,
                };
                server.complained = false;
                None
            }
            Err(why) => {
                let first = !std::mem::replace(&mut server.complained, true);
                let Id { node, port } = Id::from(&server.spec);
                let state = if server.verdict.alive() {
                    "alive"
                } else {
                    "dead"
                };
                first.then(|| Event::Warning {
                    text: format!(
                        "server {node}:{port} of service {service} is {state}, but its director could \
                         not be told: {why}; it is tried again with each check"
                    ),
                })
            }
        }
    }

    /// Somebody gives a server another weight, and has told its director or not: a dead one gets
    /// it when it lives again. One that died while its director was told is seen to with its next
    /// check.
    pub fn weighed(&mut self, server: &Id, weight: u32, told: bool) {
        if let Some(server) = self.all.iter_mut().find(|s| Id::from(&s.spec) == *server) {
            server.spec.weight = weight;
            if told {
                server.has = Place::Weight(weight);
            }
        }
    }

    /// Whether the director has a server no more, because it is dead.
    pub fn absent(&self, server: &Id) -> bool {
        self.get(server).is_some_and(|s| s.has == Place::Absent)
    }

    /// Somebody has added a server. It counts as alive.
    pub fn added(&mut self, spec: ServerSpec) {
        self.removed(&Id::from(&spec));
        self.all.push(Server {
            has: Place::Weight(spec.weight),
            spec,
            verdict: Verdict::new(self.rise, self.fall),
            why: None,
            complained: false,
        });
    }

    /// Somebody has removed a server.
    pub fn removed(&mut self, server: &Id) {
        self.all.retain(|s| Id::from(&s.spec) != *server);
    }

    /// Servers that count as dead, and what the last check of each met, if it failed.
    pub fn dead(&self) -> impl Iterator<Item = (Id, &str)> {
        let dead = self.all.iter().filter(|s| !s.verdict.alive());
        dead.map(|s| (Id::from(&s.spec), s.why.as_deref().unwrap_or_default()))
    }

    /// Servers that live and take connections.
    pub fn live(&self) -> usize {
        let serves = |s: &&Server| s.verdict.alive() && s.spec.weight > 0;
        self.all.iter().filter(serves).count()
    }

    /// Tells when the last server is gone, and when the first is back.
    pub fn service_turn(&mut self) -> Option<Event> {
        let serves = self.live() > 0;
        let before = std::mem::replace(&mut self.served, serves);
        let service = self.service.clone();
        match (before, serves) {
            (true, false) => Some(Event::NoServers { service }),
            (false, true) => Some(Event::Served { service }),
            _ => None,
        }
    }

    fn get(&self, server: &Id) -> Option<&Server> {
        self.all.iter().find(|s| Id::from(&s.spec) == *server)
    }

    fn wanted(&self, server: &Server) -> Place {
        match (server.verdict.alive(), self.on_fail) {
            (true, _) => Place::Weight(server.spec.weight),
            (false, OnFail::Weight) => Place::Weight(0),
            (false, OnFail::Remove) => Place::Absent,
        }
    }
}

#[cfg(test)]
mod tests;
