//! Capture files in a folder that belongs to an ordinary user, written by root: nothing that the
//! user planted there is followed.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};

use super::Error;

/// Makes the folder of a lab's captures, and its parent if that is missing; both belong to `owner`.
///
/// # Errors
/// It cannot be made, or the folder itself is a symbolic link.
pub fn prepare_dir(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    let failed = |op, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Error::File { op, path, source }
    };
    for dir in [path.parent(), Some(path)].into_iter().flatten() {
        if dir.as_os_str().is_empty() {
            continue;
        }
        match fs::DirBuilder::new().recursive(dir != path).create(dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                open_dir(dir).map_err(failed("use folder", dir))?;
                continue;
            }
            Err(e) => return Err(failed("create", dir)(e)),
        }
        // `recursive` is quiet about a folder that is there; only a new, empty one is given away.
        let empty = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
        if empty {
            let fd = open_dir(dir).map_err(failed("open", dir))?;
            give(&fd, owner).map_err(failed("give away", dir))?;
        }
    }
    Ok(())
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn give(fd: impl AsFd, owner: Option<(u32, u32)>) -> io::Result<()> {
    if let Some((uid, gid)) = owner {
        rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(())
}

/// Makes an empty capture file, in the place of one that is there. The old one is unlinked, not
/// truncated: somebody may have it open, or have planted a link to something else.
pub(super) fn create(path: &Path, owner: Option<(u32, u32)>) -> Result<File, Error> {
    let failed = |op| {
        move |source: io::Error| Error::File {
            op,
            path: path.to_owned(),
            source,
        }
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed("create")(io::ErrorKind::InvalidInput.into()));
    };
    let dir = open_dir(parent).map_err(failed("open the folder of"))?;
    match rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(failed("replace")(e.into())),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644))
        .map_err(|e| failed("create")(e.into()))?;
    give(&fd, owner).map_err(failed("give away"))?;
    Ok(fd.into())
}
