//! The root filesystem of a node as pure data: what is mounted where, in which order.
//!
//! The plan has two halves with [`MountOp::Pivot`] between them. Before it `/` is the host's:
//! whatever comes from the host is *taken* as a detached mount (open_tree(2)), with its flags set
//! before anyone sees it. After it `/` is the node's and the host's root is gone: paths, and
//! symbolic links that an image may have in them, cannot lead out any more.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rustix::mount::MountAttrFlags as Attr;

use super::{InitSpec, Rootfs, asked, devices, kernel_views};

/// Host folders of which a node without image sees nothing: it gets its own.
pub(super) const OWN_FOLDERS: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// The name servers of a lab without any. glibc and musl then ask 127.0.0.1, which refuses at once,
/// where the host's name server would let each unknown name wait for its timeout.
const RESOLV_CONF: &str = "# This lab has no name server; its names are in /etc/hosts.\n";

/// What to do when a mount point or a filesystem is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Fail.
    Must,
    /// Make the mount point, then as [`Need::Must`].
    Create,
    /// Leave it out.
    IfPossible,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MountOp {
    /// Cuts all mounts off from the host: nothing propagates either way from here on.
    Private,
    /// Puts the host's `/` and what is mounted below it on top of `/`, but nothing that is below
    /// `without`.
    HostRoot {
        without: &'static [&'static str],
        attrs: Attr,
    },
    /// Mounts an overlay; it becomes the root.
    OverlayRoot {
        lower: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        target: PathBuf,
        attrs: Attr,
        kept: bool,
    },
    /// Takes a file or folder of the host, with all that is mounted below, under `key`.
    Take {
        key: String,
        source: PathBuf,
        attrs: Attr,
    },
    /// Makes a file in a filesystem of the node's own and takes it under `key`.
    TakeText { key: String, text: String },
    /// Makes the new root `/` and lets go of the old one.
    Pivot,
    /// Makes a folder, and those above, if it is not there.
    Folder { path: PathBuf, mode: u32 },
    /// Writes a file: in place of the one that is there, or only if there is none.
    Text {
        path: PathBuf,
        text: String,
        replace: bool,
    },
    /// Makes a symbolic link.
    Link { path: PathBuf, target: &'static str },
    /// Mounts a filesystem; `options` as in fstab(5).
    Mount {
        kind: &'static str,
        target: PathBuf,
        options: Cow<'static, str>,
        attrs: Attr,
        need: Need,
    },
    /// Mounts what was taken under `key`.
    Show {
        key: String,
        target: PathBuf,
        need: Need,
    },
    /// Fails if there is a symbolic link.
    NoLink(PathBuf),
    /// Shows an empty file or folder in place of the one that is there, if one is.
    Mask(PathBuf),
    /// The same for `name` in each folder of `folder`.
    MaskEach {
        folder: &'static str,
        name: &'static str,
    },
    /// Mounts a path over itself with other flags, if it is there.
    Remount {
        path: PathBuf,
        set: Attr,
        clear: Attr,
    },
}

impl MountOp {
    pub(super) fn mount(
        kind: &'static str,
        target: &str,
        options: &'static str,
        attrs: Attr,
    ) -> Self {
        Self::Mount {
            kind,
            target: target.into(),
            options: options.into(),
            attrs,
            need: Need::Must,
        }
    }
}

