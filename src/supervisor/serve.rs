//! The supervisor process: up, serve, down.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream, unix::pipe};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::apply::{self, Directed};
use super::error::{Error, OnPath};
use super::journal::{Journal, Undo};
use super::launch::Launch;
use super::nodes::{self, Notice, Phase, Running, Starter, What};
use super::protocol::{NodeStatus, Reply, Request, ServiceStatus, Status};
use super::rundir::{State, VERSION};
use super::{Event, Result, RunDir, logs, ready, teardown};
use crate::capture::{self, Captures};
use crate::kernel::{Linux, Ns, mount, netns, process::ProcessId};
use crate::lab::{CaptureScope, Lab};
use crate::node::InitEvent;
use crate::plan::{self, CaptureTarget, Plan, Step};

/// How long main processes have to end after SIGTERM, and their inits to notice.
const GRACE: Duration = Duration::from_secs(4);

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
type Asker = UnixStream;

struct Supervisor {
    begun: Instant,
    since: u64,
    launch: Launch,
    lab: Lab,
    dir: RunDir,
    me: ProcessId,
    starter: Starter,
    state: RefCell<Live>,
    log: RefCell<Option<File>>,
    stop: UnboundedSender<Option<Asker>>,
    _lock: nix::fcntl::Flock<File>,
}

#[derive(Default)]
struct Live {
    journal: Option<Journal>,
    nodes: HashMap<String, Running>,
    captures: Option<Captures>,
    directed: Vec<Directed>,
}

/// What the main loop listens to.
struct Inbox {
    listener: UnixListener,
    notices: UnboundedReceiver<Notice>,
    stop: UnboundedReceiver<Option<Asker>>,
}

