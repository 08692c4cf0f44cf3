//! The terminal of `nslab exec`: a pseudoterminal of the node's own, relayed to the caller's.
//!
//! Taking it from the node's devpts instead of passing on the caller's makes `tty`, job control and
//! tmux work inside: the terminal has a name there and a session of its own.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::statfs::fstatfs;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};

use super::exec::{Tty, ended, forward};

/// `f_type` of devpts (linux/magic.h).
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
/// End of file on a terminal's input line (VEOF, ^D).
const END_OF_FILE: u8 = 4;
/// What `exec` ends with when the caller's terminal is gone: as if by SIGHUP.
const HUNG_UP: u8 = 128 + libc::SIGHUP as u8;
/// More than a pseudoterminal holds: what is read at most after the command has ended, as processes
/// that it left behind may go on writing.
const REST: usize = 256 * 1024;

/// The caller's side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    stdin_is_terminal: bool,
}

impl Outer {
    /// The caller's side, if the command is to have a terminal.
    pub(super) fn find(tty: Tty) -> Option<Self> {
        let stdin_is_terminal = io::stdin().is_terminal();
        let wanted = match tty {
            Tty::Auto => {
                stdin_is_terminal && io::stdout().is_terminal() && io::stderr().is_terminal()
            }
            Tty::Never => false,
            Tty::Always => true,
        };
        wanted.then_some(Self { stdin_is_terminal })
    }
}

/// Raw mode of the caller's terminal; dropping it restores what was, also while a panic unwinds.
struct Raw(Termios);

