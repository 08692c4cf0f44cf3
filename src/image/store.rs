//! The store: images by reference, layers by the digest of their content.
//!
//! ```text
//! layers/<hex of diff id>/   a layer, unpacked; complete when it has this name
//! images/<key>.json          what a reference was resolved to
//! oci/<recipe>-<digest>/     the layout that a recipe's build made
//! debs/ apt/ build/ locks/   what building needs
//! ```
//!
//! Whatever is written appears by a rename, under a lock that ends with its process, so two nslab
//! at once and one killed in the middle leave nothing half done.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::debs::Folders;
use super::error::{Error, IoContext};
use super::hashcache::HashCache;
use super::recipe::{self, Recipe, Source};
use super::reference::Reference;
use super::unpack::{forget_size, is_layer, unpack};
use super::{Image, Progress, RunConfig, build, digest, files, layout};

/// Version of the records' format; others are ignored and made anew.
const RECORD: u32 = 1;
/// Environment variable with the store's folder.
const VARIABLE: &str = "NSLAB_STORE";

/// A folder with images.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageInfo {
    /// Name that [`Store::remove`] takes: the recipe's, or a layout's path with its tag.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
    /// `recipe` or `layout`.
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
struct Record {
    version: u32,
    name: String,
    kind: String,
    digest: String,
    /// Hexadecimal diff ids, the uppermost first, none twice.
    layers: Vec<String>,
    size: u64,
    unpacked: u64,
    created: u64,
    layout: PathBuf,
    config: RunConfig,
}

