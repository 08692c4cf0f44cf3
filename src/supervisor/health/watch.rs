//! Checks that run: one task a server, which asks every so often and tells the director what
//! follows.

use std::collections::HashMap;
use std::rc::Rc;

use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::servers::{Id, Servers};
use super::way::Way;
use crate::director::ServerSpec;
use crate::lab::Service;
use crate::plan::check_paths;
use crate::supervisor::serve::Supervisor;

/// The checks of a lab; they end with this value.
#[derive(Debug, Default)]
pub struct Checks {
    services: Vec<Servers>,
    tasks: HashMap<(String, Id), Task>,
    /// The highest mark of a path so far.
    pub(super) marks: u32,
}

#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Checks {
    /// The service, if it is checked.
    pub fn service(&mut self, name: &str) -> Option<&mut Servers> {
        self.services.iter_mut().find(|s| s.service() == name)
    }

    /// The same, to look at.
    pub fn get(&self, name: &str) -> Option<&Servers> {
        self.all().find(|s| s.service() == name)
    }

    /// All services that are checked.
    pub fn all(&self) -> impl Iterator<Item = &Servers> {
        self.services.iter()
    }

    /// Ends the checks of a server.
    pub fn stop(&mut self, server: &(String, Id)) {
        self.tasks.remove(server);
    }
}

impl Supervisor {
    /// Begins to check every service that asks for it.
    pub(in crate::supervisor) fn start_checks(self: &Rc<Self>) {
        let marks: HashMap<_, _> = check_paths(&self.lab)
            .into_iter()
            .map(|(service, server, path)| {
                let key = (service, server.node().to_string(), server.port());
                (key, path.mark)
            })
            .collect();
        let specs: Vec<_> = {
            let live = self.state.borrow();
            let all = live.directed.iter().flat_map(|d| d.services.iter());
            all.map(|s| (s.name.clone(), s.servers.clone())).collect()
        };
        self.state.borrow_mut().checks.marks = marks.len() as u32;
        for service in self.lab.services() {
            let Some(check) = service.check() else {
                continue;
            };
            let name = service.name().as_str();
            let Some((_, servers)) = specs.iter().find(|s| s.0 == name) else {
                continue;
            };
            let needed = (check.rise(), check.fall());
            let state = Servers::new(name, service.on_fail(), needed, servers);
            self.state.borrow_mut().checks.services.push(state);
            for server in servers {
                let key = (name.to_owned(), server.name.clone(), server.port);
                let mark = marks.get(&key).copied().unwrap_or_default();
                self.start_check(service, server, mark);
            }
        }
    }

    pub(super) fn start_check(self: &Rc<Self>, service: &Service, server: &ServerSpec, mark: u32) {
        let Some(check) = service.check() else { return };
        let way = Way::new(&self.lab, &self.dir.pins(), service, check, server, mark);
        let mut clock = tokio::time::interval(check.every());
        // After a pause of the whole machine, not one check after the other without a pause.
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let key = (service.name().to_string(), Id::from(server));
        let (this, (service, server)) = (self.clone(), key.clone());
        let task = tokio::task::spawn_local(async move {
            loop {
                clock.tick().await;
                let result = way.attempt().await;
                this.checked(&service, &server, result).await;
            }
        });
        let task = Task(task.abort_handle());
        self.state.borrow_mut().checks.tasks.insert(key, task);
    }

    /// A check has a result.
    async fn checked(&self, service: &str, server: &Id, result: Result<(), String>) {
        let (events, deed) = {
            let mut live = self.state.borrow_mut();
            let Some(servers) = live.checks.service(service) else {
                return;
            };
            (servers.checked(server, result), servers.deed(server))
        };
        let mut refused = None;
        if let Some(deed) = deed {
            let result = self.tell_director(service, deed.clone()).await;
            let mut live = self.state.borrow_mut();
            if let Some(servers) = live.checks.service(service) {
                refused = servers.done(server, &deed, result);
            }
        }
        // Who sees the event finds the director changed.
        events.iter().chain(&refused).for_each(|e| self.event(e));
    }
}
