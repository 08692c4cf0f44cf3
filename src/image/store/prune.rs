//! Removing what nobody needs: leftovers of killed processes, and images by choice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::gate::{Bin, GATE, Removing};
use super::lease::{Held, Use, files_in, held, users_of};
use super::record::Record;
use super::{Store, files};
use crate::image::digest::is_hex;
use crate::image::error::{Error, IoContext};
use crate::image::unpack::forget_size;

/// What [`Store::prune`] is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prune {
    /// Also images that nobody uses now, and packages that were downloaded for building.
    pub all: bool,
    /// Also what nodes keep of labs that are not up.
    pub kept: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Default, Serialize)]
pub struct Pruned {
    /// Each thing.
    pub removed: Vec<Removed>,
    /// Bytes of disk that this frees.
    pub bytes: u64,
    /// What was left because another process works on it.
    pub busy: Vec<String>,
}

/// A thing that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// `image`, `layer`, `kept`, `node`, `layout`, `download`, `build`, `packages`, `leftover`.
    pub what: &'static str,
    /// Which.
    pub name: String,
    /// Bytes of disk that its removal frees.
    pub bytes: u64,
}

impl Store {
    /// Removes what no lab uses and no name leads to: layers without an image, what killed
    /// processes left, builds that a newer one of their recipe replaced, images of folders and
    /// archives that are gone. What others work on stays, and so does what nodes keep, with the
    /// images below it.
    pub fn prune(&self, asked: Prune) -> Result<Pruned, Error> {
        let gate = self.removing()?;
        let bin = (!asked.dry_run).then(|| gate.bin(self)).transpose()?;
        let mut pruner = Pruner {
            store: self,
            asked,
            bin,
            disk: Disk::default(),
            done: Pruned::default(),
            gone: BTreeSet::new(),
            held: Vec::new(),
        };
        if asked.kept {
            pruner.kept()?;
        }
        let claims: Vec<Use> = self.uses();
        let claims: Vec<Use> = claims
            .into_iter()
            .filter(|u| !pruner.forgotten(u))
            .collect();
        pruner.images(&claims)?;
        pruner.layouts()?;
        pruner.layers(&gate, &claims)?;
        pruner.nodes(&claims)?;
        pruner.unfinished()?;
        pruner.leftovers()?;
        let Pruner {
            mut done,
            bin,
            held,
            ..
        } = pruner;
        drop(held);
        if bin.is_some() {
            self.locks()?;
        }
        drop(gate);
        if let Some(bin) = bin {
            bin.empty()?;
        }
        done.bytes = done.removed.iter().map(|r| r.bytes).sum();
        Ok(done)
    }

