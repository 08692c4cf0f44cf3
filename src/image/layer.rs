//! The layer applier: one layer's tar stream into one folder, for overlayfs.
//!
//! Safe against any content, also as root: see [`beneath`]. A layer is unpacked on
//! its own and not onto the layers below it, so whiteouts become what overlayfs takes for them
//! (Documentation/filesystems/overlayfs.rst): a character device 0/0 for a removed file, the
//! attribute `trusted.overlay.opaque` for a folder whose lower content is hidden. Without root the
//! attribute is `user.overlay.opaque`, for mounts with `userxattr`.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;

use super::beneath::{self, RelPath, Root};
use super::error::LayerError;
use super::tarread::{Entry, Kind, Reader};

/// What a layer may hold at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

impl Default for Limits {
    /// A million entries and 64 GiB: several times what the largest images have.
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            bytes: 64 << 30,
        }
    }
}

/// Most bytes of all names together: those of folders are kept in memory.
const MAX_NAMES: u64 = 256 << 20;
/// Most lines of [`Applied::skipped`].
const MAX_SKIPPED: usize = 100;

/// What was unpacked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// What was left out, and why: device nodes and attributes that only root can make (the first
    /// hundred).
    pub skipped: Vec<String>,
}

/// Unpacks an uncompressed layer into `dest`, an empty folder. The stream is read to its very end,
/// so that a hash over it is the layer's.
///
/// With `root` the owners are set and device nodes made; without it all files are the caller's.
pub fn apply(
    tar: impl Read,
    dest: OwnedFd,
    root: bool,
    limits: Limits,
) -> Result<Applied, LayerError> {
    let mut applier = Applier {
        root: Root::new(dest),
        privileged: root,
        // A layer need not mention its root.
        folders: BTreeMap::from([(
            RelPath::root(),
            Folder {
                mode: 0o755,
                mtime: (0, 0),
            },
        )]),
        whiteouts: HashSet::new(),
        done: Applied::default(),
    };
    let mut reader = Reader::new(tar);
    let mut names = 0;
    while let Some(entry) = reader.next()? {
        applier.done.entries += 1;
        if applier.done.entries > limits.entries {
            return Err(LayerError::Limit {
                what: "entries",
                limit: limits.entries,
            });
        }
        names += entry.path.len() as u64;
        if names > MAX_NAMES {
            return Err(LayerError::Limit {
                what: "bytes of names",
                limit: MAX_NAMES,
            });
        }
        applier.done.bytes = applier.done.bytes.saturating_add(entry.size);
        if applier.done.bytes > limits.bytes {
            return Err(LayerError::Limit {
                what: "bytes",
                limit: limits.bytes,
            });
        }
        applier.entry(&entry, &mut reader)?;
    }
    // Padding behind the archive's end counts for the layer's digest (which will not match if
    // there is more of it than any blocking factor explains).
    let rest = &mut reader.into_inner().take(16 << 20);
    io::copy(rest, &mut io::sink()).map_err(LayerError::Read)?;
    applier.finish()
}

/// A folder's metadata, set when nothing more changes in it.
struct Folder {
    mode: u32,
    mtime: (i64, u32),
}

struct Applier {
    root: Root,
    privileged: bool,
    folders: BTreeMap<RelPath, Folder>,
    /// Whiteouts of this layer: a folder that takes the place of one hides what is below it.
    whiteouts: HashSet<RelPath>,
    done: Applied,
}

/// Names an entry in errors.
fn name_of(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.path).into_owned()
}

fn refuse(entry: &Entry, why: impl Into<String>) -> LayerError {
    LayerError::Refused {
        entry: name_of(entry),
        why: why.into(),
    }
}

/// Turns an errno into an error about an entry.
fn failed(doing: &'static str, entry: &Entry) -> impl FnOnce(Errno) -> LayerError {
    let entry = name_of(entry);
    move |e| match e {
        // openat2's way to say that the path leads out of the root.
        Errno::XDEV => LayerError::Refused {
            entry,
            why: "it leads out of the layer by a symbolic link".into(),
        },
        e => LayerError::Entry {
            doing,
            entry,
            source: e.into(),
        },
    }
}

