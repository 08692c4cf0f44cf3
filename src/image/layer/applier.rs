//! Entry by entry: folders, links, nodes, and what takes whose place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;

use super::super::beneath::{self, RelPath, Root, There};
use super::super::error::{LayerError, shown};
use super::super::tarread::{Entry, Kind};
use super::content::Copier;
use super::metadata::{DEFAULT_ACL, times};
use super::{failed, refuse};

/// Largest major and minor number that Linux has (kdev_t.h). mknod(2) cuts off what is above: 4096/0
/// would become 0/0, which is a whiteout.
const MAX_DEVICE: (u32, u32) = (0xfff, 0xf_ffff);

/// A folder's metadata, set when nothing more changes in it.
struct Folder {
    mode: u32,
    mtime: (i64, u32),
    default_acl: Option<Vec<u8>>,
    /// Whether the layer has no entry for it, only something in it.
    implied: bool,
}

impl Default for Folder {
    /// Of one that the layer does not mention, such as often its root: fixed values keep unpacking
    /// the same each time.
    fn default() -> Self {
        Self {
            mode: 0o755,
            mtime: (0, 0),
            default_acl: None,
            implied: true,
        }
    }
}

/// The folder of an entry.
struct Parent {
    /// As the archive has it.
    name: RelPath,
    /// Without links.
    path: RelPath,
    fd: OwnedFd,
}

pub(super) struct Applier {
    root: Root,
    pub(super) privileged: bool,
    /// Each folder that there is, by its path without links.
    folders: BTreeMap<RelPath, Folder>,
    /// The last entry's, often the next one's too. Forgotten when something is removed, which may be
    /// what its name leads over.
    parent: Option<Rc<Parent>>,
    copier: Copier,
    pub(super) skipped: Vec<String>,
}

