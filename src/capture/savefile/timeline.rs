//! Many capture files as one stream of frames in the order of time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    net::IpAddr,
};

use super::{
    Error, Frame, Interface,
    direction::direction,
    series::{FileNote, Series, Source, Told},
};

/// Bytes that all sources together read ahead, and bounds for each. Reading ahead is what puts
/// frames into order that two processors put into a ring the wrong way round.
const AHEAD: usize = 64 << 20;
const MOST_AHEAD: usize = 512 << 10;
const LEAST_AHEAD: usize = 16 << 10;

/// Frames of many capture files, merged by their times. Those of one time come in the order of
/// their files, those of one file and one time in the file's.
///
/// It holds a few hundred KiB of each source and never a whole file.
#[derive(Debug)]
pub struct Timeline {
    sources: Vec<Source>,
    /// The time of each source's next frame.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    /// Whose frame was given last.
    given: Option<usize>,
    told: Told,
    seen: Vec<Seen>,
}

/// What has been seen of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its frames so far.
    pub frames: u64,
    /// When its first and its last one passed, in nanoseconds since 1970.
    pub span: Option<(u64, u64)>,
}

impl Timeline {
    /// Opens the first file of each series and reads ahead. What is no capture file is left out:
    /// see [`Timeline::left_out`].
    pub fn new(series: Vec<Series>) -> Self {
        let each = AHEAD / series.len().max(1);
        let (ahead, buffer) = (
            each.clamp(LEAST_AHEAD, MOST_AHEAD),
            (each / 2).clamp(LEAST_AHEAD, MOST_AHEAD),
        );
        let mut this = Self {
            sources: Vec::with_capacity(series.len()),
            heads: BinaryHeap::with_capacity(series.len()),
            given: None,
            told: Told::default(),
            seen: Vec::new(),
        };
        for (n, series) in series.into_iter().enumerate() {
            let mut source = Source::new(series, ahead, buffer);
            source.fill(&mut this.told);
            if let Some(head) = source.head() {
                this.heads.push(Reverse((head.time_ns, n)));
            }
            this.sources.push(source);
        }
        this
    }

    /// The next frame; its interface is an index into [`Timeline::interfaces`]. Its direction is
    /// the file's, or [`super::direction()`]'s where the file tells none.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        self.advance();
        self.frame()
    }

    /// Moves on to the next frame, and says whether there is one. For who has to look at
    /// [`Timeline::interfaces`] before he takes the frame.
    pub fn advance(&mut self) -> bool {
        if let Some(n) = self.given.take() {
            self.pass(n);
        }
        let Some(Reverse((time_ns, n))) = self.heads.peek().copied() else {
            return false;
        };
        self.given = Some(n);
        if let Some(kept) = self.sources[n].head() {
            if self.seen.len() <= kept.interface {
                self.seen.resize(kept.interface + 1, Seen::default());
            }
            let seen = &mut self.seen[kept.interface];
            seen.frames += 1;
            let (first, last) = seen.span.unwrap_or((time_ns, time_ns));
            seen.span = Some((first.min(time_ns), last.max(time_ns)));
        }
        true
    }

    /// The frame that [`Timeline::advance`] has moved on to.
    pub fn frame(&self) -> Option<Frame<'_>> {
        let source = &self.sources[self.given?];
        let kept = source.head()?;
        let captured = source.bytes(kept);
        let interface = &self.told.interfaces[kept.interface];
        Some(Frame {
            interface: kept.interface,
            time_ns: kept.time_ns,
            captured,
            wire_len: kept.wire_len,
            direction: kept
                .direction
                .or_else(|| direction(interface.link_type, interface.mac, captured)),
        })
    }

    /// Goes on in the source whose frame was given last, which is the one at the top.
    fn pass(&mut self, n: usize) {
        let source = &mut self.sources[n];
        source.advance();
        if source.head().is_none() {
            source.fill(&mut self.told);
        }
        let Some(mut top) = self.heads.peek_mut() else {
            return;
        };
        match source.head() {
            Some(head) => *top = Reverse((head.time_ns, n)),
            None => {
                PeekMut::pop(top);
            }
        }
    }

    /// The interfaces so far: those of all frames given are among them, each with a name of its
    /// own.
    pub fn interfaces(&self) -> &[Interface] {
        &self.told.interfaces
    }

    /// What was seen of an interface so far.
    pub fn seen(&self, interface: usize) -> Seen {
        self.seen.get(interface).copied().unwrap_or_default()
    }

    /// Names of addresses from the files that were read to their end.
    pub fn names(&self) -> &[(IpAddr, String)] {
        &self.told.names
    }

    /// What there is to say about the files that were read to their end.
    pub fn notes(&self) -> &[FileNote] {
        &self.told.notes
    }

    /// Files that could not be read, or not to their end, and why.
    pub fn left_out(&self) -> &[Error] {
        &self.told.left_out
    }
}
