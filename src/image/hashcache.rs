//! Digests of large files, kept by what stat(2) says of them: a web archive of 80 MB is not read
//! each time that a lab starts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest;
use super::error::{Error, IoContext};

/// Files below this size are always read.
const SMALL: u64 = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    digest: String,
}

/// The cache; without a file it remembers nothing.
#[derive(Debug)]
pub(super) struct HashCache {
    file: Option<PathBuf>,
    known: BTreeMap<PathBuf, Known>,
}

impl HashCache {
    /// A cache that is kept in `file`; a missing or damaged one is empty.
    pub(super) fn open(file: &Path) -> Self {
        let known = fs::read(file)
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok());
        Self {
            file: Some(file.to_owned()),
            known: known.unwrap_or_default(),
        }
    }

    /// A cache that remembers nothing.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            file: None,
            known: BTreeMap::new(),
        }
    }

    /// `sha256:...` of a file.
    pub(super) fn of(&mut self, path: &Path) -> Result<String, Error> {
        let meta = path.metadata().on("look at", path)?;
        if meta.len() < SMALL {
            return digest::of_file(path);
        }
        let mut now = Known {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
            digest: String::new(),
        };
        if let Some(known) = self.known.get(path) {
            now.digest.clone_from(&known.digest);
            if now == *known {
                return Ok(now.digest);
            }
        }
        now.digest = digest::of_file(path)?;
        let digest = now.digest.clone();
        self.known.insert(path.to_owned(), now);
        if let Some(file) = &self.file {
            // A cache that cannot be written costs time, nothing else.
            let _ = serde_json::to_vec(&self.known)
                .map_err(std::io::Error::from)
                .and_then(|bytes| super::files::replace(file, &bytes));
        }
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_read_once_and_again_when_it_changes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (big, cache) = (dir.path().join("big"), dir.path().join("cache"));
        fs::write(&big, vec![1; 2 << 20]).expect("write");
        let first = HashCache::open(&cache).of(&big).expect("hash");
        // What is remembered is believed: put a mark in it.
        let text = fs::read_to_string(&cache)
            .expect("cache")
            .replace(&first, "sha256:mark");
        fs::write(&cache, text).expect("write");
        assert_eq!(
            HashCache::open(&cache).of(&big).expect("hash"),
            "sha256:mark"
        );
        fs::write(&big, vec![2; 2 << 20]).expect("write");
        let second = HashCache::open(&cache).of(&big).expect("hash");
        assert_eq!(second, digest::of_file(&big).expect("hash"));
        assert_ne!(second, first);
    }
}
