//! Layers that are mounted, from /proc/PID/mountinfo (proc_pid_mountinfo(5)): of labs that an older
//! nslab brought up, and of whoever else mounts them. What long `lowerdir`s hide (they are given as
//! descriptors then) the leases tell.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::lease::{Use, User};
use crate::image::digest::is_hex;
use crate::kernel::mount::unescape;

/// Mounts of this store's layers, as far as this user can see.
pub(super) fn uses(root: &Path) -> Vec<Use> {
    let mut seen = BTreeSet::new();
    let mut claims: Vec<Use> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        // Processes of one mount namespace all see the same.
        if fs::read_link(entry.path().join("ns/mnt")).is_ok_and(|ns| !seen.insert(ns)) {
            continue;
        }
        let Ok(mountinfo) = fs::read_to_string(entry.path().join("mountinfo")) else {
            continue;
        };
        for found in in_mountinfo(&mountinfo, root, pid) {
            if !claims.contains(&found) {
                claims.push(found);
            }
        }
    }
    claims
}

fn in_mountinfo(mountinfo: &str, root: &Path, pid: u32) -> Vec<Use> {
    let mut claims = Vec::new();
    for line in mountinfo.lines() {
        let Some((_, filesystem)) = line.split_once(" - overlay ") else {
            continue;
        };
        let options = filesystem.split_once(' ').map_or("", |(_, o)| o);
        let (mut layers, mut user) = (Vec::new(), User::Process { pid });
        for option in split(&unescape(options), b',') {
            if let Some(lower) = option.strip_prefix(b"lowerdir=") {
                layers.extend(split(lower, b':').iter().filter_map(|l| layer(l, root)));
            } else if let Some(one) = option.strip_prefix(b"lowerdir+=") {
                layers.extend(layer(one, root));
            } else if let Some(upper) = option.strip_prefix(b"upperdir=") {
                user = node(&path(upper), root).unwrap_or(user);
            }
        }
        if !layers.is_empty() {
            claims.push(Use {
                user,
                digest: String::new(),
                layers,
            });
        }
    }
    claims
}

/// The hexadecimal name of a layer of this store: by its path, or by being the same folder under
/// another one.
fn layer(text: &[u8], root: &Path) -> Option<String> {
    let path = path(text);
    let hex = path.file_name()?.to_str().filter(|n| is_hex(n))?.to_owned();
    let ours = root.join("layers").join(&hex);
    let id = |p: &Path| p.metadata().ok().map(|m| (m.dev(), m.ino()));
    (path == ours || id(&path).is_some_and(|theirs| id(&ours) == Some(theirs))).then_some(hex)
}

/// Whose writable layer this is.
fn node(upper: &Path, root: &Path) -> Option<User> {
    let inside = ["nodes", "kept"]
        .iter()
        .find_map(|sub| upper.strip_prefix(root.join(sub)).ok())?;
    let mut parts = inside.iter().map(|p| p.to_string_lossy().into_owned());
    Some(User::Node {
        lab: parts.next()?,
        node: parts.next()?,
    })
}

fn path(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut iter = text.iter();
    while let Some(&byte) = iter.next() {
        bytes.push(if byte == b'\\' {
            *iter.next().unwrap_or(&byte)
        } else {
            byte
        });
    }
    OsString::from_vec(bytes).into()
}

/// Splits at separators that have no backslash before them.
fn split(text: &[u8], separator: u8) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut escaped = false;
    for &byte in text {
        if byte == separator && !escaped {
            parts.push(Vec::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(byte);
        }
        escaped = byte == b'\\' && !escaped;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_tell_their_layers_and_whose_they_are() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let mountinfo = format!(
            "22 27 0:21 / /proc rw - proc proc rw\n\
             30 27 0:30 / / rw shared:1 - overlay overlay rw,lowerdir=/s/layers/{a}:/s/layers/{b},\
             upperdir=/s/nodes/dsr/server1/upper,workdir=/s/nodes/dsr/server1/work,volatile\n\
             31 27 0:31 / /mnt rw - overlay overlay rw,lowerdir=/s/layers/{b}:/etc\n\
             32 27 0:32 / /mnt2 rw - overlay overlay rw,lowerdir=/other/layers/{b}:/etc\n\
             33 27 0:33 / /mnt3 rw - overlay overlay rw,lowerdir=/s\\134:t/layers/{a}\n"
        );
        let node = User::Node {
            lab: "dsr".into(),
            node: "server1".into(),
        };
        let of = |user, layers: &[&String]| Use {
            user,
            digest: String::new(),
            layers: layers.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            in_mountinfo(&mountinfo, Path::new("/s"), 7),
            [of(node, &[&a, &b]), of(User::Process { pid: 7 }, &[&b]),]
        );
        assert_eq!(
            in_mountinfo(&mountinfo, Path::new("/s:t"), 7),
            [of(User::Process { pid: 7 }, &[&a])]
        );
    }
}
