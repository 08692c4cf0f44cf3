//! The supervisor's side: starts the init of a node.

use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, ptr};

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::PidfdFlags;
use rustix::thread::LinkNameSpaceType;

use super::child::{pointers, text};
use super::groups::Groups;
use super::init::{FIRST_FREE_FD, INIT_ARGV0, SPEC_FD, STATUS_FD};
use super::raw::{self, vfork};
use super::{Error, InitSpec, view};

/// A running init. Dropping it closes the descriptors and leaves the process alone.
#[derive(Debug)]
pub struct Init {
    /// Its pid here, where it was spawned; inside the node it is 1.
    pub pid: Pid,
    /// When it was started, in clock ticks since boot (proc_pid_stat(5), field 22): with the pid it
    /// names the process for good.
    pub start_time: u64,
    /// Refers to the process; readable when it has ended (pidfd_open(2)).
    pub pidfd: OwnedFd,
    /// Read end of a pipe with [`InitEvent`](super::InitEvent)s, one JSON object a line. An end of
    /// file means that the init has ended.
    pub status: OwnedFd,
    /// Read end of the pipe that is standard output and standard error of the main process.
    pub output: OwnedFd,
}

impl Init {
    /// Sends a signal to the init: SIGTERM stops the node in good order, SIGKILL at once. An init
    /// that has ended is not an error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = rustix::process::Signal::from_named_raw(signal as i32)
            .ok_or(rustix::io::Errno::INVAL)?;
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The pid here of a child of the init whose pid in the node is `inner`, as
    /// [`InitEvent::Started`](super::InitEvent::Started) tells it. `None` when it has ended.
    pub fn host_pid(&self, inner: i32) -> Option<Pid> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        fs::read_to_string(children)
            .ok()?
            .split_ascii_whitespace()
            .find_map(|child| {
                let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
                let pids = status
                    .lines()
                    .find_map(|line| line.strip_prefix("NSpid:"))?;
                let last: i32 = pids.split_ascii_whitespace().last()?.parse().ok()?;
                if last == inner {
                    child.parse().ok().map(Pid::from_raw)
                } else {
                    None
                }
            })
    }
}

/// What [`spawn_with`] can be told.
#[derive(Debug, Clone, Default)]
pub struct SpawnOptions {
    /// The nslab binary, when that is not the running program: tests live in another one.
    pub exe: Option<PathBuf>,
    /// Where inits start from instead of the caller's mount namespace.
    pub mounts: Option<Arc<MountTemplate>>,
}

/// A mount namespace for inits to start from: the caller's mounts as they are now.
///
/// An init copies all mounts that it starts from. Where each node pins a namespace by a mount, the
/// thousandth init would copy a thousand of them (15 ms, measured); a template from before the first
/// pin keeps each copy as small as the first. Take it after mounting what overlays are to be on.
#[derive(Debug)]
pub struct MountTemplate(OwnedFd);

impl MountTemplate {
    /// Copies the mounts of the calling process, cut off from it.
    pub fn new() -> Result<Self, Error> {
        // On a thread of its own: unshare(2) changes the thread that calls it.
        let made = std::thread::spawn(|| -> io::Result<OwnedFd> {
            let flags = CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS;
            nix::sched::unshare(flags)?;
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change(c"/", private)?;
            let path = c"/proc/thread-self/ns/mnt";
            Ok(rustix::fs::open(
                path,
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
        });
        let fd = made
            .join()
            .unwrap_or_else(|_| Err(rustix::io::Errno::CANCELED.into()));
        Ok(Self(fd.map_err(Error::system(
            "make a mount namespace for inits to start from",
        ))?))
    }
}

/// Starts a node's init as a child of the calling process, in the network namespace `netns` and new
/// PID, mount, UTS and IPC namespaces. Returns as soon as the init's program runs; wait for
/// [`InitEvent::Up`](super::InitEvent::Up) on `status` before entering the node.
///
/// The init dies with the **thread** that called this (`PR_SET_PDEATHSIG`, prctl(2)): call it from
/// one that lives as long as the lab. The caller has to reap the init.
pub fn spawn(spec: &InitSpec, netns: BorrowedFd) -> Result<Init, Error> {
    spawn_with(spec, netns, &SpawnOptions::default())
}

/// As [`spawn`], with options.
pub fn spawn_with(
    spec: &InitSpec,
    netns: BorrowedFd,
    options: &SpawnOptions,
) -> Result<Init, Error> {
    let failed = |action| {
        let node = spec.hostname.clone();
        move |source: io::Error| Error::Spawn {
            action,
            node,
            source,
        }
    };
    let json = serde_json::to_vec(spec).map_err(|source| Error::Spec {
        action: "written",
        source,
    })?;
    let spec_file = spec_file(&json).map_err(failed("pass on the description"))?;
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed("open /dev/null")(e.into()))?;
    let (status, status_in) = io::pipe().map_err(failed("make a pipe"))?;
    let (output, output_in) = io::pipe().map_err(failed("make a pipe"))?;
    let (status_in, output_in) = (OwnedFd::from(status_in), OwnedFd::from(output_in));

    let seen = failed("make a read-only view of nslab");
    let other;
    let exe = match &options.exe {
        Some(path) => {
            let path = CString::new(path.as_os_str().as_bytes())
                .map_err(|_| failed("execute nslab")(rustix::io::Errno::INVAL.into()))?;
            other = view::of(&path).map_err(seen)?;
            &other
        }
        None => view::own().map_err(seen)?,
    };
    let argv = [
        CString::from(INIT_ARGV0_C),
        text("the node's name", &spec.hostname)?,
    ];
    let argv = pointers(&argv);
    // The supervisor's environment is none of the node's business.
    let env = [ptr::null()];

    // Sources must lie above the numbers that they are copied to.
    let above = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE_FD);
    let sources = [&null, &output_in, &output_in, &spec_file, &status_in];
    let mut fds = Vec::with_capacity(sources.len());
    for source in sources {
        fds.push(above(source).map_err(|e| failed("prepare its files")(e.into()))?);
    }
    const { assert!(SPEC_FD == 3 && STATUS_FD == 4 && FIRST_FREE_FD == 5) };

