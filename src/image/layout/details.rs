//! What a layout says of an image beyond what running it needs.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::image::{ImageConfiguration, ImageManifest};

use super::read::{json, parse, read_limited};
use super::{blob, wrong};
use crate::image::digest;
use crate::image::error::Error;

/// See the module.
#[derive(Debug)]
pub(in crate::image) struct Details {
    /// `linux/amd64`, with a variant if there is one.
    pub platform: String,
    /// When it was made, as RFC 3339 has it.
    pub created: Option<String>,
    /// Ports, `80/tcp`.
    pub ports: Vec<String>,
    /// Folders that it wants as volumes.
    pub volumes: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Diff id, digest and bytes of each layer's blob, the lowest first.
    pub layers: Vec<(String, String, u64)>,
}

/// Reads the image whose manifest has this digest.
pub(in crate::image) fn details(dir: &Path, manifest: &str) -> Result<Details, Error> {
    let bytes = read_limited(&blob(dir, manifest)?)?;
    let got = digest::of(&bytes);
    if got != manifest {
        return Err(Error::Digest {
            what: format!("manifest {manifest} in {}", dir.display()),
            want: manifest.to_owned(),
            got,
        });
    }
    let manifest: ImageManifest = parse(dir, manifest, &bytes)?;
    let image: ImageConfiguration = json(dir, manifest.config())?;
    let variant = image.variant().as_ref().map(|v| format!("/{v}"));
    let config = image.config().clone().unwrap_or_default();
    let sorted = |names: &Option<Vec<String>>| {
        let mut names = names.clone().unwrap_or_default();
        names.sort();
        names
    };
    let ids = image.rootfs().diff_ids();
    if ids.len() != manifest.layers().len() {
        return Err(wrong(
            dir,
            "its manifest and configuration differ in layers",
        ));
    }
    Ok(Details {
        platform: format!(
            "{}/{}{}",
            image.os(),
            image.architecture(),
            variant.unwrap_or_default()
        ),
        created: image.created().clone(),
        ports: sorted(config.exposed_ports()),
        volumes: sorted(config.volumes()),
        labels: config
            .labels()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        layers: ids
            .iter()
            .zip(manifest.layers())
            .map(|(id, blob)| (id.clone(), blob.digest().to_string(), blob.size()))
            .collect(),
    })
}
