//! Paths that cannot leave a folder: each is resolved with openat2(2) `RESOLVE_BENEATH |
//! RESOLVE_NO_MAGICLINKS` below the folder's descriptor, so neither `..` nor a symbolic link (made
//! by the very archive that is unpacked) leads out, whatever happens between two calls.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Most components of a path: removing a tree holds a descriptor for each.
const MAX_DEPTH: usize = 255;
/// Longest path in bytes, with its final zero (limits.h).
const PATH_MAX: usize = 4096;
/// Longest file name in bytes (limits.h).
const NAME_MAX: usize = 255;

/// A path below the root: no empty, `.` or `..` component, not absolute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RelPath(Vec<u8>);

impl RelPath {
    /// The root folder itself.
    pub(super) fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads an archive's name. As other tools do, one that begins with `/` means the same below
    /// the root; `..` is refused even where it would not lead out.
    pub(super) fn parse(name: &[u8]) -> Result<Self, String> {
        if name.contains(&0) {
            return Err("its name holds a zero byte".into());
        }
        let mut path = Vec::with_capacity(name.len());
        let mut depth = 0;
        for part in name.split(|&b| b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err("its name holds `..`".into()),
                _ if part.len() > NAME_MAX => {
                    return Err(format!(
                        "a part of its name is longer than {NAME_MAX} bytes"
                    ));
                }
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
            depth += 1;
        }
        if path.len() >= PATH_MAX {
            return Err(format!("its name is longer than {} bytes", PATH_MAX - 1));
        }
        if depth > MAX_DEPTH {
            return Err(format!("it is deeper than {MAX_DEPTH} folders"));
        }
        Ok(Self(path))
    }

    /// The folder and the last component; `None` for the root itself.
    pub(super) fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        let at = self.0.iter().rposition(|&b| b == b'/');
        Some(match at {
            Some(at) => (Self(self.0[..at].to_vec()), &self.0[at + 1..]),
            None => (Self::root(), &self.0[..]),
        })
    }

    /// The path with one more component.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// Its components.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|p| !p.is_empty())
    }

    /// Everything below this folder, in an ordered map's keys.
    pub(super) fn below(&self) -> std::ops::Range<Self> {
        let with = |byte| Self([&self.0[..], &[byte]].concat());
        // The byte that follows the slash.
        with(b'/')..with(b'/' + 1)
    }

    /// Refuses what is deeper than removing it again can go.
    pub(super) fn check_depth(self) -> Result<Self, Errno> {
        if self.parts().count() > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(self)
    }

    /// As it is written.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn for_kernel(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }
}

/// A folder that nothing resolved through this value can leave.
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn new(folder: OwnedFd) -> Self {
        Self(folder)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens a folder below the root; symbolic links on the way are followed as long as they stay
    /// below. Returned with it is its path without links: one folder has one.
    pub(super) fn folder(&self, path: &RelPath) -> Result<(RelPath, OwnedFd), Errno> {
        match self.open(path, ResolveFlags::NO_SYMLINKS) {
            Ok(fd) => Ok((path.clone(), fd)),
            Err(Errno::LOOP) => {
                let fd = self.open(path, ResolveFlags::empty())?;
                Ok((self.path_of(&fd)?.check_depth()?, fd))
            }
            Err(e) => Err(e),
        }
    }

    /// Opens a folder below the root by a path without links.
    pub(super) fn folder_nofollow(&self, path: &RelPath) -> Result<OwnedFd, Errno> {
        self.open(path, ResolveFlags::NO_SYMLINKS)
    }

    /// Where a folder is that was opened below the root.
    fn path_of(&self, folder: &OwnedFd) -> Result<RelPath, Errno> {
        let path = |fd: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            rustix::fs::readlink(link, Vec::new()).map(std::ffi::CString::into_bytes)
        };
        let root = path(&self.0)?;
        let inner = path(folder)?;
        // Not the case if somebody else moves folders about meanwhile.
        let below = inner.strip_prefix(&root[..]).ok_or(Errno::XDEV)?;
        RelPath::parse(below).map_err(|_| Errno::NAMETOOLONG)
    }

    fn open(&self, path: &RelPath, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let resolve = resolve | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // EAGAIN: a rename somewhere on the machine raced with `..` of a link (openat2(2)).
        for _ in 0..32 {
            match rustix::fs::openat2(&self.0, path.for_kernel(), flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }
}

/// Removes `name` in `folder`, a whole tree if it is a folder; links are not followed.
pub(super) fn remove(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        // EISDIR on Linux; POSIX says EPERM, which some filesystems return.
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            remove(inner.as_fd(), child)?;
        }
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

/// What is at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    Nothing,
    Folder,
    /// Overlayfs' mark of a removed file: a character device 0/0.
    Whiteout,
    Other,
}

/// What is at `name` in `folder`, links not followed.
pub(super) fn look(folder: BorrowedFd<'_>, name: &[u8]) -> Result<There, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => There::Folder,
            FileType::CharacterDevice if stat.st_rdev == 0 => There::Whiteout,
            _ => There::Other,
        }),
        Err(Errno::NOENT) => Ok(There::Nothing),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_folder_is_a_range() {
        let path = |s: &str| RelPath(s.as_bytes().to_vec());
        let below = path("a").below();
        for (name, inside) in [
            ("a", false),
            ("a/b", true),
            ("a/\u{ff}", true),
            ("a!b", false),
            ("ab", false),
            ("b/a", false),
        ] {
            assert_eq!(below.contains(&path(name)), inside, "{name}");
        }
    }

    #[test]
    fn names_are_made_relative_or_refused() {
        let ok = |s: &[u8]| RelPath::parse(s).map(|p| p.0);
        assert_eq!(ok(b"./usr//bin/./sh/"), Ok(b"usr/bin/sh".to_vec()));
        assert_eq!(ok(b"/etc/passwd"), Ok(b"etc/passwd".to_vec()));
        assert_eq!(ok(b"."), Ok(b"".to_vec()));
        assert_eq!(ok(b"..."), Ok(b"...".to_vec()));
        for bad in [&b".."[..], b"a/../b", b"/..", b"../etc", b"a\0b"] {
            assert!(ok(bad).is_err(), "{bad:?}");
        }
        assert!(ok(&vec![b'a'; 256]).is_err());
        assert!(ok(&b"a/".repeat(256)).is_err());
        assert!(ok(&[vec![b'a'; 200], vec![b'/']].concat().repeat(21)).is_err());
    }
}
