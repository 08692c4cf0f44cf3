//! Sysctls through /proc/sys. What lies below `net` there belongs to the reading thread's network
//! namespace (net/sysctl_net.c), so the caller enters the namespace first.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::error::Context;
use super::{Result, Sysctl};

/// Path of a dotted key below `/proc/sys`; `/` inside it is a literal dot, as in sysctl(8).
fn path(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        })
        .collect()
}

/// Takes `net/ipv4/conf/all/rp_filter` apart into `net/ipv4` and the rest.
fn split(path: &str) -> (&str, &str) {
    let second = path.match_indices('/').nth(1);
    second.map_or(("", path), |(at, _)| (&path[..at], &path[at + 1..]))
}

/// Namespaces that share one view of /proc.
const SHARE: usize = 64;

/// Writes sysctls in many namespaces.
///
/// Each namespace has a `net/ipv4` of its own, and in one procfs all of them are of one name in one
/// folder: the kernel looks for the right one among all (proc_sys_compare() in
/// fs/proc/proc_sysctl.c). With a thousand namespaces that takes longer than the rest of setting a
/// sysctl. So `net/ipv4` is opened once for a set of values, and in a procfs that no other process
/// uses and that is mounted nowhere; after some namespaces it is replaced by a new one.
#[derive(Debug, Default)]
pub(super) struct Writer {
    sys: Option<OwnedFd>,
    used: usize,
}

impl Writer {
    /// Writes sysctls, in order, in the calling thread's namespace.
    pub(super) fn set(&mut self, values: &[Sysctl]) -> Result<()> {
        if self.used == SHARE {
            *self = Self::default();
        }
        self.used += 1;
        let sys = match &self.sys {
            Some(sys) => sys,
            None => self.sys.insert(open_sys().op(|| "open /proc/sys".into())?),
        };
        let mut folders = Folders {
            sys,
            open: Vec::new(),
        };
        for sysctl in values {
            match folders.open(&path(&sysctl.key)) {
                Ok(mut file) => file
                    .write_all(sysctl.value.as_bytes())
                    .op(|| format!("set {sysctl}"))?,
                Err(rustix::io::Errno::NOENT) if sysctl.optional => {}
                Err(e) => return Err(e).op(|| format!("set {sysctl}")),
            }
        }
        Ok(())
    }
}

/// `sys` of a new procfs; that of `/proc` where none may be made (in a container).
fn open_sys() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let new = || {
        let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let proc = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        rustix::fs::openat(&proc, "sys", flags, Mode::empty())
    };
    new().or_else(|_: rustix::io::Errno| rustix::fs::open("/proc/sys", flags, Mode::empty()))
}

/// Folders of one namespace that were opened already.
#[derive(Debug)]
struct Folders<'a> {
    sys: &'a OwnedFd,
    open: Vec<(String, OwnedFd)>,
}

impl Folders<'_> {
    /// Opens a sysctl for writing.
    fn open(&mut self, path: &str) -> rustix::io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let (folder, rest) = split(path);
        if folder.is_empty() {
            return Ok(rustix::fs::openat(self.sys, rest, flags, Mode::empty())?.into());
        }
        let known = self.open.iter().position(|(name, _)| name == folder);
        let at = if let Some(at) = known {
            at
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(self.sys, folder, flags, Mode::empty())?;
            self.open.push((folder.to_owned(), fd));
            self.open.len() - 1
        };
        Ok(rustix::fs::openat(&self.open[at].1, rest, flags, Mode::empty())?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_become_folders_and_slashes_dots() {
        assert_eq!(
            path("net.ipv4.conf.eth0/100.rp_filter"),
            "net/ipv4/conf/eth0.100/rp_filter"
        );
    }

    #[test]
    fn a_namespace_is_looked_for_once() {
        assert_eq!(
            split("net/ipv4/conf/all/rp_filter"),
            ("net/ipv4", "conf/all/rp_filter")
        );
        assert_eq!(split("net/ipv4/ip_forward"), ("net/ipv4", "ip_forward"));
        assert_eq!(split("kernel/hostname"), ("", "kernel/hostname"));
        let sys = open_sys().unwrap();
        let mut folders = Folders {
            sys: &sys,
            open: Vec::new(),
        };
        for key in ["net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter"] {
            let _ = folders.open(key); // the file itself may be read-only
        }
        assert_eq!(folders.open.len(), 1);
        assert_eq!(
            folders.open("net/ipv4/no_such").unwrap_err(),
            rustix::io::Errno::NOENT
        );
        assert_eq!(
            folders.open("net/nothing/no_such").unwrap_err(),
            rustix::io::Errno::NOENT
        );
    }
}
