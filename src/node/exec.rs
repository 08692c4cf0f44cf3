//! Runs a command in a running node.
//!
//! Speed is the point: the init's pidfd leads into all its namespaces by one setns(2), then one
//! child is started. No thread, no runtime.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::unistd::Pid;
use rustix::process::{DumpableBehavior, WaitOptions};
use rustix::thread::{CapabilitySet, ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

use super::child::{Failure, Launch, Session, StartError, Step};
use super::credentials::{
    INIT_CAPABILITIES, User, limit, limit_bounding, parse_capabilities, permitted,
};
use super::groups::{Groups, OomKills};
use super::init::raise_open_files;
use super::seccomp::Filter;
use super::spawn::open_pidfd;
use super::terminal::{Outer, Relay};
use super::{ExecError, Init, InitSpec, view};

/// `argv[0]` that makes the nslab binary run [`exec`] on a JSON file: the tests' entry, which needs
/// no supervisor.
pub(super) const EXEC_ARGV0: &str = "nslab-exec";

/// The code of a command that SIGKILL has ended.
const KILLED: u8 = 128 + 9;

/// Signals passed on to the command.
const FORWARDED: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// All that is needed to enter a node. The supervisor writes it as JSON once the node is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// [`Target::VERSION`] of the nslab that wrote it.
    pub version: u32,
    /// The node's name.
    pub node: String,
    /// Pid of its init.
    pub pid: i32,
    /// Start time of its init, see [`Init::start_time`].
    pub start_time: u64,
    /// Environment of the node's processes.
    pub env: Vec<(String, String)>,
    /// User, see [`InitSpec::user`].
    pub user: String,
    /// Working directory, see [`InitSpec::cwd`].
    pub cwd: PathBuf,
    /// Capabilities, see [`InitSpec::capabilities`].
    pub capabilities: Vec<String>,
    /// Whether system calls are filtered, see [`InitSpec::seccomp`].
    pub seccomp: bool,
    /// Control groups to be in, see [`InitSpec::cgroups`].
    pub cgroups: Vec<PathBuf>,
}

impl Target {
    /// Version of the record.
    pub const VERSION: u32 = 2;

    /// The target that `init`, spawned from `spec`, is.
    pub fn new(spec: &InitSpec, init: &Init) -> Self {
        Self {
            version: Self::VERSION,
            node: spec.hostname.clone(),
            pid: init.pid.as_raw(),
            start_time: init.start_time,
            env: spec.env.clone(),
            user: spec.user.clone(),
            cwd: spec.cwd.clone(),
            capabilities: spec.capabilities.clone(),
            seccomp: spec.seccomp,
            cgroups: spec.cgroups.clone(),
        }
    }
}

/// Whether the command gets a terminal of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tty {
    /// When standard input, output and error are all terminals.
    #[default]
    Auto,
    /// Never: the command gets the caller's descriptors themselves.
    Never,
    /// Always.
    Always,
}

/// What to run and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOptions {
    /// Program and arguments; the program is looked up in the PATH of the node.
    pub argv: Vec<String>,
    /// Environment on top of the node's.
    pub env: Vec<(String, String)>,
    /// Working directory instead of the node's.
    pub cwd: Option<PathBuf>,
    /// User instead of the node's, in the same form.
    pub user: Option<String>,
    /// Terminal or not.
    pub tty: Tty,
}

/// Runs a command in a node and returns its exit code, or 128 and the number of the signal that
/// killed it.
///
/// This process moves into the node's namespaces for good, blocks signals and sets `no_new_privs`:
/// exit with the code soon. It must have one thread only (setns(2)). The command is killed when
/// this process dies.
pub fn exec(target: &Target, options: &ExecOptions) -> Result<u8, ExecError> {
    // The node's own folders of groups have no name any more once this process is in the node.
    let oom_kills = OomKills::watch(&target.cgroups);
    let code = enter_and_run(target, options)?;
    // Also what a shell says that had started the victim.
    if code == KILLED && oom_kills.is_some_and(|kills| kills.any()) {
        eprintln!(
            "nslab: exec: killed by the memory limit of node {} (oom_kill)",
            target.node
        );
    }
    Ok(code)
}

