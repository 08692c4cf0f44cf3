//! Servers that join a service while the lab runs.
//!
//! A new server is judged as if it stood in the lab file, with the file's own rules and words. What
//! its node lacks to accept packets for the VIP is made before the director sends anything.
//!
//! Nothing of it is taken back when a server leaves: nobody sends the node packets for the VIP then,
//! and a server that comes back finds its connections as they were. It goes with the namespace.

use std::rc::Rc;

use super::error::Error;
use super::protocol::{NewServer, Reply};
use super::serve::Supervisor;
use super::servers::labels;
use super::{Event, Result, apply};
use crate::director::ServerSpec;
use crate::kernel::Linux;
use crate::lab::{self, Lab};
use crate::plan::{self, Acceptance, Step};
use crate::spec::{At, Diagnostic, Field, RawServer};

impl Supervisor {
    /// To `service add`.
    pub(super) async fn add_server(
        self: &Rc<Self>,
        service: Option<&str>,
        new: &NewServer,
    ) -> Result<Reply> {
        let _one = self.joining.lock().await;
        let service = self.joined_service(service)?;
        let director = self.director_of(&service)?;
        let live = director.run(|live| live.services()).await?;
        let known = live.iter().filter(|s| s.name == service);
        let port = |p: Option<u16>, own: u16| p.unwrap_or(own);
        for spec in known {
            let mut servers = spec.servers.iter().zip(labels(spec));
            let twice = |(s, _): &(&ServerSpec, String)| {
                s.name == new.node && s.port == port(new.port, spec.port)
            };
            if let Some((_, label)) = servers.find(twice) {
                return Err(Error::Refused(format!(
                    "service {service} has server {label} already; `nslab service weight {service} \
                     {label} N` changes its weight"
                )));
            }
        }
        let before = self.state.borrow().joined.clone();
        let mut joined = before.clone();
        joined.push((service.clone(), new.clone()));
        let (old, _) = self.lab_with(&before)?;
        let (lab, warnings) = self.lab_with(&joined)?;
        let (server, steps) = parts(&old, &lab, &service)
            .ok_or_else(|| Error::Refused(format!("{} is no server of {service}", new.node)))?;
        self.make(steps).await?;
        // From here on the node accepts, whatever the director says.
        self.state.borrow_mut().joined = joined;
        let (at, to) = (service.clone(), server.clone());
        director.run(move |live| live.add_server(&at, &to)).await?;
        self.event(&Event::ServerAdded {
            service: service.clone(),
            server: server.name.clone(),
            weight: server.weight,
        });
        self.check_added((&old, &lab), &service, &server).await;
        Ok(Reply::Changed {
            service,
            server: server.name,
            warnings,
        })
    }

    /// The service that a server joins; it may be left out where there is one.
    fn joined_service(&self, service: Option<&str>) -> Result<String> {
        match (service, self.service_names().as_slice()) {
            (Some(service), _) => self.director_of(service).map(|_| service.to_owned()),
            (None, [one]) => Ok(one.clone()),
            (None, []) => Err(self.no_service("")),
            (None, several) => Err(Error::Refused(format!(
                "lab {} has several services: say to which of {}, before the server's name",
                self.lab.name(),
                several.join(", ")
            ))),
        }
    }

    /// The lab with servers that have joined, and what is to be said of the last one.
    fn lab_with(&self, joined: &[(String, NewServer)]) -> Result<(Lab, Vec<String>)> {
        let raw: Vec<_> = joined
            .iter()
            .map(|(service, server)| (service.clone(), raw(server)))
            .collect();
        let words = |d: &Diagnostic| format!("{}; {}", d.message(), d.help());
        match lab::with_servers(&self.launch.text, &raw) {
            Ok((lab, warnings)) => Ok((lab, warnings.iter().map(words).collect())),
            Err(errors) => {
                let errors: Vec<_> = errors.iter().map(words).collect();
                Err(Error::Refused(errors.join("\n")))
            }
        }
    }

    /// Carries out steps inside nodes, on a thread that may move between namespaces.
    pub(super) async fn make(&self, steps: Vec<Step>) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let pins = self.dir.pins();
        let (done, through) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("accept".into())
            .spawn(move || {
                let made = Linux::new(pins)
                    .map_err(Error::from)
                    .and_then(|mut kernel| apply::in_a_node(&steps, &mut kernel));
                let _ = done.send(made);
            })
            .map_err(|e| Error::Refused(format!("cannot start a thread: {e}")))?;
        through
            .await
            .map_err(|_| Error::Refused("the thread of the new server died".to_owned()))?
    }
}

/// As a lab file would have it.
fn raw(server: &NewServer) -> RawServer {
    fn set<T>(value: T) -> Field<T> {
        let span = (0..0).into();
        Field::Set(At { value, span })
    }
    let number = |n: Option<i64>| n.map_or(Field::Absent, set);
    RawServer {
        node: set(server.node.clone()),
        weight: number(server.weight.map(i64::from)),
        port: number(server.port.map(i64::from)),
        upper: number(server.upper.map(i64::from)),
        lower: number(server.lower.map(i64::from)),
    }
}

/// What the director is told of the server that has joined, which is the last one of its service;
/// and what its node needs.
fn parts(old: &Lab, new: &Lab, service: &str) -> Option<(ServerSpec, Vec<Step>)> {
    let mut services = new.services().iter();
    let server = services
        .find(|s| s.name().as_str() == service)?
        .servers()
        .last()?;
    let node = new.node(server.node().as_str())?;
    let before = Acceptance::of(old, node);
    let steps = Acceptance::of(new, node).steps_from(&before, node);
    Some((plan::server_spec(server), steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(accept: &str) -> Vec<String> {
        let text = include_str!("../../labs/dsr.toml")
            .replace("accept = \"redirect\"", &format!("accept = \"{accept}\""))
            .replace(
                "servers = [\"server1\", \"server2\"]",
                "servers = [\"server1\"]",
            );
        let new = NewServer {
            node: "server2".into(),
            weight: None,
            port: None,
            upper: None,
            lower: None,
        };
        let (old, _) = lab::with_servers(&text, &[]).unwrap();
        let (lab, _) = lab::with_servers(&text, &[("thredds".into(), raw(&new))]).unwrap();
        let (spec, steps) = parts(&old, &lab, "thredds").unwrap();
        assert_eq!((spec.name.as_str(), spec.weight), ("server2", 1));
        let (_, again) = parts(&lab, &lab, "thredds").unwrap();
        assert!(again.is_empty(), "a server that comes back has it all");
        steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_gets_its_redirect_and_nothing_else() {
        let steps = steps("redirect");
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert!(steps[0].contains("redirect"), "{steps:?}");
    }

    #[test]
    fn a_node_is_silent_before_it_has_the_vip() {
        let steps = steps("loopback");
        let place = |what: &str| {
            let place = steps.iter().position(|s| s.contains(what));
            place.unwrap_or_else(|| panic!("no {what} in {steps:#?}"))
        };
        assert!(
            place("arp_ignore=1") < place("172.28.128.3/32"),
            "{steps:#?}"
        );
        assert!(
            place("arp_announce=2") < place("172.28.128.3/32"),
            "{steps:#?}"
        );
    }
}
