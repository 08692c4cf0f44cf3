//! One interface's capture: its libpcap handle, its file and its counts.

use std::{io, sync::Mutex};

use pcap::{Active, Capture};

use super::{
    Error, Gap, Request, State, Stats,
    file::{self, Partial, Recording},
    lock,
    open::{self, Sniffer},
    socket,
};

/// How many frames are taken from the ring before they are written and another interface has its
/// turn. A batch of the largest frames is 16 MiB, one of full Ethernet frames 400 KiB.
const BATCH: usize = 256;

/// After so many errors of libpcap in a row its capture is given up.
const PATIENCE: u32 = 16;

/// One interface's capture.
#[derive(Debug)]
pub(super) struct Tap {
    request: Request,
    state: Mutex<Inner>,
}

struct Inner {
    capture: Option<Capture<Active>>,
    /// How many frames the ring holds.
    slots: usize,
    recording: Option<Recording>,
    state: State,
    gaps: Vec<Gap>,
    packets: u64,
    bytes: u64,
    /// Frames that the kernel dropped, and libpcap's 32-bit count of them when last asked.
    dropped: u64,
    dropped_raw: u32,
    /// Frames that the file could not take, and why the first could not.
    unwritten: u64,
    write_error: Option<io::Error>,
    read_error: Option<String>,
    /// Errors of libpcap since it last succeeded.
    failures: u32,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("state", &self.state)
            .field("packets", &self.packets)
            .finish_non_exhaustive()
    }
}

/// What a turn of reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// So many frames were taken from the ring; when fewer than a batch, it was empty then.
    Read(usize),
    /// Nothing will come any more.
    Over,
}

