//! Copying what a layer has, with all that is known of it, beneath a folder.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::merge::Item;
use crate::image::beneath::{RelPath, Root};

/// Bytes that are copied between two reports and looks for an interruption.
const PIECE: u64 = 8 << 20;
/// Bytes at a time where the kernel does not copy by itself.
const BUFFER: usize = 256 * 1024;
/// Longest list of attributes, and longest value of one (xattr(7)).
const XATTR_MAX: usize = 65536;
/// Most lines of [`Copier::skipped`].
const MAX_SKIPPED: usize = 100;
/// Attributes that belong to the host and not to the image (umoci leaves out the same): labels of
/// SELinux, which the store's folder gives its files, and lists of an NFS server.
const HOSTS_OWN: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];

/// Why something could not be copied: what was tried, and the error.
pub(in crate::image) type Failed = (&'static str, io::Error);

fn failed<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Failed {
    move |e| (doing, e.into())
}

/// Makes a tree beneath a folder.
pub(in crate::image) struct Copier {
    to: Root,
    /// Whether owners are set and devices made.
    privileged: bool,
    /// Where files with several names are, by layer and inode.
    links: HashMap<(usize, u64), RelPath>,
    /// Folders, whose modes and times are set when nothing changes in them any more.
    folders: Vec<(RelPath, Stat)>,
    /// What was left out, and why; the first hundred.
    pub skipped: Vec<String>,
    /// Files, folders and all else that was made.
    pub entries: u64,
    /// Bytes of files so far.
    pub bytes: u64,
}

impl Copier {
    pub(in crate::image) fn new(to: OwnedFd, privileged: bool) -> Self {
        Self {
            to: Root::new(to),
            privileged,
            links: HashMap::new(),
            folders: Vec::new(),
            skipped: Vec::new(),
            entries: 0,
            bytes: 0,
        }
    }

    /// The root itself, as the uppermost layer has it.
    pub(in crate::image) fn root(&mut self, from: BorrowedFd<'_>) -> Result<(), Failed> {
        let stat = rustix::fs::fstat(from).map_err(failed("look at"))?;
        let to = self
            .to
            .folder_nofollow(&RelPath::root())
            .map_err(failed("open folder"))?;
        self.open_metadata(&RelPath::root(), from, to.as_fd(), &stat)?;
        self.folders.push((RelPath::root(), stat));
        Ok(())
    }

    /// One thing of the tree. `tell` is called with the bytes of files so far, and ends the copy by
    /// an error.
    pub(in crate::image) fn item(
        &mut self,
        item: &Item<'_>,
        tell: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<(), Failed> {
        let Some((parent, name)) = item.path.split() else {
            return Ok(());
        };
        self.entries += 1;
        let parent = self.to.folder_nofollow(&parent);
        let parent = parent.map_err(failed("open the folder of"))?;
        let kind = item.kind();
        // Folders are never linked twice.
        let linked = (item.stat.st_nlink > 1 && kind != FileType::Directory)
            .then_some((item.layer, item.stat.st_ino));
        if let Some(first) = linked.and_then(|key| self.links.get(&key)) {
            return self.link(first, parent.as_fd(), name);
        }
        match kind {
            FileType::Directory => self.folder(item, parent.as_fd(), name)?,
            FileType::RegularFile => self.file(item, parent.as_fd(), name, tell)?,
            _ => self.special(item, parent.as_fd(), name)?,
        }
        if let Some(key) = linked {
            self.links.insert(key, item.path.clone());
        }
        Ok(())
    }

    /// Modes and times of folders, the deepest first.
    pub(in crate::image) fn finish(&mut self) -> Result<(), (Failed, RelPath)> {
        for (path, stat) in self.folders.iter().rev() {
            self.to
                .folder_nofollow(path)
                .and_then(|fd| {
                    rustix::fs::fchmod(&fd, mode(stat))?;
                    rustix::fs::futimens(&fd, &times(stat))
                })
                .map_err(|e| (failed("set mode and mtime of")(e), path.clone()))?;
        }
        Ok(())
    }

    fn link(&self, first: &RelPath, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Failed> {
        let Some((folder, old)) = first.split() else {
            return Ok(());
        };
        self.to
            .folder_nofollow(&folder)
            .and_then(|folder| rustix::fs::linkat(&folder, old, parent, name, AtFlags::empty()))
            .map_err(failed("make hard link"))
    }

    fn folder(
        &mut self,
        item: &Item<'_>,
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), Failed> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |folder: BorrowedFd<'_>, name: &[u8]| {
            rustix::fs::openat(folder, name, flags, Mode::empty()).map_err(failed("open folder"))
        };
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(failed("make folder"))?;
        let (from, to) = (open(item.folder, item.name)?, open(parent, name)?);
        self.open_metadata(item.path, from.as_fd(), to.as_fd(), item.stat)?;
        self.folders.push((item.path.clone(), *item.stat));
        Ok(())
    }

    fn file(
        &mut self,
        item: &Item<'_>,
        parent: BorrowedFd<'_>,
        name: &[u8],
        tell: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<(), Failed> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = rustix::fs::openat(item.folder, item.name, flags, Mode::empty())
            .map_err(failed("open"))?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(failed("create"))?;
        let (from, to) = (File::from(from), File::from(to));
        let before = self.bytes;
        let size = u64::try_from(item.stat.st_size).unwrap_or_default();
        content(&from, &to, size, &mut |done| tell(before + done)).map_err(|e| ("write", e))?;
        self.bytes += size;
        // After the owner, since chown(2) clears set-user-ID and file capabilities.
        self.open_metadata(item.path, from.as_fd(), to.as_fd(), item.stat)?;
        rustix::fs::fchmod(&to, mode(item.stat)).map_err(failed("set mode of"))?;
        rustix::fs::futimens(&to, &times(item.stat)).map_err(failed("set mtime of"))
    }

    /// A symbolic link, fifo, socket or device.
    fn special(
        &mut self,
        item: &Item<'_>,
        parent: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), Failed> {
        let kind = item.kind();
        if kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(item.folder, item.name, Vec::new())
                .map_err(failed("read symbolic link"))?;
            rustix::fs::symlinkat(&target, parent, name).map_err(failed("make symbolic link"))?;
        } else {
            rustix::fs::mknodat(parent, name, kind, mode(item.stat), item.stat.st_rdev)
                .map_err(failed("make node"))?;
        }
        if self.privileged {
            let (uid, gid) = owner(item.stat);
            rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("set owner of"))?;
        }
        if kind != FileType::Symlink {
            // Just made, so not a link: fchmodat(2) has no AT_SYMLINK_NOFOLLOW before Linux 6.6.
            rustix::fs::chmodat(parent, name, mode(item.stat), AtFlags::empty())
                .map_err(failed("set mode of"))?;
        }
        // These cannot be opened, and attributes have no calls by folder before Linux 6.13; a
        // descriptor's link in /proc is exact.
        let (from, to) = (through(item.folder, item.name), through(parent, name));
        self.xattrs(
            item.path,
            |list| rustix::fs::llistxattr(&from, list),
            |key, value| rustix::fs::lgetxattr(&from, key, value),
            |key, value| rustix::fs::lsetxattr(&to, key, value, XattrFlags::empty()),
        )?;
        rustix::fs::utimensat(parent, name, &times(item.stat), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set mtime of"))
    }

    /// Owner and attributes of a file or folder.
    fn open_metadata(
        &mut self,
        path: &RelPath,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        stat: &Stat,
    ) -> Result<(), Failed> {
        if self.privileged {
            let (uid, gid) = owner(stat);
            rustix::fs::fchown(to, uid, gid).map_err(failed("set owner of"))?;
        }
        self.xattrs(
            path,
            |list| rustix::fs::flistxattr(from, list),
            |key, value| rustix::fs::fgetxattr(from, key, value),
            |key, value| rustix::fs::fsetxattr(to, key, value, XattrFlags::empty()),
        )
    }

    /// Copies attributes, but overlayfs' own, which mean something to the store alone.
    fn xattrs(
        &mut self,
        path: &RelPath,
        list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
        get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), Failed> {
        // Most files have none, and few have many.
        let mut keys = vec![0; 256];
        let length = match list(&mut keys) {
            Err(Errno::RANGE) => {
                keys.resize(XATTR_MAX, 0);
                list(&mut keys)
            }
            other => other,
        };
        let length = match length {
            Err(Errno::OPNOTSUPP) => 0,
            other => other.map_err(failed("read the attributes of"))?,
        };
        for key in keys[..length].split(|&b| b == 0).filter(|k| !k.is_empty()) {
            let overlay = key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.");
            if overlay || HOSTS_OWN.contains(&key) {
                continue;
            }
            let mut value = vec![0; XATTR_MAX];
            let length = get(key, &mut value).map_err(failed("read an attribute of"))?;
            let why = match set(key, &value[..length]) {
                Ok(()) => continue,
                Err(Errno::OPNOTSUPP) => "the file system has no such attributes",
                Err(Errno::PERM) if !self.privileged => "needs root",
                Err(e) => return Err(failed("set an attribute of")(e)),
            };
            if self.skipped.len() < MAX_SKIPPED {
                let key = String::from_utf8_lossy(key);
                let path = shown(path);
                self.skipped
                    .push(format!("attribute `{key}` of `{}`: {why}", path.display()));
            }
        }
        Ok(())
    }
}

