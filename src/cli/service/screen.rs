//! A screen that is written over again and again, as watch(1) does: the terminal's alternate one, so
//! that what was there before comes back at the end, however it comes.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::super::{Failure, Result, print_on};

/// Alternate screen on, cursor off (xterm's control sequences, DEC private modes 1049 and 25).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Cursor on, alternate screen off.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left; behind each line, and behind the last, what was there is wiped.
const HOME: &str = "\x1b[H";
const WIPE_LINE: &str = "\x1b[K";
const WIPE_REST: &str = "\x1b[J";

/// See the module.
pub(super) struct Screen {
    full: bool,
    signals: SignalFd,
}

impl Screen {
    /// Takes the screen if `full`; else what is shown is printed one below the other.
    pub(super) fn new(full: bool) -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGWINCH,
        ] {
            set.add(signal);
        }
        let signals = set
            .thread_block()
            .and_then(|()| {
                SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            })
            .map_err(|e| Failure::lab(format!("cannot wait for signals: {e}")))?;
        let full = full && std::io::stdout().is_terminal();
        if full {
            print_on(ENTER)?;
        }
        Ok(Self { full, signals })
    }

    /// Whether it is a screen and not a stream.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Shows text in the place of what is there. False if nobody reads any more.
    pub(super) fn show(&self, text: &str) -> Result<bool> {
        if !self.full {
            return print_on(text);
        }
        let (rows, columns) = size();
        print_on(&format!("{HOME}{}{WIPE_REST}", fit(text, rows, columns)))
    }

    /// Waits; false if a signal ends it. A terminal of another size ends the wait early.
    pub(super) fn pause(&self, time: Duration) -> Result<bool> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(true),
                Ok(_) => match self.signals.read_signal() {
                    Ok(Some(info)) => {
                        let resized = info.ssi_signo.cast_signed() == Signal::SIGWINCH as i32;
                        return Ok(resized);
                    }
                    Ok(None) => {}
                    Err(e) => return Err(Failure::lab(format!("cannot wait for signals: {e}"))),
                },
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(Failure::lab(format!("cannot wait: {e}"))),
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.full {
            let mut out = std::io::stdout();
            let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// Rows and columns of the terminal.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.map_or((24, 80), |s| (s.ws_row.into(), s.ws_col.into()))
}

/// Cuts text to a screen; what does not fit is told in the last line.
fn fit(text: &str, rows: usize, columns: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let shown = if lines.len() < rows {
        lines.len()
    } else {
        rows.saturating_sub(2)
    };
    let mut out = String::new();
    for line in &lines[..shown] {
        out.extend(line.chars().take(columns));
        out.push_str(WIPE_LINE);
        out.push_str("\r\n");
    }
    if shown < lines.len() {
        let more = format!("({} more lines)", lines.len() - shown);
        out.extend(more.chars().take(columns));
        out.push_str(WIPE_LINE);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_and_told() {
        let plain = |text: &str| text.replace(WIPE_LINE, "").replace("\r\n", "|");
        assert_eq!(plain(&fit("abc\ndef\n", 24, 80)), "abc|def|");
        assert_eq!(plain(&fit("abcdef\nd\n", 24, 4)), "abcd|d|");
        assert_eq!(plain(&fit("1\n2\n3\n4\n", 4, 80)), "1|2|(2 more lines)");
        assert_eq!(plain(&fit("1\n2\n3\n", 4, 80)), "1|2|3|");
    }
}
