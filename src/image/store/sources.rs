//! Images that are made elsewhere: layouts, archives, registries.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use oci_spec::distribution::Reference as Remote;

use super::record::Record;
use super::{Store, short};
use crate::image::error::{Error, IoContext};
use crate::image::{Image, Progress, archive, digest, files, layout, recipe, registry};

type Report<'a> = &'a mut dyn FnMut(Progress);

impl Store {
    pub(super) fn layout(
        &self,
        path: &Path,
        tag: Option<&str>,
        progress: Report<'_>,
    ) -> Result<Image, Error> {
        let dir = path.canonicalize().on("find", path)?;
        if !dir.join("index.json").is_file() {
            return Err(Error::Layout {
                path: dir,
                why: format!(
                    "it has neither an index.json nor, as a recipe, an {}",
                    recipe::FILE
                ),
            });
        }
        let name = tagged(&dir, tag);
        let key = format!("layout-{}", short(&digest::of(name.as_bytes())));
        let now = layout::manifest_digest(&dir, tag)?;
        let known = || Ok(self.recorded(&key)?.filter(|image| image.digest == now));
        self.once(&key, &name, &known, progress, |progress| {
            unpacking(&name, progress);
            self.import(&key, &name, "layout", &dir, tag, progress)
        })
    }

    pub(super) fn archive(
        &self,
        path: &Path,
        tag: Option<&str>,
        progress: Report<'_>,
    ) -> Result<Image, Error> {
        let file = path.canonicalize().on("find", path)?;
        let name = tagged(&file, tag);
        // Reading all of it only to see that it is the same would take as long as unpacking it.
        let meta = file.metadata().on("look at", &file)?;
        let state = format!(
            "{name} {} {} {}.{:09}",
            meta.ino(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        let key = format!("archive-{}", short(&digest::of(state.as_bytes())));
        let image = self.once(&key, &name, &|| self.recorded(&key), progress, |progress| {
            unpacking(&name, progress);
            let new = self.new_layout(&key)?;
            let unpacked = archive::unpack(&file, tag, &new, progress)
                // Of a layout in the archive, as of a folder; docker save's has one image only.
                .and_then(|()| match layout::manifest_digest(&new, tag) {
                    Ok(_) => Ok(tag),
                    Err(e) => layout::manifest_digest(&new, None)
                        .map(|_| None)
                        .map_err(|_| e),
                });
            let tag = self.keep_layout(&key, &new, unpacked)?;
            let dir = self.layout_dir(&key);
            self.import(&key, &name, "archive", &dir, tag, progress)
        })?;
        self.forget_others(&key, &name, "archive")?;
        Ok(image)
    }

    /// An image of a registry: the store's, or with `again` the registry's.
    pub(super) fn remote(
        &self,
        remote: &Remote,
        again: bool,
        progress: Report<'_>,
    ) -> Result<Image, Error> {
        let name = remote.whole();
        let key = remote_key(remote);
        let known = || if again { Ok(None) } else { self.recorded(&key) };
        self.once(&key, &name, &known, progress, |progress| {
            progress(Progress::Stage {
                text: format!("pulling {name}"),
                step: 1,
                of: 2,
            });
            let new = self.new_layout(&key)?;
            let folders = registry::Folders {
                into: &new,
                others: &self.root.join("oci"),
                partial: &self.root.join("partial"),
            };
            let had = self.recorded(&key)?;
            let digest = had.as_ref().map(|image| image.digest.as_str());
            let pulled = registry::pull(remote, digest, folders, progress);
            if let (Ok(false), Some(record)) = (&pulled, self.load(&key)) {
                files::remove_tree(&new)?;
                progress(Progress::Log(format!("{name} is up to date")));
                return Ok(record);
            }
            self.keep_layout(&key, &new, pulled)?;
            progress(Progress::Stage {
                text: format!("unpacking {name}"),
                step: 2,
                of: 2,
            });
            self.import(
                &key,
                &name,
                "registry",
                &self.layout_dir(&key),
                None,
                progress,
            )
        })
    }

    /// Makes an image unless `known` has it, one process at a time.
    fn once(
        &self,
        key: &str,
        name: &str,
        known: &dyn Fn() -> Result<Option<Image>, Error>,
        progress: Report<'_>,
        make: impl FnOnce(Report<'_>) -> Result<Record, Error>,
    ) -> Result<Image, Error> {
        if let Some(image) = known()? {
            return Ok(image);
        }
        let _lock = files::lock(&self.root.join("locks").join(key), || {
            progress(Progress::Log(format!(
                "waiting for another nslab that unpacks {name}"
            )));
        })?;
        if let Some(image) = known()? {
            return Ok(image);
        }
        let start = Instant::now();
        let old = self.load(key);
        let record = make(progress)?;
        if let Some(old) = old.filter(|old| old.layers != record.layers) {
            self.let_go(&BTreeSet::from([old.digest.as_str()]));
            self.sweep()?;
        }
        progress(record.done(start));
        Ok(self.image(record))
    }

    pub(super) fn layout_dir(&self, key: &str) -> PathBuf {
        self.root.join("oci").join(key)
    }

    /// An empty folder for a layout that is being made.
    fn new_layout(&self, key: &str) -> Result<PathBuf, Error> {
        let new = self.new_path(key);
        files::remove_tree(&new)?;
        fs::create_dir(&new).on("create folder", &new)?;
        Ok(new)
    }

    /// Gives a layout its name if it is whole, and removes it otherwise.
    fn keep_layout<T>(&self, key: &str, new: &Path, made: Result<T, Error>) -> Result<T, Error> {
        let made = match made {
            Ok(made) => made,
            Err(e) => {
                files::remove_tree(new)?;
                return Err(e);
            }
        };
        self.put_layout(key, new)?;
        Ok(made)
    }

    /// Gives a whole layout its name, in place of the one that has it.
    pub(super) fn put_layout(&self, key: &str, new: &Path) -> Result<(), Error> {
        let dir = self.layout_dir(key);
        let gate = self.removing()?;
        let mut bin = gate.bin(self)?;
        bin.take(&dir)?;
        fs::rename(new, &dir).on("move the image to", &dir)?;
        drop(gate);
        bin.empty()
    }

    /// Where a layout is made.
    pub(super) fn new_path(&self, key: &str) -> PathBuf {
        self.root.join("oci").join(format!(".new-{key}"))
    }

    /// Removes what an archive held before it was changed.
    fn forget_others(&self, key: &str, name: &str, kind: &str) -> Result<(), Error> {
        for (path, record) in self.records()? {
            let other = path != self.record_path(key);
            if other && record.name == name && record.kind == kind {
                fs::remove_file(&path).on("remove", &path)?;
                let gate = self.removing()?;
                let mut bin = gate.bin(self)?;
                bin.take(&record.layout)?;
                drop(gate);
                bin.empty()?;
                self.sweep()?;
            }
        }
        Ok(())
    }
}

/// Key of the record of a registry's image.
pub(super) fn remote_key(remote: &Remote) -> String {
    format!("registry-{}", short(&digest::of(remote.whole().as_bytes())))
}

fn tagged(path: &Path, tag: Option<&str>) -> String {
    match tag {
        Some(tag) => format!("{}:{tag}", path.display()),
        None => path.display().to_string(),
    }
}

fn unpacking(name: &str, progress: Report<'_>) {
    progress(Progress::Stage {
        text: format!("unpacking {name}"),
        step: 1,
        of: 1,
    });
}
