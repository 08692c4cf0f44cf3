//! The supervisor's nodes: what their inits are told, what became of them, and their end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::mpsc::UnboundedSender;

use super::error::{Error, OnPath};
use super::holding::{Holding, Writable};
use super::journal::{Journal, Undo};
use super::launch::NodeImage;
use super::logs::Log;
use super::rundir::write_json;
use super::{Result, RunDir, program};
use crate::kernel::netns;
use crate::kernel::process::{self, ProcessId};
use crate::lab::{Lab, Node, Restart, Seccomp};
use crate::node::{
    self, Bind, InitEvent, InitSpec, MountTemplate, Process, RestartPolicy, Rootfs, SpawnOptions,
    Target, Tmpfs, signal_number,
};
use crate::plan::hosts_file;

/// A PATH for nodes that run on the host's own root.
const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its network is there and nothing has to run.
    Idle,
    /// Its main process was started and its probe has not succeeded yet.
    Starting,
    /// Its main process runs, and it has no probe.
    Running,
    /// Its probe has succeeded.
    Ready,
    /// Its main process ended and will be started again.
    Restarting,
    /// Its main process ended for good.
    Exited,
}

impl Phase {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "up",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

/// A node as the supervisor keeps it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) phase: Phase,
    pub(super) init: Option<Init>,
    pub(super) restarts: u32,
    pub(super) started: Instant,
    pub(super) probed: bool,
}

/// A live init.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) node: String,
    pub(super) pid: i32,
    /// How long its main process has to end when it is asked to.
    pub(super) grace: Duration,
    pidfd: Rc<OwnedFd>,
}

impl Init {
    pub(super) fn has_ended(&self) -> bool {
        process::ended(&self.pidfd, Duration::ZERO)
    }
}

/// What a node's tasks tell the main loop.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) node: String,
    pub(super) what: What,
}

/// See [`Notice`].
#[derive(Debug)]
pub(super) enum What {
    /// Its init said so.
    Init(InitEvent),
    /// Its init is gone.
    Gone,
    /// Its probe is through.
    Probed(std::result::Result<(), String>),
}

/// Everything that starting inits needs.
pub(super) struct Starter {
    pub(super) dir: RunDir,
    /// None when the lab has been taken down.
    pub(super) holding: RefCell<Option<Holding>>,
    pub(super) base: std::path::PathBuf,
    pub(super) images: BTreeMap<String, NodeImage>,
    pub(super) env_files: BTreeMap<String, Vec<(String, String)>>,
    pub(super) notices: UnboundedSender<Notice>,
}

