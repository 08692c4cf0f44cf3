//! Capture: sniffers on interfaces in other network namespaces, and their files. Knows nothing of
//! labs' TOML.
//!
//! One libpcap handle an interface, opened inside the interface's namespace while its link may
//! still be down ([`open`]); a few threads that wait on all of them at once ([`reader`]); one pcap
//! file each, with nanoseconds, written as soon as the kernel hands frames over (`file`), so that
//! `tcpdump -r` reads it while the lab runs.
//!
//! A capture socket keeps its network namespace, and so the interfaces in it, alive: a namespace
//! goes away only after [`Captures::stop`].

mod beside;
mod close;
mod error;
mod file;
mod link;
mod open;
mod reader;
pub mod savefile;
mod socket;
mod tap;

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

pub use beside::write_beside;
pub use error::Error;
pub use file::prepare_dir;

use file::Folders;
use reader::Readers;
use tap::Tap;

/// The snapshot length in bytes when none is asked for: libpcap's largest, so whole frames, also
/// such as an offloading interface makes of up to 64 KiB.
pub const DEFAULT_SNAPLEN: u32 = 262_144;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// One interface to record.
#[derive(Debug, Clone)]
pub struct Request {
    /// The node's name, for messages and statistics.
    pub node: String,
    /// The interface's name inside `netns`. It may be down.
    pub interface: String,
    /// The network namespace that the interface is in.
    pub netns: Arc<OwnedFd>,
    /// The pcap file to make. What had that name before is replaced; its directory must exist
    /// (see [`prepare_dir`]).
    pub file: PathBuf,
}

/// How to record, for all interfaces alike.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// How many bytes of each frame to keep; 0 is [`DEFAULT_SNAPLEN`].
    pub snaplen: u32,
    /// The kernel's ring buffer in bytes for each interface. By default 256 MiB shared among all
    /// interfaces, but at least 256 KiB and at most 4 MiB each.
    pub buffer: Option<usize>,
    /// The user and group who shall own the files; root's own when none.
    pub owner: Option<(u32, u32)>,
}

impl Options {
    fn snaplen(&self) -> u32 {
        match self.snaplen {
            0 => DEFAULT_SNAPLEN,
            n => n.min(DEFAULT_SNAPLEN),
        }
    }

    fn buffer(&self, interfaces: usize) -> usize {
        let shared = (256 * MIB / interfaces.max(1)).clamp(256 * KIB, 4 * MIB);
        self.buffer.unwrap_or(shared)
    }
}

/// What one interface's capture has seen so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The node's name, as requested.
    pub node: String,
    /// The interface's name, as requested.
    pub interface: String,
    /// Frames in the file.
    pub packets: u64,
    /// Bytes of these frames as they were on the wire, whatever the snapshot length.
    pub bytes: u64,
    /// Frames that are not in the file: the kernel's ring was full (`tp_drops` of packet(7)), or
    /// the file could not take them. `packets + dropped` is what crossed the interface.
    pub dropped: u64,
    /// The pcap file, as requested.
    pub file: PathBuf,
    /// What went wrong with this interface's capture, if anything did. The others go on.
    pub error: Option<String>,
}

/// Running captures. Dropping it stops them as [`Captures::stop`] does, without the statistics.
#[derive(Debug)]
pub struct Captures {
    taps: Vec<Arc<Tap>>,
    readers: Option<Readers>,
}

impl Captures {
    /// Opens a sniffer on every interface, makes the files (each with its pcap header already in
    /// it), and then starts to read. From its return on every frame is recorded, beginning with
    /// the first after the interface comes up.
    ///
    /// All or nothing: on an error everything opened is closed again and the files made are
    /// removed; files of a former run that had their names are gone, though.
    ///
    /// libpcap opens its sockets without `SOCK_CLOEXEC`, so a process that another thread starts
    /// while this runs may inherit some; those started later do not.
    ///
    /// The ring's slots are cut to the MTU, or to 64 KiB where offloads are on (libpcap's
    /// `setup_mmapped`): set both before. Raises this process's soft `RLIMIT_NOFILE` where many
    /// interfaces need it.
    pub fn start(requests: Vec<Request>, options: &Options) -> Result<Self, Error> {
        open::raise_limit(requests.len())?;
        open::check(&requests)?;
        let sniffers = open::open_all(&requests, options)?;
        let mut folders = Folders::new(options.owner);
        let mut taps = Vec::with_capacity(requests.len());
        let mut failure = None;
        for (request, capture) in requests.into_iter().zip(sniffers) {
            let made = match failure {
                None => folders
                    .create(&request.file, open::linktype(&capture), options.snaplen())
                    .map(Some),
                Some(_) => Ok(None),
            };
            let recording = made.unwrap_or_else(|error| {
                failure = Some(error);
                None
            });
            taps.push(Arc::new(Tap::new(request, capture, recording)));
        }
        let started = match failure {
            None => Readers::start(&taps, options.buffer(taps.len())),
            Some(error) => Err(error),
        };
        match started {
            Ok(readers) => Ok(Self {
                taps,
                readers: Some(readers),
            }),
            Err(error) => {
                for tap in &taps {
                    tap.discard();
                }
                close::all(taps.iter().filter_map(|tap| tap.take()).collect());
                Err(error)
            }
        }
    }

    /// What each interface's capture has seen so far, in the order of the requests. Costs a few
    /// system calls an interface.
    pub fn stats(&self) -> Vec<Stats> {
        self.taps.iter().map(|tap| tap.stats()).collect()
    }

    /// Records what the kernel still holds, closes everything, and says what there was. Frames
    /// that arrive while it runs may or may not be recorded.
    pub fn stop(mut self) -> Vec<Stats> {
        self.finish();
        self.stats()
    }

    fn finish(&mut self) {
        let Some(readers) = self.readers.take() else {
            return;
        };
        readers.stop();
        for tap in &self.taps {
            tap.settle();
        }
        close::all(self.taps.iter().filter_map(|tap| tap.take()).collect());
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Locks even what a panicking thread has left locked: counters are no worse for it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_shared_within_bounds() {
        let options = Options::default();
        assert_eq!(options.buffer(0), 4 * MIB);
        assert_eq!(options.buffer(10), 4 * MIB);
        assert_eq!(options.buffer(64), 4 * MIB);
        assert_eq!(options.buffer(128), 2 * MIB);
        assert_eq!(options.buffer(1000), 268_435);
        assert_eq!(options.buffer(10_000), 256 * KIB);
        assert_eq!(
            Options {
                buffer: Some(9),
                ..options
            }
            .buffer(10_000),
            9
        );
    }

    #[test]
    fn no_snapshot_length_means_whole_frames() {
        assert_eq!(Options::default().snaplen(), 262_144);
        assert_eq!(
            Options {
                snaplen: 96,
                ..Options::default()
            }
            .snaplen(),
            96
        );
        assert_eq!(
            Options {
                snaplen: u32::MAX,
                ..Options::default()
            }
            .snaplen(),
            262_144
        );
    }
}