impl Tap {
    /// A capture and the file it goes to; without a file it will only be closed.
    pub(super) fn new(request: Request, sniffer: Sniffer, recording: Option<Recording>) -> Self {
        let inner = Inner {
            capture: Some(sniffer.capture),
            slots: sniffer.slots,
            recording,
            state: State::Running,
            gaps: Vec::new(),
            packets: 0,
            bytes: 0,
            dropped: 0,
            dropped_raw: 0,
            unwritten: 0,
            write_error: None,
            read_error: None,
            failures: 0,
        };
        Self {
            request,
            state: Mutex::new(inner),
        }
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    pub(super) fn state(&self) -> State {
        lock(&self.state).state
    }

    /// Does something with the handle while it is open.
    pub(super) fn with_capture<T>(&self, f: impl FnOnce(&Capture<Active>) -> T) -> Option<T> {
        lock(&self.state).capture.as_ref().map(f)
    }

    /// Takes what the ring has and writes it to the file; how much of the ring that was, in parts of
    /// 64, or none if nothing will come any more.
    pub(super) fn empty(&self, batch: &mut Vec<u8>) -> Option<usize> {
        let mut inner = lock(&self.state);
        let (frames, over) = inner.drain(batch);
        (!over).then(|| frames * 64 / inner.slots)
    }

    /// How many frames the ring holds.
    pub(super) fn slots(&self) -> usize {
        lock(&self.state).slots
    }

    /// Takes what a ring can hold, and no more: traffic may go on.
    pub(super) fn drain(&self, batch: &mut Vec<u8>) {
        lock(&self.state).drain(batch);
    }

    /// Says that reading has ended for a reason of the reader's own.
    pub(super) fn fail(&self, reason: String) {
        let mut inner = lock(&self.state);
        inner.read_error.get_or_insert(reason);
        inner.state = State::Ended;
    }

    /// Asks the kernel for its drops and looks whether the interface is still there.
    pub(super) fn settle(&self) {
        lock(&self.state).settle();
    }

    /// The counts so far.
    pub(super) fn stats(&self) -> Stats {
        let mut inner = lock(&self.state);
        inner.settle();
        let recording = inner.recording.as_ref();
        Stats {
            node: self.request.node.clone(),
            interface: self.request.interface.clone(),
            state: inner.state,
            packets: inner.packets,
            bytes: inner.bytes,
            dropped: inner.dropped,
            unwritten: inner.unwritten,
            deleted: recording.map_or(0, Recording::deleted),
            rotated: recording.map_or(0, Recording::rotated),
            gaps: inner.gaps.clone(),
            file: self.request.file.clone(),
            error: inner.error(),
        }
    }

    /// Removes the file.
    pub(super) fn discard(&self) {
        if let Some(recording) = lock(&self.state).recording.take() {
            recording.remove();
        }
    }

    /// Records what the kernel still holds, and gives the handle away, to be closed. The file stays
    /// for [`Tap::resume`].
    pub(super) fn pause(&self, now_ns: u64, batch: &mut Vec<u8>) -> Option<Capture<Active>> {
        let mut inner = lock(&self.state);
        inner.drain(batch);
        inner.settle();
        if inner.state == State::Running {
            inner.state = State::Stopped;
            inner.gaps.push(Gap {
                from_ns: now_ns,
                to_ns: None,
            });
        }
        inner.capture.take()
    }

    /// Goes on with a new handle, in the same file if that is still there.
    pub(super) fn resume(&self, now_ns: u64, sniffer: Sniffer) -> Result<(), Error> {
        let mut inner = lock(&self.state);
        if let Some(recording) = &mut inner.recording
            && let Err(source) = recording.resume()
        {
            return Err(Error::File {
                what: "go on with",
                path: self.request.file.clone(),
                source,
            });
        }
        if let Some(gap) = inner.gaps.last_mut() {
            gap.to_ns.get_or_insert(now_ns);
        }
        inner.capture = Some(sniffer.capture);
        inner.slots = sniffer.slots;
        inner.state = State::Running;
        inner.dropped_raw = 0;
        inner.failures = 0;
        inner.read_error = None;
        Ok(())
    }

    /// Gives the handle away, to be closed.
    pub(super) fn take(&self) -> Option<Capture<Active>> {
        lock(&self.state).capture.take()
    }
}

impl Inner {
    fn read(&mut self, batch: &mut Vec<u8>) -> Turn {
        let (Some(capture), Some(recording)) = (&mut self.capture, &mut self.recording) else {
            return Turn::Over;
        };
        batch.clear();
        let (mut frames, mut bytes) = (0, 0);
        let result = capture.dispatch(Some(BATCH), |packet| {
            file::record(batch, &packet);
            frames += 1;
            bytes += u64::from(packet.header.len);
        });
        if frames > 0 {
            match recording.append(batch) {
                Ok(()) => {
                    self.packets += frames as u64;
                    self.bytes += bytes;
                }
                Err(Partial {
                    frames: kept,
                    bytes,
                    error,
                }) => {
                    self.packets += kept;
                    self.bytes += bytes;
                    self.unwritten += frames as u64 - kept;
                    self.write_error.get_or_insert(error);
                }
            }
        }
        match result {
            Ok(_) => self.failures = 0,
            Err(error) => {
                self.failures += 1;
                if socket::gone(capture) {
                    self.settle();
                    return Turn::Over;
                }
                self.read_error = Some(open::reason(&error));
                if self.failures >= PATIENCE {
                    self.state = State::Ended;
                    return Turn::Over;
                }
            }
        }
        Turn::Read(frames)
    }

    /// Reads until the ring is empty, or as much as it can hold: traffic may go on. Gives the number
    /// of frames, and whether nothing will come any more.
    fn drain(&mut self, batch: &mut Vec<u8>) -> (usize, bool) {
        let mut all = 0;
        loop {
            match self.read(batch) {
                Turn::Over => return (all, true),
                Turn::Read(frames) => {
                    all += frames;
                    if frames < BATCH || all >= self.slots {
                        return (all, false);
                    }
                }
            }
        }
    }

    fn settle(&mut self) {
        let Some(capture) = &mut self.capture else {
            return;
        };
        if let Ok(stat) = capture.stats() {
            self.dropped += u64::from(stat.dropped.wrapping_sub(self.dropped_raw));
            self.dropped_raw = stat.dropped;
        }
        if socket::gone(capture) {
            self.read_error = Some("the interface was deleted; its capture ended there".into());
            self.state = State::Ended;
        }
    }

    fn error(&self) -> Option<String> {
        let write = self
            .write_error
            .as_ref()
            .map(|error| format!("{} frames could not be written: {error}", self.unwritten));
        match (write, &self.read_error) {
            (Some(write), Some(read)) => Some(format!("{write}; {read}")),
            (Some(only), None) => Some(only),
            (None, read) => read.clone(),
        }
    }
}
