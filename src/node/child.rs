//! Starting a process: everything is prepared before, the child itself only makes system calls.
//!
//! The child shares the parent's memory until it executes its program (`CLONE_VM | CLONE_VFORK`),
//! so nothing is copied however large the parent is, and what went wrong is simply a variable that
//! the parent reads afterwards. In return the child must not allocate, lock or unwind.
//!
//! Where somebody in the node may look into the child ([`Launch::apart`]), it has a copy of the memory
//! instead. The program itself is executed by way of the [`Springboard`], which reports through a pipe.

use std::ffi::{CString, OsStr, c_char};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::ptr;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::CapabilitySet;

use super::Error;
use super::credentials::{self, User};
use super::groups::Groups;
use super::raw::{self, close_from, dup_to, execute, last_errno, vfork};
use super::seccomp::Filter;
use super::springboard::{REPORT, SPRINGBOARD, Springboard};

/// Where programs are looked for when the environment has no PATH (Docker's default).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a child did when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Anything before the program that cannot depend on the user's input.
    Prepare(&'static str),
    /// The working directory.
    Cwd,
    /// The program itself.
    Exec,
}

/// Why a child did not become its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: i32,
}

impl Failure {
    fn new(step: Step) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |error| Self {
            step,
            errno: error.raw_os_error(),
        }
    }

    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// A start of a process failed: by clone itself, or in the child, which is reaped by then.
#[derive(Debug)]
pub(super) enum StartError {
    Clone(io::Error),
    Child(Failure),
}

/// A program and all about it, ready for execve.
pub(super) struct Launch {
    /// Where the program may be, in the order of PATH.
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    user: User,
    groups: Vec<Gid>,
    capabilities: CapabilitySet,
    springboard: Springboard,
    /// 0, 1 and 2 of the child; `None` leaves the parent's.
    pub(super) stdio: Option<[OwnedFd; 3]>,
    pub(super) session: Session,
    /// What the program may ask the kernel for.
    pub(super) filter: Option<Filter>,
    /// Kill the child when the parent dies.
    pub(super) with_parent: bool,
    /// The child does not share the parent's memory. To be set where programs of the node may trace
    /// the child (`CAP_SYS_PTRACE`) and the parent is none of the node's processes.
    pub(super) apart: bool,
    /// Control groups that the child joins and the parent does not.
    pub(super) cgroups: Groups,
}

/// Which session the child is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    /// The parent's, and its process group.
    Parents,
    /// One of its own, without a terminal.
    Own,
    /// One of its own that standard input is the terminal of.
    Terminal,
}

