//! Capture: sniffers on interfaces in other network namespaces, and their files. Knows nothing of
//! labs' TOML.
//!
//! One libpcap handle an interface, opened inside the interface's namespace while its link may
//! still be down ([`open`]); a few threads that wait on all of them at once ([`reader`]); one pcap
//! file each, with nanoseconds, written as soon as the kernel hands frames over (`file`), so that
//! `tcpdump -r` reads it while the lab runs, or several where they rotate.
//!
//! A capture socket keeps its network namespace, and so the interfaces in it, alive: a namespace
//! goes away only after [`Captures::stop`].

mod beside;
mod captures;
mod close;
mod error;
mod file;
pub mod filter;
mod folder;
pub mod follow;
mod link;
mod open;
mod options;
mod reader;
pub mod savefile;
mod socket;
mod stats;
mod tap;
mod whole;

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

pub use beside::{remove_beside, write_beside};
pub use captures::Captures;
pub use error::Error;
pub use folder::prepare_dir;
pub use options::{DEFAULT_SNAPLEN, Options, Rotation, rotated_name, split_rotated};
pub use stats::{Gap, State, Stats};
pub use whole::WholeFile;

/// One interface to record.
#[derive(Debug, Clone)]
pub struct Request {
    /// The node's name, for messages and statistics.
    pub node: String,
    /// The interface's name inside `netns`. It may be down.
    pub interface: String,
    /// The network namespace that the interface is in.
    pub netns: Arc<OwnedFd>,
    /// The pcap file to make. What had that name before is replaced, and full files of it (see
    /// [`rotated_name`]) are removed; its directory must exist (see [`prepare_dir`]).
    pub file: PathBuf,
    /// How.
    pub options: Options,
}

/// Now, in nanoseconds since 1970, by the clock that frames are stamped with.
pub fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Locks even what a panicking thread has left locked: counters are no worse for it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