impl Starter {
    /// Starts a node's init, and waits until its root filesystem stands and it can be entered.
    /// Call it on the thread that lives as long as the supervisor: the init dies with its parent
    /// thread (PR_SET_PDEATHSIG). Without `mounts` it starts from the supervisor's own.
    pub(super) async fn start(
        &self,
        lab: &Lab,
        node: &Node,
        cgroups: Vec<PathBuf>,
        mounts: Option<Arc<MountTemplate>>,
        journal: &mut Journal,
    ) -> Result<Init> {
        let name = node.name().as_str();
        let failed = |source| Error::Node {
            node: name.to_owned(),
            source,
        };
        let mut spec = self.spec(lab, node)?;
        spec.cgroups = cgroups;
        let ns = netns::open(&self.dir.pins().join(name))?;
        let options = SpawnOptions { exe: None, mounts };
        let init = node::spawn_with(&spec, ns.as_fd(), &options).map_err(failed)?;
        let pid = init.pid.as_raw();
        let id = ProcessId {
            pid,
            start_time: init.start_time,
        };
        journal.note(&Undo::Process {
            what: format!("init of {name}"),
            id,
        })?;
        let target = Target::new(&spec, &init);
        let status = pipe::Receiver::from_owned_fd(init.status)
            .on("watch", Path::new("the status pipe of a node"))?;
        let output = pipe::Receiver::from_owned_fd(init.output)
            .on("watch", Path::new("the output of a node"))?;
        let pidfd = Rc::new(init.pidfd);
        self.keep_log(name, output)?;
        let mut status = BufReader::new(status).lines();
        loop {
            let line = status
                .next_line()
                .await
                .on("read", Path::new("the status of a node"))?;
            match line.as_deref().map(serde_json::from_str::<InitEvent>) {
                Some(Ok(InitEvent::Up)) => break,
                Some(Ok(InitEvent::Failed { message })) => {
                    return Err(Error::NotReady {
                        node: name.to_owned(),
                        why: message,
                    });
                }
                Some(_) => {}
                None => {
                    let why = "its init died while it set up the root filesystem".to_owned();
                    return Err(Error::NotReady {
                        node: name.to_owned(),
                        why,
                    });
                }
            }
        }
        write_json(&self.dir.target(name), &target)?;
        let notices = self.notices.clone();
        let node = name.to_owned();
        tokio::task::spawn_local(async move {
            while let Ok(Some(line)) = status.next_line().await {
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = notices.send(Notice {
                        node: node.clone(),
                        what: What::Init(event),
                    });
                }
            }
        });
        self.watch_end(name, &pidfd)?;
        Ok(Init {
            node: name.to_owned(),
            pid,
            grace: Duration::from_millis(spec.grace_ms),
            pidfd,
        })
    }

    /// Copies a main process' output into the node's log.
    fn keep_log(&self, name: &str, mut output: pipe::Receiver) -> Result<()> {
        let mut log = Log::open(&self.dir.log(name))?;
        tokio::task::spawn_local(async move {
            let mut chunk = vec![0; 16 << 10];
            while let Ok(n @ 1..) = output.read(&mut chunk).await {
                // A full /run must not stop the node: its output is lost then, not the node.
                let _ = log.write(&chunk[..n]);
            }
        });
        Ok(())
    }

    /// Reaps the init when it has ended, and tells.
    fn watch_end(&self, name: &str, pidfd: &Rc<OwnedFd>) -> Result<()> {
        let fd = process::watch(pidfd)?;
        let (notices, node) = (self.notices.clone(), name.to_owned());
        tokio::task::spawn_local(async move {
            let _ = fd.readable().await;
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(fd.get_ref().as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            let _ = notices.send(Notice {
                node,
                what: What::Gone,
            });
        });
        Ok(())
    }

    fn spec(&self, lab: &Lab, node: &Node) -> Result<InitSpec> {
        let name = node.name().as_str();
        let image = node.image().and_then(|i| self.images.get(i));
        let rootfs = match image {
            None => Rootfs::Host,
            Some(image) => {
                let target = self.dir.path().join("rootfs").join(name);
                fs::create_dir_all(&target).on("create", &target)?;
                let holding = self.holding.borrow();
                let holding = holding.as_ref().ok_or(Error::Interrupted)?;
                let Writable { upper, work, kept } = holding.writable(node, image)?;
                Rootfs::Overlay {
                    lower: image.layers.clone(),
                    upper,
                    work,
                    target,
                    kept,
                }
            }
        };
        let mut env: BTreeMap<String, String> = BTreeMap::new();
        env.insert("PATH".into(), HOST_PATH.into());
        env.extend(image.iter().flat_map(|i| i.env.iter().cloned()));
        env.extend(self.env_files.get(name).into_iter().flatten().cloned());
        env.extend(node.env().clone());
        let binds = node
            .volumes()
            .iter()
            .map(|v| Bind {
                source: self.base.join(v.source()),
                target: v.target().clone(),
                read_only: v.read_only(),
            })
            .collect();
        let tmpfs = node
            .tmpfs()
            .iter()
            .map(|t| Tmpfs {
                target: t.target().clone(),
                size: t.size(),
                mode: t.mode(),
                exec: t.exec(),
            })
            .collect();
        let grace = node.stop_grace().unwrap_or(InitSpec::DEFAULT_GRACE);
        let images_signal = || signal_number(image?.stop_signal.as_ref()?);
        Ok(InitSpec {
            hostname: name.to_owned(),
            rootfs,
            hosts: hosts_file(lab, node),
            binds,
            env: env.into_iter().collect(),
            user: node
                .user()
                .or(image.map(|i| &i.user))
                .cloned()
                .unwrap_or_default(),
            cwd: node
                .workdir()
                .or(image.map(|i| &i.workdir))
                .cloned()
                .unwrap_or_default(),
            capabilities: program::capabilities(node.cap_add(), node.cap_drop()),
            process: node.has_process().then(|| Process {
                argv: program::argv(image, node),
                restart: restart(node.restart()),
            }),
            grace_ms: grace.as_millis() as u64,
            stop_signal: node
                .stop_signal()
                .or_else(images_signal)
                .unwrap_or(libc::SIGTERM),
            tmpfs,
            seccomp: node.seccomp() == Seccomp::Default,
            cgroups: Vec::new(),
        })
    }
}

fn restart(policy: Restart) -> RestartPolicy {
    match policy {
        Restart::No => RestartPolicy::No,
        Restart::OnFailure => RestartPolicy::OnFailure,
        Restart::Always => RestartPolicy::Always,
    }
}

/// Ends inits: SIGTERM to all at once, at which each asks its main process to end; SIGKILL to those
/// that are still there after their grace, and a second in which to notice. The kernel takes
/// everything in a node with its init.
pub(super) async fn stop(inits: &[Init]) {
    use rustix::process::{Signal, pidfd_send_signal};
    for init in inits {
        let _ = pidfd_send_signal(&*init.pidfd, Signal::TERM);
    }
    let begun = tokio::time::Instant::now();
    for init in inits {
        let deadline = begun + init.grace + Duration::from_secs(1);
        if !ended(init, deadline).await {
            let _ = pidfd_send_signal(&*init.pidfd, Signal::KILL);
            let _ = ended(init, tokio::time::Instant::now() + Duration::from_secs(5)).await;
        }
    }
}

async fn ended(init: &Init, deadline: tokio::time::Instant) -> bool {
    let Ok(fd) = process::watch(&init.pidfd) else {
        return false;
    };
    tokio::time::timeout_at(deadline, fd.readable())
        .await
        .is_ok()
}