impl Applier {
    pub(super) fn new(dest: OwnedFd, privileged: bool) -> Result<Self, LayerError> {
        // Files would inherit it.
        match rustix::fs::fremovexattr(&dest, DEFAULT_ACL) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(LayerError::Read(e.into())),
        }
        Ok(Self {
            root: Root::new(dest),
            privileged,
            folders: BTreeMap::from([(RelPath::root(), Folder::default())]),
            parent: None,
            copier: Copier::new(),
            skipped: Vec::new(),
        })
    }

    pub(super) fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), LayerError> {
        let path = RelPath::parse(&entry.path).map_err(|why| refuse(entry, why))?;
        let Some((folder, name)) = path.split() else {
            if entry.kind != Kind::Dir {
                return Err(refuse(entry, "the root can only be a folder"));
            }
            let (path, fd) = self.root.folder(&path).map_err(failed("open", entry))?;
            return self.old_folder(path, &fd, entry);
        };
        if folder.parts().any(|p| p.starts_with(b".wh.")) {
            return Err(refuse(entry, "a folder's name begins with `.wh.`"));
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            // In this layer something else is in the folder's place, and hides all that lower layers have
            // there. `umoci repack` writes such whiteouts, of what was in a folder that was replaced.
            if let Err(Errno::LOOP | Errno::NOTDIR) = self.root.folder_nofollow(&folder) {
                return Ok(());
            }
            let parent = self.parent(folder, entry)?;
            return self.whiteout(&parent.fd, hidden, entry);
        }
        let parent = self.parent(folder, entry)?;
        match entry.kind {
            Kind::Dir => self.make_folder(&parent, name, entry),
            Kind::Hardlink => self.hard_link(&parent, name, entry),
            Kind::File => self.file(&parent, name, entry, data),
            Kind::Symlink => {
                self.fresh(&parent, name, |fd| {
                    rustix::fs::symlinkat(&entry.link[..], fd, name)
                })
                .map_err(failed("make symbolic link", entry))?;
                self.special_metadata(parent.fd.as_fd(), name, entry)
            }
            Kind::Fifo | Kind::Char | Kind::Block => self.node(&parent, name, entry),
        }
    }

    /// Opens the folder of an entry, making what is missing of it.
    fn parent(&mut self, name: RelPath, entry: &Entry) -> Result<Rc<Parent>, LayerError> {
        if let Some(parent) = self.parent.as_ref().filter(|p| p.name == name) {
            return Ok(parent.clone());
        }
        let (path, fd) = match self.root.folder(&name) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => self
                .make_parents(&name)
                .map_err(failed("make the folder of", entry))?,
            Err(e) => return Err(failed("open the folder of", entry)(e)),
        };
        let parent = Rc::new(Parent { name, path, fd });
        self.parent = Some(parent.clone());
        Ok(parent)
    }

    fn make_parents(&mut self, name: &RelPath) -> Result<(RelPath, OwnedFd), Errno> {
        let (mut path, mut fd) = self.root.folder(&RelPath::root())?;
        for part in name.parts() {
            let next = path.join(part).check_depth()?;
            (path, fd) = match self.root.folder(&next) {
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let replaced = match beneath::look(fd.as_fd(), part)? {
                        There::Nothing => false,
                        There::Whiteout => {
                            self.clear(&path, fd.as_fd(), part)?;
                            true
                        }
                        There::Folder | There::Other => return Err(Errno::NOTDIR),
                    };
                    rustix::fs::mkdirat(&fd, part, Mode::RWXU)?;
                    let made = self.root.folder_nofollow(&next)?;
                    if replaced {
                        self.opaque(&made)?;
                    }
                    self.folders.insert(next.clone(), Folder::default());
                    (next, made)
                }
                found => found?,
            };
        }
        Ok((path, fd))
    }

    /// Removes what is at the entry's place: the last of two entries of one name counts.
    fn clear(&mut self, parent: &RelPath, fd: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let path = parent.join(name);
        if self.folders.remove(&path).is_some() {
            let below = self.folders.range(path.below());
            for path in below.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
                self.folders.remove(&path);
            }
        }
        self.parent = None;
        beneath::remove(fd, name)
    }

    /// Makes something new, in the place of what is there. Most often nothing is, and looking for it
    /// first would take one call more for each file.
    fn fresh<T>(
        &mut self,
        parent: &Parent,
        name: &[u8],
        make: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match make(&parent.fd) {
            Err(Errno::EXIST) => {
                self.clear(&parent.path, parent.fd.as_fd(), name)?;
                make(&parent.fd)
            }
            done => done,
        }
    }

    fn make_folder(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        let path = parent.path.join(name);
        let make = || rustix::fs::mkdirat(&parent.fd, name, Mode::RWXU);
        let there = match make() {
            Ok(()) => There::Nothing,
            Err(Errno::EXIST) => {
                let there =
                    beneath::look(parent.fd.as_fd(), name).map_err(failed("look at", entry))?;
                if there != There::Folder {
                    self.clear(&parent.path, parent.fd.as_fd(), name)
                        .map_err(failed("replace", entry))?;
                    make().map_err(failed("make folder", entry))?;
                }
                there
            }
            Err(e) => return Err(failed("make folder", entry)(e)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent.fd, name, flags, Mode::empty())
            .map_err(failed("open folder", entry))?;
        match there {
            There::Nothing => self.new_folder(path, &fd, entry),
            There::Folder => self.old_folder(path, &fd, entry),
            There::Whiteout | There::Other => {
                // What was there hid the lower layers' folder of this name, if they have one.
                self.opaque(&fd).map_err(failed("mark as opaque", entry))?;
                self.new_folder(path, &fd, entry)
            }
        }
    }

    /// Metadata of a folder that an earlier entry made.
    fn old_folder(&mut self, path: RelPath, fd: &OwnedFd, entry: &Entry) -> Result<(), LayerError> {
        self.clear_xattrs(fd)
            .map_err(failed("remove the attributes of", entry))?;
        self.new_folder(path, fd, entry)
    }

    /// A folder's owner and attributes now; mode and mtime when all of it is there: a mode without
    /// `w` would keep its own content out, content changes the mtime, and inherits access lists.
    fn new_folder(&mut self, path: RelPath, fd: &OwnedFd, entry: &Entry) -> Result<(), LayerError> {
        self.chown(fd, entry)?;
        let default_acl = self.set_folder_xattrs(fd, entry)?;
        self.folders.insert(
            path,
            Folder {
                mode: entry.mode,
                mtime: entry.mtime,
                default_acl,
                implied: false,
            },
        );
        Ok(())
    }

    fn file(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), LayerError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = self
            .fresh(parent, name, |fd| rustix::fs::openat(fd, name, flags, mode))
            .map_err(failed("create", entry))?;
        let file = File::from(fd);
        self.copier.copy(entry, data, &file)?;
        self.file_metadata(&file, entry)
    }

    fn hard_link(&mut self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let target = RelPath::parse(&entry.link)
            .map_err(|why| refuse(entry, format!("it links to something else: {why}")))?;
        let Some((folder, source)) = target.split() else {
            return Err(refuse(entry, "it links to the root"));
        };
        let (_, from) = self
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
        match look(parent.fd.as_fd(), name) {
            // Removing the old name first would remove the target.
            Ok(old) if (old.st_dev, old.st_ino) == (there.st_dev, there.st_ino) => return Ok(()),
            _ => {}
        }
        // Owner, mode and the like are the target's, whatever the entry says.
        self.fresh(parent, name, |fd| {
            rustix::fs::linkat(&from, source, fd, name, AtFlags::empty())
        })
        .map_err(failed("make hard link", entry))
    }

    /// A fifo or device.
    fn node(&mut self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let (major, minor) = entry.device;
        let kind = match entry.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind != FileType::Fifo {
            if major > MAX_DEVICE.0 || minor > MAX_DEVICE.1 {
                return Err(refuse(entry, format!("no such device: {major}/{minor}")));
            }
            if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
                let why = "device 0/0 is overlayfs' mark of a removed file";
                return Err(refuse(entry, why));
            }
            if !self.privileged {
                let there = beneath::look(parent.fd.as_fd(), name);
                if there.map_err(failed("look at", entry))? != There::Nothing {
                    self.clear(&parent.path, parent.fd.as_fd(), name)
                        .map_err(failed("replace", entry))?;
                }
                self.skip(|| format!("device `{}`: needs root", shown(&entry.path)));
                return Ok(());
            }
        }
        let mode = Mode::from_raw_mode(entry.mode);
        self.fresh(parent, name, |fd| {
            rustix::fs::mknodat(fd, name, kind, mode, makedev(major, minor))
        })
        .map_err(failed("make node", entry))?;
        self.special_metadata(parent.fd.as_fd(), name, entry)
    }

    /// Modes and mtimes of folders, the deepest first; returns the implied ones, and what was left out.
    pub(super) fn finish(mut self) -> Result<(Vec<Vec<u8>>, Vec<String>), LayerError> {
        let mut implied = Vec::new();
        for (path, folder) in std::mem::take(&mut self.folders).iter().rev() {
            if folder.implied {
                implied.push(path.as_bytes().to_vec());
            }
            let failed = |doing| {
                move |e: Errno| LayerError::Entry {
                    doing,
                    entry: shown(path.as_bytes()),
                    source: e.into(),
                }
            };
            let fd = self.root.folder_nofollow(path).map_err(failed("open"))?;
            if let Some(acl) = &folder.default_acl {
                self.set_default_acl(&fd, acl, path.as_bytes())
                    .map_err(failed("set the default access list of"))?;
            }
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(folder.mode))
                .and_then(|()| rustix::fs::futimens(&fd, &times(folder.mtime)))
                .map_err(failed("set mode and mtime of"))?;
        }
        rustix::fs::syncfs(self.root.as_fd()).map_err(|e| LayerError::Read(e.into()))?;
        Ok((implied, self.skipped))
    }
}