impl Launch {
    /// Prepares `argv` for `user` with at most `capabilities`. `env` holds `KEY=value` pairs, the
    /// last one of a key counts; PATH and HOME get defaults. To be called with the node's root
    /// as `/`.
    pub(super) fn new(
        argv: &[String],
        env: &[(String, String)],
        cwd: &Path,
        user: User,
        capabilities: CapabilitySet,
    ) -> Result<Self, Error> {
        let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
            return Err(Error::NoProgram);
        };
        let env = environment(env, &user.home);
        let path = env
            .iter()
            .find(|(key, _)| *key == "PATH")
            .map_or(DEFAULT_PATH, |(_, v)| *v);
        let programs = candidates(program, path)
            .into_iter()
            .map(|candidate| text("the program", &candidate))
            .collect::<Result<_, _>>()?;
        let pairs = env
            .iter()
            .map(|(key, value)| text("the environment", &format!("{key}={value}")));
        let cwd = if cwd.as_os_str().is_empty() {
            OsStr::new("/")
        } else {
            cwd.as_os_str()
        };
        Ok(Self {
            programs,
            argv: argv
                .iter()
                .map(|arg| text("an argument", arg))
                .collect::<Result<_, _>>()?,
            env: pairs.collect::<Result<_, _>>()?,
            cwd: CString::new(cwd.as_bytes())
                .map_err(|_| nul("the working directory", &cwd.to_string_lossy()))?,
            groups: user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect(),
            // Leaving user 0 empties the sets; asking for more then would fail.
            capabilities: if user.uid == 0 {
                capabilities
            } else {
                CapabilitySet::empty()
            },
            user,
            stdio: None,
            session: Session::Parents,
            filter: None,
            springboard: Springboard::new()
                .map_err(Error::system("prepare the start of programs"))?,
            with_parent: false,
            apart: false,
            cgroups: Groups::default(),
        })
    }

    /// The working directory, for messages.
    pub(super) fn cwd(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(self.cwd.as_bytes()))
    }

    /// Whether one of the places where the program may be has a file.
    pub(super) fn program_exists(&self) -> bool {
        self.programs
            .iter()
            .any(|program| Path::new(OsStr::from_bytes(program.as_bytes())).exists())
    }

    /// Starts it. Returns when the child runs its program or has failed to.
    ///
    /// The child starts with an empty signal mask and SIGPIPE as by default.
    pub(super) fn start(&self) -> Result<Pid, StartError> {
        // As the springboard takes them.
        let argv: Vec<*const c_char> = (self.programs.iter().map(|place| place.as_ptr()))
            .chain([c"".as_ptr()])
            .chain(self.argv.iter().map(|arg| arg.as_ptr()))
            .chain([ptr::null()])
            .collect();
        let env = pointers(&self.env);
        let parent = if self.with_parent {
            let own = rustix::process::getpid();
            let fd = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty())
                .map_err(|error| StartError::Clone(error.into()))?;
            Some(fd)
        } else {
            None
        };
        let (report, report_in) = io::pipe().map_err(StartError::Clone)?;
        // Above the numbers that the child gives.
        let report_in = rustix::io::fcntl_dupfd_cloexec(report_in, SPRINGBOARD + 1)
            .map_err(|error| StartError::Clone(error.into()))?;
        let mut failure = None;
        let mut body = || {
            // SAFETY: `argv` and `env` are arrays of C strings that end with NULL and outlive the
            // child, in which this runs.
            let failed = unsafe {
                self.become_program(
                    &argv,
                    &env,
                    parent.as_ref().map(AsFd::as_fd),
                    report_in.as_fd(),
                )
            };
            failure = Some(failed);
            if self.apart {
                let _ = rustix::io::write(&report_in, &told(failed));
            }
            127
        };
        let memory = if self.apart { 0 } else { libc::CLONE_VM };
        // SAFETY: `body` only makes system calls and writes to variables of this frame.
        let pid =
            unsafe { vfork(libc::SIGCHLD | memory, None, &mut body) }.map_err(StartError::Clone)?;
        drop(report_in);
        let failure = failure.or_else(|| reported(report));
        match failure {
            None => Ok(pid),
            Some(failure) => {
                // It has ended; an error would mean that someone else reaped it.
                let _ = nix::sys::wait::waitpid(pid, None);
                Err(StartError::Child(failure))
            }
        }
    }

    /// Runs in the child. Returns only what failed.
    ///
    /// # Safety
    /// The arrays hold pointers to C strings and end with NULL.
    unsafe fn become_program(
        &self,
        argv: &[*const c_char],
        env: &[*const c_char],
        parent: Option<BorrowedFd>,
        report: BorrowedFd,
    ) -> Failure {
        if let Err(failure) = self.prepare(parent, report) {
            return failure;
        }
        // SAFETY: as this function's own condition; `prepare` opened it.
        unsafe { execute(BorrowedFd::borrow_raw(SPRINGBOARD), argv, env) };
        Failure::new(Step::Prepare("start a program"))(last_errno())
    }

    fn prepare(&self, parent: Option<BorrowedFd>, report: BorrowedFd) -> Result<(), Failure> {
        use Step::Prepare;

        self.cgroups
            .join()
            .map_err(Failure::new(Prepare("join the control groups")))?;
        if self.session != Session::Parents {
            rustix::process::setsid().map_err(Failure::new(Prepare("start a session")))?;
        }
        if let Some(stdio) = &self.stdio {
            for (number, fd) in (0..).zip(stdio) {
                dup_to(fd.as_fd(), number).map_err(Failure::new(Prepare("redirect a stream")))?;
            }
        }
        if self.session == Session::Terminal {
            // SAFETY: 0 was just opened above and stays open.
            let stdin = unsafe { BorrowedFd::borrow_raw(0) };
            rustix::process::ioctl_tiocsctty(stdin)
                .map_err(Failure::new(Prepare("take the terminal")))?;
        }
        // Straight system calls, for this thread alone; there is no other.
        rustix::thread::set_thread_groups(&self.groups)
            .map_err(Failure::new(Prepare("set the groups")))?;
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)
            .map_err(Failure::new(Prepare("set the group")))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
            .map_err(Failure::new(Prepare("set the user")))?;
        credentials::limit(self.capabilities)
            .map_err(Failure::new(Prepare("set the capabilities")))?;
        if let Some(parent) = parent {
            // After the change of user, which resets it.
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(Failure::new(Prepare("follow the parent")))?;
            // The parent may have died just before; its number tells nothing in another PID
            // namespace.
            let mut ended = [PollFd::new(parent, PollFlags::POLLIN)];
            if poll(&mut ended, PollTimeout::ZERO) == Ok(1) {
                return Err(Failure {
                    step: Prepare("follow the parent"),
                    errno: libc::ESRCH,
                });
            }
        }
        // Before the change of folder: what a caller left open, a folder of the host's maybe, has the
        // name /proc/self/fd/N until it is closed (CVE-2024-21626). The springboard closes both.
        dup_to(report, REPORT)
            .and_then(|()| dup_to(self.springboard.as_fd(), SPRINGBOARD))
            .and_then(|()| close_from(SPRINGBOARD + 1, 0))
            .map_err(Failure::new(Prepare("close files")))?;
        rustix::process::chdir(self.cwd.as_c_str()).map_err(Failure::new(Step::Cwd))?;
        if !raw::is_inside() {
            return Err(Failure {
                step: Step::Cwd,
                errno: libc::EXDEV,
            });
        }
        // SAFETY: signal dispositions and mask of the child only, which it does not share.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        }
        // Last, so that nothing of the above has to be allowed.
        if let Some(filter) = &self.filter {
            filter
                .install()
                .map_err(Failure::new(Prepare("filter system calls")))?;
        }
        Ok(())
    }
}