/// The whole plan for a node.
pub(super) fn plan(spec: &InitSpec) -> Vec<MountOp> {
    let data = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV;
    let overlay = matches!(spec.rootfs, Rootfs::Overlay { .. });
    let files = [
        ("/etc/hosts", spec.hosts.clone()),
        ("/etc/hostname", format!("{}\n", spec.hostname)),
        ("/etc/resolv.conf", RESOLV_CONF.to_owned()),
    ];

    let mut ops = vec![MountOp::Private];
    ops.extend(devices::taken());
    ops.extend(asked::taken(&spec.binds));
    match &spec.rootfs {
        Rootfs::Host => {
            for (path, text) in &files {
                ops.push(MountOp::TakeText {
                    key: (*path).to_owned(),
                    text: text.clone(),
                });
            }
            ops.push(MountOp::HostRoot {
                without: &OWN_FOLDERS,
                attrs: data | Attr::MOUNT_ATTR_RDONLY,
            });
        }
        Rootfs::Overlay { .. } => ops.extend(overlay_root(&spec.rootfs, data)),
    }
    ops.push(MountOp::Pivot);

    if overlay {
        // Programs must find the kernel's own there, not what a link of the image leads to
        // (CVE-2019-19921).
        for folder in ["/dev", "/proc", "/sys"] {
            ops.push(MountOp::NoLink(folder.into()));
        }
        for folder in ["/dev", "/proc", "/sys", "/etc"] {
            ops.push(MountOp::Folder {
                path: folder.into(),
                mode: 0o755,
            });
        }
        ops.push(MountOp::Folder {
            path: "/tmp".into(),
            mode: 0o1777,
        });
        // Plain files in the node's own layer: unlike mounts, `sed -i` can replace them.
        for (path, text) in files {
            let replace = path != "/etc/resolv.conf";
            ops.push(MountOp::Text {
                path: path.into(),
                text,
                replace,
            });
        }
    } else {
        for (path, _) in files {
            ops.push(MountOp::Show {
                key: path.to_owned(),
                target: path.into(),
                need: Need::IfPossible,
            });
        }
        ops.push(MountOp::mount("tmpfs", "/tmp", "mode=1777,size=512m", data));
        ops.push(MountOp::mount("tmpfs", "/run", "mode=755,size=64m", data));
    }
    ops.extend(kernel_views::mounted(spec));
    ops.extend(devices::made());
    ops.extend(kernel_views::masked());
    ops.extend(asked::shown(&spec.tmpfs, &spec.binds));
    // Last, for it may be in a volume; as OCI runtimes do. Empty means `/`.
    if !spec.cwd.as_os_str().is_empty() {
        ops.push(MountOp::Folder {
            path: Path::new("/").join(&spec.cwd),
            mode: 0o755,
        });
    }
    ops
}

fn overlay_root(rootfs: &Rootfs, attrs: Attr) -> Option<MountOp> {
    let Rootfs::Overlay {
        lower,
        upper,
        work,
        target,
        kept,
    } = rootfs
    else {
        return None;
    };
    Some(MountOp::OverlayRoot {
        lower: lower.clone(),
        upper: upper.clone(),
        work: work.clone(),
        target: target.clone(),
        attrs,
        kept: *kept,
    })
}

/// The overlay's options (Documentation/filesystems/overlayfs.rst), with its separators escaped.
/// `volatile` spares syncing a layer that is thrown away; the kernel refuses to mount one again that
/// was so mounted and not cleanly unmounted, so a kept one is not.
pub(super) fn overlay_options(lower: &[PathBuf], upper: &Path, work: &Path, kept: bool) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;

    fn push(out: &mut Vec<u8>, path: &Path, separators: &[u8]) {
        for &byte in path.as_os_str().as_bytes() {
            if separators.contains(&byte) {
                out.push(b'\\');
            }
            out.push(byte);
        }
    }
    let mut out = Vec::new();
    if !kept {
        out.extend_from_slice(b"volatile,");
    }
    out.extend_from_slice(b"lowerdir=");
    for (number, layer) in lower.iter().enumerate() {
        if number > 0 {
            out.push(b':');
        }
        push(&mut out, layer, b":,\\");
    }
    out.extend_from_slice(b",upperdir=");
    push(&mut out, upper, b",\\");
    out.extend_from_slice(b",workdir=");
    push(&mut out, work, b",\\");
    out
}

#[cfg(test)]
mod tests {
    use super::super::Bind;
    use super::*;

    fn spec(rootfs: Rootfs) -> InitSpec {
        InitSpec {
            hostname: "lb".into(),
            rootfs,
            hosts: "127.0.0.1 localhost\n".into(),
            binds: vec![Bind {
                source: "/srv".into(),
                target: "data".into(),
                read_only: true,
            }],
            env: Vec::new(),
            user: String::new(),
            cwd: "/opt/x".into(),
            capabilities: Vec::new(),
            process: None,
            grace_ms: 3000,
            stop_signal: libc::SIGTERM,
            tmpfs: Vec::new(),
            seccomp: true,
            cgroups: Vec::new(),
        }
    }

    fn overlay() -> Rootfs {
        Rootfs::Overlay {
            lower: vec!["/s/b".into(), "/s/a".into()],
            upper: "/n/up".into(),
            work: "/n/work".into(),
            target: "/n/root".into(),
            kept: false,
        }
    }

    fn position(ops: &[MountOp], what: impl Fn(&MountOp) -> bool) -> usize {
        ops.iter().position(what).expect("the step is in the plan")
    }

