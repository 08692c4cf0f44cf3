//! Bringing a lab up: the network, then the nodes, then waiting for them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::directors::Director;
use super::error::{Error, OnPath};
use super::nodes::{Notice, Phase, Running, What};
use super::serve::{Inbox, Supervisor, millis, no_node};
use super::worker::Worker;
use super::{Event, Result, ready};
use crate::kernel::netns;
use crate::lab::CaptureScope;
use crate::node::{InitEvent, MountTemplate};
use crate::plan::{self, Plan, Step};

/// The mounts as they are before the lab pins its namespaces, for several inits to start from: each
/// copies all that it starts from. It only saves time, so that a failure is none. Nodes that start
/// later see the host's mounts of that time.
fn mounts(plan: &Plan) -> Option<Arc<MountTemplate>> {
    let starts = |step: &&Step| matches!(step, Step::Start { .. });
    if plan.steps.iter().filter(starts).count() < 2 {
        return None;
    }
    MountTemplate::new().ok().map(Arc::new)
}

impl Supervisor {
    pub(super) async fn bring_up(self: &Rc<Self>, inbox: &mut Inbox) -> Result<()> {
        let plan = plan::build(&self.lab);
        let cancel = Arc::new(AtomicBool::new(false));
        let mut lifeline = Lifeline::new()?;
        let mounts = mounts(&plan);
        self.network(&plan, &cancel, &mut lifeline).await?;
        let mut waiting = self.start_nodes(&plan, mounts, &cancel).await?;
        let outcome = loop {
            if waiting.is_empty() {
                break Ok(());
            }
            tokio::select! {
                () = lifeline.cut() => break Err(Error::Interrupted),
                Some(notice) = inbox.notices.recv() => {
                    if let Err(e) = self.while_starting(&mut waiting, notice) {
                        break Err(e);
                    }
                }
                Ok((stream, _)) = inbox.listener.accept() => self.clone().answer(stream),
                Some(asker) = inbox.stop.recv() => {
                    self.state.borrow_mut().asker = asker;
                    break Err(Error::Interrupted);
                }
            }
        };
        cancel.store(true, Ordering::Relaxed);
        outcome?;
        self.start_checks();
        self.write_state(true)?;
        let ms = millis(self.begun);
        self.event(&Event::Up {
            lab: self.lab.name().to_string(),
            ms,
        });
        detach_stdio();
        Ok(())
    }

    /// Carries the plan out on a thread of its own: it moves between namespaces.
    pub(super) async fn network(
        self: &Rc<Self>,
        plan: &Plan,
        cancel: &Arc<AtomicBool>,
        lifeline: &mut Lifeline,
    ) -> Result<()> {
        let (done, mut through) = oneshot::channel();
        let progress = Arc::new(AtomicUsize::new(0));
        let mut worker = Worker {
            journal: self.state.borrow_mut().journal.take(),
            launch: self.launch.clone(),
            capture: self.lab.capture().clone(),
            captured: !self.launch.no_capture && *self.lab.capture().scope() != CaptureScope::Off,
            captures: None,
            directed: Vec::new(),
            limited: Vec::new(),
            cgroups: None,
            progress: progress.clone(),
        };
        let (dir, plan_there, cancel_there) = (self.dir.clone(), plan.clone(), cancel.clone());
        let subnets = self.host_subnets();
        std::thread::Builder::new()
            .name("apply".into())
            .spawn(move || {
                let result = worker.work(&dir, &plan_there, &subnets, &cancel_there);
                let _ = done.send((worker, result));
            })
            .on("start a thread", "apply".as_ref())?;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let (worker, result) = loop {
            tokio::select! {
                answer = &mut through => {
                    break answer.map_err(|_| Error::Refused("the apply thread died".to_owned()))?;
                }
                () = lifeline.cut() => cancel.store(true, Ordering::Relaxed),
                _ = tick.tick() => {
                    let done = progress.load(Ordering::Relaxed);
                    self.event(&Event::Step { done, total: plan.steps.len() });
                }
            }
        };
        let capturing = worker.captures.as_ref().map_or(0, |c| c.stats().len());
        {
            let mut live = self.state.borrow_mut();
            live.journal = worker.journal;
            live.captures = worker.captures;
            live.directors = worker
                .directed
                .iter()
                .map(|d| Rc::new(Director::new(d, self.dir.pins().join(&d.node))))
                .collect();
            live.directed = worker.directed;
        }
        result?;
        self.keep_limits(&worker.limited);
        let interfaces = self.lab.nodes().iter().map(|n| n.interfaces().len()).sum();
        let ms = millis(self.begun);
        self.event(&Event::NetworkUp {
            nodes: self.lab.nodes().len(),
            interfaces,
            ms,
        });
        if capturing > 0 {
            self.write_topology();
            let folder = self.launch.exchange.clone();
            self.event(&Event::Capturing {
                interfaces: capturing,
                folder,
            });
        }
        for directed in &self.state.borrow().directed {
            self.event(&Event::Director {
                node: directed.node.clone(),
                engine: directed.engine.to_owned(),
                reason: directed.reason.clone(),
                services: directed.services.iter().map(|s| s.name.clone()).collect(),
            });
            if let Some(key) = &directed.ignored {
                self.event(&Event::Warning {
                    text: format!(
                        "{key} of {} has no effect: it is a setting of IPVS, and engine {} balances",
                        directed.node, directed.engine
                    ),
                });
            }
        }
        Ok(())
    }

