//! The supervisor process: up, serve, down.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::apply::Directed;
use super::bus::Bus;
use super::directors::Director;
use super::error::{Error, OnPath};
use super::health::Checks;
use super::holding::Holding;
use super::journal::{Journal, Undo};
use super::launch::Launch;
use super::limits::Kept;
use super::logs::Log;
use super::nodes::{Notice, Running, Starter};
use super::protocol::NewServer;
use super::rundir::{State, VERSION};
use super::{Event, Result, RunDir, logs, teardown};
use crate::capture::Captures;
use crate::kernel::process::ProcessId;
use crate::lab::Lab;

/// Lines of a node's log that a failure shows.
const LOG_LINES: usize = 12;

/// Entry of the re-executed binary.
pub fn main() -> ExitCode {
    match prepare() {
        Ok((launch, lab)) => run(launch, lab),
        Err(e) => {
            tell(&Event::Failed {
                error: e.to_string(),
                log: Vec::new(),
            });
            ExitCode::FAILURE
        }
    }
}

/// Becomes a process that belongs to no terminal, and learns what it is for.
fn prepare() -> Result<(Launch, Lab)> {
    let stdin = std::io::stdin();
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .on("read", "standard input".as_ref())?;
    let launch: Launch = serde_json::from_str(&line)
        .map_err(std::io::Error::other)
        .on("understand", "standard input".as_ref())?;
    let lab =
        crate::lab::load(&launch.file, &launch.text).map_err(|e| Error::Refused(e.to_string()))?;
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/").on("change to", "/".as_ref())?;
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    raise_open_files();
    Ok((launch, lab))
}

/// Captures and pins need some descriptors a node; the hard limit needs no privilege.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// To the `up` that waits for us; it may have gone.
fn tell(event: &Event) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let _ = std::io::stdout().write_all(&line);
    }
}

fn run(launch: Launch, lab: Lab) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(e) => {
            tell(&Event::Failed {
                error: format!("cannot start a runtime: {e}"),
                log: Vec::new(),
            });
            return ExitCode::FAILURE;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match Supervisor::up(launch, lab).await {
            Ok((supervisor, inbox)) => {
                supervisor.serve(inbox).await;
                ExitCode::SUCCESS
            }
            Err(()) => ExitCode::FAILURE,
        }
    })
}

/// A connection that asked for `down` and waits for its end.
pub(super) type Asker = UnixStream;

pub(super) struct Supervisor {
    pub(super) begun: Instant,
    pub(super) since: u64,
    pub(super) launch: Launch,
    pub(super) lab: Lab,
    pub(super) dir: RunDir,
    pub(super) me: ProcessId,
    pub(super) starter: Starter,
    pub(super) state: RefCell<Live>,
    pub(super) bus: Bus,
    pub(super) stop: UnboundedSender<Option<Asker>>,
    /// Held while captures are stopped or started.
    pub(super) recording: tokio::sync::Mutex<()>,
    /// Held while a server joins a service.
    pub(super) joining: tokio::sync::Mutex<()>,
    _lock: nix::fcntl::Flock<File>,
}

#[derive(Default)]
pub(super) struct Live {
    pub(super) journal: Option<Journal>,
    pub(super) nodes: HashMap<String, Running>,
    pub(super) captures: Option<Arc<Captures>>,
    pub(super) directed: Vec<Directed>,
    /// The same, running.
    pub(super) directors: Vec<Rc<Director>>,
    /// Servers that joined at run time, also those that have left since: their nodes accept what is
    /// addressed to the VIP until `down`.
    pub(super) joined: Vec<(String, NewServer)>,
    pub(super) checks: Checks,
    /// Of nodes that have any.
    pub(super) limits: BTreeMap<String, Kept>,
    /// Who asked for the end before the lab was up.
    pub(super) asker: Option<Asker>,
    /// Whether the end has begun: nothing is started or changed any more.
    pub(super) stopping: bool,
}

/// What the main loop listens to.
pub(super) struct Inbox {
    pub(super) listener: UnixListener,
    pub(super) notices: UnboundedReceiver<Notice>,
    pub(super) stop: UnboundedReceiver<Option<Asker>>,
}

impl Supervisor {
    /// Brings the lab up; on an error everything is undone and told.
    async fn up(launch: Launch, lab: Lab) -> Result<(Rc<Self>, Inbox), ()> {
        let begun = Instant::now();
        let failed = |e: &Error| {
            tell(&Event::Failed {
                error: e.to_string(),
                log: Vec::new(),
            });
        };
        let (this, mut inbox) = Self::claim(begun, launch, lab).map_err(|e| failed(&e))?;
        let this = Rc::new(this);
        match this.bring_up(&mut inbox).await {
            Ok(()) => Ok((this, inbox)),
            Err(e) => {
                let log = match &e {
                    Error::NotReady { node, .. } | Error::Node { node, .. } => {
                        logs::tail(&this.dir.log(node), LOG_LINES)
                    }
                    _ => Vec::new(),
                };
                this.event(&Event::Failed {
                    error: e.to_string(),
                    log,
                });
                let asker = this.state.borrow_mut().asker.take();
                this.take_down(asker, &mut inbox).await;
                Err(())
            }
        }
    }