    let cgroups = groups_of(spec)?;
    let mut failure: Option<(&'static str, rustix::io::Errno)> = None;
    let mut body = || {
        let done = || -> Result<(), (&'static str, rustix::io::Errno)> {
            let kill = Some(rustix::process::Signal::KILL);
            rustix::process::set_parent_process_death_signal(kill)
                .map_err(|e| ("tie init to its parent", e))?;
            cgroups
                .found()
                .map_err(|e| ("join its control groups", e))?;
            let network = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(netns, network)
                .map_err(|e| ("enter the network namespace", e))?;
            if let Some(template) = &options.mounts {
                let mount = Some(LinkNameSpaceType::Mount);
                rustix::thread::move_into_link_name_space(template.0.as_fd(), mount)
                    .map_err(|e| ("enter the prepared mount namespace", e))?;
                // SAFETY: libc::unshare(2) takes a number; this child shares no filesystem state.
                if unsafe { libc::unshare(libc::CLONE_NEWNS) } < 0 {
                    return Err(("make a mount namespace", raw::last_errno()));
                }
            }
            rustix::process::setsid().map_err(|e| ("start a session", e))?;
            for (number, fd) in (0..).zip(&fds) {
                raw::dup_to(fd.as_fd(), number).map_err(|e| ("pass on files", e))?;
            }
            raw::close_from(FIRST_FREE_FD, libc::CLOSE_RANGE_CLOEXEC)
                .map_err(|e| ("close files", e))
        };
        if let Err(error) = done() {
            failure = Some(error);
            return 1;
        }
        // SAFETY: C strings and arrays that end with NULL, prepared above.
        unsafe { raw::execute(exe.as_fd(), &argv, &env) };
        failure = Some(("execute nslab", raw::last_errno()));
        1
    };
    let mut flags = libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::SIGCHLD;
    flags |= libc::CLONE_VM;
    if options.mounts.is_none() {
        flags |= libc::CLONE_NEWNS;
    }
    let mut pidfd = -1;
    // SAFETY: `body` keeps to system calls and to `failure`.
    let pid = unsafe { vfork(flags, Some(&mut pidfd), &mut body) }.map_err(failed("clone init"))?;
    // SAFETY: clone just opened it for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if let Some((action, error)) = failure {
        // It has ended; an error would mean that someone else reaped it.
        let _ = nix::sys::wait::waitpid(pid, None);
        return Err(failed(action)(error.into()));
    }
    // Not reaped yet, so that the number is still its.
    let start_time = start_time(pid.as_raw()).map_err(failed("read the start time of init"))?;
    Ok(Init {
        pid,
        start_time,
        pidfd,
        status: status.into(),
        output: output.into(),
    })
}

fn groups_of(spec: &InitSpec) -> Result<Groups, Error> {
    Groups::open(&spec.cgroups).map_err(|(folder, source)| Error::Group {
        folder,
        node: spec.hostname.clone(),
        source,
    })
}

const INIT_ARGV0_C: &std::ffi::CStr = c"nslab-init";
const _: () = assert!(INIT_ARGV0_C.count_bytes() == INIT_ARGV0.len());

fn spec_file(json: &[u8]) -> io::Result<OwnedFd> {
    let mut file = fs::File::from(rustix::fs::memfd_create("nslab-spec", MemfdFlags::CLOEXEC)?);
    file.write_all(json)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file.into())
}

/// A pidfd of process `pid` if it is the one that was started at `start_time`.
pub(super) fn open_pidfd(pid: i32, start_time: u64) -> io::Result<Option<OwnedFd>> {
    let Some(number) = rustix::process::Pid::from_raw(pid) else {
        return Ok(None);
    };
    // First the reference, then the check: what is checked cannot be replaced any more.
    match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
        Ok(fd) => Ok(self::start_time(pid)
            .is_ok_and(|found| found == start_time)
            .then_some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Field 22 of /proc/PID/stat.
fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    // The name in field 2 may hold blanks and brackets.
    let after_name = stat
        .iter()
        .rposition(|&byte| byte == b')')
        .map_or(0, |at| at + 1);
    String::from_utf8_lossy(&stat[after_name..])
        .split_ascii_whitespace()
        .nth(22 - 3)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start_time() {
        let pid = std::process::id().cast_signed();
        let time = start_time(pid).unwrap();
        assert!(open_pidfd(pid, time).unwrap().is_some());
        assert!(open_pidfd(pid, time + 1).unwrap().is_none());
        assert!(open_pidfd(0, time).unwrap().is_none());
    }
}
