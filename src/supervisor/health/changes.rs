//! The way from checks to the director, and from commands to checks.

use std::rc::Rc;

use super::servers::{Deed, Id};
use crate::director::ServerSpec;
use crate::kernel::Ns;
use crate::lab::{Lab, NodeName};
use crate::plan::{SWITCH, Step, check_paths, more_check_places};
use crate::supervisor::Event;
use crate::supervisor::protocol::{Dead, Health};
use crate::supervisor::serve::Supervisor;

impl Supervisor {
    /// Has the director of a service do what follows from a check.
    ///
    /// # Errors
    /// In words: it cannot.
    pub(super) async fn tell_director(&self, service: &str, deed: Deed) -> Result<(), String> {
        let director = self.director_of(service).map_err(|e| e.to_string())?;
        let at = service.to_owned();
        let done = director.run(move |live| match deed {
            Deed::Weight(server, weight) => live.set_weight(&at, &server, weight),
            Deed::Remove(server) => live.remove_server(&at, &server),
            Deed::Add(server) => live.add_server(&at, &server),
        });
        done.await.map_err(|e| e.to_string())
    }

    /// What the checks of a service say; nothing if it is not checked.
    pub(in crate::supervisor) fn health(&self, service: &str) -> Option<Health> {
        let live = self.state.borrow();
        let servers = live.checks.get(service)?;
        let dead = servers.dead().map(|(id, why)| Dead {
            server: id.node,
            port: id.port,
            why: why.to_owned(),
        });
        Some(Health {
            live: servers.live(),
            dead: dead.collect(),
        })
    }

    /// The dead server that a command means, by `node` or `node:port`, if it is one: its director
    /// has it with weight 0 or not at all, whatever weight it is to have.
    pub(in crate::supervisor) fn dead(
        &self,
        service: Option<&str>,
        server: &str,
    ) -> Option<(String, Id)> {
        let live = self.state.borrow();
        let all = live
            .checks
            .all()
            .filter(|s| service.is_none_or(|n| n == s.service()));
        let mut found = all.flat_map(|s| {
            let dead = s.dead().map(|(id, _)| id);
            let meant =
                dead.filter(|id| id.node == server || format!("{}:{}", id.node, id.port) == server);
            meant.map(|id| (s.service().to_owned(), id))
        });
        // What is not clear is for the director's list to say.
        found.next().filter(|_| found.next().is_none())
    }

    /// Somebody gives a server another weight, and has told its director or not.
    pub(in crate::supervisor) fn check_weighed(
        &self,
        service: &str,
        server: &Id,
        weight: u32,
        told: bool,
    ) {
        self.with_checks(service, |servers| servers.weighed(server, weight, told));
    }

    /// Whether a server's director has it no more, because it is dead.
    pub(in crate::supervisor) fn is_absent(&self, service: &str, server: &Id) -> bool {
        let live = self.state.borrow();
        live.checks.get(service).is_some_and(|s| s.absent(server))
    }

    /// Somebody has removed a server.
    pub(in crate::supervisor) fn check_removed(&self, service: &str, server: &Id) {
        self.with_checks(service, |servers| servers.removed(server));
        let key = (service.to_owned(), server.clone());
        self.state.borrow_mut().checks.stop(&key);
    }

    fn with_checks(&self, service: &str, change: impl FnOnce(&mut super::servers::Servers)) {
        let event = {
            let mut live = self.state.borrow_mut();
            let Some(servers) = live.checks.service(service) else {
                return;
            };
            change(servers);
            servers.service_turn()
        };
        if let Some(event) = event {
            self.event(&event);
        }
    }

    /// A server has joined a service at run time; `old` and `new` are the lab before and after.
    pub(in crate::supervisor) async fn check_added(
        self: &Rc<Self>,
        (old, new): (&Lab, &Lab),
        service: &str,
        server: &ServerSpec,
    ) {
        let checked = new.services().iter().find(|s| s.name().as_str() == service);
        let Some(checked) = checked.filter(|s| s.check().is_some()) else {
            return;
        };
        self.with_checks(service, |servers| servers.added(server.clone()));
        let mark = match self.show_way(old, new, service, server).await {
            Ok(mark) => mark,
            Err(why) => {
                let text = format!(
                    "server {}:{} of service {service} is not checked: {why}",
                    server.name, server.port
                );
                self.event(&Event::Warning { text });
                return;
            }
        };
        self.start_check(checked, server, mark);
    }

    /// Shows packets of checks the way to a server that has joined; their mark. 0 if they need
    /// none.
    async fn show_way(
        &self,
        old: &Lab,
        new: &Lab,
        service: &str,
        server: &ServerSpec,
    ) -> Result<u32, String> {
        let own = |node: &NodeName, port| node.as_str() == server.name && port == server.port;
        let path = check_paths(new)
            .into_iter()
            .find(|(s, to, _)| s == service && own(to.node(), to.port()));
        let Some((_, _, mut path)) = path else {
            return Ok(0);
        };
        // Marks are those of the file's order: this one comes after all that were given out.
        let mark = {
            let checks = &mut self.state.borrow_mut().checks;
            checks.marks += 1;
            checks.marks
        };
        path.mark = mark;
        let mut steps = more_check_places(old, new);
        steps.push(Step::CheckPath {
            ns: Ns::named(SWITCH),
            service: service.to_owned(),
            server: server.name.clone(),
            path,
        });
        self.make(steps).await.map_err(|e| e.to_string())?;
        Ok(mark)
    }
}