    /// Locks that nobody has. Inside the gate others may still open one; they look whether it has
    /// its name when they have locked it.
    fn locks(&self) -> Result<(), Error> {
        // Also those whose name begins with a dot: a killed process' temporary files had a lock asked for.
        for path in entries(&self.root.join("locks")) {
            if !path.ends_with(GATE) && files::try_lock(&path)?.is_some() {
                fs::remove_file(&path).on("remove", &path)?;
            }
        }
        for path in entries(&self.root.join("users")) {
            if matches!(held(&path), Held::Stale) {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// A prune, inside the gate.
struct Pruner<'a> {
    store: &'a Store,
    asked: Prune,
    /// None if only asked what would be done.
    bin: Option<Bin>,
    disk: Disk,
    done: Pruned,
    /// What a dry run left although it would have taken it.
    gone: BTreeSet<PathBuf>,
    /// Locks of what was taken.
    held: Vec<files::Lock>,
}

impl Pruner<'_> {
    fn sub(&self, name: &str) -> PathBuf {
        self.store.root.join(name)
    }

    fn take(
        &mut self,
        what: &'static str,
        name: impl Into<String>,
        path: &Path,
    ) -> Result<(), Error> {
        let bytes = self.disk.freed(path);
        self.gone.insert(path.to_owned());
        if let Some(bin) = &mut self.bin {
            bin.take(path)?;
        }
        self.done.removed.push(Removed {
            what,
            name: name.into(),
            bytes,
        });
        Ok(())
    }

    /// Takes a lock of whoever makes `name`, for the time that is left.
    fn free(&mut self, lock: &Path, name: &str) -> Result<bool, Error> {
        // A dry run makes no files.
        if self.bin.is_none() && !lock.exists() {
            return Ok(true);
        }
        match files::try_lock(lock)? {
            Some(lock) => self.held.push(lock),
            // Perhaps by ourselves: two things may have one lock.
            None if self.held.iter().any(|mine| files::has_name(&mine.0, lock)) => {}
            None => {
                self.done.busy.push(name.to_owned());
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn kept(&mut self) -> Result<(), Error> {
        for lab in files_in(&self.sub("kept")) {
            let name = name_of(&lab);
            if self.free(
                &self.store.kept_lock(&name),
                &format!("kept files of lab {name}"),
            )? {
                for node in files_in(&lab) {
                    self.take("kept", format!("{name}:{}", name_of(&node)), &node)?;
                }
                if self.bin.is_some() {
                    let _ = fs::remove_dir(&lab);
                }
            }
        }
        Ok(())
    }

    /// Whether a dry run would have thrown the kept files away.
    fn forgotten(&self, used: &Use) -> bool {
        match &used.user {
            super::User::Kept { lab, node } => {
                self.gone.contains(&self.sub("kept").join(lab).join(node))
            }
            _ => false,
        }
    }

    fn images(&mut self, claims: &[Use]) -> Result<(), Error> {
        let records = self.store.records()?;
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, record) in records.iter().filter(|(_, r)| r.kind == "recipe") {
            let at = newest.entry(&record.name).or_default();
            *at = record.created.max(*at);
        }
        for (path, record) in &records {
            let unwanted = self.asked.all
                || match record.kind.as_str() {
                    "recipe" => newest.get(record.name.as_str()) > Some(&record.created),
                    "layout" => !record.layout.is_dir(),
                    "archive" => !archive_is_there(&record.name),
                    _ => false,
                };
            if !unwanted || !users_of(claims, &record.digest, &record.layers).is_empty() {
                continue;
            }
            if self.free(
                &self.store.work_lock(path, record),
                &format!("image {}", record.name),
            )? {
                self.take("image", format!("{} {}", record.name, record.digest), path)?;
            }
        }
        for path in files_in(&self.sub("images")) {
            if !records.iter().any(|(known, _)| *known == path) {
                self.take("leftover", name_of(&path), &path)?;
            }
        }
        Ok(())
    }

    /// Records that stay.
    fn records(&self) -> Result<Vec<Record>, Error> {
        let records = self.store.records()?.into_iter();
        let stay = records.filter(|(path, _)| !self.gone.contains(path));
        Ok(stay.map(|(_, record)| record).collect())
    }

    fn layouts(&mut self) -> Result<(), Error> {
        let records = self.records()?;
        for path in entries(&self.sub("oci")) {
            if records.iter().any(|r| r.layout == path) {
                continue;
            }
            let name = name_of(&path);
            let key = name.trim_start_matches(".new-").to_owned();
            // A recipe's key is its name and a digest, its lock the name's.
            let recipe = key.rsplit_once('-').map_or("", |(name, _)| name);
            let locks = [key.clone(), format!("recipe-{recipe}")];
            let mut free = true;
            for lock in locks {
                free =
                    free && self.free(&self.sub("locks").join(lock), &format!("layout {key}"))?;
            }
            if free {
                self.take("layout", name, &path)?;
            }
        }
        Ok(())
    }

    fn layers(&mut self, gate: &Removing, claims: &[Use]) -> Result<(), Error> {
        let needed: BTreeSet<String> = self.records()?.into_iter().flat_map(|r| r.layers).collect();
        let mut dangling: BTreeSet<String> =
            self.store.dangling(gate, claims)?.into_iter().collect();
        if self.bin.is_none() {
            // Those of images that would be gone.
            let used = |hex: &String| claims.iter().any(|u| u.layers.contains(hex));
            let names = files_in(&self.sub("layers"))
                .into_iter()
                .map(|p| name_of(&p));
            dangling.extend(names.filter(|n| is_hex(n) && !needed.contains(n) && !used(n)));
        }
        for hex in dangling {
            if self.bin.is_some() {
                forget_size(&self.store.root, &hex)?;
            }
            let path = self.sub("layers").join(&hex);
            self.take("layer", format!("sha256:{hex}"), &path)?;
        }
        for path in entries(&self.sub("layers")) {
            let name = name_of(&path);
            if let Some(hex) = name.strip_suffix(".size").filter(|h| is_hex(h)) {
                // Written before its layer gets its name; or the layer has been removed by hand.
                let lock = self.sub("locks").join(format!("layer-{hex}"));
                let alone = !self.gone.contains(&self.sub("layers").join(hex))
                    && !self.sub("layers").join(hex).is_dir();
                if alone && self.free(&lock, &format!("layer sha256:{hex}"))? {
                    self.take("leftover", name, &path)?;
                }
            } else if name.starts_with('.') {
                let hex = name.trim_start_matches(".new-").trim_start_matches(".old-");
                let hex = hex.trim_end_matches(".size");
                let lock = self.sub("locks").join(format!("layer-{hex}"));
                if self.free(&lock, &format!("layer sha256:{hex}"))? {
                    self.take("leftover", name, &path)?;
                }
            }
        }
        Ok(())
    }

    /// Writable layers of labs whose supervisor was killed, and whose `down` never came.
    fn nodes(&mut self, claims: &[Use]) -> Result<(), Error> {
        for path in files_in(&self.sub("nodes")) {
            let lab = name_of(&path);
            if !claims
                .iter()
                .any(|u| matches!(&u.user, super::User::Node { lab: l, .. } if *l == lab))
            {
                self.take(
                    "node",
                    format!("files of lab {lab}, which is not up"),
                    &path,
                )?;
            }
        }
        Ok(())
    }

    fn unfinished(&mut self) -> Result<(), Error> {
        for path in entries(&self.sub("partial")) {
            // A download has its own file locked.
            if self.free(&path, &format!("download of sha256:{}", name_of(&path)))? {
                self.take("download", format!("sha256:{}", name_of(&path)), &path)?;
            }
        }
        for path in entries(&self.sub("build")) {
            let name = name_of(&path);
            let lock = self.sub("locks").join(format!("recipe-{name}"));
            if self.free(&lock, &format!("build of {name}"))? {
                self.take("build", name, &path)?;
            }
        }
        if self.asked.all && self.free(&self.sub("debs").join(".lock"), "packages")? {
            for path in files_in(&self.sub("debs"))
                .into_iter()
                .chain(entries(&self.sub("apt")))
            {
                self.take("packages", name_of(&path), &path)?;
            }
        }
        Ok(())
    }

    /// Temporary files: they are written inside the gate, so none has an owner now. And the trash of
    /// those who were killed while they emptied it.
    fn leftovers(&mut self) -> Result<(), Error> {
        for sub in ["images", "cache"] {
            for path in entries(&self.sub(sub)) {
                if name_of(&path).starts_with('.') {
                    self.take("leftover", name_of(&path), &path)?;
                }
            }
        }
        for path in entries(&self.store.trash()) {
            let Ok(folder) = File::open(&path) else {
                continue;
            };
            if folder.try_lock().is_ok() {
                self.take("leftover", format!("trash/{}", name_of(&path)), &path)?;
            }
        }
        Ok(())
    }
}

/// Bytes of disk, files with several names counted when their last name goes.
#[derive(Debug, Default)]
struct Disk {
    /// Names seen so far, by device and inode.
    links: BTreeMap<(u64, u64), u64>,
}

impl Disk {
    fn freed(&mut self, path: &Path) -> u64 {
        let Ok(meta) = fs::symlink_metadata(path) else {
            return 0;
        };
        if meta.is_dir() {
            let inside: u64 = entries(path).iter().map(|p| self.freed(p)).sum();
            return inside + meta.blocks() * 512;
        }
        if meta.nlink() > 1 {
            let seen = self.links.entry((meta.dev(), meta.ino())).or_default();
            *seen += 1;
            if *seen < meta.nlink() {
                return 0;
            }
        }
        meta.blocks() * 512
    }
}

/// An archive's record has its path and perhaps a tag.
fn archive_is_there(name: &str) -> bool {
    let path = |text: &str| Path::new(text).is_file();
    path(name) || name.match_indices(':').any(|(at, _)| path(&name[..at]))
}

/// Everything in a folder, sorted.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = found.map(|e| e.path()).collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
