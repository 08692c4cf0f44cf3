//! The folders of captures, and making files in them where no planted link can lead root astray.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use super::{Error, options::split_rotated};

/// Makes the directory for captures and, if it is missing too, the one that it is in, and gives
/// those it made to `owner`. For `exchange/dsr` these are `exchange` and `dsr`.
///
/// Neither may be a symbolic link, since root will write there and its user may have planted it.
/// The path above these two is the caller's and may hold links.
pub fn prepare_dir(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    walk(path, Missing::Make(owner)).map(drop)
}

/// What to do about a directory that is not there.
#[derive(Clone, Copy)]
pub(super) enum Missing {
    Refuse,
    /// Make it, and give it to this user and group.
    Make(Option<(u32, u32)>),
}

/// Opens `path` without following a link in its last two components, the only ones that may be
/// missing.
pub(super) fn walk(path: &Path, missing: Missing) -> Result<OwnedFd, Error> {
    let nameless = || Error::Nameless { path: path.into() };
    let last = path.file_name().ok_or_else(nameless)?;
    let parent = path.parent().ok_or_else(nameless)?;
    let (base, names) = match (parent.parent(), parent.file_name()) {
        (Some(base), Some(name)) => (base, vec![name, last]),
        _ => (parent, vec![last]),
    };
    let base = if base.as_os_str().is_empty() {
        Path::new(".")
    } else {
        base
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut dir = rustix::fs::open(base, flags, Mode::empty())
        .map_err(|errno| directory("open", base, errno))?;
    let mut at = base.to_path_buf();
    for name in names {
        at.push(name);
        dir = enter(&dir, name, &at, missing)?;
    }
    Ok(dir)
}

fn enter(dir: &OwnedFd, name: &OsStr, path: &Path, missing: Missing) -> Result<OwnedFd, Error> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let open = || rustix::fs::openat(dir, name, flags, Mode::empty());
    let mut opened = open();
    let mut owner = None;
    if let (Err(Errno::NOENT), Missing::Make(new_owner)) = (&opened, missing) {
        match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => owner = new_owner,
            // Someone else made it meanwhile, and it is theirs.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(directory("make", path, errno)),
        }
        opened = open();
    }
    let inner = opened.map_err(|errno| {
        let link = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink());
        if link {
            Error::Link { path: path.into() }
        } else {
            directory("open", path, errno)
        }
    })?;
    if let Some(owner) = owner {
        // The umask may have taken bits away.
        rustix::fs::fchmod(&inner, Mode::from_raw_mode(0o755))
            .and_then(|()| give(&inner, owner))
            .map_err(|errno| directory("change the owner of", path, errno))?;
    }
    Ok(inner)
}

fn directory(what: &'static str, path: &Path, errno: Errno) -> Error {
    Error::Directory {
        what,
        path: path.into(),
        source: errno.into(),
    }
}

/// Changes the owner. File systems that have no owners (FAT, a VirtualBox shared folder) refuse
/// with EPERM even to root; there the mount decides, and the file is as good.
pub(super) fn give(fd: impl AsFd, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// A folder that captures are made in.
#[derive(Debug)]
struct Folder {
    fd: Arc<OwnedFd>,
    /// Numbers of the full files that a former run left, by the name of their current file.
    rotated: HashMap<OsString, Vec<u32>>,
}

/// Opens each folder only once.
#[derive(Debug, Default)]
pub(super) struct Folders {
    open: HashMap<PathBuf, Folder>,
}

impl Folders {
    /// The folder that a file shall be made in, without what a former run left of it: full files
    /// of its name. That of the file's own name goes when the file is made.
    pub(super) fn clear(&mut self, path: &Path) -> Result<Arc<OwnedFd>, Error> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if !self.open.contains_key(parent) {
            self.open.insert(parent.into(), Folder::open(parent, path)?);
        }
        let Some(folder) = self.open.get_mut(parent) else {
            return Err(Error::Nameless { path: path.into() });
        };
        let name = path.file_name().unwrap_or_default();
        for n in folder.rotated.remove(name).unwrap_or_default() {
            let full = super::rotated_name(path, n);
            remove(&folder.fd, &full).map_err(|errno| Error::File {
                what: "remove",
                path: path.with_file_name(full),
                source: errno.into(),
            })?;
        }
        Ok(Arc::clone(&folder.fd))
    }
}

impl Folder {
    fn open(path: &Path, file: &Path) -> Result<Self, Error> {
        let whole = if path.as_os_str().is_empty() {
            std::env::current_dir().map_err(|source| Error::File {
                what: "make",
                path: file.into(),
                source,
            })?
        } else {
            path.into()
        };
        let fd = walk(&whole, Missing::Refuse)?;
        let read = |errno| directory("read", &whole, errno);
        let mut rotated: HashMap<OsString, Vec<u32>> = HashMap::new();
        for entry in Dir::read_from(&fd).map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if let Some((current, n)) = split_rotated(Path::new(name)) {
                rotated.entry(current).or_default().push(n);
            }
        }
        Ok(Self {
            fd: Arc::new(fd),
            rotated,
        })
    }
}

/// Removes a name; that it is not there is as good.
pub(super) fn remove(dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Removes what has the name and makes a new file: neither a symbolic link nor a hard link nor a
/// FIFO that a user put there is ever written to. Gives it to the owner, readable by all. An error
/// comes with what could not be done to the file, and leaves none.
pub(super) fn create(
    dir: &OwnedFd,
    name: &OsStr,
    owner: Option<(u32, u32)>,
) -> Result<File, (&'static str, io::Error)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut made = Err(Errno::EXIST);
    // Someone may put it there again in between; not for ever.
    for _ in 0..8 {
        remove(dir, name).map_err(|errno| ("replace", errno.into()))?;
        made = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644));
        if !matches!(made, Err(Errno::EXIST)) {
            break;
        }
    }
    let file = File::from(made.map_err(|errno| ("make", errno.into()))?);
    // The umask may have taken bits from the mode at creation.
    let ours = rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))
        .map_err(|errno| ("change the mode of", errno))
        .and_then(|()| match owner {
            Some(owner) => give(&file, owner).map_err(|errno| ("change the owner of", errno)),
            None => Ok(()),
        });
    match ours {
        Ok(()) => Ok(file),
        Err((what, errno)) => {
            // Best effort while another error is being reported.
            let _ = remove(dir, name);
            Err((what, errno.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_linked_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let link = dir.path().join("exchange");
        symlink(&elsewhere, &link).unwrap();
        let says = format!(
            "capture directory {} is a symbolic link, which is not followed; remove it or name the \
             directory it points to",
            link.display()
        );
        assert_eq!(
            prepare_dir(&link.join("dsr"), None)
                .unwrap_err()
                .to_string(),
            says
        );
        assert_eq!(prepare_dir(&link, None).unwrap_err().to_string(), says);
        let made = Folders::default().clear(&link.join("dsr/a.pcap"));
        assert_eq!(made.unwrap_err().to_string(), says);
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn directories_are_made_once_and_need_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exchange/dsr");
        prepare_dir(&path, None).unwrap();
        prepare_dir(&path, None).unwrap();
        assert!(path.is_dir());
        let says = "capture directory .. has no name of its own; name a directory";
        assert_eq!(
            prepare_dir(Path::new(".."), None).unwrap_err().to_string(),
            says
        );
        std::fs::write(path.join("file"), "").unwrap();
        let says = format!(
            "open the capture directory {}: Not a directory (os error 20)",
            path.join("file").display()
        );
        assert_eq!(
            prepare_dir(&path.join("file"), None)
                .unwrap_err()
                .to_string(),
            says
        );
    }
}
