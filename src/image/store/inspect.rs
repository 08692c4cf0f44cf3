//! Everything that the store knows of one image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::Store;
use super::lease::{User, users_of};
use crate::image::error::Error;
use crate::image::unpack::known;
use crate::image::{RunConfig, layout};

/// An image of the store.
#[derive(Debug, Clone, Serialize)]
pub struct Inspected {
    /// Names that lead to it.
    pub references: Vec<String>,
    /// `recipe`, `registry`, `layout` or `archive`, of the first reference.
    pub kind: String,
    /// Digest of its manifest.
    pub digest: String,
    /// `linux/amd64`; `None` with what else is in its layout only, if that is gone.
    pub platform: Option<String>,
    /// When it was made, as the image says (RFC 3339).
    pub created: Option<String>,
    /// When it was unpacked, seconds since 1970.
    pub unpacked_at: u64,
    /// What runs in it.
    pub config: RunConfig,
    /// Ports that it listens on, `80/tcp`.
    pub ports: Vec<String>,
    /// Folders that it wants as volumes.
    pub volumes: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its layers, the uppermost first, none twice.
    pub layers: Vec<InspectedLayer>,
    /// Bytes of its blobs.
    pub size: u64,
    /// Bytes of all files of its layers.
    pub unpacked: u64,
    /// Those of layers that only this image has.
    pub unique: u64,
    /// Those of layers that others have as well.
    pub shared: u64,
    /// Its OCI image layout.
    pub layout: PathBuf,
    /// Who uses it.
    pub used_by: Vec<User>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedLayer {
    /// Digest of its content.
    pub diff_id: String,
    /// Digest of its blob.
    pub digest: Option<String>,
    /// Bytes of its blob.
    pub size: Option<u64>,
    /// Bytes of its files; `None` if it is not unpacked any more.
    pub unpacked: Option<u64>,
    /// Names of other images that have it.
    pub shared_with: Vec<String>,
}

impl Store {
    /// Looks at an image: by name, digest, or the beginning of one. Of several builds of one recipe it
    /// is the newest.
    pub fn inspect(&self, name: &str) -> Result<Inspected, Error> {
        let mut named = self.named(name)?;
        named.sort_by_key(|(_, r)| r.created);
        let Some((_, record)) = named.pop() else {
            return Err(Error::NotInStore {
                name: name.to_owned(),
                store: self.root.clone(),
            });
        };
        let records = self.records()?;
        let mut references: Vec<_> = records
            .iter()
            .filter(|(_, r)| r.digest == record.digest && r.name != record.name)
            .map(|(_, r)| r.name.clone())
            .collect();
        references.sort();
        references.insert(0, record.name.clone());
        let details = layout::details(&record.layout, &record.digest).ok();
        let layers: Vec<_> = record
            .layers
            .iter()
            .map(|hex| {
                let diff_id = format!("sha256:{hex}");
                let blob = details.iter().flat_map(|d| &d.layers);
                let blob = blob.clone().find(|(id, ..)| *id == diff_id);
                let others: BTreeSet<_> = records
                    .iter()
                    .filter(|(_, r)| r.digest != record.digest && r.layers.contains(hex))
                    .map(|(_, r)| r.name.clone())
                    .collect();
                InspectedLayer {
                    diff_id,
                    digest: blob.map(|(_, digest, _)| digest.clone()),
                    size: blob.map(|(.., size)| *size),
                    unpacked: known(&self.root, hex),
                    shared_with: others.into_iter().collect(),
                }
            })
            .collect();
        let sum = |shared: bool| {
            let of = layers.iter().filter(|l| l.shared_with.is_empty() != shared);
            of.filter_map(|l| l.unpacked).sum()
        };
        let users = users_of(&self.uses(), &record.digest, &record.layers);
        let (platform, created, ports, volumes, labels) = match details {
            Some(d) => (Some(d.platform), d.created, d.ports, d.volumes, d.labels),
            None => Default::default(),
        };
        Ok(Inspected {
            references,
            kind: record.kind,
            digest: record.digest,
            platform,
            created,
            unpacked_at: record.created,
            config: record.config,
            ports,
            volumes,
            labels,
            size: record.size,
            unpacked: record.unpacked,
            unique: sum(false),
            shared: sum(true),
            layers,
            layout: record.layout,
            used_by: users.into_iter().collect(),
        })
    }
}