impl Store {
    /// Opens the store in `root`, which is made if it is not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).on("find", root)?;
        for sub in [
            "images", "oci", "debs", "apt", "build", "locks", "cache", "layers",
        ] {
            let path = root.join(sub);
            fs::create_dir_all(&path).on("create folder", &path)?;
        }
        // Layers may hold set-user-ID programs that are nobody's business on the host.
        let layers = root.join("layers");
        let mode = layers
            .metadata()
            .on("look at", &layers)?
            .permissions()
            .mode();
        if mode & 0o777 != 0o700 {
            fs::set_permissions(&layers, fs::Permissions::from_mode(0o700))
                .on("set mode of", &layers)?;
        }
        Ok(Self { root })
    }

    /// `$NSLAB_STORE`; else /var/lib/nslab for root and `$XDG_DATA_HOME/nslab` (by default
    /// `~/.local/share/nslab`) for others.
    pub fn default_root() -> PathBuf {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        if let Some(root) = variable(VARIABLE) {
            return root;
        }
        let data = variable("XDG_DATA_HOME").filter(|p| p.is_absolute());
        match data.or_else(|| variable("HOME").map(|home| home.join(".local/share"))) {
            Some(data) if !rustix::process::geteuid().is_root() => data.join("nslab"),
            _ => PathBuf::from("/var/lib/nslab"),
        }
    }

    /// Provides an image, with its layers unpacked.
    ///
    /// `reference` is the name of a recipe (`tomcat`: the first of the folders `search` that has
    /// `tomcat/image.toml`, else the one that is part of nslab), or the path of an OCI image layout
    /// or a recipe that begins with `/`, `./` or `../`, a layout's with an optional `:tag`. Relative
    /// paths start at the working directory.
    ///
    /// A recipe is built if it never was or its digest changed; that takes the thread a quarter of
    /// a minute and a download, and ends when the thread ends. An image that is there takes less
    /// than 5 ms.
    pub fn resolve(
        &self,
        reference: &str,
        search: &[PathBuf],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        let mut image = match Reference::parse(reference)? {
            Reference::Recipe(name) => {
                let source = find(&name, search).ok_or_else(|| not_found(&name, search))?;
                self.recipe(source, false, progress)?
            }
            Reference::Folder { path, tag: None } if path.join(recipe::FILE).is_file() => {
                self.recipe(Source::Folder(path), false, progress)?
            }
            Reference::Folder { path, tag } => self.layout(&path, tag.as_deref(), progress)?,
        };
        reference.clone_into(&mut image.reference);
        Ok(image)
    }

    /// Builds the recipe in a folder, or the one of this name that is part of nslab. With `force`
    /// also if it is already built, with the current versions of its packages.
    pub fn build(
        &self,
        recipe: &Path,
        force: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        let built_in = || recipe.to_str().and_then(recipe::embedded);
        let source = if recipe.join(recipe::FILE).is_file() {
            Source::Folder(recipe.to_owned())
        } else {
            built_in().ok_or_else(|| Error::Recipe {
                path: recipe.to_owned(),
                why: format!(
                    "it has no {}, and no recipe of this name is built in",
                    recipe::FILE
                ),
            })?
        };
        self.recipe(source, force, progress)
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<ImageInfo>, Error> {
        let mut list: Vec<_> = self.records()?.into_iter().map(|(_, r)| r.info()).collect();
        list.sort_by(|a, b| (&a.name, a.created).cmp(&(&b.name, b.created)));
        Ok(list)
    }

    /// Removes the images of this name (a recipe's may be several builds), with the layers that no
    /// other image has. One that a process has mounted stays, with an error.
    pub fn remove(&self, name: &str) -> Result<Vec<ImageInfo>, Error> {
        let mine: Vec<_> = self
            .records()?
            .into_iter()
            .filter(|(_, r)| r.name == name || r.digest == name)
            .collect();
        if mine.is_empty() {
            return Err(Error::NotInStore {
                name: name.to_owned(),
                store: self.root.clone(),
            });
        }
        let layers: BTreeSet<_> = mine
            .iter()
            .flat_map(|(_, r)| r.layers.iter().cloned())
            .collect();
        if let Some(pid) = user_of(&layers) {
            return Err(Error::InUse {
                name: name.to_owned(),
                pid,
            });
        }
        for (path, record) in &mine {
            fs::remove_file(path).on("remove", path)?;
            if record.layout.starts_with(self.root.join("oci")) {
                files::remove_tree(&record.layout)?;
            }
        }
        self.sweep(layers)?;
        Ok(mine.into_iter().map(|(_, r)| r.info()).collect())
    }

    /// Copies an image of the store as an OCI image layout into a folder that is not there yet.
    pub fn export(&self, image: &Image, to: &Path) -> Result<(), Error> {
        let records = self.records()?;
        let from = records
            .iter()
            .find(|(_, r)| r.digest == image.digest)
            .map(|(_, r)| &r.layout);
        let from = from.ok_or_else(|| Error::NotInStore {
            name: image.reference.clone(),
            store: self.root.clone(),
        })?;
        fs::create_dir(to).on("create folder", to)?;
        let blobs = "blobs/sha256";
        fs::create_dir_all(to.join(blobs)).on("create folder", &to.join(blobs))?;
        let mut names = vec![PathBuf::from("oci-layout"), PathBuf::from("index.json")];
        for entry in fs::read_dir(from.join(blobs)).on("list", &from.join(blobs))? {
            names.push(Path::new(blobs).join(entry.on("list", from)?.file_name()));
        }
        for name in names {
            fs::copy(from.join(&name), to.join(&name)).on("copy", &from.join(&name))?;
        }
        Ok(())
    }

    fn recipe(
        &self,
        source: Source,
        force: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        let mut hashes = HashCache::open(&self.root.join("cache/hashes.json"));
        let recipe = Recipe::load(source, &mut hashes)?;
        let name = recipe.manifest.name.clone();
        let key = format!("{name}-{}", short(&recipe.digest));
        if let (false, Some(image)) = (force, self.recorded(&key)) {
            return Ok(image);
        }
        let _lock = files::lock(
            &self.root.join("locks").join(format!("recipe-{name}")),
            || {
                progress(Progress::Log(format!(
                    "waiting for another nslab that builds `{name}`"
                )));
            },
        )?;
        if let (false, Some(image)) = (force, self.recorded(&key)) {
            return Ok(image);
        }
        let start = Instant::now();
        let layout = self.root.join("oci").join(&key);
        // Built, but killed before it was unpacked, or its layers were removed by hand.
        if !force
            && layout.is_dir()
            && let Ok(record) = self.import(&key, &name, "recipe", &layout, None, progress)
        {
            progress(record.done(start));
            return Ok(self.image(record));
        }
        let old = self.load(&key);
        let (work, out) = (
            self.root.join("build").join(&name),
            self.root.join("oci").join(format!(".new-{key}")),
        );
        for dir in [&work, &out] {
            files::remove_tree(dir)?;
            fs::create_dir(dir).on("create folder", dir)?;
        }
        let folders = Folders {
            debs: self.root.join("debs"),
            apt: self.root.join("apt"),
        };
        let built = build::build(&recipe, force, &folders, &work, &out, progress);
        if built.is_err() {
            files::remove_tree(&work)?;
            files::remove_tree(&out)?;
        }
        built?;
        files::remove_tree(&layout)?;
        fs::rename(&out, &layout).on("move the image to", &layout)?;
        let record = self.import(&key, &name, "recipe", &layout, None, progress)?;
        if let Some(old) = old.filter(|o| o.digest != record.digest) {
            self.sweep(old.layers.into_iter().collect())?;
        }
        progress(record.done(start));
        Ok(self.image(record))
    }

    fn layout(
        &self,
        path: &Path,
        tag: Option<&str>,
        progress: &mut dyn FnMut(Progress),
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
        let name = match tag {
            Some(tag) => format!("{}:{tag}", dir.display()),
            None => dir.display().to_string(),
        };
        let key = format!("layout-{}", short(&digest::of(name.as_bytes())));
        let now = layout::manifest_digest(&dir, tag)?;
        let known = |s: &Self| s.recorded(&key).filter(|image| image.digest == now);
        if let Some(image) = known(self) {
            return Ok(image);
        }
        let _lock = files::lock(&self.root.join("locks").join(&key), || {
            progress(Progress::Log(format!(
                "waiting for another nslab that unpacks {name}"
            )));
        })?;
        if let Some(image) = known(self) {
            return Ok(image);
        }
        let start = Instant::now();
        let old = self.load(&key);
        progress(Progress::Stage {
            text: format!("unpacking {name}"),
            step: 1,
            of: 1,
        });
        let record = self.import(&key, &name, "layout", &dir, tag, progress)?;
        if let Some(old) = old {
            self.sweep(old.layers.into_iter().collect())?;
        }
        progress(record.done(start));
        Ok(self.image(record))
    }

    /// Unpacks a layout's image and records it under `key`.
    fn import(
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
        let (mut size, mut unpacked) = (0, 0);
        for layer in &contents.layers {
            unpacked += unpack(&self.root, layer, progress)?;
            size += layer.size;
        }
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

    fn record_path(&self, key: &str) -> PathBuf {
        self.root.join("images").join(format!("{key}.json"))
    }

    fn load(&self, key: &str) -> Option<Record> {
        read_record(&self.record_path(key))
    }

    /// The image under `key` if it and all its layers are there.
    fn recorded(&self, key: &str) -> Option<Image> {
        let record = self.load(key)?;
        record
            .layers
            .iter()
            .all(|hex| is_layer(&self.root, hex))
            .then(|| self.image(record))
    }

    fn image(&self, record: Record) -> Image {
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

    fn records(&self) -> Result<Vec<(PathBuf, Record)>, Error> {
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
    fn sweep(&self, mut layers: BTreeSet<String>) -> Result<(), Error> {
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
    fn info(self) -> ImageInfo {
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

    fn done(&self, since: Instant) -> Progress {
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

fn short(digest: &str) -> &str {
    digest::sha256_hex(digest).map_or("", |hex| &hex[..16])
}

fn find(name: &str, search: &[PathBuf]) -> Option<Source> {
    let folder = search
        .iter()
        .map(|dir| dir.join(name))
        .find(|d| d.join(recipe::FILE).is_file());
    folder
        .map(Source::Folder)
        .or_else(|| recipe::embedded(name))
}

fn not_found(name: &str, search: &[PathBuf]) -> Error {
    let looked: Vec<_> = search
        .iter()
        .map(|d| d.join(name).join(recipe::FILE).display().to_string())
        .collect();
    let looked = if looked.is_empty() {
        "nowhere else".into()
    } else {
        looked.join(", ")
    };
    Error::Reference {
        reference: name.to_owned(),
        why: format!(
            "no such recipe is built in, and there is no {looked}; images of registries are not \
             supported yet"
        ),
    }
}

/// A process in whose mount namespace one of these layers is mounted, as far as this user can see.
fn user_of(layers: &BTreeSet<String>) -> Option<u32> {
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
