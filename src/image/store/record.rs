//! What the store knows of an image: records, and the layers that they hold on to.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Store;
use super::lease::{Use, User, users_of};
use crate::image::error::{Error, IoContext};
use crate::image::several::unpack_all;
use crate::image::unpack::{is_layer, known};
use crate::image::{Image, Progress, RunConfig, digest, implied, layout};

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
    /// Those of layers that no other image of the store has: what its removal would free.
    pub unique: u64,
    /// When it was unpacked, seconds since 1970.
    pub created: u64,
    /// Its OCI image layout.
    pub layout: PathBuf,
    /// Who uses it.
    pub used_by: Vec<User>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub name: String,
    pub kind: String,
    pub digest: String,
    /// Hexadecimal diff ids, the uppermost first, none twice; before them, where it takes one, the name of
    /// the layer that `implied` makes.
    pub layers: Vec<String>,
    pub size: u64,
    pub unpacked: u64,
    pub created: u64,
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
        for layer in contents.layers.iter().rev() {
            // Overlayfs takes no folder twice; the lower one of two equal layers adds nothing.
            let hex = digest::sha256_hex(&layer.diff_id)
                .unwrap_or_default()
                .to_owned();
            if !layers.contains(&hex) {
                layers.push(hex);
            }
        }
        // Before the first is unpacked: nobody sweeps it away until the record tells of it.
        self.hold(&contents.digest, &layers)?;
        let unpacked = unpack_all(&self.root, &contents.layers, progress)?;
        if let Some(top) = implied::name(&self.root, &layers) {
            let with = [std::slice::from_ref(&top), &layers].concat();
            self.hold(&contents.digest, &with)?;
            if implied::complete(&self.root, &top, &layers)? {
                layers = with;
            }
        }
        let size = contents.layers.iter().map(|layer| layer.size).sum();
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
        let text = serde_json::to_vec_pretty(&record).map_err(std::io::Error::from);
        self.write(&path, &text.on("encode", &path)?)?;
        Ok(record)
    }

    pub(super) fn record_path(&self, key: &str) -> PathBuf {
        self.root.join("images").join(format!("{key}.json"))
    }

    pub(super) fn load(&self, key: &str) -> Option<Record> {
        read_record(&self.record_path(key))
    }

    /// The image under `key` if it and all its layers are there. They stay as long as this store is
    /// open.
    pub(super) fn recorded(&self, key: &str) -> Result<Option<Image>, Error> {
        let Some(record) = self.load(key) else {
            return Ok(None);
        };
        self.hold(&record.digest, &record.layers)?;
        let there = record.layers.iter().all(|hex| is_layer(&self.root, hex));
        Ok(there.then(|| self.image(record)))
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

    /// What there is to say of images: with their users, and what they share with all others.
    pub(super) fn infos<'a>(
        &self,
        records: impl Iterator<Item = &'a Record>,
        claims: &[Use],
    ) -> Result<Vec<ImageInfo>, Error> {
        let all = self.records()?;
        let infos = records.map(|record| ImageInfo {
            name: record.name.clone(),
            digest: record.digest.clone(),
            kind: record.kind.clone(),
            size: record.size,
            unpacked: record.unpacked,
            unique: record
                .layers
                .iter()
                .filter(|hex| {
                    let other = |r: &Record| r.digest != record.digest && r.layers.contains(hex);
                    !all.iter().any(|(_, r)| other(r))
                })
                .filter_map(|hex| known(&self.root, hex))
                .sum(),
            created: record.created,
            layout: record.layout.clone(),
            used_by: users_of(claims, &record.digest, &record.layers)
                .into_iter()
                .collect(),
        });
        Ok(infos.collect())
    }
}

impl Record {
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
