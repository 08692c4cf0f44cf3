//! Reading: a few threads, each waiting on many sniffers.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

use super::open::{Sniffer, close_all};
use super::{Counters, Error};

/// Frames taken from one sniffer before the others have their turn.
const TURN: usize = 1024;

/// How often the kernel is asked for dropped frames while there is traffic.
const STATS_EVERY: Duration = Duration::from_millis(200);

/// Marks the event that ends a thread.
const STOP: u64 = u64::MAX;

/// The reader threads.
#[derive(Debug)]
pub(super) struct Readers {
    threads: Vec<JoinHandle<Vec<Sniffer>>>,
    stop: Arc<EventFd>,
}

impl std::fmt::Debug for Sniffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sniffer")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Readers {
    pub(super) fn start(sniffers: Vec<Sniffer>) -> Result<Self, Error> {
        let failed = |e: nix::errno::Errno| Error::Threads(e.into());
        let stop = Arc::new(EventFd::new().map_err(failed)?);
        // Readers compete with the lab for the processors: one thread for each processor at most.
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4);
        let share = sniffers.len().div_ceil(threads).max(1);
        let mut sniffers = sniffers.into_iter().peekable();
        let mut started = Self {
            threads: Vec::new(),
            stop,
        };
        while sniffers.peek().is_some() {
            let mine: Vec<_> = sniffers.by_ref().take(share).collect();
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
            let event = |data| EpollEvent::new(EpollFlags::EPOLLIN, data);
            for (sniffer, n) in mine.iter().zip(0..) {
                // SAFETY: the capture, which owns the descriptor, outlives the epoll instance: both
                // are moved into the thread, and the sniffers leave it after the loop.
                let fd = unsafe { BorrowedFd::borrow_raw(sniffer.capture.as_raw_fd()) };
                epoll.add(fd, event(n)).map_err(failed)?;
            }
            epoll
                .add(started.stop.as_fd(), event(STOP))
                .map_err(failed)?;
            let thread = std::thread::Builder::new()
                .name("capture".into())
                .spawn(move || run(&epoll, mine))
                .map_err(Error::Threads)?;
            started.threads.push(thread);
        }
        Ok(started)
    }

    /// Ends the threads after a last reading of everything, and closes all.
    pub(super) fn stop(self) {
        // Level-triggered and never read: every thread sees it.
        let _ = self.stop.write(1);
        let left = self
            .threads
            .into_iter()
            .filter_map(|t| t.join().ok())
            .flatten()
            .collect();
        close_all(left);
    }
}

fn run(epoll: &Epoll, mut sniffers: Vec<Sniffer>) -> Vec<Sniffer> {
    let mut events = vec![EpollEvent::empty(); 64];
    let mut asked = vec![Instant::now(); sniffers.len()];
    let mut unasked: Vec<usize> = Vec::new();
    let mut running = true;
    while running {
        // Somebody may want to know about drops after the traffic has ended.
        let timeout = if unasked.is_empty() {
            EpollTimeout::NONE
        } else {
            EpollTimeout::from(200_u16)
        };
        let ready = match epoll.wait(&mut events, timeout) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => break,
        };
        if ready == 0 {
            for n in unasked.drain(..) {
                ask_for_drops(&mut sniffers[n]);
            }
        }
        for event in &events[..ready] {
            if event.data() == STOP {
                running = false;
                continue;
            }
            let n = event.data() as usize;
            let Some(sniffer) = sniffers.get_mut(n) else {
                continue;
            };
            let drained = take(sniffer);
            if drained == Drained::Gone {
                // SAFETY: as in `start`.
                let fd = unsafe { BorrowedFd::borrow_raw(sniffer.capture.as_raw_fd()) };
                let _ = epoll.delete(fd);
            }
            if asked[n].elapsed() >= STATS_EVERY {
                asked[n] = Instant::now();
                ask_for_drops(sniffer);
            } else if !unasked.contains(&n) {
                unasked.push(n);
            }
        }
    }
    for sniffer in &mut sniffers {
        while take(sniffer) == Drained::NotYet {}
        ask_for_drops(sniffer);
    }
    sniffers
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    /// There may be more.
    NotYet,
    /// The kernel holds nothing more.
    Yes,
    /// The interface is gone; nothing will come any more.
    Gone,
}

/// Moves frames from the kernel into the file, one turn at most; flushes when nothing is left.
fn take(sniffer: &mut Sniffer) -> Drained {
    let Sniffer {
        capture,
        savefile,
        counters,
    } = sniffer;
    let (mut packets, mut bytes) = (0, 0);
    let mut drained = Drained::NotYet;
    for _ in 0..TURN {
        match capture.next_packet() {
            Ok(packet) => {
                savefile.write(&packet);
                packets += 1;
                bytes += u64::from(packet.header.len);
            }
            // libpcap reports ENETDOWN once when the interface goes down. The kernel goes on with
            // the capture when it is up again (packet_notifier() in net/packet/af_packet.c).
            Err(pcap::Error::PcapError(text)) if text.contains("went down") => {}
            Err(pcap::Error::TimeoutExpired) => {
                drained = Drained::Yes;
                break;
            }
            Err(e) => {
                counters.fail(format!("the capture ended: {e}"));
                drained = Drained::Gone;
                break;
            }
        }
    }
    counters.packets.fetch_add(packets, Ordering::Relaxed);
    counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    if drained != Drained::NotYet && packets > 0 || drained == Drained::Gone {
        flush(savefile, counters);
    }
    drained
}

fn flush(savefile: &mut pcap::Savefile, counters: &Counters) {
    if savefile.flush().is_err() {
        let why = std::io::Error::last_os_error();
        counters.fail(format!("its file is not complete: {why}"));
    }
}

fn ask_for_drops(sniffer: &mut Sniffer) {
    // A capture whose interface is gone may not answer; the last number stands then.
    if let Ok(stats) = sniffer.capture.stats() {
        sniffer
            .counters
            .dropped
            .store(u64::from(stats.dropped), Ordering::Relaxed);
    }
}