/// A place in the tree as a path.
pub(in crate::image) fn shown(path: &RelPath) -> PathBuf {
    path.parts().map(OsStr::from_bytes).collect()
}

fn through(folder: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

/// Both times are the mtime: when the store's file was last read is no property of the image.
fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec.cast_signed(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Copies a file's bytes: shared with the original where the filesystem can (FICLONE), else by the
/// kernel, else by hand; holes stay holes.
fn content(
    from: &File,
    to: &File,
    size: u64,
    tell: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return tell(size);
    }
    let mut by_kernel = true;
    let mut at = 0;
    while at < size {
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(e) => return Err(e.into()),
        };
        let end = match rustix::fs::seek(from, SeekFrom::Hole(at)) {
            Ok(hole) => hole.min(size),
            Err(Errno::INVAL) => size,
            Err(e) => return Err(e.into()),
        };
        while at < end {
            let done = piece(from, to, at, (end - at).min(PIECE), &mut by_kernel)?;
            if done == 0 {
                return Err(io::Error::other("it has become shorter"));
            }
            at += done;
            tell(at)?;
        }
    }
    Ok(rustix::fs::ftruncate(to, size)?)
}

/// Copies up to `length` bytes at `at`; how many it were.
fn piece(from: &File, to: &File, at: u64, length: u64, by_kernel: &mut bool) -> io::Result<u64> {
    if *by_kernel {
        let (mut read, mut write) = (at, at);
        let length = usize::try_from(length).unwrap_or(BUFFER);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), length) {
            Ok(done) => return Ok(done as u64),
            // Other filesystems, or none that can (copy_file_range(2)).
            Err(
                Errno::XDEV
                | Errno::INVAL
                | Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::PERM
                | Errno::BADF,
            ) => *by_kernel = false,
            Err(e) => return Err(e.into()),
        }
    }
    let mut buffer = vec![0; BUFFER.min(usize::try_from(length).unwrap_or(BUFFER))];
    let done = from.read_at(&mut buffer, at)?;
    to.write_all_at(&buffer[..done], at)?;
    Ok(done as u64)
}