    /// Networks that the host joins: (name, subnet).
    pub(super) fn host_subnets(&self) -> Vec<(String, ipnet::IpNet)> {
        self.lab
            .networks()
            .iter()
            .filter(|n| n.host().is_some())
            .map(|n| (n.name().to_string(), n.subnet()))
            .collect()
    }

    /// Starts every main process; gives the nodes that `up` has to wait for.
    pub(super) async fn start_nodes(
        &self,
        plan: &Plan,
        mounts: Option<Arc<MountTemplate>>,
        cancel: &Arc<AtomicBool>,
    ) -> Result<HashSet<String>> {
        let mut waiting = HashSet::new();
        for node in self.lab.nodes() {
            let running = Running {
                phase: Phase::Idle,
                init: None,
                restarts: 0,
                started: Instant::now(),
                probed: node.ready().is_some(),
            };
            self.state
                .borrow_mut()
                .nodes
                .insert(node.name().to_string(), running);
        }
        for step in &plan.steps {
            match step {
                Step::Start { node, .. } => {
                    self.start(node, mounts.clone()).await?;
                    waiting.insert(node.clone());
                    self.event(&Event::Started { node: node.clone() });
                }
                Step::Ready { node, .. } => self.probe(node, cancel)?,
                _ => {}
            }
        }
        Ok(waiting)
    }

    /// Starts a node's init, once.
    pub(super) async fn start(&self, name: &str, mounts: Option<Arc<MountTemplate>>) -> Result<()> {
        let node = self
            .lab
            .node(name)
            .ok_or_else(|| no_node(&self.lab, name))?;
        let journal = self.state.borrow_mut().journal.take();
        let mut journal = journal
            .ok_or_else(|| Error::Refused("another node is being started; try again".to_owned()))?;
        let cgroups = self.groups(name);
        let started = self
            .starter
            .start(&self.lab, node, cgroups, mounts, &mut journal)
            .await
            .map_err(|e| match e {
                Error::NotReady { node, why } => Error::NotReady {
                    why: self.with_limits(&node, None, why),
                    node,
                },
                e => e,
            });
        let mut live = self.state.borrow_mut();
        live.journal = Some(journal);
        let init = started?;
        if let Some(running) = live.nodes.get_mut(name) {
            running.init = Some(init);
            running.started = Instant::now();
            if node.has_process() {
                running.phase = Phase::Starting;
            }
        }
        Ok(())
    }

    pub(super) fn probe(&self, name: &str, cancel: &Arc<AtomicBool>) -> Result<()> {
        let Some(ready) = self.lab.node(name).and_then(|n| n.ready().cloned()) else {
            return Ok(());
        };
        let ns = netns::open(&self.dir.pins().join(name))?;
        let (node, cancel) = (name.to_owned(), cancel.clone());
        let notices = self.starter.notices.clone();
        std::thread::Builder::new()
            .name("probe".into())
            .spawn(move || {
                let result = ready::wait(&ready, ns, &cancel);
                let _ = notices.send(Notice {
                    node,
                    what: What::Probed(result),
                });
            })
            .on("start a thread", "probe".as_ref())?;
        Ok(())
    }

