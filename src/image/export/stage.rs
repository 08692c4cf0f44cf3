//! A folder that appears whole or not at all: made beside its place, renamed into it at the end.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::image::error::{Error, IoContext};
use crate::image::files;

/// How often a folder that another process takes away is made again.
const TRIES: usize = 8;

/// A folder that is being made. Dropped before [`Stage::done`], it is removed with all in it.
pub(super) struct Stage {
    /// Where it will be.
    to: PathBuf,
    /// Where it is: `.NAME.nslab-export` beside that, one name, so that what a killed export left
    /// is found and removed by the next.
    path: PathBuf,
    /// The folder, locked as long as it is written to.
    fd: File,
    done: bool,
}

impl Stage {
    /// Begins what is to be `to`, which must not exist or be an empty folder.
    pub(super) fn new(to: &Path) -> Result<Self, Error> {
        let to = std::path::absolute(to).on("find", to)?;
        let (Some(folder), Some(name)) = (to.parent(), to.file_name()) else {
            return Err(refuse(&to, "name a folder that is to be made"));
        };
        check(&to, folder)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".nslab-export");
        let path = folder.join(hidden);
        for _ in 0..TRIES {
            // Set-user-ID programs of a stranger's image are nobody else's business on the host.
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(e).on("create folder", &path);
                }
                made => {
                    if let Some(fd) = claim(&to, &path, made.is_ok())? {
                        return Ok(Self {
                            to,
                            path,
                            fd,
                            done: false,
                        });
                    }
                }
            }
        }
        Err(in_use(&to))
    }

    /// The folder, as it will be called.
    pub(super) fn to(&self) -> &Path {
        &self.to
    }

    /// A place in the folder, as it will be called.
    pub(super) fn shown(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.to.join(inside)
    }

    /// Makes a folder in it, and opens that.
    pub(super) fn folder(&self, name: &str) -> Result<OwnedFd, Error> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::mkdirat(&self.fd, name, Mode::RWXU)
            .and_then(|()| rustix::fs::openat(&self.fd, name, flags, Mode::empty()))
            .on("create folder", &self.shown(name))
    }

    /// Writes a file in it.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<(), Error> {
        use rustix::fs::{Mode, OFlags};
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let shown = self.shown(name);
        let file = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o644));
        let mut file = File::from(file.on("create", &shown)?);
        file.write_all(text.as_bytes()).on("write", &shown)
    }

    /// Gives the folder its name.
    pub(super) fn done(mut self) -> Result<(), Error> {
        // Takes the place of an empty folder, and of nothing else (rename(2)).
        fs::rename(&self.path, &self.to).on("move the bundle to", &self.to)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.done {
            // Whatever went wrong is told already; the next export tries again.
            let _ = files::remove_tree(&self.path);
        }
    }
}

fn refuse(to: &Path, why: impl Into<String>) -> Error {
    Error::Bundle {
        path: to.to_owned(),
        why: why.into(),
    }
}

fn in_use(to: &Path) -> Error {
    refuse(to, "another nslab writes it now")
}

fn check(to: &Path, folder: &Path) -> Result<(), Error> {
    let meta = match fs::symlink_metadata(to) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).on("look at", to),
    };
    let there = "it exists, and is no empty folder";
    if !meta.is_dir() || fs::read_dir(to).on("list", to)?.next().is_some() {
        return Err(refuse(to, there));
    }
    let here = fs::metadata(".").ok();
    if here.is_some_and(|here| (here.dev(), here.ino()) == (meta.dev(), meta.ino())) {
        // Another folder takes its place; whoever is in it would be nowhere.
        return Err(refuse(to, "it is the working folder; name a folder in it"));
    }
    if meta.dev() != fs::metadata(folder).on("look at", folder)?.dev() {
        return Err(refuse(to, "it is a mount point; name a folder in it"));
    }
    Ok(())
}

/// Locks the folder at `path`, new or left over. `None`: it was left over, and is gone now.
fn claim(to: &Path, path: &Path, new: bool) -> Result<Option<File>, Error> {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path);
    let fd = match opened {
        Ok(fd) => fd,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).on("open", path),
    };
    let ours = fd.metadata().on("look at", path)?;
    if ours.uid() != rustix::process::geteuid().as_raw() {
        return Err(refuse(
            to,
            format!("{} is another user's; remove it", path.display()),
        ));
    }
    match fd.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Err(in_use(to)),
        Err(fs::TryLockError::Error(e)) => return Err(e).on("lock", path),
    }
    // Between making and locking it, another process may have taken it for left over.
    let named = fs::symlink_metadata(path).ok();
    if named.is_none_or(|n| (n.dev(), n.ino()) != (ours.dev(), ours.ino())) {
        return Ok(None);
    }
    if new {
        return Ok(Some(fd));
    }
    files::remove_tree(path)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_was_left_over_goes() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("b");
        let names = || {
            let mut names: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let left = dir.path().join(".b.nslab-export");
        fs::create_dir_all(left.join("rootfs/half")).unwrap();
        let stage = Stage::new(&to).unwrap();
        assert!(!left.join("rootfs").exists());
        let said = Stage::new(&to).err().unwrap().to_string();
        assert_eq!(
            said,
            format!("bundle {}: another nslab writes it now", to.display())
        );
        drop(stage);
        assert!(names().is_empty());

        fs::create_dir(&to).unwrap();
        let stage = Stage::new(&to).unwrap();
        drop(stage.folder("rootfs").unwrap());
        stage.done().unwrap();
        assert_eq!(names(), ["b"]);
        assert!(to.join("rootfs").is_dir());
        let said = Stage::new(&to).err().unwrap().to_string();
        assert_eq!(
            said,
            format!("bundle {}: it exists, and is no empty folder", to.display())
        );
        assert_eq!(names(), ["b"]);
    }
}
