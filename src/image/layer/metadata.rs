//! Owners, attributes and times.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::super::error::{LayerError, shown};
use super::super::tarread::{Entry, Kind};
use super::applier::Applier;
use super::{failed, refuse};

/// Most lines of [`Applied::skipped`](super::Applied::skipped).
const MAX_SKIPPED: usize = 100;
/// A folder's default access list, which what is made in it inherits.
pub(super) const DEFAULT_ACL: &str = "system.posix_acl_default";
/// Attributes of overlayfs, by which it would redirect folders to others and forge whiteouts; the
/// second class counts in mounts with `userxattr`.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// Attributes that belong to the machine and not to the image: umoci and podman leave them out too.
const OF_THE_HOST: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];

/// Why an attribute is left out that only another filesystem takes.
const UNSUPPORTED: &str = "not supported by the filesystem";

impl Applier {
    /// Owner, mode, attributes and mtime of a file.
    pub(super) fn file_metadata(&mut self, file: &File, entry: &Entry) -> Result<(), LayerError> {
        self.chown(file, entry)?;
        // After the owner, since chown(2) clears set-user-ID and file capabilities; attributes
        // before a mode that may forbid their setting.
        self.set_xattrs(entry, |key, value| {
            rustix::fs::fsetxattr(file, key, value, XattrFlags::empty())
        })?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))
            .map_err(failed("set mode of", entry))?;
        rustix::fs::futimens(file, &times(entry.mtime)).map_err(failed("set mtime of", entry))
    }

    pub(super) fn chown(&self, fd: &impl AsFd, entry: &Entry) -> Result<(), LayerError> {
        if !self.privileged {
            return Ok(());
        }
        let (uid, gid) = owner(entry)?;
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(failed("set owner of", entry))
    }

    /// Owner, mode, attributes and mtime of what cannot be opened: links, fifos, devices.
    pub(super) fn special_metadata(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        if self.privileged {
            let (uid, gid) = owner(entry)?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)
                .map_err(failed("set owner of", entry))?;
        }
        if entry.kind != Kind::Symlink {
            // Just made, and so not a link. fchmodat has no NOFOLLOW before Linux 6.6.
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                .map_err(failed("set mode of", entry))?;
        }
        // lsetxattr(2) has no descriptor form before 6.13; the folder's link in /proc is exact.
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        self.set_xattrs(entry, |key, value| {
            rustix::fs::lsetxattr(&path[..], key, value, XattrFlags::empty())
        })?;
        rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set mtime of", entry))
    }

    /// Sets the attributes that may be set, and notes the others.
    pub(super) fn set_xattrs(
        &mut self,
        entry: &Entry,
        mut set: impl FnMut(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), LayerError> {
        for (key, value) in &entry.xattrs {
            let why = match self.forbidden(key, entry.kind) {
                Some(why) => why,
                None => match set(key, value) {
                    Ok(()) => continue,
                    Err(Errno::OPNOTSUPP) => UNSUPPORTED,
                    Err(e) => {
                        return Err(LayerError::Attribute {
                            key: shown(key),
                            entry: shown(&entry.path),
                            source: e.into(),
                        });
                    }
                },
            };
            self.skip(|| {
                let (key, entry) = (shown(key), shown(&entry.path));
                format!("attribute `{key}` of `{entry}`: {why}")
            });
        }
        Ok(())
    }

    /// Sets the attributes of a folder but for its default access list, which is returned.
    pub(super) fn set_folder_xattrs(
        &mut self,
        folder: &OwnedFd,
        entry: &Entry,
    ) -> Result<Option<Vec<u8>>, LayerError> {
        let mut default_acl = None;
        self.set_xattrs(entry, |key, value| {
            if key == DEFAULT_ACL.as_bytes() {
                default_acl = Some(value.to_vec());
                return Ok(());
            }
            rustix::fs::fsetxattr(folder, key, value, XattrFlags::empty())
        })?;
        Ok(default_acl)
    }

    pub(super) fn set_default_acl(
        &mut self,
        folder: &OwnedFd,
        acl: &[u8],
        name: &[u8],
    ) -> Result<(), Errno> {
        match rustix::fs::fsetxattr(folder, DEFAULT_ACL, acl, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => {
                self.skip(|| {
                    let name = shown(name);
                    format!("attribute `{DEFAULT_ACL}` of `{name}`: {UNSUPPORTED}")
                });
                Ok(())
            }
            done => done,
        }
    }

    /// Why an attribute is left out.
    fn forbidden(&self, key: &[u8], kind: Kind) -> Option<&'static str> {
        let user = key.starts_with(b"user.");
        if OVERLAY.iter().any(|class| key.starts_with(class)) {
            Some("is overlayfs' own")
        } else if OF_THE_HOST.contains(&key) {
            Some("is for the host to say")
        } else if user && !matches!(kind, Kind::File | Kind::Dir) {
            // user(7): attributes of the `user` class are for files and folders alone.
            Some("cannot be on such a node")
        } else if !self.privileged && !user {
            Some("needs root")
        } else {
            None
        }
    }

    /// Removes the attributes of a folder that is there already: those of its last entry count.
    pub(super) fn clear_xattrs(&self, folder: &impl AsFd) -> Result<(), Errno> {
        let mut list = Vec::with_capacity(64 * 1024);
        match rustix::fs::flistxattr(folder, rustix::buffer::spare_capacity(&mut list)) {
            Ok(_) => {}
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(e) => return Err(e),
        }
        for key in list.split(|&b| b == 0).filter(|key| !key.is_empty()) {
            // `forbidden` keeps the mark of an opaque folder; labels of the `security` class are the
            // host's, who gave them when the folder was made.
            if !key.starts_with(b"security.") && self.forbidden(key, Kind::Dir).is_none() {
                rustix::fs::fremovexattr(folder, key)?;
            }
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, what: impl FnOnce() -> String) {
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push(what());
        }
    }
}

fn owner(entry: &Entry) -> Result<(Uid, Gid), LayerError> {
    // u32::MAX means "leave as it is" to chown(2).
    let id = |n: u64| u32::try_from(n).ok().filter(|&n| n != u32::MAX);
    match (id(entry.uid), id(entry.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(refuse(
            entry,
            format!("no such owner: {}:{}", entry.uid, entry.gid),
        )),
    }
}

pub(super) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
