//! What this kernel can do, found out by doing it where it leaves nothing: on a thread with
//! namespaces of its own, which end with it.

use std::fs;
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::error::Context;
use super::{Error, Result};

/// Runs `job` on a thread in a new network namespace, which goes when it is done.
///
/// # Errors
/// The kernel makes no network namespace.
pub fn in_new_netns<T: Send>(job: impl FnOnce() -> T + Send) -> Result<T> {
    alone(CloneFlags::CLONE_NEWNET, "make a network namespace", job)
}

/// Mount, UTS and IPC namespaces can be made. (A PID namespace would take a process.)
pub fn other_namespaces() -> Result<()> {
    let flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    alone(flags, "make mount, UTS and IPC namespaces", || ())
}

/// An overlay of two folders can be mounted. `scratch` is an empty folder of the caller's.
pub fn overlay(scratch: &Path) -> Result<()> {
    let none = None::<&str>;
    alone(CloneFlags::CLONE_NEWNS, "make a mount namespace", || {
        nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .op(|| "make all mounts private".into())?;
        nix::mount::mount(
            Some("nslab"),
            scratch,
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .op(|| format!("mount a tmpfs at {}", scratch.display()))?;
        for dir in ["lower", "upper", "work", "merged"] {
            let dir = scratch.join(dir);
            fs::create_dir(&dir).op(|| format!("create {}", dir.display()))?;
        }
        let at = |dir: &str| scratch.join(dir).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            at("lower"),
            at("upper"),
            at("work")
        );
        nix::mount::mount(
            Some("overlay"),
            &scratch.join("merged"),
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .op(|| "mount an overlay".into())
    })?
}

/// A packet socket, which captures are made with (packet(7)), can be opened.
pub fn packet_socket() -> Result<()> {
    socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map(drop)
    .op(|| "open a packet socket".into())
}

/// Names of the modules that are loaded; none where the kernel has no modules.
pub fn modules() -> Vec<String> {
    let text = fs::read_to_string("/proc/modules").unwrap_or_default();
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|l| l.split(' ').next().map(str::to_owned))
        .collect();
    names.sort();
    names
}

fn alone<T: Send>(
    flags: CloneFlags,
    what: &'static str,
    job: impl FnOnce() -> T + Send,
) -> Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("probe".into())
            .spawn_scoped(scope, move || {
                nix::sched::unshare(flags)
                    .op(|| what.into())
                    .map(|()| job())
            })
            .op(|| "start a thread".into())?
            .join()
            .map_err(|_| Error::new(what, std::io::Error::other("the thread panicked")))?
    })
}
