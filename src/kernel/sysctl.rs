//! Sysctls through /proc/sys. What lies below `net` there belongs to the reading thread's network
//! namespace (net/sysctl_net.c), so the caller enters the namespace first.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

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

/// Folders of `/proc/sys` in the calling thread's namespace that were opened already.
///
/// Each namespace has a `net/ipv4` of its own, and all of them are of one name in one folder: the
/// kernel looks for the right one among all (proc_sys_compare() in fs/proc/proc_sysctl.c). With a
/// thousand namespaces that takes longer than the rest of setting a sysctl, so it is done once.
#[derive(Debug, Default)]
struct Folders(Vec<(String, OwnedFd)>);

impl Folders {
    /// Opens a sysctl for writing.
    fn open(&mut self, path: &str) -> rustix::io::Result<File> {
        let (folder, rest) = split(path);
        let known = self.0.iter().position(|(name, _)| name == folder);
        let known = if let Some(known) = known {
            known
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let whole = format!("/proc/sys/{folder}");
            let fd = rustix::fs::open(whole, flags, Mode::empty())?;
            self.0.push((folder.to_owned(), fd));
            self.0.len() - 1
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0[known].1, rest, flags, Mode::empty())?.into())
    }
}

/// Writes sysctls, in order, in the calling thread's namespace.
pub(super) fn set(values: &[Sysctl]) -> Result<()> {
    let mut folders = Folders::default();
    for sysctl in values {
        match folders.open(&path(&sysctl.key)) {
            Ok(mut file) => file
                .write_all(sysctl.value.as_bytes())
                .op(|| format!("set {sysctl}"))?,
            Err(rustix::io::Errno::NOENT) if sysctl.optional => {}
            Err(e) => return Err(std::io::Error::from(e)).op(|| format!("set {sysctl}")),
        }
    }
    Ok(())
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
        let mut folders = Folders::default();
        for key in ["net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter"] {
            let _ = folders.open(key); // the file itself may be read-only
        }
        assert_eq!(folders.0.len(), 1);
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
