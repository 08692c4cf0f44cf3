//! Answering commands on the control socket.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::Result;
use super::error::Error;
use super::nodes::Phase;
use super::protocol::{NodeStatus, Reply, Request, ServiceStatus, Status};
use super::recording::Turn;
use super::serve::{Supervisor, no_node};
use crate::capture;

impl Supervisor {
    /// One connection: one request.
    pub(super) fn answer(self: Rc<Self>, stream: UnixStream) {
        tokio::task::spawn_local(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            if stream.read_line(&mut line).await.is_err() {
                return;
            }
            let mut stream = stream.into_inner();
            let answer = match serde_json::from_str::<Request>(&line) {
                Ok(Request::Down) => {
                    let _ = self.stop.send(Some(stream));
                    return;
                }
                Ok(Request::Events) => {
                    self.bus.follow(stream);
                    return;
                }
                Ok(Request::Status) => Reply::Status(self.status().await),
                Ok(Request::Captures) => Reply::Captures {
                    interfaces: self.capture_stats(),
                },
                Ok(Request::Service { name }) => answered(
                    self.service_table(name.as_deref())
                        .await
                        .map(|services| Reply::Services { services }),
                ),
                Ok(_) if self.state.borrow().stopping => Reply::Error {
                    message: format!("lab {} is going down", self.lab.name()),
                },
                Ok(Request::Weight {
                    service,
                    server,
                    weight,
                }) => answered(self.weigh(service.as_deref(), &server, weight).await),
                Ok(Request::AddServer { service, server }) => {
                    answered(self.add_server(service.as_deref(), &server).await)
                }
                Ok(Request::RemoveServer { service, server }) => {
                    answered(self.remove_server(service.as_deref(), &server).await)
                }
                Ok(Request::CaptureStop { interfaces }) => {
                    answered(self.turn_captures(Turn::Stop, &interfaces).await)
                }
                Ok(Request::CaptureStart { interfaces }) => {
                    answered(self.turn_captures(Turn::Start, &interfaces).await)
                }
                Ok(Request::Enter { node }) => {
                    answered(self.enter(&node).await.map(|()| Reply::Entered))
                }
                Err(e) => Reply::Error {
                    message: format!(
                        "the supervisor does not understand this nslab ({e}); was it upgraded while the lab was up?"
                    ),
                },
            };
            let _ = reply(&mut stream, &answer).await;
        });
    }

    pub(super) async fn enter(&self, name: &str) -> Result<()> {
        // Two at once: the second waits for the first one's init.
        for _ in 0..500 {
            let state = {
                let live = self.state.borrow();
                let running = live
                    .nodes
                    .get(name)
                    .ok_or_else(|| no_node(&self.lab, name))?;
                (running.init.is_some(), live.journal.is_some())
            };
            match state {
                (true, _) => return Ok(()),
                (false, true) => return self.start(name, None).await,
                (false, false) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        Err(Error::Refused(format!(
            "node {name} is still being started; try again"
        )))
    }

    pub(super) fn capture_stats(&self) -> Vec<capture::Stats> {
        self.state
            .borrow()
            .captures
            .as_ref()
            .map(|captures| captures.stats())
            .unwrap_or_default()
    }

    pub(super) async fn status(&self) -> Status {
        let services = self.live_services().await;
        let live = self.state.borrow();
        let nodes = self
            .lab
            .nodes()
            .iter()
            .map(|node| {
                let running = live.nodes.get(node.name().as_str());
                NodeStatus {
                    name: node.name().to_string(),
                    state: running.map_or(Phase::Idle, |r| r.phase).as_str().to_owned(),
                    pid: running.and_then(|r| r.init.as_ref()).map(|i| i.pid),
                    image: node.image().cloned(),
                    addresses: node
                        .interfaces()
                        .iter()
                        .flat_map(|i| {
                            let aliases = i.aliases().iter().map(|a| ipnet::IpNet::from(*a));
                            let all = std::iter::once(i.address()).chain(aliases);
                            all.map(move |a| format!("{}={a}", i.name()))
                        })
                        .collect(),
                    restarts: running.map_or(0, |r| r.restarts),
                    limits: self.limits_of(node.name().as_str()),
                }
            })
            .collect();
        let services = services.iter().flat_map(|(node, engine, services)| {
            services.iter().map(|s| ServiceStatus {
                name: s.name.clone(),
                address: format!(
                    "{}/{}",
                    std::net::SocketAddr::new(s.vip, s.port),
                    s.protocol_name()
                ),
                director: node.clone(),
                engine: (*engine).to_owned(),
                method: s.method.as_str().to_owned(),
                scheduler: s.scheduler.clone(),
                servers: s
                    .servers
                    .iter()
                    .map(|r| (r.name.clone(), r.weight))
                    .collect(),
                health: self.health(&s.name),
            })
        });
        Status {
            lab: self.lab.name().to_string(),
            file: self.launch.file.clone(),
            supervisor: self.me,
            uptime_s: self.begun.elapsed().as_secs(),
            exchange: self.launch.exchange.clone(),
            nodes,
            services: services.collect(),
            dropped: live
                .captures
                .as_ref()
                .map_or(0, |c| c.stats().iter().map(capture::Stats::lost).sum()),
        }
    }
}

/// An answer, or why there is none.
fn answered(result: Result<Reply>) -> Reply {
    result.unwrap_or_else(|e| Reply::Error {
        message: e.to_string(),
    })
}

pub(super) async fn reply(stream: &mut UnixStream, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}
