//! Several captures as one stream, in the order of time.

use std::{io, path::Path};

use super::tail::{Frame, Start, Tail};

/// Captures that are followed together.
///
/// A frame is given once no other capture can still bring an earlier one: all have been read up to
/// a time `window` later. Frames take a few milliseconds from the interface into the file; one that
/// takes longer than the window comes late, out of order, and is counted.
#[derive(Debug)]
pub struct Follow {
    sources: Vec<Source>,
    window_ns: u64,
    last_ns: u64,
    late: u64,
}

#[derive(Debug)]
struct Source {
    tail: Tail,
    head: Head,
}

/// What is known of a capture's next frame.
#[derive(Debug, Clone, Copy)]
enum Head {
    /// It passed at this time.
    At(u64),
    /// There was none when the clock showed this.
    NoneAt(u64),
}

/// What [`Follow::step`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The next frame is of this capture; [`Follow::frame`] gives it.
    Frame(usize),
    /// None so far; ask again in a while.
    Wait,
}

impl Follow {
    /// Captures by their current files, which need not be there yet.
    pub fn new<'a>(
        files: impl IntoIterator<Item = &'a Path>,
        start: Start,
        window: std::time::Duration,
    ) -> Self {
        let sources: Vec<_> = files
            .into_iter()
            .map(|file| Source {
                tail: Tail::new(file, start),
                head: Head::NoneAt(0),
            })
            .collect();
        Self {
            // One alone is in order as it is.
            window_ns: if sources.len() > 1 {
                window.as_nanos() as u64
            } else {
                0
            },
            sources,
            last_ns: 0,
            late: 0,
        }
    }

    /// Looks again for frames where there were none. `now_ns` is the time in nanoseconds since 1970,
    /// read before the call.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of nslab's.
    pub fn refresh(&mut self, now_ns: u64) -> io::Result<()> {
        for source in &mut self.sources {
            if let Head::NoneAt(_) = source.head {
                source.look(now_ns)?;
            }
        }
        Ok(())
    }

    /// Which frame is next. With `all`, whatever there is, because nothing will come any more.
    pub fn step(&self, all: bool) -> Step {
        let mut first = None;
        let mut complete = u64::MAX;
        for (n, source) in self.sources.iter().enumerate() {
            match source.head {
                Head::At(time) if first.is_none_or(|(_, least)| time < least) => {
                    first = Some((n, time));
                }
                Head::At(_) => {}
                Head::NoneAt(time) => complete = complete.min(time.saturating_sub(self.window_ns)),
            }
        }
        let Some((n, time)) = first else {
            return Step::Wait;
        };
        // Of the future: the clock was set back since, and waiting for it would take too long.
        let strange = time > complete.saturating_add(2 * self.window_ns);
        if all || self.window_ns == 0 || time <= complete || strange {
            Step::Frame(n)
        } else {
            Step::Wait
        }
    }

    /// The frame that [`Follow::step`] spoke of.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn frame(&mut self, n: usize) -> io::Result<Option<Frame<'_>>> {
        let frame = self.sources[n].tail.peek()?;
        if let Some(frame) = &frame {
            self.late += u64::from(frame.time_ns < self.last_ns);
            self.last_ns = self.last_ns.max(frame.time_ns);
        }
        Ok(frame)
    }

    /// Goes past that frame. `now_ns` as for [`Follow::refresh`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn advance(&mut self, n: usize, now_ns: u64) -> io::Result<()> {
        let source = &mut self.sources[n];
        source.tail.advance();
        source.look(now_ns)
    }

    /// The link type and the snapshot length of a capture, once its file is there.
    pub fn kind(&self, n: usize) -> Option<(u32, u32)> {
        self.sources[n].tail.kind()
    }

    /// How many files of a capture were deleted before they could be read, since last asked.
    pub fn missed(&mut self, n: usize) -> u32 {
        self.sources[n].tail.missed()
    }

    /// Frames that were given after a later one.
    pub fn late(&self) -> u64 {
        self.late
    }
}

impl Source {
    fn look(&mut self, now_ns: u64) -> io::Result<()> {
        self.head = match self.tail.peek()? {
            Some(frame) => Head::At(frame.time_ns),
            None => Head::NoneAt(now_ns),
        };
        Ok(())
    }
}
