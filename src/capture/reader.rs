//! The threads that carry frames from the kernel's rings to the files.
//!
//! A thread an interface would be a thousand stacks that mostly sleep; here each of a few threads
//! waits with epoll(7) on its share of the interfaces. An interface is always read by the same
//! thread, which keeps its frames in order.

use std::{
    io,
    sync::Arc,
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
    Error,
    tap::{BATCH, Tap, Turn},
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
/// The least that a frame takes in a ring: its header and alignment (`TPACKET2_HDRLEN`), in bytes.
const SMALLEST_SLOT: usize = 64;

/// Running readers.
#[derive(Debug)]
pub(super) struct Readers {
    stop: Arc<EventFd>,
    threads: Vec<(JoinHandle<()>, Vec<Arc<Tap>>)>,
}

impl Readers {
    /// Starts to read all taps, each of which has a ring of `ring` bytes.
    pub(super) fn start(taps: &[Arc<Tap>], ring: usize) -> Result<Self, Error> {
        let stop = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(failed)?;
        let mut readers = Self {
            stop: Arc::new(stop),
            threads: Vec::new(),
        };
        match readers.spawn_all(taps, ring) {
            Ok(()) => Ok(readers),
            Err(error) => {
                readers.stop();
                Err(error)
            }
        }
    }

    fn spawn_all(&mut self, taps: &[Arc<Tap>], ring: usize) -> Result<(), Error> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = cores.min(MOST_READERS).min(taps.len());
        for first in 0..count {
            let share: Vec<_> = taps.iter().skip(first).step_by(count).cloned().collect();
            let epoll = watch(&share, &self.stop).map_err(failed)?;
            let (mine, stop) = (share.clone(), Arc::clone(&self.stop));
            let thread = thread::Builder::new()
                .name(format!("capture-{first}"))
                .spawn(move || {
                    // Held so that the descriptor that epoll watches stays open.
                    let _stop = stop;
                    // As far as the user may: the lab's own load must not starve its record.
                    let _ = rustix::process::setpriority_process(None, NICE);
                    run(&mine, &epoll, ring);
                })
                .map_err(Error::Threads)?;
            self.threads.push((thread, share));
        }
        Ok(())
    }

    /// Lets each reader empty its rings, and waits for it.
    pub(super) fn stop(self) {
        // Cannot fail: an eventfd refuses only a count near 2^64.
        let _ = self.stop.write(1);
        for (thread, share) in self.threads {
            if thread.join().is_err() {
                for tap in share {
                    tap.fail("the thread that read this capture panicked".into());
                }
            }
        }
    }
}

fn failed(errno: Errno) -> Error {
    Error::Threads(errno.into())
}

fn watch(share: &[Arc<Tap>], stop: &EventFd) -> nix::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
    for (position, tap) in share.iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, position as u64);
        tap.with_capture(|capture| epoll.add(capture, event))
            .transpose()?;
    }
    Ok(epoll)
}

fn run(share: &[Arc<Tap>], epoll: &Epoll, ring: usize) {
    let mut events = [EpollEvent::empty(); 256];
    let mut batch = Vec::new();
    let mut last = None;
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(errno) => {
                let error = io::Error::from(errno);
                for tap in share {
                    tap.fail(format!("wait for frames: {error}; the capture ended there"));
                }
                return;
            }
        };
        let woken = Instant::now();
        let busy = last
            .replace(woken)
            .is_some_and(|last| woken.duration_since(last) < BUSY);
        let mut stop = false;
        for event in &events[..ready] {
            let Some(tap) = usize::try_from(event.data())
                .ok()
                .and_then(|at| share.get(at))
            else {
                stop = true;
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
        if stop {
            break;
        }
        if busy {
            thread::sleep(NAP);
        }
    }
    for tap in share {
        // What a ring can hold, and no more: traffic may go on.
        let mut turns = 1 + ring / SMALLEST_SLOT / BATCH;
        while turns > 0 && tap.read(&mut batch).more() {
            turns -= 1;
        }
    }
}
