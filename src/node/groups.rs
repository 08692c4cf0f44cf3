//! Joining the control groups that keep a node's limits. The folders are the host's, so they are
//! opened before a process changes its root; it joins in the child, so that whoever starts it stays
//! outside.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::kernel::cgroup;

/// Ways into control groups. Without any, all of this is free.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<OwnedFd>);

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
        folders.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Moves the calling process, which has one thread, into all of them. Only makes system calls.
    pub(super) fn join(&self) -> rustix::io::Result<()> {
        for group in &self.0 {
            // 0 is whoever writes it, whatever its number is in which namespace (cgroups(7)).
            rustix::io::write(group.as_fd(), b"0")?;
        }
        Ok(())
    }
}
