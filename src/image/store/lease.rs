//! Leases: who uses which layers, for as long as a process holds on to its file in `users/`.
//!
//! Whoever resolves an image has a lease before it looks whether the layers are there, and keeps it
//! until it needs them no more; a lab's supervisor has one of its own from before its first node to
//! after its last. So layers are safe between `resolve` and the mount, and under a node whose init
//! comes with the first `exec`, with nothing mounted yet.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use super::{Store, kept, mounts};
use crate::image::error::{Error, IoContext};
use crate::image::unpack::is_layer;

/// Who uses an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum User {
    /// A node of a lab that is up, whether its init was started or not.
    Node {
        /// The lab's name.
        lab: String,
        /// The node's.
        node: String,
    },
    /// The files that a node keeps (`keep = true`), while its lab is not up.
    Kept {
        /// The lab's name.
        lab: String,
        /// The node's.
        node: String,
    },
    /// A process: a command of nslab that is at work, or one that has the layers mounted.
    Process {
        /// Its id.
        pid: u32,
    },
}

impl User {
    /// The lab's name, if it is a lab.
    pub fn lab(&self) -> Option<&str> {
        match self {
            Self::Node { lab, .. } | Self::Kept { lab, .. } => Some(lab),
            Self::Process { .. } => None,
        }
    }

    /// What has to be done for the image to be free.
    pub(in crate::image) fn way_out(&self) -> String {
        match self {
            Self::Node { lab, .. } => format!("`nslab down {lab}` first"),
            Self::Kept { .. } => "`nslab image prune --kept` throws those away".to_owned(),
            Self::Process { .. } => "try again when it has ended".to_owned(),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { lab, node } => write!(f, "node {node} of lab {lab}"),
            Self::Kept { lab, node } => {
                write!(f, "the files that node {node} of lab {lab} keeps")
            }
            Self::Process { pid } => write!(f, "process {pid}"),
        }
    }
}

/// One user of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Who.
    pub user: User,
    /// Digest of the image's manifest; empty for a mount that nobody explained.
    pub digest: String,
    /// Hexadecimal diff ids of its layers, the uppermost first.
    pub layers: Vec<String>,
}

/// The right to find one's layers where they are. It ends with its value, or with its process.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    pub(super) claims: Vec<Use>,
    _lock: File,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before the lock goes with the file. One that stays is nobody's, and removed by the next.
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// Says who uses which layers, and that they must stay; they need not be there yet.
    pub(super) fn announce(&self, claims: Vec<Use>) -> Result<Lease, Error> {
        let folder = self.root.join("users");
        let _gate = self.finding()?;
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&folder)
            .on("create a file in", &folder)?;
        file.as_file().lock().on("lock", file.path())?;
        let text = serde_json::to_vec(&claims).map_err(std::io::Error::from);
        text.and_then(|text| file.write_all(&text))
            .on("write", file.path())?;
        let name = file
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let path = folder.join(name.trim_start_matches(".new-"));
        let lock = file
            .persist_noclobber(&path)
            .map_err(|e| e.error)
            .on("create", &path)?;
        Ok(Lease {
            path,
            claims,
            _lock: lock,
        })
    }

    /// A lease on images that were resolved before.
    ///
    /// # Errors
    /// A layer is not there: it was removed between the two.
    pub fn lease(&self, claims: Vec<Use>) -> Result<Lease, Error> {
        let lease = self.announce(claims)?;
        let mut layers = lease.claims.iter().flat_map(|u| &u.layers);
        match layers.find(|hex| !is_layer(&self.root, hex)) {
            None => Ok(lease),
            Some(hex) => Err(Error::Gone {
                path: self.root.join("layers").join(hex),
            }),
        }
    }

    /// This process uses these layers as long as the store is open.
    pub(super) fn hold(&self, digest: &str, layers: &[String]) -> Result<(), Error> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |u: &Use| u.digest == digest && u.layers == layers;
        if held.iter().flat_map(|l| &l.claims).any(same) {
            return Ok(());
        }
        held.push(self.announce(vec![Use {
            user: User::Process {
                pid: std::process::id(),
            },
            digest: digest.to_owned(),
            layers: layers.to_vec(),
        }])?);
        Ok(())
    }

    /// Lets go of images that this store has given out.
    pub(super) fn let_go(&self, digests: &BTreeSet<&str>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|l| !l.claims.iter().any(|u| digests.contains(u.digest.as_str())));
    }

    /// Everybody who uses layers of this store: leases that somebody holds, mounts, kept files.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut claims = Vec::new();
        for path in files_in(&self.root.join("users")) {
            if let Held::By(theirs) = held(&path) {
                claims.extend(theirs);
            }
        }
        claims.extend(mounts::uses(&self.root));
        for kept in kept::uses(&self.root) {
            let used = |u: &Use| {
                let here = matches!((&u.user, &kept.user),
                    (User::Node { lab: a, node: b }, User::Kept { lab: c, node: d }) if (a, b) == (c, d));
                here && u.layers == kept.layers
            };
            if !claims.iter().any(used) {
                claims.push(kept);
            }
        }
        claims
    }
}

/// What a lease's file says.
pub(super) enum Held {
    /// Somebody holds it.
    By(Vec<Use>),
    /// Its process is gone.
    Stale,
}

/// Looks at a lease's file. A file that cannot be opened is as good as gone: its holder removed it.
pub(super) fn held(path: &Path) -> Held {
    let Ok(file) = File::open(path) else {
        return Held::Stale;
    };
    match file.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => {
            let claims = fs::read(path).ok();
            let claims = claims.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            Held::By(claims.unwrap_or_default())
        }
        _ => Held::Stale,
    }
}

/// Files of a folder whose names do not begin with a dot.
pub(super) fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .filter(|e| !e.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|e| e.path())
        .collect();
    paths.sort();
    paths
}

/// Those of `uses` that are of this image: by its digest, or with just its layers mounted.
pub(super) fn users_of(claims: &[Use], digest: &str, layers: &[String]) -> BTreeSet<User> {
    let all =
        |u: &Use| u.layers.len() == layers.len() && layers.iter().all(|hex| u.layers.contains(hex));
    claims
        .iter()
        .filter(|u| u.digest == digest || (u.digest.is_empty() && all(u)))
        .map(|u| u.user.clone())
        .collect()
}