/// Length of an error number: all that the springboard reports.
const ERRNO: usize = size_of::<i32>();

/// A failure of a child that is apart, for its report. Whoever traces the child can write anything
/// there, so there are no addresses in it, and what was tried is lost.
fn told(failure: Failure) -> [u8; ERRNO + 1] {
    let mut message = [0; ERRNO + 1];
    message[..ERRNO].copy_from_slice(&failure.errno.to_ne_bytes());
    message[ERRNO] = u8::from(failure.step == Step::Cwd);
    message
}

/// What the child reported, if it did.
fn reported(report: io::PipeReader) -> Option<Failure> {
    let mut message = Vec::new();
    // Its end without a word means that the program runs.
    report.take(64).read_to_end(&mut message).ok()?;
    let (errno, rest) = message.split_first_chunk::<ERRNO>()?;
    Some(Failure {
        step: match rest {
            [] => Step::Exec,
            [1] => Step::Cwd,
            _ => Step::Prepare("prepare a command"),
        },
        errno: i32::from_ne_bytes(*errno),
    })
}

/// The environment with each key once, and PATH and HOME in any case.
fn environment<'a>(env: &'a [(String, String)], home: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut all: Vec<(&str, &str)> = Vec::with_capacity(env.len() + 2);
    let given = env
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in [("PATH", DEFAULT_PATH), ("HOME", home)]
        .into_iter()
        .chain(given)
    {
        match all.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = value,
            None => all.push((key, value)),
        }
    }
    all
}

/// Where `program` may be (execvp(3)).
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    path.split(':')
        .map(|folder| if folder.is_empty() { "." } else { folder })
        .map(|folder| format!("{}/{program}", folder.trim_end_matches('/')))
        .collect()
}

pub(super) fn text(what: &'static str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| nul(what, text))
}

fn nul(what: &'static str, text: &str) -> Error {
    Error::Nul {
        what,
        text: text.replace('\0', "\\0"),
    }
}

/// Pointers to each, and NULL.
pub(super) fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([ptr::null()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn the_last_value_of_a_key_counts_and_path_and_home_are_there() {
        let env = [pair("A", "1"), pair("PATH", "/x"), pair("A", "2")];
        assert_eq!(
            environment(&env, "/root"),
            [("PATH", "/x"), ("HOME", "/root"), ("A", "2")]
        );
        assert_eq!(
            environment(&[], "/"),
            [("PATH", DEFAULT_PATH), ("HOME", "/")]
        );
    }

    #[test]
    fn programs_are_looked_for_as_execvp_does() {
        assert_eq!(
            candidates("ls", "/a:/b/::"),
            ["/a/ls", "/b/ls", "./ls", "./ls"]
        );
        assert_eq!(candidates("./ls", "/a"), ["./ls"]);
    }

    #[test]
    fn a_nul_byte_is_refused_by_name() {
        let user = || User::lookup("0:0").unwrap();
        let launch = |argv: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|&s| s.to_owned()).collect();
            Launch::new(&argv, &[], Path::new(""), user(), CapabilitySet::empty())
                .err()
                .map(|e| e.to_string())
        };
        assert_eq!(launch(&["true"]), None);
        assert_eq!(
            launch(&["echo", "a\0b"]).unwrap(),
            "an argument `a\\0b` holds a NUL byte; remove it"
        );
        assert_eq!(
            launch(&[]).unwrap(),
            "the main process has an empty command; give a program"
        );
    }
}
