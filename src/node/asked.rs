//! What a node's description asks to be mounted: memory filesystems, and paths of the host.

use std::path::{Path, PathBuf};

use rustix::mount::MountAttrFlags as Attr;

use super::rootfs::{MountOp, Need};
use super::{Bind, Tmpfs};

/// What has to be taken from the host while its root is still there.
pub(super) fn taken(binds: &[Bind]) -> impl Iterator<Item = MountOp> {
    binds.iter().enumerate().map(|(number, bind)| {
        let mut attrs = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV;
        attrs.set(Attr::MOUNT_ATTR_RDONLY, bind.read_only);
        MountOp::Take {
            key: bind_key(number),
            source: bind.source.clone(),
            attrs,
        }
    })
}

/// Memory filesystems and host paths: what is nearer to the root first, so that nothing hides what
/// was mounted in it before.
pub(super) fn shown(tmpfs: &[Tmpfs], binds: &[Bind]) -> Vec<MountOp> {
    let inside = |target: &Path| Path::new("/").join(target);
    let mut mounts: Vec<(PathBuf, Vec<MountOp>)> = Vec::new();
    for tmpfs in tmpfs {
        let target = inside(&tmpfs.target);
        let mut attrs = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV;
        attrs.set(Attr::MOUNT_ATTR_NOEXEC, !tmpfs.exec);
        let size = tmpfs
            .size
            .map_or_else(String::new, |size| format!(",size={size}"));
        let folder = MountOp::Folder {
            path: target.clone(),
            mode: 0o755,
        };
        let mount = MountOp::Mount {
            kind: "tmpfs",
            target: target.clone(),
            options: format!("mode={:o}{size}", tmpfs.mode).into(),
            attrs,
            need: Need::Must,
        };
        mounts.push((target, vec![folder, mount]));
    }
    for (number, bind) in binds.iter().enumerate() {
        let target = inside(&bind.target);
        let show = MountOp::Show {
            key: bind_key(number),
            target: target.clone(),
            need: Need::Create,
        };
        mounts.push((target, vec![show]));
    }
    // Stable: of two at one depth the tmpfs comes first, and volumes keep their order.
    mounts.sort_by_key(|(target, _)| target.components().count());
    mounts.into_iter().flat_map(|(_, ops)| ops).collect()
}

fn bind_key(number: usize) -> String {
    format!("bind {number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearer_to_the_root_is_mounted_first() {
        let tmpfs = |target: &str, size, exec| Tmpfs {
            target: target.into(),
            size,
            mode: 0o1777,
            exec,
        };
        let bind = |target: &str| Bind {
            source: "/srv".into(),
            target: target.into(),
            read_only: false,
        };
        let tmpfs = [
            tmpfs("/data/a/cache", Some(4096), true),
            tmpfs("/x", None, false),
        ];
        let binds = [bind("/x/y/z"), bind("/data/a"), bind("/data"), bind("/b")];
        let ops = shown(&tmpfs, &binds);
        let mounted: Vec<String> = ops
            .iter()
            .filter_map(|op| match op {
                MountOp::Mount {
                    target,
                    options,
                    attrs,
                    ..
                } => {
                    let exec = !attrs.contains(Attr::MOUNT_ATTR_NOEXEC);
                    Some(format!("{} {options} {exec}", target.display()))
                }
                MountOp::Show { target, .. } => Some(target.display().to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(
            mounted,
            [
                "/x mode=1777 false",
                "/data",
                "/b",
                "/data/a",
                "/data/a/cache mode=1777,size=4096 true",
                "/x/y/z"
            ]
        );
    }
}