impl Supervisor {
    /// Brings the lab up; on an error everything is undone and told.
    async fn up(launch: Launch, lab: Lab) -> Result<(Rc<Self>, Inbox), ()> {
        let begun = Instant::now();
        let failed = |e: &Error| {
            tell(&Event::Failed {
                error: e.to_string(),
                log: Vec::new(),
            })
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
                let errors = this.take_down().await;
                this.event(&Event::Down {
                    lab: this.lab.name().to_string(),
                    errors,
                });
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
        let mut journal = Journal::create(&dir.journal())?;
        for sub in ["logs", "nodes", "rootfs"] {
            let path = dir.path().join(sub);
            fs::create_dir_all(&path).on("create", &path)?;
        }
        journal.note(&Undo::Folder {
            path: launch.scratch.join(lab.name().as_str()),
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
            scratch: launch.scratch.clone(),
            base,
            images: launch.images.clone(),
            notices,
        };
        let log = File::create(dir.supervisor_log()).ok();
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
            log: RefCell::new(log),
            stop,
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

    fn write_state(&self, up: bool) -> Result<()> {
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

    /// To the waiting `up` and into the supervisor's log.
    fn event(&self, event: &Event) {
        tell(event);
        if let (Some(log), Ok(text)) =
            (self.log.borrow_mut().as_mut(), serde_json::to_string(event))
        {
            let _ = writeln!(log, "{:.3} {text}", self.begun.elapsed().as_secs_f64());
        }
    }

    async fn bring_up(self: &Rc<Self>, inbox: &mut Inbox) -> Result<()> {
        let plan = plan::build(&self.lab);
        let cancel = Arc::new(AtomicBool::new(false));
        let mut lifeline = Lifeline::new()?;
        self.network(&plan, &cancel, &mut lifeline).await?;
        let mut waiting = self.start_nodes(&plan, &cancel).await?;
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
                    drop(asker);
                    break Err(Error::Interrupted);
                }
            }
        };
        cancel.store(true, Ordering::Relaxed);
        outcome?;
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
    async fn network(
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
            snaplen: self.lab.capture().snaplen(),
            captured: !self.launch.no_capture && *self.lab.capture().scope() != CaptureScope::Off,
            captures: None,
            directed: Vec::new(),
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
            live.directed = worker.directed;
        }
        result?;
        let interfaces = self.lab.nodes().iter().map(|n| n.interfaces().len()).sum();
        let ms = millis(self.begun);
        self.event(&Event::NetworkUp {
            nodes: self.lab.nodes().len(),
            interfaces,
            ms,
        });
        if capturing > 0 {
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
        }
        Ok(())
    }

    /// Networks that the host joins: (name, subnet).
    fn host_subnets(&self) -> Vec<(String, ipnet::IpNet)> {
        self.lab
            .networks()
            .iter()
            .filter(|n| n.host().is_some())
            .map(|n| (n.name().to_string(), n.subnet()))
            .collect()
    }

    /// Starts every main process; gives the nodes that `up` has to wait for.
    async fn start_nodes(&self, plan: &Plan, cancel: &Arc<AtomicBool>) -> Result<HashSet<String>> {
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
                Step::Start { node } => {
                    self.start(node).await?;
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
    async fn start(&self, name: &str) -> Result<()> {
        let node = self
            .lab
            .node(name)
            .ok_or_else(|| no_node(&self.lab, name))?;
        let journal = self.state.borrow_mut().journal.take();
        let mut journal = journal
            .ok_or_else(|| Error::Refused("another node is being started; try again".to_owned()))?;
        let started = self.starter.start(&self.lab, node, &mut journal).await;
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

    fn probe(&self, name: &str, cancel: &Arc<AtomicBool>) -> Result<()> {
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
    fn while_starting(&self, waiting: &mut HashSet<String>, notice: Notice) -> Result<()> {
        let node = notice.node.clone();
        let why = match &notice.what {
            What::Init(InitEvent::Exited {
                code,
                signal,
                restart_in_ms,
            }) => {
                let how = how(*code, *signal);
                match (code, restart_in_ms) {
                    // A clean end without restart is what one-shot commands do.
                    (Some(0), None) if !self.probed(&node) => None,
                    (Some(126 | 127), _) | (_, None) => Some(format!("its main process {how}")),
                    _ => None,
                }
            }
            What::Init(InitEvent::Failed { message }) => Some(message.clone()),
            What::Gone => Some("its init ended".to_owned()),
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

    fn probed(&self, node: &str) -> bool {
        self.state
            .borrow()
            .nodes
            .get(node)
            .is_some_and(|n| n.probed)
    }

    /// Keeps the books on a node.
    fn notice(&self, notice: Notice) {
        let Notice { node, what } = notice;
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
            What::Init(InitEvent::Exited {
                code,
                signal,
                restart_in_ms,
            }) => {
                running.phase = if restart_in_ms.is_some() {
                    Phase::Restarting
                } else {
                    Phase::Exited
                };
                event = Some(Event::Exited {
                    node,
                    how: how(code, signal),
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
        let errors = self.take_down_telling(asker.as_ref()).await;
        let event = Event::Down {
            lab: self.lab.name().to_string(),
            errors,
        };
        if let Some(mut stream) = asker {
            let _ = reply(&mut stream, &Reply::Event { event }).await;
        }
    }

    async fn take_down(&self) -> Vec<String> {
        self.take_down_telling(None).await
    }

    /// Everything off, captures last; gives what could not be undone.
    async fn take_down_telling(&self, _asker: Option<&Asker>) -> Vec<String> {
        let inits: Vec<_> = self
            .state
            .borrow_mut()
            .nodes
            .values_mut()
            .filter_map(|n| n.init.take())
            .collect();
        nodes::stop(&inits, GRACE).await;
        let captures = self.state.borrow_mut().captures.take();
        if let Some(captures) = captures {
            let interfaces = captures.stop();
            self.event(&Event::Captured { interfaces });
        }
        teardown::undo_all(&self.dir)
    }

    /// One connection: one request.
    fn answer(self: Rc<Self>, stream: UnixStream) {
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
                Ok(Request::Status) => Reply::Status(self.status()),
                Ok(Request::Captures) => Reply::Captures {
                    interfaces: self.capture_stats(),
                },
                Ok(Request::Enter { node }) => match self.enter(&node).await {
                    Ok(()) => Reply::Entered,
                    Err(e) => Reply::Error {
                        message: e.to_string(),
                    },
                },
                Err(e) => Reply::Error {
                    message: format!(
                        "the supervisor does not understand this nslab ({e}); was it upgraded while the lab was up?"
                    ),
                },
            };
            let _ = reply(&mut stream, &answer).await;
        });
    }

    async fn enter(&self, name: &str) -> Result<()> {
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
                (false, true) => return self.start(name).await,
                (false, false) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        Err(Error::Refused(format!(
            "node {name} is still being started; try again"
        )))
    }

    fn capture_stats(&self) -> Vec<capture::Stats> {
        self.state
            .borrow()
            .captures
            .as_ref()
            .map(Captures::stats)
            .unwrap_or_default()
    }

    fn status(&self) -> Status {
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
                        .map(|i| format!("{}={}", i.name(), i.address()))
                        .collect(),
                    restarts: running.map_or(0, |r| r.restarts),
                }
            })
            .collect();
        let services = live.directed.iter().flat_map(|d| {
            d.services.iter().map(|s| ServiceStatus {
                name: s.name.clone(),
                address: format!(
                    "{}/{}",
                    std::net::SocketAddr::new(s.vip, s.port),
                    if s.protocol == 17 { "udp" } else { "tcp" }
                ),
                director: d.node.clone(),
                engine: d.engine.to_owned(),
                scheduler: s.scheduler.clone(),
                servers: s
                    .servers
                    .iter()
                    .map(|r| (r.name.clone(), r.weight))
                    .collect(),
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
                .map_or(0, |c| c.stats().iter().map(|s| s.dropped).sum()),
        }
    }
}

async fn reply(stream: &mut UnixStream, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

fn no_node(lab: &Lab, name: &str) -> Error {
    let names: Vec<_> = lab.nodes().iter().map(|n| n.name().as_str()).collect();
    Error::Refused(format!(
        "lab {} has no node {name}; its nodes are {}",
        lab.name(),
        names.join(", ")
    ))
}

fn how(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
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
struct Lifeline(pipe::Receiver);

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

/// What the apply thread works with, and gives back.
struct Worker {
    journal: Option<Journal>,
    launch: Launch,
    snaplen: u32,
    captured: bool,
    captures: Option<Captures>,
    directed: Vec<Directed>,
    progress: Arc<AtomicUsize>,
}

impl Worker {
    fn work(
        &mut self,
        dir: &RunDir,
        plan: &Plan,
        host_subnets: &[(String, ipnet::IpNet)],
        cancel: &AtomicBool,
    ) -> Result<()> {
        let pins = dir.pins();
        fs::create_dir(&pins).on("create", &pins)?;
        apply::Host::<Linux>::journal(self, Undo::Mount { path: pins.clone() })?;
        mount::pin_folder(&pins)?;
        let mut kernel = Linux::new(pins)?;
        check_host(&mut kernel, plan, host_subnets)?;
        apply::network(plan, &mut kernel, self, cancel)
    }
}

/// The host's own network must not clash with what the lab puts into it.
fn check_host(kernel: &mut Linux, plan: &Plan, subnets: &[(String, ipnet::IpNet)]) -> Result<()> {
    for link in plan.host_links() {
        if nix::net::if_::if_nametoindex(link.name.as_str()).is_ok() {
            return Err(Error::HostLinkExists(link.name.clone()));
        }
    }
    if subnets.is_empty() {
        return Ok(());
    }
    for (route, _) in kernel.routes(&Ns::Host)? {
        let overlaps = |s: &ipnet::IpNet| s.contains(&route) || route.contains(s);
        if let Some((network, subnet)) = subnets.iter().find(|(_, s)| overlaps(s)) {
            return Err(Error::RouteOverlap {
                route: route.to_string(),
                network: network.clone(),
                subnet: subnet.to_string(),
            });
        }
    }
    Ok(())
}

impl apply::Host<Linux> for Worker {
    fn journal(&mut self, undo: Undo) -> Result<()> {
        self.journal
            .as_mut()
            .map_or(Ok(()), |journal| journal.note(&undo))
    }

    fn capture(&mut self, kernel: &mut Linux, interfaces: &[CaptureTarget]) -> Result<()> {
        if !self.captured {
            return Ok(());
        }
        let owner = self.launch.owner.map(|o| (o.uid, o.gid));
        capture::prepare_dir(&self.launch.exchange, owner)?;
        let mut requests = Vec::with_capacity(interfaces.len());
        for target in interfaces {
            requests.push(capture::Request {
                node: target.node.clone(),
                interface: target.interface.clone(),
                netns: Arc::new(kernel.share_netns(&Ns::named(&target.node))?),
                file: self.launch.exchange.join(target.file_name()),
            });
        }
        let options = capture::Options {
            snaplen: self.snaplen,
            buffer: None,
            owner,
        };
        self.captures = Some(Captures::start(requests, &options)?);
        Ok(())
    }

    fn has_ipvs(&mut self) -> bool {
        crate::kernel::ipvs::probe().unwrap_or(false)
    }

    fn directed(&mut self, directed: Directed) {
        self.directed.push(directed);
    }

    fn progress(&mut self, done: usize) {
        self.progress.store(done, Ordering::Relaxed);
    }
}
