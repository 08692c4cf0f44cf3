//! Sysctls through /proc/sys. What lies below `net` there belongs to the reading thread's network
//! namespace (net/sysctl_net.c), so the caller enters the namespace first.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use super::error::Context;
use super::{Result, Sysctl};

/// Path of a dotted key; `/` inside it is a literal dot, as in sysctl(8).
fn path(key: &str) -> PathBuf {
    let tail: String = key
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        })
        .collect();
    PathBuf::from("/proc/sys").join(tail)
}

/// Writes one sysctl in the calling thread's namespace.
pub(super) fn set(sysctl: &Sysctl) -> Result<()> {
    let path = path(&sysctl.key);
    match OpenOptions::new().write(true).open(&path) {
        Ok(mut file) => file
            .write_all(sysctl.value.as_bytes())
            .op(|| format!("set {sysctl}")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && sysctl.optional => Ok(()),
        Err(e) => Err(e).op(|| format!("set {sysctl}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_become_folders_and_slashes_dots() {
        assert_eq!(
            path("net.ipv4.conf.eth0/100.rp_filter"),
            PathBuf::from("/proc/sys/net/ipv4/conf/eth0.100/rp_filter")
        );
    }
}
