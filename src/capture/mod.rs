//! Capture: sniffers on interfaces in other network namespaces, and their files. Knows nothing of
//! labs' TOML.
//!
//! A sniffer is a libpcap handle that was opened by a thread inside the interface's namespace; its
//! socket stays there wherever it is read. A few threads read all of them (epoll), so that a lab of
//! a thousand interfaces does not need a thousand threads. What was read is written and flushed at
//! once when the interface falls silent: `tcpdump -r` works at any time.
//!
//! libpcap does not open an interface that is administratively down (`PCAP_ERROR_IFACE_NOT_UP`).
//! Whoever wants the very first frame sets the interface up while the other end of its veth pair
//! is still down: it has no carrier then and carries nothing.

mod file;
mod link;
mod open;
mod reader;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

pub use file::prepare_dir;

/// One interface to capture.
#[derive(Debug)]
pub struct Request {
    /// Its node, for names in messages and statistics.
    pub node: String,
    /// Its name in its namespace. It is administratively up.
    pub interface: String,
    /// Its network namespace.
    pub netns: OwnedFd,
    /// The file that is written: pcap with nanoseconds. One that is there is replaced.
    pub file: PathBuf,
}

/// What all captures have in common.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes kept of each frame.
    pub snaplen: u32,
    /// Bytes of kernel buffer for each interface; `None` shares 256 MiB among all, with at most
    /// 4 MiB and at least 256 KiB each.
    pub buffer: Option<usize>,
    /// User and group that the files belong to.
    pub owner: Option<(u32, u32)>,
}

impl Options {
    fn buffer_for(&self, interfaces: usize) -> usize {
        let share = (256 << 20) / interfaces.max(1);
        self.buffer
            .unwrap_or_else(|| share.clamp(256 << 10, 4 << 20))
    }
}

/// Counts of one capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The interface's node.
    pub node: String,
    /// The interface.
    pub interface: String,
    /// Frames in the file.
    pub packets: u64,
    /// Bytes of these frames on the wire, link-layer header included.
    pub bytes: u64,
    /// Frames that the kernel dropped because the buffer was full (packet(7), PACKET_STATISTICS).
    pub dropped: u64,
    /// The file.
    pub file: PathBuf,
    /// Why this capture ended early, or what is wrong with its file.
    pub error: Option<String>,
}

/// A capture that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libpcap, about an interface.
    #[error("cannot capture on {node}:{interface}: {why}")]
    Open {
        /// Its node.
        node: String,
        /// The interface.
        interface: String,
        /// libpcap's or the kernel's words.
        why: String,
    },
    /// A file or folder.
    #[error("cannot {op} {}: {source}{}", path.display(), hint(.source))]
    File {
        /// The verb.
        op: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No thread or epoll instance.
    #[error("cannot start capture threads: {0}")]
    Threads(std::io::Error),
}

fn hint(source: &std::io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => {
            " (a symbolic link or file is in its place; nslab does not follow links as root: remove it)"
        }
        Some(libc::ENOSPC) => " (the disk is full)",
        _ => "",
    }
}

/// Numbers that a reader thread writes and everybody reads.
#[derive(Debug)]
struct Counters {
    node: String,
    interface: String,
    file: PathBuf,
    packets: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Counters {
    fn fail(&self, why: String) {
        // The first error tells the cause.
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why);
    }

    fn stats(&self) -> Stats {
        Stats {
            node: self.node.clone(),
            interface: self.interface.clone(),
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            file: self.file.clone(),
            error: self
                .error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

/// All captures of a lab, running.
#[derive(Debug)]
pub struct Captures {
    counters: Vec<Arc<Counters>>,
    readers: reader::Readers,
}

impl Captures {
    /// Opens every sniffer and its file, then starts reading. All or nothing.
    ///
    /// # Errors
    /// The first interface or file that failed; everything that was opened is closed, and files
    /// that were made are removed.
    pub fn start(requests: Vec<Request>, options: &Options) -> Result<Self, Error> {
        let sniffers = open::open_all(requests, options)?;
        let counters = sniffers.iter().map(|s| s.counters.clone()).collect();
        let readers = reader::Readers::start(sniffers)?;
        Ok(Self { counters, readers })
    }

    /// Counts so far, in the order of the requests. Dropped frames are asked for every 200 ms
    /// while there is traffic.
    pub fn stats(&self) -> Vec<Stats> {
        self.counters.iter().map(|c| c.stats()).collect()
    }

    /// Reads what the kernel still holds, closes everything, and gives the final counts.
    pub fn stop(self) -> Vec<Stats> {
        self.readers.stop();
        self.counters.iter().map(|c| c.stats()).collect()
    }
}
