//! Removing an image, and the layers that nobody needs any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::gate::{Bin, Removing};
use super::lease::{Use, files_in, users_of};
use super::record::{ImageInfo, Record};
use super::{Store, reference};
use crate::image::digest::{is_hex, sha256_hex};
use crate::image::error::{Error, IoContext};
use crate::image::files;
use crate::image::unpack::forget_size;

impl Store {
    /// Removes the images of this name (a recipe's may be several builds) or digest, with the layers
    /// that nobody else needs.
    ///
    /// # Errors
    /// [`Error::InUse`] if a lab, what a node keeps, or a process uses one of them; then none is
    /// removed. Another open [`Store`] of this very process counts, this one does not.
    pub fn remove(&self, name: &str) -> Result<Vec<ImageInfo>, Error> {
        let mut locks = Vec::new();
        for (path, record) in self.named(name)? {
            let busy = || Error::Busy {
                name: record.name.clone(),
            };
            locks.push(files::try_lock(&self.work_lock(&path, &record))?.ok_or_else(busy)?);
        }
        let gate = self.removing()?;
        // Again: what has come and gone meanwhile.
        let mine = self.named(name)?;
        let digests = mine.iter().map(|(_, r)| r.digest.as_str()).collect();
        self.let_go(&digests);
        let claims = self.uses();
        for (_, record) in &mine {
            let users = users_of(&claims, &record.digest, &record.layers);
            if !users.is_empty() {
                return Err(Error::InUse {
                    name: record.name.clone(),
                    users: users.into_iter().collect(),
                });
            }
        }
        let infos = self.infos(mine.iter().map(|(_, r)| r), &claims)?;
        let mut bin = gate.bin(self)?;
        for (path, record) in &mine {
            fs::remove_file(path).on("remove", path)?;
            if record.layout.starts_with(self.root.join("oci")) {
                bin.take(&record.layout)?;
            }
        }
        self.sweep_into(&gate, &mut bin, &claims)?;
        drop(gate);
        bin.empty()?;
        Ok(infos)
    }

    /// Images that a name or the beginning of a digest means, all of one name or digest.
    pub(super) fn named(&self, name: &str) -> Result<Vec<(PathBuf, Record)>, Error> {
        let records = self.records()?;
        let whole = reference::remote(name).map(|r| r.whole()).ok();
        let path = fs::canonicalize(name).map(|p| p.display().to_string()).ok();
        let exact = |r: &Record| {
            r.name == name || r.digest == name || path.as_deref() == Some(r.name.as_str())
        };
        let short = name.strip_prefix("sha256:").unwrap_or(name);
        let begins = |r: &Record| {
            short.len() >= 6 && sha256_hex(&r.digest).is_some_and(|hex| hex.starts_with(short))
        };
        let pick = |fits: &dyn Fn(&Record) -> bool| {
            let fitting = records.iter().filter(|(_, r)| fits(r)).cloned();
            fitting.collect::<Vec<_>>()
        };
        let mut found = pick(&exact);
        if found.is_empty() {
            found = pick(&|r| Some(&r.name) == whole.as_ref());
        }
        if found.is_empty() {
            found = pick(&begins);
            let digests: BTreeSet<_> = found.iter().map(|(_, r)| r.digest.clone()).collect();
            if digests.len() > 1 {
                return Err(Error::Ambiguous {
                    name: name.to_owned(),
                    digests: digests.into_iter().collect(),
                });
            }
        }
        if found.is_empty() {
            return Err(Error::NotInStore {
                name: name.to_owned(),
                store: self.root.clone(),
            });
        }
        Ok(found)
    }

    /// The lock of whoever makes the image that is recorded at `path`.
    pub(super) fn work_lock(&self, path: &Path, record: &Record) -> PathBuf {
        let name = if record.kind == "recipe" {
            format!("recipe-{}", record.name)
        } else {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into()
        };
        self.root.join("locks").join(name)
    }

    /// Removes all layers that no image, lease, mount or kept file needs.
    pub(super) fn sweep(&self) -> Result<(), Error> {
        let gate = self.removing()?;
        let mut bin = gate.bin(self)?;
        let claims = self.uses();
        self.sweep_into(&gate, &mut bin, &claims)?;
        drop(gate);
        bin.empty()
    }

    fn sweep_into(&self, gate: &Removing, bin: &mut Bin, claims: &[Use]) -> Result<(), Error> {
        for hex in self.dangling(gate, claims)? {
            // What has a size and a folder is whole, so the size goes first.
            forget_size(&self.root, &hex)?;
            bin.take(&self.root.join("layers").join(&hex))?;
        }
        Ok(())
    }

    /// Layers that nobody needs; inside the gate, where nobody can come to need one.
    pub(super) fn dangling(&self, _: &Removing, claims: &[Use]) -> Result<Vec<String>, Error> {
        let records = self.records()?;
        let needed: BTreeSet<&String> = records
            .iter()
            .flat_map(|(_, r)| &r.layers)
            .chain(claims.iter().flat_map(|u| &u.layers))
            .collect();
        let names = files_in(&self.root.join("layers")).into_iter();
        let names = names.filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()));
        Ok(names
            .filter(|name| is_hex(name) && !needed.contains(name))
            .collect())
    }
}
