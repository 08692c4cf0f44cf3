//! One interface's capture: its libpcap handle, its file and its counts.

use std::{io, sync::Mutex};

use pcap::{Active, Capture};

use super::{
    Request, Stats,
    file::{self, Partial, Recording},
    lock, open, socket,
};

/// How many frames are taken from the ring before they are written and another interface has its
/// turn. A batch of the largest frames is 16 MiB, one of full Ethernet frames 400 KiB.
pub(super) const BATCH: usize = 256;

/// After so many errors of libpcap in a row its capture is given up.
const PATIENCE: u32 = 16;

/// One interface's capture.
#[derive(Debug)]
pub(super) struct Tap {
    request: Request,
    state: Mutex<State>,
}

struct State {
    capture: Option<Capture<Active>>,
    recording: Option<Recording>,
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

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("packets", &self.packets)
            .finish_non_exhaustive()
    }
}

/// What a turn of reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// So many frames were taken from the ring; when fewer than a batch, it was empty then.
    Read(usize),
    /// Nothing will come any more.
    Over,
}

impl Tap {
    /// A capture and the file it goes to; without a file it will only be closed.
    pub(super) fn new(
        request: Request,
        capture: Capture<Active>,
        recording: Option<Recording>,
    ) -> Self {
        let state = State {
            capture: Some(capture),
            recording,
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
            state: Mutex::new(state),
        }
    }

    /// Does something with the handle while it is open.
    pub(super) fn with_capture<T>(&self, f: impl FnOnce(&Capture<Active>) -> T) -> Option<T> {
        lock(&self.state).capture.as_ref().map(f)
    }

    /// Takes what the ring has, up to a batch, and writes it to the file.
    pub(super) fn read(&self, batch: &mut Vec<u8>) -> Turn {
        lock(&self.state).read(batch)
    }

    /// Says that reading has ended for a reason of the reader's own.
    pub(super) fn fail(&self, reason: String) {
        lock(&self.state).read_error.get_or_insert(reason);
    }

    /// Asks the kernel for its drops and looks whether the interface is still there.
    pub(super) fn settle(&self) {
        lock(&self.state).settle();
    }

    /// The counts so far.
    pub(super) fn stats(&self) -> Stats {
        let mut state = lock(&self.state);
        state.settle();
        Stats {
            node: self.request.node.clone(),
            interface: self.request.interface.clone(),
            packets: state.packets,
            bytes: state.bytes,
            dropped: state.dropped + state.unwritten,
            file: self.request.file.clone(),
            error: state.error(),
        }
    }

    /// Removes the file.
    pub(super) fn discard(&self) {
        if let Some(recording) = lock(&self.state).recording.take() {
            recording.remove();
        }
    }

    /// Gives the handle away, to be closed.
    pub(super) fn take(&self) -> Option<Capture<Active>> {
        let mut state = lock(&self.state);
        state.recording = None;
        state.capture.take()
    }
}

impl State {
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
                    return Turn::Over;
                }
            }
        }
        Turn::Read(frames)
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

impl Turn {
    /// Whether the ring may hold more.
    pub(super) fn more(self) -> bool {
        self == Self::Read(BATCH)
    }
}
