//! A read-only view of nslab's own binary.
//!
//! A process shows its binary as /proc/PID/exe, a link that leads around all namespaces to the mount
//! that it was executed from. Whoever may trace the process (`CAP_SYS_PTRACE`) can open that, wait
//! until nothing executes the binary any more, and write to it (CVE-2019-5736). What a node can see of
//! nslab is therefore executed from a mount of its own, which is read-only and attached nowhere.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::child::pointers;
use super::mounts::set_attributes;
use super::raw::{execute, last_errno};

const OWN: &CStr = c"/proc/self/exe";

/// The binary at `path`, in a read-only mount of its own. It can be executed by its descriptor.
pub(super) fn of(path: &CStr) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = open_tree(CWD, path, flags)?;
    let attrs = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    set_attributes(view.as_fd(), attrs, MountAttrFlags::empty())?;
    Ok(view)
}

/// That of the running binary, made once: all inits of a lab share it.
pub(super) fn own() -> io::Result<&'static OwnedFd> {
    static VIEW: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(view) = VIEW.get() {
        return Ok(view);
    }
    let view = of(OWN)?;
    Ok(VIEW.get_or_init(|| view))
}

/// Executes the running program once more, from a read-only view, unless it was executed from a
/// read-only mount already. Returns only when there is nothing to do, or that failed.
pub(super) fn enter() -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let exe = rustix::fs::open(OWN, flags, Mode::empty())?;
    let filesystem = rustix::fs::fstatvfs(exe)?;
    if filesystem.f_flag.contains(StatVfsMountFlags::RDONLY) {
        // Executed by descriptor, it is called by its number.
        let _ = rustix::thread::set_name(c"nslab");
        return Ok(());
    }
    let args = std::env::args_os()
        .map(|arg| CString::new(arg.into_encoded_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let variables = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_encoded_bytes())
        })
        .collect::<Result<Vec<_>, _>>()?;
    // SAFETY: arrays of C strings that end with NULL.
    unsafe { execute(own()?.as_fd(), &pointers(&args), &pointers(&variables)) };
    Err(last_errno().into())
}