    /// Takes the lab's folder. Nothing else has been touched when this fails.
    fn claim(begun: Instant, launch: Launch, lab: Lab) -> Result<(Self, Inbox)> {
        let dir = RunDir::of(lab.name().as_str());
        let mut lock = dir.lock()?;
        if dir.journal().exists() {
            let errors = teardown::undo_all(&dir);
            if !errors.is_empty() {
                return Err(Error::Refused(format!(
                    "a former run of lab {} could not be removed: {}",
                    lab.name(),
                    errors.join("; ")
                )));
            }
            drop(lock);
            lock = dir.lock()?;
            let text = format!(
                "lab {} had been left behind by a supervisor that was killed; it was removed first",
                lab.name()
            );
            tell(&Event::Warning { text });
        }
        let me = ProcessId::current()
            .ok_or(nix::errno::Errno::ESRCH)
            .on("read", "/proc/self/stat".as_ref())?;
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let holding = match Holding::claim(&launch, &lab) {
            Ok(holding) => holding,
            Err(e) => {
                // The folder was made for its lock alone.
                let _ = teardown::undo_all(&dir);
                return Err(e);
            }
        };
        let mut journal = Journal::create(&dir.journal())?;
        for sub in ["logs", "nodes", "rootfs"] {
            let path = dir.path().join(sub);
            fs::create_dir_all(&path).on("create", &path)?;
        }
        journal.note(&Undo::Folder {
            path: holding.scratch(),
        })?;
        let (notices, notices_in) = unbounded_channel();
        let (stop, stop_in) = unbounded_channel();
        let socket = dir.socket();
        let listener = UnixListener::bind(&socket).on("listen on", &socket)?;
        let base = launch
            .file
            .parent()
            .map_or_else(PathBuf::new, PathBuf::from);
        let starter = Starter {
            dir: dir.clone(),
            holding: RefCell::new(Some(holding)),
            base,
            images: launch.images.clone(),
            env_files: launch.env_files.clone(),
            notices,
        };
        let bus = Bus::new(Log::open(&dir.supervisor_log()).ok());
        let live = Live {
            journal: Some(journal),
            ..Live::default()
        };
        let this = Self {
            begun,
            since,
            launch,
            lab,
            dir,
            me,
            starter,
            state: RefCell::new(live),
            bus,
            stop,
            recording: tokio::sync::Mutex::new(()),
            joining: tokio::sync::Mutex::new(()),
            _lock: lock,
        };
        this.write_state(false)?;
        Ok((
            this,
            Inbox {
                listener,
                notices: notices_in,
                stop: stop_in,
            },
        ))
    }

    pub(super) fn write_state(&self, up: bool) -> Result<()> {
        self.dir.write_state(&State {
            version: VERSION,
            lab: self.lab.name().to_string(),
            file: self.launch.file.clone(),
            supervisor: self.me,
            exchange: self.launch.exchange.clone(),
            since: self.since,
            up,
        })
    }

    /// To the waiting `up`, into the supervisor's log, and to all who follow. Steps are for the
    /// bar of `up` alone.
    pub(super) fn event(&self, event: &Event) {
        tell(event);
        if !matches!(event, Event::Step { .. }) {
            self.bus.publish(event);
        }
        self.reshape(event);
    }

    /// Answers until somebody asks for the end.
    async fn serve(self: Rc<Self>, mut inbox: Inbox) {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate()).ok();
        let asker = loop {
            tokio::select! {
                Ok((stream, _)) = inbox.listener.accept() => self.clone().answer(stream),
                Some(notice) = inbox.notices.recv() => self.notice(notice),
                Some(asker) = inbox.stop.recv() => break asker,
                Some(()) = async { match &mut term { Some(t) => t.recv().await, None => std::future::pending().await } } => break None,
            }
        };
        self.take_down(asker, &mut inbox).await;
    }
}

pub(super) fn no_node(lab: &Lab, name: &str) -> Error {
    let names: Vec<_> = lab.nodes().iter().map(|n| n.name().as_str()).collect();
    Error::Refused(format!(
        "lab {} has no node {name}; its nodes are {}",
        lab.name(),
        names.join(", ")
    ))
}

pub(super) fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}
