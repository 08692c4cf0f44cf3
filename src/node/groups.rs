//! Joining the control groups that keep a node's limits. The folders are the host's, so they are
//! opened before a process changes its root; it joins in the child, so that whoever starts it stays
//! outside.
//!
//! In version 2 a node has a cgroup namespace too: its group is the root of what it sees, and it is
//! mounted at /sys/fs/cgroup, so that a JVM sizes its heap by the node's memory and not the machine's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags as Attr;

use super::raw::last_errno;
use super::rootfs::{MountOp, Need};
use crate::kernel::cgroup;

/// Ways into control groups. Without any, all of this is free.
#[derive(Debug, Default)]
pub(super) struct Groups {
    entrances: Vec<OwnedFd>,
    /// Whether the node sees its group as a root of its own.
    pub(super) shown: bool,
}

/// A count of the processes of a node that the kernel has killed for want of memory.
#[derive(Debug)]
pub(super) struct OomKills {
    file: File,
    before: u64,
}

impl OomKills {
    /// Of a node with these groups, from now on; `None` if its memory is not limited.
    pub(super) fn watch(folders: &[PathBuf]) -> Option<Self> {
        let mut paths = folders
            .iter()
            .flat_map(|f| cgroup::OOM_FILES.map(|file| f.join(file)));
        let file = paths.find_map(|path| File::open(path).ok())?;
        let mut this = Self { file, before: 0 };
        this.before = this.count();
        Some(this)
    }

    /// Whether there has been one.
    pub(super) fn any(&self) -> bool {
        self.count() > self.before
    }

    fn count(&self) -> u64 {
        let mut text = [0; 512];
        // From the beginning each time, which makes the kernel write it anew.
        let length = self.file.read_at(&mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        cgroup::entry(&text, "oom_kill").unwrap_or(0)
    }
}

impl Groups {
    /// Opens them.
    ///
    /// # Errors
    /// The folder that is not there, or not ours to join, and why.
    pub(super) fn open(folders: &[PathBuf]) -> Result<Self, (PathBuf, io::Error)> {
        let open = |folder: &PathBuf| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(cgroup::entrance(folder), flags, Mode::empty())
                .map_err(|e| (folder.clone(), e.into()))
        };
        Ok(Self {
            entrances: folders.iter().map(open).collect::<Result<_, _>>()?,
            shown: are_shown(folders),
        })
    }

    /// Moves the calling process, which has one thread, into all of them. Only makes system calls.
    pub(super) fn join(&self) -> rustix::io::Result<()> {
        for group in &self.entrances {
            // 0 is whoever writes it, whatever its number is in which namespace (cgroups(7)).
            rustix::io::write(group.as_fd(), b"0")?;
        }
        Ok(())
    }

    /// [`join`](Self::join), by a node's first process: what it joins is from now on the root of what it
    /// sees. Only makes system calls.
    pub(super) fn found(&self) -> rustix::io::Result<()> {
        self.join()?;
        // SAFETY: libc::unshare(2) takes a number; namespaces are this process's own.
        if self.shown && unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } < 0 {
            return Err(last_errno());
        }
        Ok(())
    }
}

/// Mounts the group that a node is in, as the root of what it sees; after all else of /sys.
pub(super) fn view(folders: &[PathBuf]) -> Option<MountOp> {
    let quiet = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
    are_shown(folders).then(|| MountOp::Mount {
        kind: "cgroup2",
        target: "/sys/fs/cgroup".into(),
        options: "".into(),
        attrs: quiet | Attr::MOUNT_ATTR_RDONLY,
        need: Need::IfPossible,
    })
}

/// Whether a node with these groups sees them: those of version 2.
fn are_shown(folders: &[PathBuf]) -> bool {
    let unified = |folder: &PathBuf| folder.join("cgroup.controllers").exists();
    folders.iter().any(unified)
}
