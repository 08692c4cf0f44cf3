//! Standard output of a command that goes on until somebody has had enough: the user, whoever reads
//! the pipe, or the lab.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// So much can be written to a pipe that poll(2) calls writable without waiting: there is a free
/// page (`pipe_poll` in fs/pipe.c).
const PAGE: usize = 4096;

/// Why [`Out::wait`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The time is over.
    Time,
    /// The process that was watched has ended.
    Ended,
    /// ^C, or nobody reads any more.
    Enough,
}

/// Standard output. A reader that is slow can be waited for and interrupted all the same; an error
/// of the kind [`io::ErrorKind::BrokenPipe`] means that nobody wants any more.
#[derive(Debug)]
pub(super) struct Out {
    signals: SignalFd,
    enough: bool,
}

impl Out {
    /// Takes SIGINT, SIGTERM and SIGHUP from this thread, so that they end nothing in the middle.
    pub(super) fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            signals: SignalFd::with_flags(&set, flags)?,
            enough: false,
        })
    }

    /// Waits for so long, or until there is a reason not to. `watched` is a pidfd.
    pub(super) fn wait(&mut self, time: Duration, watched: Option<&OwnedFd>) -> io::Result<Woken> {
        let out = io::stdout();
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(out.as_fd(), PollFlags::empty()),
        ];
        fds.extend(watched.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => return Ok(Woken::Time),
            other => other?,
        };
        let happened = |n: usize| fds.get(n).and_then(PollFd::any).unwrap_or(false);
        if happened(0) || happened(1) || self.enough {
            Ok(Woken::Enough)
        } else if happened(2) {
            Ok(Woken::Ended)
        } else {
            Ok(Woken::Time)
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let out = io::stdout();
            let mut fds = [
                PollFd::new(out.as_fd(), PollFlags::POLLOUT),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            // Once it is enough, what can be written at once still is: no half records.
            let timeout = if self.enough {
                PollTimeout::ZERO
            } else {
                PollTimeout::NONE
            };
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let state = fds[0].revents().unwrap_or(PollFlags::empty());
            if state.contains(PollFlags::POLLOUT) {
                return match nix::unistd::write(&out, &bytes[..bytes.len().min(PAGE)]) {
                    Err(Errno::EINTR) => continue,
                    other => Ok(other?),
                };
            }
            if self.enough || state.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.enough = fds[1].any() == Some(true);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