impl Applier {
    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), LayerError> {
        let path = RelPath::parse(&entry.path).map_err(|why| refuse(entry, why))?;
        let Some((folder, name)) = path.split() else {
            if entry.kind != Kind::Dir {
                return Err(refuse(entry, "the root can only be a folder"));
            }
            let fd = self.root.folder(&path).map_err(failed("open", entry))?;
            return self.folder(&path, &fd, entry);
        };
        if folder.parts().any(|p| p.starts_with(b".wh.")) {
            return Err(refuse(entry, "a folder's name begins with `.wh.`"));
        }
        let parent = self.parent(&folder, entry)?;
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(&folder, &parent, hidden, entry);
        }
        let parent = parent.as_fd();
        match entry.kind {
            Kind::Dir => return self.make_folder(&path, parent, name, entry),
            Kind::Hardlink => return self.hard_link(parent, name, entry),
            _ => self
                .clear(&path, parent, name)
                .map_err(failed("replace", entry))?,
        }
        match entry.kind {
            Kind::File => return self.file(parent, name, entry, data),
            Kind::Symlink => rustix::fs::symlinkat(&entry.link[..], parent, name)
                .map_err(failed("make symbolic link", entry))?,
            _ => {
                if !self.node(parent, name, entry)? {
                    return Ok(());
                }
            }
        }
        self.special_metadata(parent, name, entry)
    }

    /// Opens the folder of an entry, making what is missing of it.
    fn parent(&mut self, path: &RelPath, entry: &Entry) -> Result<OwnedFd, LayerError> {
        match self.root.folder(path) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(e) => return Err(failed("open the folder of", entry)(e)),
        }
        let mut here = RelPath::root();
        let mut fd = self.root.folder(&here).map_err(failed("open", entry))?;
        for part in path.parts() {
            let next = here.join(part);
            let whiteout = self.whiteouts.remove(&next);
            if whiteout {
                beneath::remove(fd.as_fd(), part).map_err(failed("replace", entry))?;
            }
            let inner = match self.root.folder(&next) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&fd, part, Mode::RWXU)
                        .map_err(failed("make the folder of", entry))?;
                    let made = self.root.folder_nofollow(&next);
                    // A tar that leaves folders out says nothing of them; fixed values keep
                    // unpacking the same each time.
                    self.folders.insert(
                        next.clone(),
                        Folder {
                            mode: 0o755,
                            mtime: (0, 0),
                        },
                    );
                    made
                }
                other => other,
            };
            fd = inner.map_err(failed("open the folder of", entry))?;
            if whiteout {
                self.opaque(&fd, entry)?;
            }
            here = next;
        }
        Ok(fd)
    }

    /// Removes what is at the entry's place: the last of two entries of one name counts.
    fn clear(&mut self, path: &RelPath, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        self.whiteouts.remove(path);
        if beneath::kind(parent, name)?.is_some() {
            self.folders.remove(path);
            beneath::remove(parent, name)?;
        }
        Ok(())
    }

    fn make_folder(
        &mut self,
        path: &RelPath,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let opaque = self.whiteouts.contains(path);
        let there = beneath::kind(parent, name).map_err(failed("look at", entry))?;
        if there != Some(FileType::Directory) {
            self.clear(path, parent, name)
                .map_err(failed("replace", entry))?;
            rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(failed("make folder", entry))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(failed("open folder", entry))?;
        if opaque {
            self.opaque(&fd, entry)?;
        }
        self.folder(path, &fd, entry)
    }

    /// A folder's owner and attributes now; mode and mtime when all of it is there: a mode without
    /// `w` would keep its own content out, and content changes the mtime.
    fn folder(&mut self, path: &RelPath, fd: &OwnedFd, entry: &Entry) -> Result<(), LayerError> {
        if self.privileged {
            let (uid, gid) = owner(entry)?;
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(failed("set owner of", entry))?;
        }
        for (key, value) in self.xattrs(entry) {
            rustix::fs::fsetxattr(fd, &key[..], value, XattrFlags::empty())
                .map_err(failed("set an attribute of", entry))?;
        }
        self.folders.insert(
            path.clone(),
            Folder {
                mode: entry.mode,
                mtime: entry.mtime,
            },
        );
        Ok(())
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), LayerError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(failed("create", entry))?;
        let mut file = File::from(fd);
        let mut buf = vec![0; 128 * 1024];
        let mut left = entry.size;
        while left > 0 {
            let n = data.read(&mut buf).map_err(LayerError::Read)?;
            if n == 0 {
                return Err(LayerError::Tar("it ends within an entry".into()));
            }
            io::Write::write_all(&mut file, &buf[..n]).map_err(|source| LayerError::Entry {
                doing: "write",
                entry: name_of(entry),
                source,
            })?;
            left -= n as u64;
        }
        if self.privileged {
            let (uid, gid) = owner(entry)?;
            rustix::fs::fchown(&file, Some(uid), Some(gid))
                .map_err(failed("set owner of", entry))?;
        }
        // After the owner, since chown(2) clears set-user-ID and file capabilities; attributes
        // before a mode that may forbid their setting.
        for (key, value) in self.xattrs(entry) {
            rustix::fs::fsetxattr(&file, &key[..], value, XattrFlags::empty())
                .map_err(failed("set an attribute of", entry))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))
            .map_err(failed("set mode of", entry))?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(failed("set mtime of", entry))
    }

    fn hard_link(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let target = RelPath::parse(&entry.link)
            .map_err(|why| refuse(entry, format!("it links to something else: {why}")))?;
        let Some((folder, source)) = target.split() else {
            return Err(refuse(entry, "it links to the root"));
        };
        let from = self
            .root
            .folder(&folder)
            .map_err(failed("find the target of", entry))?;
        let look = |fd, name: &[u8]| rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW);
        let there = look(from.as_fd(), source).map_err(failed("find the target of", entry))?;
        match FileType::from_raw_mode(there.st_mode) {
            FileType::Directory => return Err(refuse(entry, "it links to a folder")),
            FileType::CharacterDevice if there.st_rdev == 0 => {
                return Err(refuse(entry, "it links to a file that this layer removes"));
            }
            _ => {}
        }
        match look(parent, name) {
            // Removing the old name first would remove the target.
            Ok(old) if (old.st_dev, old.st_ino) == (there.st_dev, there.st_ino) => return Ok(()),
            _ => {}
        }
        let path = RelPath::parse(&entry.path).map_err(|why| refuse(entry, why))?;
        self.clear(&path, parent, name)
            .map_err(failed("replace", entry))?;
        rustix::fs::linkat(&from, source, parent, name, AtFlags::empty())
            .map_err(failed("make hard link", entry))
    }

    /// A fifo or device; false if it was left out.
    fn node(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<bool, LayerError> {
        let mode = Mode::from_raw_mode(entry.mode);
        let (kind, device) = match entry.kind {
            Kind::Fifo => (FileType::Fifo, 0),
            kind => {
                let (major, minor) = entry.device;
                if kind == Kind::Char && (major, minor) == (0, 0) {
                    return Err(refuse(
                        entry,
                        "device 0/0 is overlayfs' mark of a removed file",
                    ));
                }
                if !self.privileged {
                    self.skip(|| format!("device `{}`: needs root", name_of(entry)));
                    return Ok(false);
                }
                let kind = match kind {
                    Kind::Char => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                (kind, makedev(major, minor))
            }
        };
        rustix::fs::mknodat(parent, name, kind, mode, device)
            .map_err(failed("make node", entry))?;
        Ok(true)
    }

    /// Owner, mode, attributes and mtime of what cannot be opened: links, fifos, devices.
    fn special_metadata(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        if self.privileged {
            let (uid, gid) = owner(entry)?;
            rustix::fs::chownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(failed("set owner of", entry))?;
        }
        if entry.kind != Kind::Symlink {
            // Made above with O_EXCL's guarantee: not a link. fchmodat has no NOFOLLOW before 6.6.
            rustix::fs::chmodat(
                parent,
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .map_err(failed("set mode of", entry))?;
        }
        let xattrs = self.xattrs(entry);
        if !xattrs.is_empty() {
            // lsetxattr(2) has no descriptor form before 6.13; the folder's link in /proc is exact.
            let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            for (key, value) in xattrs {
                rustix::fs::lsetxattr(&path[..], &key[..], value, XattrFlags::empty())
                    .map_err(failed("set an attribute of", entry))?;
            }
        }
        rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set mtime of", entry))
    }

    fn whiteout(
        &mut self,
        folder: &RelPath,
        parent: &OwnedFd,
        hidden: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        match hidden {
            b".wh..opq" => return self.opaque(parent, entry),
            // AUFS' own bookkeeping, which the specification has consumers ignore.
            _ if hidden.starts_with(b".wh.") => return Ok(()),
            b"" | b"." | b".." => return Err(refuse(entry, "a whiteout of no file")),
            _ => {}
        }
        let path = folder.join(hidden);
        // What this layer itself brings stays (image-spec, "whiteouts apply to lower layers").
        match beneath::kind(parent.as_fd(), hidden).map_err(failed("look at", entry))? {
            Some(FileType::Directory) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, hidden, flags, Mode::empty())
                    .map_err(failed("open", entry))?;
                return self.opaque(&fd, entry);
            }
            Some(_) => return Ok(()),
            None => {}
        }
        // Allowed to anybody since Linux 5.8 (mknod(2)).
        rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(failed("make whiteout", entry))?;
        self.whiteouts.insert(path);
        Ok(())
    }

    fn opaque(&self, folder: &OwnedFd, entry: &Entry) -> Result<(), LayerError> {
        let key = if self.privileged {
            "trusted.overlay.opaque"
        } else {
            "user.overlay.opaque"
        };
        rustix::fs::fsetxattr(folder, key, b"y", XattrFlags::empty())
            .map_err(failed("mark as opaque", entry))
    }

    /// The attributes that may be set. Overlayfs' own are not the archive's to write: they would
    /// redirect folders to others.
    fn xattrs<'a>(&mut self, entry: &'a Entry) -> Vec<(&'a Vec<u8>, &'a Vec<u8>)> {
        let mut keep = Vec::new();
        for (key, value) in &entry.xattrs {
            let overlay = key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.");
            // user(7): attributes of the `user` class are for files and folders alone.
            let no_user =
                key.starts_with(b"user.") && !matches!(entry.kind, Kind::File | Kind::Dir);
            let why = if overlay {
                "is overlayfs' own"
            } else if no_user {
                "cannot be on such a node"
            } else if !self.privileged && !key.starts_with(b"user.") {
                "needs root"
            } else {
                keep.push((key, value));
                continue;
            };
            self.skip(|| {
                let key = String::from_utf8_lossy(key);
                format!("attribute `{key}` of `{}`: {why}", name_of(entry))
            });
        }
        keep
    }

    fn skip(&mut self, what: impl FnOnce() -> String) {
        if self.done.skipped.len() < MAX_SKIPPED {
            self.done.skipped.push(what());
        }
    }

    /// Modes and mtimes of folders, the deepest first.
    fn finish(self) -> Result<Applied, LayerError> {
        for (path, folder) in self.folders.iter().rev() {
            let name = || {
                String::from_utf8_lossy(&path.parts().collect::<Vec<_>>().join(&b'/')).into_owned()
            };
            let fd = match self.root.folder_nofollow(path) {
                Ok(fd) => fd,
                // A later entry took its place by another way to it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                Err(e) => {
                    return Err(LayerError::Entry {
                        doing: "open",
                        entry: name(),
                        source: e.into(),
                    });
                }
            };
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(folder.mode))
                .and_then(|()| rustix::fs::futimens(&fd, &times(folder.mtime)))
                .map_err(|e| LayerError::Entry {
                    doing: "set mode and mtime of",
                    entry: name(),
                    source: e.into(),
                })?;
        }
        rustix::fs::syncfs(self.root.as_fd()).map_err(|e| LayerError::Read(e.into()))?;
        Ok(self.done)
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

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
