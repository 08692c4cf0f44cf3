//! PID 1 of a node.
//!
//! One thread, no runtime: it sets up the root filesystem, gives up its privileges, starts the main
//! process, and from then on waits for signals.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};
use std::{fs, ptr};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, WaitOptions};
use serde::{Deserialize, Serialize};

use super::child::{Launch, Session, StartError};
use super::credentials::{
    INIT_CAPABILITIES, User, capability_names, limit, limit_bounding, parse_capabilities, permitted,
};
use super::exec::start_error;
use super::seccomp::Filter;
use super::{Error, InitSpec, Process, RestartPolicy, groups, mounts, rootfs};

/// `argv[0]` that makes the nslab binary an init.
pub const INIT_ARGV0: &str = "nslab-init";

/// Descriptors that init is started with, next to 0 (/dev/null), 1 and 2 (output).
pub(super) const SPEC_FD: RawFd = 3;
pub(super) const STATUS_FD: RawFd = 4;
pub(super) const FIRST_FREE_FD: RawFd = 5;

/// What an init tells its supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum InitEvent {
    /// Something asked for was left out, and the node works without it.
    Warning {
        /// One sentence.
        message: String,
    },
    /// The node is there: `exec` can enter. Once, before anything about the main process.
    Up,
    /// Before [`InitEvent::Up`]: the node could not be set up and init ends. After it: the main
    /// process could not be started (program or working directory missing); an
    /// [`InitEvent::Exited`] follows and the node stays.
    Failed {
        /// What was tried, and why it failed.
        message: String,
    },
    /// The main process runs its program.
    Started {
        /// Its pid inside the node; [`Init::host_pid`](super::Init::host_pid) translates it.
        pid: i32,
    },
    /// The main process has ended.
    Exited {
        /// Exit code, if it ended by itself: 127 and 126 as a shell has them.
        code: Option<i32>,
        /// Number of the signal that killed it, if one did.
        signal: Option<i32>,
        /// When it will be started again, in milliseconds from now; `None` is never.
        restart_in_ms: Option<u64>,
    },
}

/// Entry of the init: `main` comes here when `argv[0]` is [`INIT_ARGV0`].
pub fn init_main() -> ! {
    // Mounting in a namespace of someone else's would be fatal to the host.
    if std::process::id() != 1 {
        eprintln!("nslab: {INIT_ARGV0} is started by nslab, as the first process of a node");
        std::process::exit(125);
    }
    // SAFETY: `spawn` put these two there, nothing else in this fresh program knows them.
    let (spec, status) = unsafe {
        (
            OwnedFd::from_raw_fd(SPEC_FD),
            File::from(OwnedFd::from_raw_fd(STATUS_FD)),
        )
    };
    let mut status = Status(status);
    match Node::set_up(spec, &mut status) {
        Ok(node) => node.run(status),
        Err(error) => {
            let _ = status.tell(&InitEvent::Failed {
                message: error.to_string(),
            });
            std::process::exit(1);
        }
    }
}

/// Write end of the event pipe. It does not block: an init must go on reaping when its supervisor
/// is slow, and rather loses an event.
struct Status(File);

