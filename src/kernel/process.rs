//! Processes by pid and start time: a pid alone may be somebody else's by now.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use super::Result;
use super::error::Context;

/// A process that can be told from a later one of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id in nslab's own pid namespace.
    pub pid: i32,
    /// Start time after boot in clock ticks: field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)).
    pub start_time: u64,
}

/// Start time of a process in clock ticks, if it is there.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold spaces and parentheses itself.
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

impl ProcessId {
    /// The calling process.
    pub fn current() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// The process that has this pid now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_time: start_time(pid)?,
        })
    }

    /// A descriptor of this very process; `None` if it is gone.
    pub fn open(self) -> Option<OwnedFd> {
        let fd = rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Asked after opening: what the descriptor names cannot change any more.
        (start_time(self.pid) == Some(self.start_time)).then_some(fd)
    }

    /// Whether it still runs (a zombie does not).
    pub fn is_alive(self) -> bool {
        self.open().is_some_and(|fd| !ended(&fd, Duration::ZERO))
    }

    /// Kills it and waits until it has ended, 5 s at most. One that is gone already is fine.
    ///
    /// # Errors
    /// It may not be signalled, or it does not end.
    pub fn kill(self) -> Result<()> {
        let Some(fd) = self.open() else { return Ok(()) };
        match rustix::process::pidfd_send_signal(&fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(e).op(|| format!("kill process {}", self.pid)),
        }
        if ended(&fd, Duration::from_secs(5)) {
            Ok(())
        } else {
            Err(nix::errno::Errno::ETIMEDOUT).op(|| format!("wait for process {} to end", self.pid))
        }
    }
}

/// A pidfd to wait for in a tokio task: it becomes readable when its process has ended
/// (pidfd_open(2)).
pub fn watch(pidfd: &OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    let what = || "watch a process".to_owned();
    let fd = pidfd.try_clone().op(what)?;
    // SAFETY: an OwnedFd names one open descriptor for as long as it lives, and the AsyncFd owns it.
    unsafe { AsyncFd::register(fd) }
        .map_err(|e| e.into_parts().1)
        .op(what)
}

/// Waits until the process behind a pidfd has ended; says whether it has.
pub fn ended(pidfd: &OwnedFd, patience: Duration) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    matches!(nix::poll::poll(&mut fds, timeout), Ok(n) if n > 0)
}
