//! /dev of a node.

use std::path::PathBuf;

use rustix::mount::MountAttrFlags as Attr;

use super::rootfs::{MountOp, Need};

/// Device nodes of a container (OCI runtime spec, config-linux, "Default Devices"), less
/// /dev/console.
const NODES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// Symbolic links in /dev and what they point to.
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
];

/// What has to be taken from the host while its root is still there.
///
/// The nodes are the host's own, bind-mounted: `CAP_MKNOD` is among a container's capabilities and
/// no device cgroup stands behind it, so every other mount of a node is `nodev`. They are read-only
/// mounts, which does not hinder writing to a device, but keeps a node's root from changing mode
/// and owner of the host's /dev/null.
pub(super) fn taken() -> impl Iterator<Item = MountOp> {
    NODES.iter().map(|name| MountOp::Take {
        key: format!("/dev/{name}"),
        source: PathBuf::from(format!("/dev/{name}")),
        attrs: Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC,
    })
}

/// What is made of them once the node's root is there.
pub(super) fn made() -> Vec<MountOp> {
    let quiet = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC;
    let mut ops = vec![MountOp::mount(
        "tmpfs",
        "/dev",
        "mode=755,size=64k,nr_inodes=64",
        quiet | Attr::MOUNT_ATTR_NODEV,
    )];
    for name in NODES {
        ops.push(MountOp::Show {
            key: format!("/dev/{name}"),
            target: PathBuf::from(format!("/dev/{name}")),
            need: Need::Create,
        });
    }
    for folder in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        ops.push(MountOp::Folder {
            path: folder.into(),
            mode: 0o755,
        });
    }
    // gid 5 is `tty` wherever it matters; not nodev, a terminal is a device.
    ops.push(MountOp::mount(
        "devpts",
        "/dev/pts",
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
        quiet,
    ));
    let data = quiet | Attr::MOUNT_ATTR_NODEV;
    ops.push(MountOp::mount(
        "tmpfs",
        "/dev/shm",
        "mode=1777,size=64m",
        data,
    ));
    ops.push(MountOp::Mount {
        kind: "mqueue",
        target: "/dev/mqueue".into(),
        options: "".into(),
        attrs: data,
        need: Need::IfPossible,
    });
    for (path, target) in LINKS {
        ops.push(MountOp::Link {
            path: path.into(),
            target,
        });
    }
    ops
}
