//! Files that appear when they are whole, and not before.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    Error,
    folder::{self, Missing, walk},
};

/// A file in the making. [`WholeFile::commit`] gives it its name, in place of what had it; until
/// then whoever looks sees the former one. Dropped before, it leaves nothing.
///
/// It has no name at all while it is made (`O_TMPFILE`, open(2)), so that nothing is left even of a
/// process that is killed; on file systems that cannot do that it has a temporary one.
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    dir: OwnedFd,
    path: PathBuf,
    /// Its name until it is whole; whether it has it yet.
    temporary: OsString,
    named: bool,
}

impl WholeFile {
    /// Begins a file for this path, and gives it to this user and group. As with captures, neither
    /// of the last two folders of the path may be a symbolic link.
    pub fn create(path: &Path, owner: Option<(u32, u32)>) -> Result<Self, Error> {
        let nameless = || Error::Nameless { path: path.into() };
        let parent = path.parent().ok_or_else(nameless)?;
        let name = path.file_name().ok_or_else(nameless)?;
        let dir = walk(parent, Missing::Refuse)?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}", std::process::id()));
        let failed = |what, source| Error::File {
            what,
            path: path.into(),
            source,
        };
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (file, named) = match rustix::fs::openat(&dir, ".", flags, Mode::from_raw_mode(0o644)) {
            Ok(fd) => {
                let ours = rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o644))
                    .map_err(|errno| failed("change the mode of", errno.into()))
                    .and_then(|()| match owner {
                        Some(owner) => folder::give(&fd, owner)
                            .map_err(|errno| failed("change the owner of", errno.into())),
                        None => Ok(()),
                    });
                ours?;
                (File::from(fd), false)
            }
            // EISDIR is what kernels say that know the flag and not for this file system.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let made = folder::create(&dir, &temporary, owner);
                (made.map_err(|(what, error)| failed(what, error))?, true)
            }
            Err(errno) => return Err(failed("make", errno.into())),
        };
        Ok(Self {
            file,
            dir,
            path: path.into(),
            temporary,
            named,
        })
    }

    /// The path that it was begun for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name.
    pub fn commit(mut self) -> Result<(), Error> {
        let failed = |what, errno: Errno| Error::File {
            what,
            path: self.path.clone(),
            source: errno.into(),
        };
        if !self.named {
            // linkat(2) does not replace, so a name for the moment is needed.
            folder::remove(&self.dir, &self.temporary).map_err(|e| failed("replace", e))?;
            let fd = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(
                rustix::fs::CWD,
                fd,
                &self.dir,
                &self.temporary,
                AtFlags::SYMLINK_FOLLOW,
            )
            .map_err(|e| failed("name", e))?;
        }
        let name = self.path.file_name().unwrap_or_default();
        let renamed = rustix::fs::renameat(&self.dir, &self.temporary, &self.dir, name)
            .map_err(|e| failed("replace", e));
        self.named = renamed.is_err();
        renamed
    }
}

impl io::Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if self.named {
            // Best effort while another error is being reported.
            let _ = folder::remove(&self.dir, &self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let name = |e: io::Result<std::fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
        entries.map(name).collect()
    }

    #[test]
    fn it_appears_when_it_is_whole_and_replaces_the_former() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("exchange/dsr");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("dsr.pcapng");
        std::fs::write(&path, "former").unwrap();
        let mut file = WholeFile::create(&path, None).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "former");
        file.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(&folder), ["dsr.pcapng"]);
        drop(WholeFile::create(&path, None).unwrap());
        assert_eq!(names(&folder), ["dsr.pcapng"]);
    }

    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("exchange/dsr");
        std::fs::create_dir_all(&folder).unwrap();
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "keep").unwrap();
        let path = folder.join("dsr.pcapng");
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let mut file = WholeFile::create(&path, None).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "keep");
    }
}