impl Raw {
    fn set() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let raw = Self(before);
        raw.again()?;
        Ok(raw)
    }

    fn again(&self) -> io::Result<()> {
        let mut raw = self.0.clone();
        cfmakeraw(&mut raw);
        Ok(tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; nobody is left to be told.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// A pseudoterminal in the node and the way to it.
pub(super) struct Relay {
    outer: Outer,
    /// The controlling end, not blocking.
    terminal: File,
    signals: SignalFd,
}

impl Relay {
    /// Opens a pseudoterminal of the node for user `uid`, to be called with the node's root as `/`.
    /// Also returns standard input, output and error for the command. `signals` are blocked and
    /// from here on fetched by the relay.
    pub(super) fn open(
        outer: Outer,
        uid: u32,
        signals: &SigSet,
    ) -> io::Result<(Self, [OwnedFd; 3])> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(c"/dev/pts/ptmx", flags, Mode::empty())?;
        // The node's root may have put anything there.
        if fstatfs(&terminal)?.filesystem_type().0 != DEVPTS_SUPER_MAGIC {
            return Err(io::Error::other(
                "/dev/pts is not a devpts filesystem any more",
            ));
        }
        let unlocked: libc::c_int = 0;
        let peer = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        // SAFETY: ioctl_tty(2): TIOCSPTLCK reads one int, TIOCGPTPEER takes flags and returns a
        // new descriptor, which nobody else owns.
        let inner = unsafe {
            if libc::ioctl(terminal.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = libc::ioctl(terminal.as_raw_fd(), libc::TIOCGPTPEER, peer.bits());
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        if uid != 0 {
            rustix::fs::fchown(&inner, Some(rustix::fs::Uid::from_raw(uid)), None)?;
        }
        let signals =
            SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let relay = Self {
            outer,
            terminal: terminal.into(),
            signals,
        };
        relay.resize();
        let streams = [inner.try_clone()?, inner.try_clone()?, inner];
        Ok((relay, streams))
    }

    /// Gives the node's terminal the size of the caller's; the kernel tells the command.
    fn resize(&self) {
        let size = window_size(io::stdin().as_fd())
            .or_else(|| window_size(io::stdout().as_fd()))
            .or_else(|| window_size(io::stderr().as_fd()))
            .unwrap_or(libc::winsize {
                ws_row: 24,
                ws_col: 80,
                ws_xpixel: 0,
                ws_ypixel: 0,
            });
        // SAFETY: reads the structure. A size that cannot be set is not worth failing for.
        let _ =
            unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }

    /// Relays until the command `child` has ended; its exit code.
    pub(super) fn run(mut self, child: Pid) -> io::Result<u8> {
        let raw = if self.outer.stdin_is_terminal {
            Some(Raw::set()?)
        } else {
            None
        };
        let mut typed: Vec<u8> = Vec::new();
        let mut last_typed = b'\n';
        let mut input_open = true;
        let mut nobody_inside = false;
        loop {
            // What was typed and not taken yet keeps us from reading more: both sides may be full,
            // and to wait for one of them would block the other.
            let stdin = io::stdin();
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::POLLIN, !nobody_inside);
            wanted.set(PollFlags::POLLOUT, !typed.is_empty());
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if !nobody_inside {
                fds.push(PollFd::new(self.terminal.as_fd(), wanted));
            }
            let input_at = fds.len();
            if input_open && typed.is_empty() {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            // A closed inner end shows as readable for ever; look again now and then, as the
            // command may open /dev/tty later.
            let timeout = if nobody_inside {
                PollTimeout::from(100u8)
            } else {
                PollTimeout::NONE
            };
            match poll(&mut fds, timeout) {
                Err(nix::errno::Errno::EINTR) | Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            nobody_inside = false;
            let ready = |at: usize| {
                fds.get(at)
                    .and_then(PollFd::revents)
                    .unwrap_or(PollFlags::empty())
            };
            let (signal, inside, input) = (ready(0), ready(1), ready(input_at));
            let input = input_at < fds.len() && !input.is_empty();
            let inside = if input_at > 1 {
                inside
            } else {
                PollFlags::empty()
            };

            if inside.contains(PollFlags::POLLOUT) {
                match self.terminal.write(&typed) {
                    Ok(count) => drop(typed.drain(..count)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => typed.clear(),
                }
            }
            if inside.intersects(PollFlags::POLLIN | PollFlags::POLLHUP) {
                match self.pass_output() {
                    Ok(Passed::Some(_) | Passed::Nothing) => {}
                    Ok(Passed::Closed) => nobody_inside = true,
                    Err(_) => return Ok(HUNG_UP),
                }
            }
            if input {
                let mut buffer = [0; 4096];
                match rustix::io::read(&stdin, &mut buffer) {
                    Ok(0) | Err(rustix::io::Errno::IO) if self.outer.stdin_is_terminal => {
                        return Ok(HUNG_UP);
                    }
                    Ok(0) => {
                        input_open = false;
                        // The first one only ends a line that was begun.
                        typed.extend((last_typed != b'\n').then_some(END_OF_FILE));
                        typed.push(END_OF_FILE);
                    }
                    Ok(count) => {
                        typed.extend_from_slice(&buffer[..count]);
                        last_typed = buffer[count - 1];
                    }
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                    Err(_) => input_open = false,
                }
            }
            if signal.contains(PollFlags::POLLIN)
                && let Some(code) = self.signal(child, raw.as_ref())?
            {
                self.pass_rest();
                return Ok(code);
            }
        }
    }

    /// Handles one signal; the command's exit code if it has ended.
    fn signal(&mut self, child: Pid, raw: Option<&Raw>) -> io::Result<Option<u8>> {
        let Some(info) = self.signals.read_signal()? else {
            return Ok(None);
        };
        match info.ssi_signo.cast_signed() {
            libc::SIGCHLD => return ended(child),
            libc::SIGWINCH => self.resize(),
            libc::SIGCONT => {
                // The shell put its own mode back while we were stopped.
                if let Some(raw) = raw {
                    raw.again()?;
                }
                self.resize();
            }
            number => forward(child, number),
        }
        Ok(None)
    }

    /// Passes on what is there. An error means that the caller's side is gone.
    fn pass_output(&mut self) -> io::Result<Passed> {
        let mut buffer = [0; 16 * 1024];
        match self.terminal.read(&mut buffer) {
            Ok(0) => Ok(Passed::Closed),
            Ok(count) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&buffer[..count])?;
                stdout.flush()?;
                Ok(Passed::Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Passed::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Passed::Nothing),
            // EIO: nobody has the inner end open.
            Err(_) => Ok(Passed::Closed),
        }
    }

    fn pass_rest(&mut self) {
        let mut total = 0;
        while let Ok(Passed::Some(count)) = self.pass_output() {
            total += count;
            if total > REST {
                break;
            }
        }
    }
}

/// What [`Relay::pass_output`] found.
enum Passed {
    Some(usize),
    Nothing,
    Closed,
}

fn window_size(fd: BorrowedFd) -> Option<libc::winsize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: fills in the structure (ioctl_tty(2)).
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_row > 0 && size.ws_col > 0).then_some(size)
}
