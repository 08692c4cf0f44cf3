//! What is mounted in a node: volumes and memory filesystems.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use super::Validator;
use crate::lab::model::{Tmpfs, Volume};
use crate::spec::text::quote;
use crate::spec::{At, Code, Diagnostic, Field, RawTmpfs, RawVolume, Span};

/// Everybody may write, and remove what is his own: the default of Docker's `--tmpfs`.
const STICKY: u32 = 0o1777;

/// The mounts of a node.
pub(super) struct Mounts {
    pub(super) volumes: Vec<Volume>,
    pub(super) tmpfs: Vec<Tmpfs>,
}

/// Which places inside are taken, and where the file says so.
type Targets = HashMap<PathBuf, Span>;

/// An absolute path inside a node, without `..`, in its shortest form.
pub(super) fn path_inside(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let climbs = path.components().any(|c| matches!(c, Component::ParentDir));
    (path.is_absolute() && !climbs && !text.contains('\0')).then(|| path.components().collect())
}

impl Validator<'_> {
    pub(super) fn mounts(&mut self, volumes: &[RawVolume], tmpfs: &[RawTmpfs]) -> Mounts {
        let mut targets = Targets::new();
        Mounts {
            volumes: self.volumes(volumes, &mut targets),
            tmpfs: self.tmpfs(tmpfs, &mut targets),
        }
    }

    fn volumes(&mut self, list: &[RawVolume], targets: &mut Targets) -> Vec<Volume> {
        let mut volumes = Vec::new();
        for raw in list {
            let (source, target, read_only) = match raw {
                RawVolume::Short(at) => {
                    let Some(parts) = short_volume(at) else {
                        self.bad_volume(
                            at,
                            "is not `host:inside` or `host:inside:ro`",
                            "write it like `\"./site:/srv/site:ro\"`, or as a table with \
                             `source`, `target` and `read_only`",
                        );
                        continue;
                    };
                    parts
                }
                RawVolume::Long {
                    source,
                    target,
                    read_only,
                } => {
                    let read_only = read_only.get().is_some_and(|at| at.value);
                    let (Some(source), Some(target)) = (source.get(), target.get()) else {
                        continue;
                    };
                    (source.clone(), target.clone(), read_only)
                }
            };
            if !self.source(&source) {
                continue;
            }
            let Some(path) = self.target(&target) else {
                continue;
            };
            if let Some(first) = targets.insert(path.clone(), target.span) {
                let d = Diagnostic::new(
                    Code::BadVolume,
                    target.span,
                    format!("two volumes at {}", quote(&target.value)),
                    "would hide the first",
                    "give each volume a place of its own inside the node",
                )
                .and(first, "first volume");
                self.diagnostics.push(d);
            }
            volumes.push(Volume {
                source: source.value.into(),
                target: path,
                read_only,
                span: source.span,
            });
        }
        volumes
    }

    fn bad_volume(&mut self, at: &At<String>, why: &str, help: &str) {
        let message = format!("volume {} {why}", quote(&at.value));
        self.report(Code::BadVolume, at.span, message, "bad volume", help);
    }

    fn source(&mut self, at: &At<String>) -> bool {
        if at.value.is_empty() || at.value.contains('\0') {
            self.bad_volume(
                at,
                "has no path on the host",
                "name a folder or file of the host",
            );
        } else if at.value.starts_with('~') {
            self.bad_volume(
                at,
                "begins with `~`, which only shells know",
                "write the path in full, or from the lab file's folder on",
            );
        } else {
            return true;
        }
        false
    }

    fn target(&mut self, at: &At<String>) -> Option<PathBuf> {
        match path_inside(&at.value) {
            None => self.bad_volume(
                at,
                "has no absolute path inside the node",
                "begin it with `/` and leave `..` out",
            ),
            Some(path) if path.parent().is_none() => {
                self.bad_volume(at, "would hide the whole root", "choose a folder below `/`");
            }
            path => return path,
        }
        None
    }

    fn tmpfs(&mut self, list: &[RawTmpfs], targets: &mut Targets) -> Vec<Tmpfs> {
        let mut found = Vec::new();
        for raw in list {
            let tmpfs = match raw {
                RawTmpfs::Short(at) => self.short_tmpfs(at),
                RawTmpfs::Long {
                    target,
                    size,
                    mode,
                    exec,
                } => self.long_tmpfs(target, size, mode, exec),
            };
            let Some((tmpfs, span)) = tmpfs else { continue };
            if let Some(first) = targets.insert(tmpfs.target.clone(), span) {
                let target = tmpfs.target.to_string_lossy();
                let d = Diagnostic::new(
                    Code::BadTmpfs,
                    span,
                    format!("two mounts at {}", quote(&target)),
                    "only one could be seen",
                    "give each volume and each tmpfs a place of its own inside the node",
                )
                .and(first, "first mount");
                self.diagnostics.push(d);
            }
            found.push(tmpfs);
        }
        found
    }

    fn bad_tmpfs(&mut self, span: Span, message: String, help: &str) {
        self.report(Code::BadTmpfs, span, message, "bad tmpfs", help);
    }

    /// `/inside:size=64m,mode=1777,exec`. What every tmpfs is anyway may be said, so that an entry
    /// of a Compose file can be taken over.
    fn short_tmpfs(&mut self, at: &At<String>) -> Option<(Tmpfs, Span)> {
        let part = |value: &str| At {
            value: value.to_owned(),
            span: at.span,
        };
        let (target, options) = at.value.split_once(':').unwrap_or((&at.value, ""));
        let target = self.tmpfs_target(&part(target));
        let mut tmpfs = Tmpfs {
            target: PathBuf::new(),
            size: None,
            mode: STICKY,
            exec: false,
        };
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("size", size) => tmpfs.size = Some(self.tmpfs_size(&part(size))?),
                ("mode", mode) => tmpfs.mode = self.mode(&part(mode))?,
                ("exec", "") => tmpfs.exec = true,
                ("noexec", "") => tmpfs.exec = false,
                ("rw" | "nosuid" | "nodev", "") => {}
                _ => {
                    let message = format!("a tmpfs has no option {}", quote(option));
                    let help = "it may have `size`, `mode` and `exec`, as \
                                `\"/var/cache:size=64m,mode=755,exec\"`";
                    self.bad_tmpfs(at.span, message, help);
                    return None;
                }
            }
        }
        tmpfs.target = target?;
        Some((tmpfs, at.span))
    }

    fn long_tmpfs(
        &mut self,
        target: &Field<String>,
        size: &Field<String>,
        mode: &Field<String>,
        exec: &Field<bool>,
    ) -> Option<(Tmpfs, Span)> {
        let path = target.get().and_then(|at| self.tmpfs_target(at));
        let size = match size.get() {
            None => Some(None),
            Some(at) => self.tmpfs_size(at).map(Some),
        };
        let mode = match mode.get() {
            None => Some(STICKY),
            Some(at) => self.mode(at),
        };
        let tmpfs = Tmpfs {
            target: path?,
            size: size?,
            mode: mode?,
            exec: exec.get().is_some_and(|at| at.value),
        };
        Some((tmpfs, target.get()?.span))
    }

    fn tmpfs_target(&mut self, at: &At<String>) -> Option<PathBuf> {
        let path = path_inside(&at.value);
        let (why, help) = match &path {
            None => (
                "has no absolute path inside the node",
                "begin it with `/` and leave `..` out",
            ),
            Some(path) if path.parent().is_none() => {
                ("would hide the whole root", "choose a folder below `/`")
            }
            Some(path)
                if path == Path::new("/dev")
                    || ["/proc", "/sys"].iter().any(|own| path.starts_with(own)) =>
            {
                (
                    "would hide what the kernel shows there",
                    "choose another folder",
                )
            }
            Some(_) => return path,
        };
        self.bad_tmpfs(at.span, format!("tmpfs {} {why}", quote(&at.value)), help);
        None
    }

    fn tmpfs_size(&mut self, at: &At<String>) -> Option<u64> {
        self.size(at, "a tmpfs", 4 << 10..=1 << 40)
    }

    /// Permission bits in octal, as chmod(1) has them.
    fn mode(&mut self, at: &At<String>) -> Option<u32> {
        let digits = !at.value.is_empty() && at.value.bytes().all(|b| b.is_ascii_digit());
        let mode = u32::from_str_radix(&at.value, 8)
            .ok()
            .filter(|mode| digits && *mode <= 0o7777);
        if mode.is_none() {
            let message = format!("{} are no permission bits", quote(&at.value));
            let help = "write them in octal as chmod(1) has them, as `1777` or `755`";
            self.bad_tmpfs(at.span, message, help);
        }
        mode
    }
}

fn short_volume(at: &At<String>) -> Option<(At<String>, At<String>, bool)> {
    let parts: Vec<&str> = at.value.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => return None,
    };
    let part = |s: &str| At {
        value: s.to_owned(),
        span: at.span,
    };
    Some((part(source), part(target), read_only))
}
