//! Captures of a running lab: how each interface is recorded, and stopping and starting.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::error::Error;
use super::launch::Launch;
use super::protocol::Reply;
use super::serve::{Supervisor, no_node};
use super::{Event, Result};
use crate::capture::{self, Captures};
use crate::kernel::netns;
use crate::lab;
use crate::plan::CaptureTarget;

/// Which way `nslab capture stop|start` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Stop,
    Start,
}

/// What to record of an interface, and how the lab file wants it.
pub(super) fn request(
    launch: &Launch,
    how: &lab::Capture,
    target: &CaptureTarget,
    netns: OwnedFd,
) -> capture::Request {
    let how = how.on(&target.node, &target.interface);
    capture::Request {
        node: target.node.clone(),
        interface: target.interface.clone(),
        netns: Arc::new(netns),
        file: launch.exchange.join(target.file_name()),
        options: capture::Options {
            snaplen: how.snaplen(),
            buffer: how.buffer().and_then(|bytes| usize::try_from(bytes).ok()),
            filter: how.filter().cloned(),
            rotate: how.rotate().map(|rotate| capture::Rotation {
                size: rotate.size(),
                every: rotate.every(),
                keep: rotate.keep(),
            }),
        },
    }
}

impl Supervisor {
    /// Stops or starts the captures of these interfaces: `node:interface`, or `all`.
    pub(super) async fn turn_captures(&self, turn: Turn, interfaces: &[String]) -> Result<Reply> {
        // One after the other: the first `start` in a lab without captures makes them.
        let _turn = self.recording.lock().await;
        let wanted = self.wanted(turn, interfaces)?;
        let captures = self.state.borrow().captures.clone();
        if turn == Turn::Stop && wanted.is_empty() {
            return Ok(Reply::Turned {
                changed: Vec::new(),
                unchanged: Vec::new(),
            });
        }
        let (requests, known) = self.unknown(turn, captures.as_deref(), &wanted)?;
        let (exchange, owner) = (
            self.launch.exchange.clone(),
            self.launch.owner.map(|o| (o.uid, o.gid)),
        );
        // It waits for the kernel's grace periods, some 10 ms each.
        let work = move || -> Result<(Arc<Captures>, Vec<usize>), capture::Error> {
            let Some(captures) = captures else {
                capture::prepare_dir(&exchange, owner)?;
                let all = (0..requests.len()).collect();
                return Ok((Arc::new(Captures::start(requests, owner)?), all));
            };
            let mut changed = match turn {
                Turn::Stop => captures.pause(&known)?,
                Turn::Start => captures.resume(&known)?,
            };
            if !requests.is_empty() {
                let before = captures.stats().len();
                changed.extend(before..before + requests.len());
                captures.add(requests)?;
            }
            Ok((captures, changed))
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (captures, changed) =
            done.map_err(|_| Error::Refused("the thread of the captures died".to_owned()))??;
        let first = self.state.borrow().captures.is_none();
        self.state.borrow_mut().captures = Some(Arc::clone(&captures));
        if first {
            self.write_topology();
        }
        let stats = captures.stats();
        let changed: Vec<_> = changed
            .into_iter()
            .filter_map(|at| stats.get(at).cloned())
            .collect();
        let names: Vec<_> = changed.iter().map(capture::Stats::name).collect();
        let unchanged = wanted
            .iter()
            .map(|of| format!("{}:{}", of.node, of.interface))
            .filter(|name| !names.contains(name))
            .collect();
        if !names.is_empty() {
            self.event(&match turn {
                Turn::Stop => Event::CaptureStopped { interfaces: names },
                Turn::Start => Event::CaptureStarted { interfaces: names },
            });
        }
        Ok(Reply::Turned { changed, unchanged })
    }

    /// The interfaces that are meant, as (node, interface).
    fn wanted(&self, turn: Turn, interfaces: &[String]) -> Result<Vec<CaptureTarget>> {
        if interfaces.iter().any(|name| name == "all") {
            return Ok(match turn {
                Turn::Stop => {
                    let stats = self.capture_stats().into_iter();
                    stats.map(|of| target(&of.node, &of.interface)).collect()
                }
                Turn::Start => self.lab.nodes().iter().flat_map(interfaces_of).collect(),
            });
        }
        let mut wanted = Vec::new();
        for name in interfaces {
            let (node, interface) = name.split_once(':').ok_or_else(|| {
                Error::Refused(format!(
                    "`{name}` is no interface; write NODE:INTERFACE, such as client:eth1, or all"
                ))
            })?;
            let of = self
                .lab
                .node(node)
                .ok_or_else(|| no_node(&self.lab, node))?;
            let wish = target(node, interface);
            let there: Vec<_> = interfaces_of(of).collect();
            if !there.contains(&wish) {
                let names: Vec<_> = there.iter().map(|of| of.interface.as_str()).collect();
                return Err(Error::Refused(format!(
                    "node {node} has no interface {interface}; it has {}",
                    names.join(", ")
                )));
            }
            if !wanted.contains(&wish) {
                wanted.push(wish);
            }
        }
        Ok(wanted)
    }

    /// Requests for those that were never captured, and the positions of the others.
    fn unknown(
        &self,
        turn: Turn,
        captures: Option<&Captures>,
        wanted: &[CaptureTarget],
    ) -> Result<(Vec<capture::Request>, Vec<usize>)> {
        let (mut requests, mut known) = (Vec::new(), Vec::new());
        for target in wanted {
            let CaptureTarget { node, interface } = target;
            if let Some(at) = captures.and_then(|c| c.position(node, interface)) {
                known.push(at);
            } else if turn == Turn::Stop {
                return Err(Error::Refused(format!(
                    "{node}:{interface} is not captured; `nslab capture` lists those that are"
                )));
            } else {
                let netns = netns::open(&self.dir.pins().join(node))?;
                requests.push(request(&self.launch, self.lab.capture(), target, netns));
            }
        }
        Ok((requests, known))
    }
}

fn interfaces_of(node: &lab::Node) -> impl Iterator<Item = CaptureTarget> {
    node.interfaces()
        .iter()
        .map(|i| target(node.name().as_str(), i.name().as_str()))
}

fn target(node: &str, interface: &str) -> CaptureTarget {
    CaptureTarget {
        node: node.to_owned(),
        interface: interface.to_owned(),
    }
}