impl Status {
    fn tell(&mut self, event: &InitEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

/// A node that is set up.
struct Node {
    name: String,
    main: Option<(Process, Launch)>,
    stop_signal: i32,
    grace: Duration,
}

impl Node {
    fn set_up(spec: OwnedFd, status: &mut Status) -> Result<Self, Error> {
        signals().map_err(Error::system("set up signals"))?;
        for fd in [spec.as_fd(), status.0.as_fd()] {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)
                .map_err(|e| Error::system("set up files")(e.into()))?;
        }
        rustix::io::ioctl_fionbio(&status.0, true)
            .map_err(|e| Error::system("set up files")(e.into()))?;
        let spec: InitSpec = serde_json::from_reader(io::BufReader::new(File::from(spec)))
            .map_err(|source| Error::Spec {
                action: "read",
                source,
            })?;

        let wanted = parse_capabilities(&spec.capabilities)?;
        // Without CAP_SYS_PTRACE nobody in the node can look into this process, or reach the host's
        // nslab binary through /proc/1/exe (as in CVE-2019-5736).
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|e| Error::system("protect init")(e.into()))?;
        // Started through /proc/self/exe it would be called `exe` in process lists.
        let _ = rustix::thread::set_name(c"nslab-init");
        nix::unistd::sethostname(&spec.hostname)
            .map_err(|e| Error::system("set the hostname")(e.into()))?;
        rustix::process::umask(Mode::empty());
        let mut plan = rootfs::plan(&spec);
        plan.extend(groups::view(&spec.cgroups));
        for message in mounts::run(plan)? {
            let _ = status.tell(&InitEvent::Warning { message });
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        raise_limits();

        let user = User::lookup(&spec.user)?;
        if user.uid != 0 {
            // So that it can open /dev/stdout, which is this pipe.
            let owner = Some(rustix::fs::Uid::from_raw(user.uid));
            rustix::fs::fchown(io::stderr(), owner, None)
                .map_err(|e| Error::system("give the output to the user")(e.into()))?;
        }
        let have = permitted().map_err(Error::system("read the capabilities"))?;
        if !have.contains(wanted) {
            let missing = capability_names(wanted - have).join(", ");
            let message = format!("nslab itself has not {missing}, so the node goes without");
            let _ = status.tell(&InitEvent::Warning { message });
        }
        limit_bounding(wanted).map_err(Error::system("limit the capabilities"))?;
        rustix::thread::set_no_new_privs(true)
            .map_err(|e| Error::system("set no_new_privs")(e.into()))?;
        limit(have & (wanted | INIT_CAPABILITIES))
            .map_err(|e| Error::system("limit the capabilities")(e.into()))?;

        let filter = Filter::of(spec.seccomp, wanted);
        if spec.seccomp && filter.is_none() {
            let message = "this machine has no filter of system calls for nslab (a kernel with \
                           CONFIG_SECCOMP_FILTER on x86-64 or arm64), so the node goes without";
            let _ = status.tell(&InitEvent::Warning {
                message: message.to_owned(),
            });
        }

        let main = match spec.process {
            Some(process) => {
                let mut launch =
                    Launch::new(&process.argv, &spec.env, &spec.cwd, user, have & wanted)?;
                launch.session = Session::Own;
                launch.filter = filter;
                Some((process, launch))
            }
            None => None,
        };
        Ok(Self {
            name: spec.hostname,
            main,
            stop_signal: spec.stop_signal,
            grace: Duration::from_millis(spec.grace_ms),
        })
    }

    fn run(self, mut status: Status) -> ! {
        // A supervisor that died before init was tied to it left a pipe without a reader.
        if status.tell(&InitEvent::Up).is_err() {
            std::process::exit(1);
        }
        let mut backoff = Backoff::default();
        let mut running: Option<(Pid, Instant)> = None;
        let mut start_at = self.main.is_some().then(Instant::now);
        let mut kill_at: Option<Instant> = None;
        loop {
            if let (Some((process, launch)), Some(at)) = (&self.main, start_at)
                && at <= Instant::now()
            {
                start_at = None;
                match launch.start() {
                    Ok(pid) => {
                        running = Some((pid, Instant::now()));
                        let _ = status.tell(&InitEvent::Started { pid: pid.as_raw() });
                    }
                    Err(error) => {
                        start_at =
                            self.not_started(process, launch, error, &mut backoff, &mut status);
                    }
                }
            }
            if kill_at.is_some_and(|at| at <= Instant::now()) {
                break;
            }
            match wait_for_signal(start_at.into_iter().chain(kill_at).min()) {
                Some(libc::SIGTERM) if kill_at.is_none() => {
                    let Some((pid, _)) = running else { break };
                    // It may have ended a moment ago; then SIGCHLD is next.
                    send(pid, self.stop_signal);
                    start_at = None;
                    kill_at = Some(Instant::now() + self.grace);
                }
                Some(libc::SIGCHLD) => {
                    let Some((pid, since)) = running else {
                        reap(None);
                        continue;
                    };
                    let Some((code, signal)) = reap(Some(pid)) else {
                        continue;
                    };
                    running = None;
                    let again = kill_at.is_none()
                        && match self.main.as_ref().map(|(process, _)| process.restart) {
                            Some(RestartPolicy::Always) => true,
                            Some(RestartPolicy::OnFailure) => code != Some(0),
                            Some(RestartPolicy::No) | None => false,
                        };
                    let delay = again.then(|| backoff.next(since.elapsed()));
                    start_at = delay.map(|delay| Instant::now() + delay);
                    let _ = status.tell(&exited(code, signal, delay));
                    if kill_at.is_some() {
                        break;
                    }
                }
                _ => {}
            }
        }
        // The kernel kills everything else in the namespace (pid_namespaces(7)).
        std::process::exit(0);
    }

    /// Tells about a start that failed; returns when to try again. What is missing now will be
    /// missing in a second, so only a failing clone is tried again.
    fn not_started(
        &self,
        process: &Process,
        launch: &Launch,
        error: StartError,
        backoff: &mut Backoff,
        status: &mut Status,
    ) -> Option<Instant> {
        let again = matches!(error, StartError::Clone(_)) && process.restart != RestartPolicy::No;
        let delay = again.then(|| backoff.next(Duration::ZERO));
        let error = start_error(&self.name, &process.argv, launch, error);
        let message = error.to_string().trim_start_matches("exec: ").to_owned();
        say(&format!("nslab: {message}\n"));
        let _ = status.tell(&InitEvent::Failed { message });
        let _ = status.tell(&exited(Some(error.code().into()), None, delay));
        delay.map(|delay| Instant::now() + delay)
    }
}

fn exited(code: Option<i32>, signal: Option<i32>, delay: Option<Duration>) -> InitEvent {
    let restart_in_ms = delay.map(|delay| delay.as_millis() as u64);
    InitEvent::Exited {
        code,
        signal,
        restart_in_ms,
    }
}

/// Sends a signal to a child that is not reaped yet.
fn send(pid: Pid, number: i32) {
    // SAFETY: numbers only. nix's `kill` knows no real-time signals, by which systemd is stopped.
    unsafe { libc::kill(pid.as_raw(), number) };
}

/// Writes to the node's output unless that would block.
fn say(message: &str) {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO) == Ok(1) {
        let _ = stderr.lock().write_all(message.as_bytes());
    }
}

