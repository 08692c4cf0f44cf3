//! Network namespaces: made by unshare(2) on the calling thread, pinned by a bind mount
//! (ip-netns(8) does the same), entered by setns(2).

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use super::error::Context;
use super::{Error, Result};

/// The calling thread's network namespace.
pub fn current() -> Result<OwnedFd> {
    let path = "/proc/thread-self/ns/net";
    Ok(File::open(path).op(|| format!("open {path}"))?.into())
}

/// Moves the calling thread into a network namespace. Only for threads that do nothing else.
pub fn enter(ns: impl AsFd) -> Result<()> {
    nix::sched::setns(ns, CloneFlags::CLONE_NEWNET).op(|| "enter a network namespace".into())
}

/// Makes a network namespace, pins it at `pin`, and leaves the calling thread in it.
///
/// # Errors
/// `pin` exists already, or the kernel refused; nothing is left behind then but an empty file.
pub fn create(pin: &Path) -> Result<OwnedFd> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(pin)
        .op(|| format!("create {}", pin.display()))?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).op(|| "make a network namespace".into())?;
    let fd = current()?;
    nix::mount::mount(
        Some("/proc/thread-self/ns/net"),
        pin,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .op(|| format!("pin a network namespace at {}", pin.display()))?;
    Ok(fd)
}

/// Opens a pinned namespace.
pub fn open(pin: &Path) -> Result<OwnedFd> {
    Ok(File::open(pin)
        .op(|| format!("open namespace {}", pin.display()))?
        .into())
}

/// Runs `job` on a thread of its own inside a network namespace and gives what it gave. Sockets
/// that it opens stay in that namespace wherever they are used afterwards.
///
/// # Errors
/// The namespace cannot be entered, or the thread cannot be made.
pub fn run_in<T: Send>(ns: impl AsFd + Send, job: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, move || enter(ns).map(|()| job()))
            .op(|| "start a thread".into())?
            .join()
            .map_err(|_| {
                Error::new(
                    "run a job in a namespace",
                    std::io::Error::other("it panicked"),
                )
            })?
    })
}