    /// A notice while `up` waits; the error ends `up`.
    pub(super) fn while_starting(
        &self,
        waiting: &mut HashSet<String>,
        notice: Notice,
    ) -> Result<()> {
        let node = notice.node.clone();
        let why = match &notice.what {
            What::Init(InitEvent::Exited {
                code,
                signal,
                restart_in_ms,
            }) => {
                let how = self.with_limits(&node, *signal, how(*code, *signal));
                match (code, restart_in_ms) {
                    // A clean end without restart is what one-shot commands do.
                    (Some(0), None) if !self.probed(&node) => None,
                    (Some(126 | 127), _) | (_, None) => Some(format!("its main process {how}")),
                    _ => None,
                }
            }
            What::Init(InitEvent::Failed { message }) => Some(message.clone()),
            What::Gone => Some(self.with_limits(&node, None, "its init ended".to_owned())),
            What::Probed(Err(why)) => Some(why.clone()),
            _ => None,
        };
        let through = match &notice.what {
            What::Init(InitEvent::Started { .. } | InitEvent::Exited { .. }) => !self.probed(&node),
            What::Probed(Ok(())) => true,
            _ => false,
        };
        self.notice(notice);
        if let Some(why) = why {
            return Err(Error::NotReady { node, why });
        }
        if through {
            waiting.remove(&node);
        }
        Ok(())
    }

    pub(super) fn probed(&self, node: &str) -> bool {
        self.state
            .borrow()
            .nodes
            .get(node)
            .is_some_and(|n| n.probed)
    }

    /// Keeps the books on a node.
    pub(super) fn notice(&self, notice: Notice) {
        let Notice { node, what } = notice;
        let ended = match &what {
            What::Init(InitEvent::Exited { code, signal, .. }) => {
                let how = self.with_limits(&node, *signal, how(*code, *signal));
                self.ended_within_limits(&node);
                how
            }
            _ => String::new(),
        };
        let mut live = self.state.borrow_mut();
        let Some(running) = live.nodes.get_mut(&node) else {
            return;
        };
        let mut event = None;
        match what {
            What::Init(InitEvent::Started { .. }) => {
                if running.phase == Phase::Restarting {
                    running.restarts += 1;
                }
                running.phase = if running.probed {
                    Phase::Starting
                } else {
                    Phase::Running
                };
            }
            What::Init(InitEvent::Exited { restart_in_ms, .. }) => {
                running.phase = if restart_in_ms.is_some() {
                    Phase::Restarting
                } else {
                    Phase::Exited
                };
                event = Some(Event::Exited {
                    node,
                    how: ended,
                    restart_in_ms,
                });
            }
            What::Probed(Ok(())) => {
                running.phase = Phase::Ready;
                event = Some(Event::Ready {
                    node,
                    ms: millis(running.started),
                });
            }
            What::Gone => {
                running.init = None;
                running.phase = if running.phase == Phase::Idle {
                    Phase::Idle
                } else {
                    Phase::Exited
                };
                let _ = fs::remove_file(self.dir.target(&node));
            }
            _ => {}
        }
        drop(live);
        if let Some(event) = event {
            self.event(&event);
        }
    }
}

fn how(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The lab is up: nobody reads our output any more, and the terminal is not ours.
fn detach_stdio() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}

/// Standard input after the launch line: its end tells that `up` is gone.
pub(super) struct Lifeline(pipe::Receiver);

impl Lifeline {
    fn new() -> Result<Self> {
        let path = "standard input".as_ref();
        let fd = nix::unistd::dup(std::io::stdin()).on("duplicate", path)?;
        Ok(Self(pipe::Receiver::from_owned_fd(fd).on("watch", path)?))
    }

    /// Returns when `up` is gone, and never again after that.
    async fn cut(&mut self) {
        let mut byte = [0];
        while let Ok(1..) = self.0.read(&mut byte).await {}
    }
}