    #[test]
    fn the_host_is_cut_off_before_anything_and_let_go_before_anything_of_the_nodes() {
        for rootfs in [Rootfs::Host, overlay()] {
            let ops = plan(&spec(rootfs));
            assert_eq!(ops[0], MountOp::Private);
            let pivot = position(&ops, |op| *op == MountOp::Pivot);
            for (at, op) in ops.iter().enumerate() {
                let before = matches!(
                    op,
                    MountOp::Private
                        | MountOp::Take { .. }
                        | MountOp::TakeText { .. }
                        | MountOp::HostRoot { .. }
                        | MountOp::OverlayRoot { .. }
                );
                assert_eq!(at < pivot, before, "{op:?}");
            }
        }
    }

    #[test]
    fn all_that_is_shown_was_taken() {
        for rootfs in [Rootfs::Host, overlay()] {
            let ops = plan(&spec(rootfs));
            let taken: Vec<&String> = ops
                .iter()
                .filter_map(|op| match op {
                    MountOp::Take { key, .. } | MountOp::TakeText { key, .. } => Some(key),
                    _ => None,
                })
                .collect();
            let shown: Vec<&String> = ops
                .iter()
                .filter_map(|op| match op {
                    MountOp::Show { key, .. } => Some(key),
                    _ => None,
                })
                .collect();
            let sorted = |mut list: Vec<&String>| {
                list.sort();
                list.into_iter().cloned().collect::<Vec<_>>()
            };
            assert_eq!(sorted(taken), sorted(shown));
        }
    }

    #[test]
    fn nothing_but_devices_and_terminals_may_hold_devices() {
        for rootfs in [Rootfs::Host, overlay()] {
            for op in plan(&spec(rootfs)) {
                let (attrs, device) = match &op {
                    MountOp::HostRoot { attrs, .. } | MountOp::OverlayRoot { attrs, .. } => {
                        (*attrs, false)
                    }
                    MountOp::Take { key, attrs, .. } => (*attrs, key.starts_with("/dev/")),
                    MountOp::Mount { kind, attrs, .. } => (*attrs, *kind == "devpts"),
                    _ => continue,
                };
                assert_eq!(!attrs.contains(Attr::MOUNT_ATTR_NODEV), device, "{op:?}");
            }
        }
    }

    #[test]
    fn the_hosts_root_is_read_only() {
        let ops = plan(&spec(Rootfs::Host));
        let attrs = ops.iter().find_map(|op| match op {
            MountOp::HostRoot { attrs, .. } => Some(*attrs),
            _ => None,
        });
        assert!(attrs.unwrap().contains(Attr::MOUNT_ATTR_RDONLY));
    }

    #[test]
    fn network_sysctls_can_be_set_by_a_network_administrator_only() {
        let net = MountOp::Remount {
            path: "/proc/sys/net".into(),
            set: Attr::empty(),
            clear: Attr::MOUNT_ATTR_RDONLY,
        };
        let mut spec = spec(Rootfs::Host);
        assert!(!plan(&spec).contains(&net));
        spec.capabilities.push("CAP_NET_ADMIN".into());
        let ops = plan(&spec);
        let sys = position(
            &ops,
            |op| matches!(op, MountOp::Remount { path, .. } if path == Path::new("/proc/sys")),
        );
        assert!(sys < position(&ops, |op| *op == net));
    }

    #[test]
    fn the_working_directory_is_made_last_and_bind_targets_are_absolute() {
        for rootfs in [Rootfs::Host, overlay()] {
            let ops = plan(&spec(rootfs));
            let last = [
                MountOp::Show {
                    key: "bind 0".into(),
                    target: "/data".into(),
                    need: Need::Create,
                },
                MountOp::Folder {
                    path: "/opt/x".into(),
                    mode: 0o755,
                },
            ];
            assert!(ops.ends_with(&last), "{ops:?}");
        }
    }

    #[test]
    fn overlay_options_escape_what_separates() {
        let options = |kept| {
            let lower = ["/s/b:1,2".into(), "/s/a\\c".into()];
            let upper = Path::new("/n/u,p:x");
            let options = overlay_options(&lower, upper, Path::new("/n/w"), kept);
            String::from_utf8(options).unwrap()
        };
        let rest = "lowerdir=/s/b\\:1\\,2:/s/a\\\\c,upperdir=/n/u\\,p:x,workdir=/n/w";
        assert_eq!(options(false), format!("volatile,{rest}"));
        assert_eq!(options(true), rest);
    }
}