/// Reaps whatever has ended; exit code and signal of `main` if it is among them.
fn reap(main: Option<Pid>) -> Option<(Option<i32>, Option<i32>)> {
    let mut found = None;
    loop {
        // Not nix's: it has no real-time signals, by which a process can end too.
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if main.map(Pid::as_raw) == Some(pid.as_raw_nonzero().get()) {
                    found = Some((status.exit_status(), status.terminating_signal()));
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            // Nothing more has ended, or nothing is left.
            Ok(None) | Err(_) => return found,
        }
    }
}

/// All dispositions as by default but SIGPIPE, whose place an error takes; everything blocked, to be
/// fetched by [`wait_for_signal`].
fn signals() -> io::Result<()> {
    // SAFETY: dispositions and mask of this process; no handler is installed.
    unsafe {
        // Not by signal(3): the C library keeps 32 and 33 for itself and refuses, while whoever
        // started the supervisor may have left them ignored. All zero is SIG_DFL without flags.
        let default = [0_u64; 4];
        for number in (1..=64).filter(|&number| number != libc::SIGPIPE) {
            // SIGKILL and SIGSTOP refuse.
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sleeps until SIGCHLD or SIGTERM arrives, or `until` has come (`None`).
fn wait_for_signal(until: Option<Instant>) -> Option<i32> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let timeout = left.map(|left| libc::timespec {
        tv_sec: left.as_secs().cast_signed(),
        tv_nsec: left.subsec_nanos().into(),
    });
    // SAFETY: the set and the timeout are alive; the third argument may be null (sigtimedwait(2)).
    let signal = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        libc::sigtimedwait(&raw const set, ptr::null_mut(), timeout)
    };
    (signal > 0).then_some(signal)
}

/// As many open files as the hard limit has, and no protection from the OOM killer that the
/// supervisor may have. Both are favours, so that a failure is none.
fn raise_limits() {
    raise_open_files();
    let _ = fs::write("/proc/self/oom_score_adj", "0");
}

/// Raises the soft limit of open files to the hard one.
pub(super) fn raise_open_files() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
}

/// Time between an end and the next start: 100 ms, twice as long each time up to 10 s, and from the
/// beginning after a life of 10 s.
#[derive(Debug, Default)]
struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(10);
    const HEALTHY: Duration = Duration::from_secs(10);

    fn next(&mut self, lived: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if lived < Self::HEALTHY => (last * 2).min(Self::MOST),
            _ => Self::FIRST,
        };
        self.last = Some(delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_ten_seconds_and_start_over_after_a_long_life() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..9)
            .map(|_| backoff.next(Duration::from_secs(9)).as_millis())
            .collect();
        assert_eq!(
            delays,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        assert_eq!(backoff.next(Duration::from_secs(10)), Backoff::FIRST);
        assert_eq!(backoff.next(Duration::ZERO), Backoff::FIRST * 2);
    }

    #[test]
    fn events_are_one_object_a_line() {
        let text = |event| serde_json::to_string(&event).unwrap();
        assert_eq!(text(InitEvent::Up), r#"{"event":"up"}"#);
        assert_eq!(
            text(exited(None, Some(9), Some(Backoff::FIRST))),
            r#"{"event":"exited","code":null,"signal":9,"restart_in_ms":100}"#
        );
    }
}
