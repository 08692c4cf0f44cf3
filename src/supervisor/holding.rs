//! What a lab holds in the image store while it is up: the right to its images' layers, its nodes'
//! writable layers, and the files that some of them keep.

use std::fs;
use std::path::PathBuf;

use super::error::OnPath;
use super::launch::{Launch, NodeImage};
use super::{Error, Result};
use crate::image::{Base, Kept, Lease, Store, Use, User, diff_ids, root_folder};
use crate::lab::{Lab, Node};

/// See the module. Its end is the end of the claims, not of the folders.
#[derive(Debug)]
pub(super) struct Holding {
    /// Folder of the nodes' writable layers.
    scratch: PathBuf,
    kept: Option<Kept>,
    lease: Option<Lease>,
}

/// A node's writable layer.
#[derive(Debug)]
pub(super) struct Writable {
    pub(super) upper: PathBuf,
    pub(super) work: PathBuf,
    /// Whether it stays after `down`.
    pub(super) kept: bool,
}

impl Holding {
    /// Claims what the lab needs. Files that are to be thrown away (`up --fresh`) are.
    ///
    /// # Errors
    /// Nothing has been changed then: a layer has gone, another lab has the kept files, or a kept
    /// file's image is another one now.
    pub(super) fn claim(launch: &Launch, lab: &Lab) -> Result<Self> {
        let scratch = launch.store.join("nodes").join(lab.name().as_str());
        let mut this = Self {
            scratch,
            kept: None,
            lease: None,
        };
        let with_image = || {
            let nodes = lab.nodes().iter();
            nodes.filter_map(|node| Some((node, launch.images.get(node.image()?)?)))
        };
        if with_image().next().is_none() {
            return Ok(this);
        }
        let store = Store::open(&launch.store)?;
        let claims = with_image().map(|(node, image)| Use {
            user: User::Node {
                lab: lab.name().to_string(),
                node: node.name().to_string(),
            },
            digest: image.digest.clone(),
            layers: diff_ids(&image.layers),
        });
        this.lease = Some(store.lease(claims.collect())?);
        if with_image().any(|(node, _)| node.keep()) {
            let kept = store.kept(lab.name().as_str())?;
            for (node, image) in with_image().filter(|(node, _)| node.keep()) {
                let name = node.name().to_string();
                if !launch.fresh.contains(&name) {
                    kept.check(&name, base(node, image))?;
                }
            }
            // All are right, or nothing is lost.
            if !launch.fresh.is_empty() {
                kept.discard(&launch.fresh)?;
            }
            this.kept = Some(kept);
        }
        Ok(this)
    }

    /// Folders of the nodes' writable layers that go with the lab.
    pub(super) fn scratch(&self) -> PathBuf {
        self.scratch.clone()
    }

    /// The writable layer of a node, made if it is not there.
    pub(super) fn writable(&self, node: &Node, image: &NodeImage) -> Result<Writable> {
        let name = node.name().as_str();
        if let Some(kept) = self.kept.as_ref().filter(|_| node.keep()) {
            let (upper, work) = kept.folders(name, base(node, image))?;
            return Ok(Writable {
                upper,
                work,
                kept: true,
            });
        }
        let own = self.scratch.join(name);
        let (upper, work) = (own.join("upper"), own.join("work"));
        // After a node's init has ended, its next one finds a mark here that the kernel takes for the
        // trace of a crash that may have lost what `volatile` did not sync. The kernel has not crashed.
        match fs::remove_dir_all(&work) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).on("remove", &work);
            }
            _ => {}
        }
        fs::create_dir_all(&work).on("create", &work)?;
        root_folder(&upper)?;
        Ok(Writable {
            upper,
            work,
            kept: false,
        })
    }
}

fn base<'a>(node: &'a Node, image: &'a NodeImage) -> Base<'a> {
    Base {
        reference: node.image().map_or("", String::as_str),
        digest: &image.digest,
        layers: &image.layers,
    }
}

/// Names in `--fresh` must be of nodes that keep something.
///
/// # Errors
/// One is not; the error says which are.
pub fn check_fresh(lab: &Lab, fresh: &[String]) -> Result<()> {
    let keeping: Vec<_> = lab
        .nodes()
        .iter()
        .filter(|n| n.keep())
        .map(|n| n.name().as_str())
        .collect();
    match fresh.iter().find(|name| !keeping.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) if keeping.is_empty() => Err(Error::Refused(format!(
            "--fresh {name}: no node of lab {} has `keep = true`, so each `up` is fresh",
            lab.name()
        ))),
        Some(name) => Err(Error::Refused(format!(
            "--fresh {name}: that is no node of lab {} with `keep = true`; those are {}",
            lab.name(),
            keeping.join(", ")
        ))),
    }
}
