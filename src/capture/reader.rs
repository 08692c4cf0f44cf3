//! The threads that carry frames from the kernel's rings to the files.
//!
//! A thread an interface would be a thousand stacks that mostly sleep; here each of a few threads
//! waits with epoll(7) on its share of the interfaces. An interface is always read by the same
//! thread, which keeps its frames in order.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
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

use super::{Error, lock, tap::Tap};

/// More threads than this do not help: the disk is the same one.
const MOST_READERS: usize = 4;
/// What epoll gives for the wish to stop, where taps have their position.
const STOP: u64 = u64::MAX;
/// A batch's memory that is kept between turns, in bytes.
const KEEP: usize = 4 << 20;
/// A thread that waits for frames no longer than this is busy.
const BUSY: Duration = Duration::from_millis(1);
/// A busy thread lets frames gather before it asks for more, so long at least. Else it would be
/// woken for nearly every frame, which costs more than carrying it; the ring has room meanwhile,
/// for 160 full Ethernet frames at its smallest.
const LEAST_NAP: Duration = Duration::from_micros(200);
/// So long at most, however slowly the rings fill: it is what a frame may be late in its file.
const MOST_NAP: Duration = Duration::from_millis(5);
/// The time in which no interface of a lab brings another frame: of 400 000 small ones in a second.
/// The ring with the fewest slots must not be full after a nap.
const FASTEST: Duration = Duration::from_nanos(2500);
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
    /// Slots of the smallest ring that it has ever read.
    slots: Arc<AtomicUsize>,
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
        let slots = Arc::new(AtomicUsize::new(usize::MAX));
        let least = Arc::clone(&slots);
        // Held so that the descriptor that epoll watches stays open.
        let stop = Arc::clone(&self.stop);
        let thread = thread::Builder::new()
            .name(format!("capture-{n}"))
            .spawn(move || {
                let _stop = stop;
                // As far as the user may: the lab's own load must not starve its record.
                let _ = rustix::process::setpriority_process(None, NICE);
                run(&taps, &theirs, &least);
            })
            .map_err(Error::Threads)?;
        self.threads.push(Reader {
            thread,
            epoll,
            slots,
        });
        Ok(())
    }

    /// The thread that reads the tap at this position.
    fn reader(&self, position: usize) -> &Reader {
        &self.threads[position % self.threads.len()]
    }

    /// Begins to read the tap at this position.
    pub(super) fn watch(&self, position: usize, tap: &Tap) -> Result<(), Error> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, position as u64);
        let reader = self.reader(position);
        reader.slots.fetch_min(tap.slots(), Ordering::Relaxed);
        tap.with_capture(|capture| reader.epoll.add(capture, event))
            .unwrap_or(Ok(()))
            .map_err(failed)
    }

    /// Reads the tap at this position no more. A turn that has begun may still be under way.
    pub(super) fn ignore(&self, position: usize, tap: &Tap) {
        // Fails where the reader itself has given the tap up, which is as good.
        tap.with_capture(|capture| self.reader(position).epoll.delete(capture));
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

fn run(taps: &Taps, epoll: &Epoll, slots: &AtomicUsize) {
    let mut events = [EpollEvent::empty(); 256];
    let mut batch = Vec::new();
    let mut nap = LEAST_NAP;
    loop {
        let asked = Instant::now();
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
        let busy = asked.elapsed() < BUSY;
        let mut fullest = 0;
        for event in &events[..ready] {
            if event.data() == STOP {
                return;
            }
            let Some(tap) = lock(taps).get(event.data() as usize).cloned() else {
                continue;
            };
            match tap.empty(&mut batch) {
                Some(share) => fullest = fullest.max(share),
                // It would be reported as ready for ever.
                None => {
                    tap.with_capture(|capture| epoll.delete(capture));
                }
            }
            if batch.capacity() > KEEP {
                batch = Vec::new();
            }
        }
        if busy {
            thread::sleep(nap);
            nap = next_nap(nap, fullest, slots.load(Ordering::Relaxed));
        } else {
            nap = LEAST_NAP;
        }
    }
}

/// How long to nap next time, after one that left the fullest ring full to so many parts of 64,
/// where the smallest ring has so many slots.
fn next_nap(nap: Duration, fullest: usize, slots: usize) -> Duration {
    let most = FASTEST.saturating_mul(slots.try_into().unwrap_or(u32::MAX));
    let next = if fullest > 8 {
        nap / 2
    } else if fullest < 4 {
        nap * 5 / 4
    } else {
        nap
    };
    next.min(most.min(MOST_NAP)).max(LEAST_NAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_follow_the_load_within_bounds_that_the_smallest_ring_sets() {
        let mut nap = LEAST_NAP;
        for _ in 0..100 {
            nap = next_nap(nap, 0, 2048);
        }
        assert_eq!(nap, MOST_NAP);
        assert_eq!(next_nap(nap, 6, 2048), MOST_NAP, "as full as it should be");
        assert_eq!(next_nap(nap, 12, 2048), MOST_NAP / 2);
        assert_eq!(next_nap(nap, 6, 400), Duration::from_millis(1));
        assert_eq!(next_nap(nap, 0, 10), LEAST_NAP);
        assert_eq!(next_nap(LEAST_NAP, 64, 2048), LEAST_NAP);
        assert_eq!(next_nap(nap, 0, usize::MAX), MOST_NAP);
    }
}
