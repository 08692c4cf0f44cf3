//! Joining the control groups that keep a node's limits. The folders are the host's, so they are
//! opened before a process changes its root; it joins in the child, so that whoever starts it stays
//! outside.
//!
//! In version 2 a node has a cgroup namespace too: its group is the root of what it sees, and it is
//! mounted at /sys/fs/cgroup, so that a JVM sizes its heap by the node's memory and not the machine's.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags as Attr;
use rustix::thread::ThreadNameSpaceType;

use super::raw::last_errno;
use super::rootfs::{MountOp, Need};
use crate::kernel::cgroup;

/// Ways into control groups. Without any, all of this is free.
#[derive(Debug, Default)]
pub(super) struct Groups {
    entrances: Vec<OwnedFd>,
    /// Whether the node sees its group as a root of its own.
    shown: bool,
    /// A process that is in the node's cgroup namespace (pidfd), where there is one already.
    pub(super) member: Option<OwnedFd>,
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
            member: None,
        })
    }

    /// Moves the calling process, which has one thread, into all of them. Only makes system calls.
    pub(super) fn join(&self) -> rustix::io::Result<()> {
        for group in &self.entrances {
            // 0 is whoever writes it, whatever its number is in which namespace (cgroups(7)).
            rustix::io::write(group.as_fd(), b"0")?;
        }
        // After joining: the root of a new namespace is the group that its maker is in.
        match &self.member {
            _ if !self.shown => Ok(()),
            Some(member) => {
                let kind = ThreadNameSpaceType::CONTROL_GROUP;
                rustix::thread::move_into_thread_name_spaces(member.as_fd(), kind)
            }
            // SAFETY: libc::unshare(2) takes a number; namespaces are this process's own.
            None if unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } < 0 => Err(last_errno()),
            None => Ok(()),
        }
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
