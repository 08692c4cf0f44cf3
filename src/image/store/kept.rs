//! Files that nodes keep: writable layers that stay when their lab goes down.
//!
//! ```text
//! kept/<lab>/<node>/base.json   what they were written on top of
//! kept/<lab>/<node>/upper       the files
//! kept/<lab>/<node>/work        overlayfs' own
//! ```
//!
//! `base.json` is written first, so there is no upper layer that nobody knows the image of.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lease::{Use, User, files_in};
use super::{Store, gate};
use crate::image::error::{Error, IoContext};
use crate::image::files;

/// An image as a node has it: what kept files must fit.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// Its reference as in the lab file.
    pub reference: &'a str,
    /// Digest of its manifest.
    pub digest: &'a str,
    /// Its layers' folders, the uppermost first.
    pub layers: &'a [PathBuf],
}

/// Kept files of a lab, locked: nobody else uses or removes them.
#[derive(Debug)]
pub struct Kept {
    store: Store,
    folder: PathBuf,
    lab: String,
    _lock: files::Lock,
}

/// `base.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    reference: String,
    digest: String,
    /// Hexadecimal diff ids, the uppermost first.
    layers: Vec<String>,
}

impl Base<'_> {
    fn written(&self) -> Written {
        Written {
            reference: self.reference.to_owned(),
            digest: self.digest.to_owned(),
            layers: diff_ids(self.layers),
        }
    }
}

impl Store {
    /// Locks the kept files of a lab, which need not be there.
    ///
    /// # Errors
    /// [`Error::KeptInUse`] if somebody else has them.
    pub fn kept(&self, lab: &str) -> Result<Kept, Error> {
        match files::try_lock(&self.kept_lock(lab))? {
            Some(lock) => Ok(Kept {
                store: self.clone(),
                folder: self.root.join("kept").join(lab),
                lab: lab.to_owned(),
                _lock: lock,
            }),
            None => Err(Error::KeptInUse {
                lab: lab.to_owned(),
            }),
        }
    }

    pub(super) fn kept_lock(&self, lab: &str) -> PathBuf {
        self.root.join("locks").join(format!("kept-{lab}"))
    }
}

impl Kept {
    /// Whether what this node keeps, if anything, was written on top of this image. What counts is
    /// the layers: an image that has only other words in its configuration is the same here.
    ///
    /// # Errors
    /// [`Error::KeptOnAnother`] if not.
    pub fn check(&self, node: &str, base: Base<'_>) -> Result<(), Error> {
        let now = base.written();
        match read(&self.folder.join(node)) {
            Some(was) if was.layers != now.layers => Err(Error::KeptOnAnother {
                node: node.to_owned(),
                image: now.reference,
                is: now.digest,
                before: was.reference,
                was: was.digest,
            }),
            _ => Ok(()),
        }
    }

    /// Folders for overlayfs' `upperdir` and `workdir`, made if the node keeps nothing yet.
    pub fn folders(&self, node: &str, base: Base<'_>) -> Result<(PathBuf, PathBuf), Error> {
        self.check(node, base)?;
        let own = self.folder.join(node);
        let now = base.written();
        let was = read(&own);
        if was.is_none() {
            // Killed before it had one, so there is nothing in it.
            files::remove_tree(&own)?;
        }
        gate::private_folder(&own)?;
        if was.as_ref() != Some(&now) {
            let text = serde_json::to_vec_pretty(&now).map_err(std::io::Error::from);
            let path = own.join("base.json");
            self.store.write(&path, &text.on("encode", &path)?)?;
        }
        let (upper, work) = (own.join("upper"), own.join("work"));
        gate::root_folder(&upper)?;
        fs::create_dir_all(&work).on("create folder", &work)?;
        Ok((upper, work))
    }

    /// Throws away what these nodes keep, or all of the lab's if none is named.
    pub fn discard(&self, nodes: &[String]) -> Result<(), Error> {
        let gate = self.store.removing()?;
        let mut bin = gate.bin(&self.store)?;
        if nodes.is_empty() {
            bin.take(&self.folder)?;
        }
        for node in nodes {
            bin.take(&self.folder.join(node))?;
        }
        drop(gate);
        bin.empty()
    }

    /// Whose these files are.
    pub fn lab(&self) -> &str {
        &self.lab
    }
}

/// Layers that kept files need below them.
pub(super) fn uses(root: &Path) -> Vec<Use> {
    let mut claims = Vec::new();
    for lab in files_in(&root.join("kept")) {
        for own in files_in(&lab) {
            let Some(base) = read(&own) else { continue };
            let name = |p: &Path| {
                let name = p.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            };
            claims.push(Use {
                user: User::Kept {
                    lab: name(&lab),
                    node: name(&own),
                },
                digest: base.digest,
                layers: base.layers,
            });
        }
    }
    claims
}

/// Hexadecimal diff ids of layers, which are the names of their folders.
pub fn diff_ids(layers: &[PathBuf]) -> Vec<String> {
    let name = |p: &PathBuf| Some(p.file_name()?.to_string_lossy().into_owned());
    layers.iter().filter_map(name).collect()
}

fn read(own: &Path) -> Option<Written> {
    serde_json::from_slice(&fs::read(own.join("base.json")).ok()?).ok()
}
