//! The store: images by reference, layers by the digest of their content.
//!
//! ```text
//! layers/<hex of diff id>/   a layer, unpacked; complete when it has this name
//! images/<key>.json          what a reference was resolved to
//! oci/<key>/                 the layout that a recipe's build, a pull or an archive made
//! partial/<hex of digest>    a blob's download that is not complete
//! debs/ apt/ build/ cache/   what building needs
//! users/<any>                who uses which layers, locked by them
//! nodes/<lab>/<node>/        a node's writable layer, as long as its lab is up
//! kept/<lab>/<node>/         one that stays
//! trash/<any>/               what is being deleted
//! locks/                     of who makes what
//! ```
//!
//! Whatever is written appears by a rename, under a lock that ends with its process, and whatever is
//! removed disappears by one, so two nslab at once and one killed in the middle leave nothing half
//! done. Layers are removed inside the [gate], and only those that no [lease] names.

mod gate;
mod inspect;
mod kept;
mod lease;
mod mounts;
mod prune;
mod recipes;
mod record;
mod remove;
mod sources;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::error::{Error, IoContext};
use super::recipe::{self, Source};
use super::reference::{self, Reference};
use super::{Image, Progress, digest, files};

pub use gate::root_folder;
pub use inspect::{Inspected, InspectedLayer};
pub use kept::{Base, Kept, diff_ids};
pub use lease::{Lease, Use, User};
pub use prune::{Prune, Pruned, Removed};
pub use record::ImageInfo;

/// Environment variable with the store's folder.
const VARIABLE: &str = "NSLAB_STORE";

/// A folder with images. Layers of images that it has given out stay as long as it, or a clone of it,
/// is open.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    held: Arc<Mutex<Vec<Lease>>>,
}

/// What may hold set-user-ID programs, which are nobody's business on the host.
const PRIVATE: [&str; 4] = ["layers", "nodes", "kept", "trash"];

impl Store {
    /// Opens the store in `root`, which is made if it is not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).on("find", root)?;
        for sub in [
            "images", "oci", "partial", "debs", "apt", "build", "locks", "cache", "users",
        ] {
            let path = root.join(sub);
            fs::create_dir_all(&path).on("create folder", &path)?;
        }
        for sub in PRIVATE {
            let path = root.join(sub);
            gate::private_folder(&path)?;
            // Made by an older nslab, or by hand.
            let mode = path.metadata().on("look at", &path)?.permissions().mode();
            if mode & 0o777 != 0o700 {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
                    .on("set mode of", &path)?;
            }
        }
        Ok(Self {
            root,
            held: Arc::default(),
        })
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
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
    /// `reference` is
    /// - the name of a recipe (`tomcat`: the first of the folders `search` that has
    ///   `tomcat/image.toml`, else the one that is part of nslab);
    /// - an image of a registry (`nginx:1.27`, `host:5000/name@sha256:...`), pulled if it is not
    ///   in the store; a bare word that is no recipe is one of Docker Hub;
    /// - a path that begins with `/`, `./` or `../`: a recipe, an OCI image layout or an archive,
    ///   the latter two with an optional `:tag`. Relative paths start at the working directory.
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
            Reference::Name(name) => match find(&name, search) {
                Some(source) => self.recipe(source, false, &[], progress)?,
                None => self
                    .remote(&reference::remote(&name)?, false, progress)
                    .map_err(|e| no_recipe_either(&name, search, e))?,
            },
            Reference::Remote(remote) => self.remote(&remote, false, progress)?,
            Reference::Path { path, tag: None } if path.join(recipe::FILE).is_file() => {
                self.recipe(Source::Folder(path), false, &[], progress)?
            }
            Reference::Path { path, tag } if path.is_file() => {
                self.archive(&path, tag.as_deref(), progress)?
            }
            Reference::Path { path, tag } => self.layout(&path, tag.as_deref(), progress)?,
        };
        reference.clone_into(&mut image.reference);
        Ok(image)
    }

    /// Pulls an image of a registry, also one that the store has: what its tag stands for may have
    /// changed. The registry is asked for the manifest; layers that are there are not pulled again.
    pub fn pull(
        &self,
        reference: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        let mut image = self.remote(&reference::remote(reference)?, true, progress)?;
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
        self.recipe(source, force, &[], progress)
    }

    /// All images, by name.
    pub fn list(&self) -> Result<Vec<ImageInfo>, Error> {
        let records = self.records()?;
        let mut list = self.infos(records.iter().map(|(_, r)| r), &self.uses())?;
        list.sort_by(|a, b| (&a.name, a.created).cmp(&(&b.name, b.created)));
        Ok(list)
    }

    /// Copies an image of the store as an OCI image layout into a folder that is not there yet.
    pub fn export(&self, image: &Image, to: &Path) -> Result<(), Error> {
        let from = self.layout_of(image)?;
        fs::create_dir(to).on("create folder", to)?;
        let blobs = "blobs/sha256";
        fs::create_dir_all(to.join(blobs)).on("create folder", &to.join(blobs))?;
        let mut names = vec![PathBuf::from("oci-layout"), PathBuf::from("index.json")];
        for entry in fs::read_dir(from.join(blobs)).on("list", &from.join(blobs))? {
            names.push(Path::new(blobs).join(entry.on("list", &from)?.file_name()));
        }
        for name in names {
            fs::copy(from.join(&name), to.join(&name)).on("copy", &from.join(&name))?;
        }
        Ok(())
    }

    /// The layout that an image of the store came from.
    pub(in crate::image) fn layout_of(&self, image: &Image) -> Result<PathBuf, Error> {
        // A user's own layout may be gone, and the store have the same image from elsewhere.
        let records = self.records()?.into_iter().map(|(_, record)| record);
        let mut layouts = records
            .filter(|record| record.digest == image.digest)
            .map(|record| record.layout);
        layouts
            .find(|layout| layout.is_dir())
            .ok_or_else(|| Error::NotInStore {
                name: image.reference.clone(),
                store: self.root.clone(),
            })
    }
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

/// A bare word may have been meant as a recipe.
fn no_recipe_either(name: &str, search: &[PathBuf], error: Error) -> Error {
    let Error::Registry { why, .. } = error else {
        return error;
    };
    let looked: Vec<_> = search
        .iter()
        .map(|d| d.join(name).join(recipe::FILE).display().to_string())
        .collect();
    let looked = if looked.is_empty() {
        String::new()
    } else {
        format!(", and there is no {}", looked.join(", "))
    };
    Error::Reference {
        reference: name.to_owned(),
        why: format!("no such recipe is built in{looked}; as an image of Docker Hub: {why}"),
    }
}
