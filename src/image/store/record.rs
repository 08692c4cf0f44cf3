//! What the store knows of an image: records, and the layers that they hold on to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Store;
use crate::image::error::{Error, IoContext};
use crate::image::several::unpack_all;
use crate::image::unpack::{forget_size, is_layer};
use crate::image::{Image, Progress, RunConfig, digest, files, layout};

/// Version of the records' format; others are ignored and made anew.
const RECORD: u32 = 1;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageInfo {
    /// Name that [`Store::remove`] takes: the recipe's, or a layout's path with its tag.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
    /// `recipe`, `registry`, `layout` or `archive`.
    pub kind: String,
    /// Bytes of its layers as blobs.
    pub size: u64,
    /// Bytes of all files of its layers.
    pub unpacked: u64,
    /// When it was unpacked, seconds since 1970.
    pub created: u64,
    /// Its OCI image layout.
    pub layout: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub name: String,
    pub kind: String,
    pub digest: String,
    /// Hexadecimal diff ids, the uppermost first, none twice.
    pub layers: Vec<String>,
    size: u64,
    unpacked: u64,
    created: u64,
    pub layout: PathBuf,
    pub config: RunConfig,
}

impl Store {
    /// Unpacks a layout's image and records it under `key`.
    pub(super) fn import(
        &self,
        key: &str,
        name: &str,
        kind: &str,
        dir: &Path,
        tag: Option<&str>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Record, Error> {
        let contents = layout::read(dir, tag)?;
        let mut layers = Vec::new();
        let unpacked = unpack_all(&self.root, &contents.layers, progress)?;
        let size = contents.layers.iter().map(|layer| layer.size).sum();
        for layer in contents.layers.iter().rev() {
            // Overlayfs takes no folder twice; the lower one of two equal layers adds nothing.
            let hex = digest::sha256_hex(&layer.diff_id)
                .unwrap_or_default()
                .to_owned();
            if !layers.contains(&hex) {
                layers.push(hex);
            }
        }
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let record = Record {
            version: RECORD,
            name: name.to_owned(),
            kind: kind.to_owned(),
            digest: contents.digest,
            layers,
            size,
            unpacked,
            created,
            layout: dir.to_owned(),
            config: contents.config,
        };
        let path = self.record_path(key);
        serde_json::to_vec_pretty(&record)
            .map_err(std::io::Error::from)
            .and_then(|bytes| files::replace(&path, &bytes))
            .on("write", &path)?;
        Ok(record)
    }

    pub(super) fn record_path(&self, key: &str) -> PathBuf {
        self.root.join("images").join(format!("{key}.json"))
    }

    pub(super) fn load(&self, key: &str) -> Option<Record> {
        read_record(&self.record_path(key))
    }

    /// The image under `key` if it and all its layers are there.
    pub(super) fn recorded(&self, key: &str) -> Option<Image> {
        let record = self.load(key)?;
        record
            .layers
            .iter()
            .all(|hex| is_layer(&self.root, hex))
            .then(|| self.image(record))
    }

    pub(super) fn image(&self, record: Record) -> Image {
        let layers = record
            .layers
            .iter()
            .map(|hex| self.root.join("layers").join(hex))
            .collect();
        Image {
            reference: record.name,
            digest: record.digest,
            layers,
            config: record.config,
        }
    }

    pub(super) fn records(&self) -> Result<Vec<(PathBuf, Record)>, Error> {
        let dir = self.root.join("images");
        let mut records = Vec::new();
        for entry in fs::read_dir(&dir).on("list", &dir)? {
            let path = entry.on("list", &dir)?.path();
            if let Some(record) = read_record(&path) {
                records.push((path, record));
            }
        }
        Ok(records)
    }

    /// Removes those of `layers` that no image has and nobody has mounted.
    pub(super) fn sweep(&self, mut layers: BTreeSet<String>) -> Result<(), Error> {
        for (_, record) in self.records()? {
            for hex in &record.layers {
                layers.remove(hex);
            }
        }
        for hex in layers {
            if user_of(&BTreeSet::from([hex.clone()])).is_some() {
                continue;
            }
            let lock = self.root.join("locks").join(format!("layer-{hex}"));
            let _lock = files::lock(&lock, || {})?;
            // By a rename first: what has the layer's name is whole.
            let (path, gone) = (
                self.root.join("layers").join(&hex),
                self.root.join("layers").join(format!(".old-{hex}")),
            );
            files::remove_tree(&gone)?;
            forget_size(&self.root, &hex)?;
            if fs::rename(&path, &gone).is_ok() {
                files::remove_tree(&gone)?;
            }
        }
        Ok(())
    }
}

impl Record {
    pub(super) fn info(self) -> ImageInfo {
        ImageInfo {
            name: self.name,
            digest: self.digest,
            kind: self.kind,
            size: self.size,
            unpacked: self.unpacked,
            created: self.created,
            layout: self.layout,
        }
    }

    pub(super) fn done(&self, since: Instant) -> Progress {
        Progress::Done {
            name: self.name.clone(),
            bytes: self.unpacked,
            took: since.elapsed(),
        }
    }
}

fn read_record(path: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (record.version == RECORD).then_some(record)
}

/// A process in whose mount namespace one of these layers is mounted, as far as this user can see.
pub(super) fn user_of(layers: &BTreeSet<String>) -> Option<u32> {
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let Ok(mounts) = fs::read_to_string(entry.path().join("mountinfo")) else {
            continue;
        };
        if layers.iter().any(|hex| mounts.contains(hex.as_str())) {
            return Some(pid);
        }
    }
    None
}