fn enter_and_run(target: &Target, options: &ExecOptions) -> Result<u8, ExecError> {
    if target.version != Target::VERSION {
        return Err(ExecError::Version {
            node: target.node.clone(),
            found: target.version,
            expected: Target::VERSION,
        });
    }
    if options.argv.is_empty() {
        return Err(ExecError::NoCommand(target.node.clone()));
    }
    let tried = |action| {
        let node = target.node.clone();
        move |source: io::Error| ExecError::Enter {
            action,
            node,
            source,
            hint: "",
        }
    };
    let allowed = parse_capabilities(&target.capabilities)?;
    // Its programs may look into the child until that executes the command, and into nslab's binary.
    let watched = allowed.contains(CapabilitySet::SYS_PTRACE);
    if watched {
        view::enter().map_err(tried("make a read-only view of nslab"))?;
    }
    // Before the namespace changes: after it, the caller's terminal has no name any more, and the
    // host's folders have none.
    let outer = Outer::find(options.tty);
    let cgroups = Groups::open(&target.cgroups).map_err(|(folder, source)| ExecError::Group {
        folder,
        node: target.node.clone(),
        source,
    })?;
    enter(target, cgroups.shown)?;

    let have = permitted().map_err(tried("read the capabilities"))?;
    let user = User::lookup(options.user.as_deref().unwrap_or(&target.user))?;
    let term = std::env::var("TERM")
        .ok()
        .map(|term| ("TERM".to_owned(), term));
    let env: Vec<(String, String)> = target
        .env
        .iter()
        .cloned()
        .chain(term)
        .chain(options.env.iter().cloned())
        .collect();
    let cwd = options.cwd.as_ref().unwrap_or(&target.cwd);
    let uid = user.uid;
    let mut launch = Launch::new(&options.argv, &env, cwd, user, have & allowed)?;
    launch.with_parent = true;
    launch.cgroups = cgroups;
    launch.filter = Filter::of(target.seccomp, allowed);
    launch.apart = watched;

    limit_bounding(allowed).map_err(tried("limit the capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(|e| tried("set no_new_privs")(e.into()))?;
    raise_open_files();

    // Blocked from here on, fetched in the loops below; none is lost in between.
    let mut waited = SigSet::from_iter(FORWARDED);
    waited.add(Signal::SIGCHLD);
    let mut blocked = waited;
    if outer.is_some() {
        blocked.add(Signal::SIGWINCH);
        blocked.add(Signal::SIGCONT);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None)
        .map_err(|e| tried("block signals")(e.into()))?;
    // SAFETY: as by default; a caller that ignored SIGCHLD would make the exit code unknowable.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };

    let started = |launch: &Launch| {
        // Nothing of what comes needs more, and the child begins with what this process has.
        limit(have & (allowed | INIT_CAPABILITIES))
            .map_err(|e| tried("limit the capabilities")(e.into()))?;
        launch
            .start()
            .map_err(|error| start_error(&target.node, &options.argv, launch, error))
    };
    match outer {
        None => {
            let child = started(&launch)?;
            drop(launch);
            wait(child, &waited).map_err(tried("wait for the command"))
        }
        Some(outer) => {
            let (relay, streams) =
                Relay::open(outer, uid, &blocked).map_err(tried("open a terminal"))?;
            launch.stdio = Some(streams);
            launch.session = Session::Terminal;
            let child = started(&launch)?;
            // The command's ends must be its alone, so that their closing shows.
            drop(launch);
            relay.run(child).map_err(tried("relay the terminal"))
        }
    }
}

/// Moves this process into the namespaces of the node, that of control groups if it has one. What was
/// opened before can be joined from there all the same (since CVE-2021-4197: Linux 5.16, 5.10.111).
fn enter(target: &Target, has_cgroups: bool) -> Result<(), ExecError> {
    let failed = |action, hint| {
        let node = target.node.clone();
        move |source: io::Error| ExecError::Enter {
            action,
            node,
            source,
            hint,
        }
    };
    let gone = || ExecError::Gone {
        node: target.node.clone(),
        pid: target.pid,
    };
    let init: OwnedFd = open_pidfd(target.pid, target.start_time)
        .map_err(failed("find the init", ""))?
        .ok_or_else(gone)?;
    // What shares this memory until it executes its program must not be traced from the node.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| failed("protect this process", "")(e.into()))?;
    let all = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
    let cgroups = if has_cgroups {
        ThreadNameSpaceType::CONTROL_GROUP
    } else {
        ThreadNameSpaceType::empty()
    };
    match move_into_thread_name_spaces(init.as_fd(), all | cgroups) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::SRCH) => Err(gone()),
        Err(error) => Err(failed(
            "enter the namespaces",
            "run it as root (sudo nslab exec)",
        )(error.into())),
    }
}

