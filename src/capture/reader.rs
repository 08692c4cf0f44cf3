//! The threads that carry frames from the kernel's rings to the files.
//!
//! A thread an interface would be a thousand stacks that mostly sleep; here each of a few threads
//! waits with epoll(7) on its share of the interfaces. An interface is always read by the same
//! thread, which keeps its frames in order.

use std::{
    io,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
    },
};

use super::{
    Error, lock,
    tap::{Tap, Turn},
};

/// More threads than this do not help: the disk is the same one.
const MOST_READERS: usize = 4;
/// What epoll gives for the wish to stop, where taps have their position.
const STOP: u64 = u64::MAX;
/// A batch's memory that is kept between turns, in bytes.
const KEEP: usize = 4 << 20;
/// A thread that is woken again within this time is busy.
const BUSY: Duration = Duration::from_millis(1);
/// A busy thread lets frames gather for so long before it asks for more. Else it would be woken
/// for nearly every frame, which costs more than carrying it; the ring has room meanwhile, for
/// 160 full Ethernet frames at its smallest.
const NAP: Duration = Duration::from_micros(200);
/// The readers' nice value (setpriority(2)), which on Linux is each thread's own.
const NICE: i32 = -10;

/// All taps, in the order in which they came; epoll knows them by their position.
pub(super) type Taps = Arc<Mutex<Vec<Arc<Tap>>>>;

/// Running readers.
#[derive(Debug)]
pub(super) struct Readers {
    stop: Arc<EventFd>,
    taps: Taps,
    threads: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    thread: JoinHandle<()>,
    epoll: Arc<Epoll>,
}

impl Readers {
    /// Starts threads, at most one an interface, that read no tap so far.
    pub(super) fn start(taps: &Taps, interfaces: usize) -> Result<Self, Error> {
        let stop = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(failed)?;
        let mut readers = Self {
            stop: Arc::new(stop),
            taps: Arc::clone(taps),
            threads: Vec::new(),
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for n in 0..cores.min(MOST_READERS).min(interfaces.max(1)) {
            if let Err(error) = readers.spawn(n) {
                readers.stop();
                return Err(error);
            }
        }
        Ok(readers)
    }

    fn spawn(&mut self, n: usize) -> Result<(), Error> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?);
        let event = EpollEvent::new(EpollFlags::EPOLLIN, STOP);
        epoll.add(&*self.stop, event).map_err(failed)?;
        let (theirs, taps) = (Arc::clone(&epoll), Arc::clone(&self.taps));
        // Held so that the descriptor that epoll watches stays open.
        let stop = Arc::clone(&self.stop);
        let thread = thread::Builder::new()
            .name(format!("capture-{n}"))
            .spawn(move || {
                let _stop = stop;
                // As far as the user may: the lab's own load must not starve its record.
                let _ = rustix::process::setpriority_process(None, NICE);
                run(&taps, &theirs);
            })
            .map_err(Error::Threads)?;
        self.threads.push(Reader { thread, epoll });
        Ok(())
    }

    /// The epoll of the thread that reads the tap at this position.
    fn epoll(&self, position: usize) -> &Epoll {
        &self.threads[position % self.threads.len()].epoll
    }

    /// Begins to read the tap at this position.
    pub(super) fn watch(&self, position: usize, tap: &Tap) -> Result<(), Error> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, position as u64);
        tap.with_capture(|capture| self.epoll(position).add(capture, event))
            .unwrap_or(Ok(()))
            .map_err(failed)
    }

    /// Reads the tap at this position no more. A turn that has begun may still be under way.
    pub(super) fn ignore(&self, position: usize, tap: &Tap) {
        // Fails where the reader itself has given the tap up, which is as good.
        tap.with_capture(|capture| self.epoll(position).delete(capture));
    }

    /// Ends the threads; what the rings hold is the caller's.
    pub(super) fn stop(self) {
        // Cannot fail: an eventfd refuses only a count near 2^64.
        let _ = self.stop.write(1);
        let count = self.threads.len();
        for (n, reader) in self.threads.into_iter().enumerate() {
            if reader.thread.join().is_err() {
                for tap in lock(&self.taps).iter().skip(n).step_by(count) {
                    tap.fail("the thread that read this capture panicked".into());
                }
            }
        }
    }
}

fn failed(errno: Errno) -> Error {
    Error::Threads(errno.into())
}

fn run(taps: &Taps, epoll: &Epoll) {
    let mut events = [EpollEvent::empty(); 256];
    let mut batch = Vec::new();
    let mut last = None;
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(errno) => {
                let error = io::Error::from(errno);
                for tap in lock(taps).iter() {
                    tap.fail(format!("wait for frames: {error}; the capture ended there"));
                }
                return;
            }
        };
        let woken = Instant::now();
        let busy = last
            .replace(woken)
            .is_some_and(|last| woken.duration_since(last) < BUSY);
        for event in &events[..ready] {
            if event.data() == STOP {
                return;
            }
            let Some(tap) = lock(taps).get(event.data() as usize).cloned() else {
                continue;
            };
            if tap.read(&mut batch) == Turn::Over {
                // It would be reported as ready for ever.
                tap.with_capture(|capture| epoll.delete(capture));
            }
            if batch.capacity() > KEEP {
                batch = Vec::new();
            }
        }
        if busy {
            thread::sleep(NAP);
        }
    }
}
