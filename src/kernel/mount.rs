//! Mounts in the host's mount namespace: the one tmpfs of a lab that holds its namespace pins.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use super::Result;
use super::error::Context;

/// Mounts a small tmpfs at `dir` and makes it private, so that the pins inside are in no other
/// mount namespace, and one lazy unmount takes them all.
pub fn pin_folder(dir: &Path) -> Result<()> {
    let none = None::<&str>;
    nix::mount::mount(
        Some("nslab"),
        dir,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0755,size=64m"),
    )
    .op(|| format!("mount a tmpfs at {}", dir.display()))?;
    nix::mount::mount(none, dir, none, MsFlags::MS_PRIVATE, none)
        .op(|| format!("make {} private", dir.display()))
}

/// Detaches the mount at `dir` with everything below it; nothing mounted there is not an error.
pub fn detach(dir: &Path) -> Result<()> {
    match nix::mount::umount2(dir, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(e) => Err(e).op(|| format!("unmount {}", dir.display())),
    }
}

/// Undoes the octal escapes of mountinfo, proc_pid_mountinfo(5): `\040` is a blank, `\134` a backslash.
pub fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let value = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(value.unwrap_or(bytes[at]));
        at += if value.is_some() { 4 } else { 1 };
    }
    out
}