/// What a failed start means to the user.
pub(super) fn start_error(
    node: &str,
    argv: &[String],
    launch: &Launch,
    error: StartError,
) -> ExecError {
    let node = node.to_owned();
    let program = argv.first().cloned().unwrap_or_default();
    let failure: Failure = match error {
        StartError::Clone(source) => {
            return ExecError::Enter {
                action: "start a process",
                node,
                source,
                hint: "",
            };
        }
        StartError::Child(failure) => failure,
    };
    let source = failure.error();
    match failure.step {
        Step::Prepare(action) => ExecError::Enter {
            action,
            node,
            source,
            hint: "",
        },
        Step::Cwd => ExecError::Cwd {
            cwd: launch.cwd(),
            node,
            source,
        },
        Step::Exec if failure.errno == libc::ENOENT => {
            let reason = if launch.program_exists() {
                "the interpreter that it names is missing"
            } else if program.contains('/') {
                "no such file"
            } else {
                "command not found"
            };
            ExecError::NotFound {
                program,
                reason,
                node,
            }
        }
        Step::Exec => ExecError::NotExecutable {
            program,
            node,
            source,
        },
    }
}

/// Waits for the command and passes signals on to it.
fn wait(child: Pid, waited: &SigSet) -> io::Result<u8> {
    loop {
        // SAFETY: an all-zero siginfo is a value, and the kernel fills it in.
        let (number, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::sigwaitinfo(waited.as_ref(), &raw mut info), info)
        };
        if number == libc::SIGCHLD {
            if let Some(code) = ended(child)? {
                return Ok(code);
            }
        } else if number > 0 && info.si_code != libc::SI_KERNEL {
            // The terminal's own (^C) reach the command by itself: it is in our process group.
            forward(child, number);
        }
    }
}

/// Sends signal `number` to the command.
pub(super) fn forward(child: Pid, number: i32) {
    if let Ok(signal) = Signal::try_from(number) {
        // It may have ended a moment ago, unreaped.
        let _ = kill(child, signal);
    }
}

/// The exit code of the command if it has ended.
pub(super) fn ended(child: Pid) -> io::Result<Option<u8>> {
    // Not nix's: it has no real-time signals, by which a command can end too.
    let child = rustix::process::Pid::from_raw(child.as_raw());
    let Some((_, status)) = rustix::process::waitpid(child, WaitOptions::NOHANG)? else {
        return Ok(None);
    };
    let code = status
        .exit_status()
        .or(status.terminating_signal().map(|number| 128 + number));
    // Both are below 256 (wait(2)).
    Ok(code.and_then(|code| u8::try_from(code).ok()))
}

/// Entry of the tests: the only argument is a JSON file with `{"target": .., "options": ..}`.
pub(super) fn exec_main() -> ! {
    #[derive(Deserialize)]
    struct Request {
        target: Target,
        options: ExecOptions,
    }
    let read = || -> io::Result<Request> {
        let path = std::env::args_os().nth(1).unwrap_or_default();
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    };
    let code = match read() {
        Ok(request) => exec(&request.target, &request.options).unwrap_or_else(|error| {
            eprintln!("nslab: {error}");
            error.code()
        }),
        Err(error) => {
            eprintln!("nslab: {EXEC_ARGV0}: {error}");
            125
        }
    };
    std::process::exit(code.into())
}
