//! Reading a layout: its manifest and configuration, verified.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::image::{
    Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os,
};

use super::{MAX_JSON, REF_NAME, blob, wrong};
use crate::image::RunConfig;
use crate::image::digest;
use crate::image::error::{Error, IoContext};

/// Indexes within indexes that are followed: tools write one or two.
pub(in crate::image) const DEPTH: usize = 4;

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A layer of an image that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::image) struct Layer {
    pub blob: PathBuf,
    /// Digest of the blob.
    pub digest: String,
    /// Bytes of the blob.
    pub size: u64,
    pub compression: Compression,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
}

/// An image of a layout, its manifest and configuration verified; its layers are not yet.
#[derive(Debug)]
pub(in crate::image) struct Contents {
    pub digest: String,
    /// The lowest first.
    pub layers: Vec<Layer>,
    pub config: RunConfig,
}

/// Reads the image with this tag, or the only one.
pub(in crate::image) fn read(dir: &Path, tag: Option<&str>) -> Result<Contents, Error> {
    let (digest, manifest) = manifest(dir, tag)?;
    let config: ImageConfiguration = json(dir, manifest.config())?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers().len() {
        return Err(wrong(
            dir,
            format!(
                "the manifest has {} layers, the configuration {}",
                manifest.layers().len(),
                diff_ids.len()
            ),
        ));
    }
    let mut layers = Vec::new();
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
        if digest::sha256_hex(diff_id).is_none() {
            return Err(wrong(dir, format!("`{diff_id}` is no sha256 digest")));
        }
        let digest = descriptor.digest().to_string();
        layers.push(Layer {
            blob: blob(dir, &digest)?,
            digest,
            size: descriptor.size(),
            compression: compression(dir, descriptor.media_type())?,
            diff_id: diff_id.clone(),
        });
    }
    Ok(Contents {
        digest,
        layers,
        config: run_config(&config),
    })
}

/// An image as another one's base: what [`read`] gives, and the whole configuration as it is
/// written, whatever may be in it.
pub(super) fn read_whole(dir: &Path) -> Result<(Contents, serde_json::Value), Error> {
    let (_, manifest) = manifest(dir, None)?;
    Ok((read(dir, None)?, json(dir, manifest.config())?))
}

/// The annotations of the only image's manifest.
pub(super) fn annotations(dir: &Path) -> Result<HashMap<String, String>, Error> {
    let (_, manifest) = manifest(dir, None)?;
    Ok(manifest.annotations().clone().unwrap_or_default())
}

/// Digest of the manifest of the image with this tag, without reading the image itself.
pub(in crate::image) fn manifest_digest(dir: &Path, tag: Option<&str>) -> Result<String, Error> {
    manifest(dir, tag).map(|(digest, _)| digest)
}

/// The whole configuration of the image whose manifest has this digest.
pub(in crate::image) fn configuration(
    dir: &Path,
    digest: &str,
) -> Result<ImageConfiguration, Error> {
    let bytes = read_limited(&blob(dir, digest)?)?;
    let got = digest::of(&bytes);
    if got != digest {
        return Err(Error::Digest {
            what: format!("manifest in {}", dir.display()),
            want: digest.to_owned(),
            got,
        });
    }
    let manifest: ImageManifest = parse(dir, digest, &bytes)?;
    json(dir, manifest.config())
}

/// The image of an index for this machine. Of several variants of its architecture (arm64/v8,
/// amd64/v3) the one without a variant is safe everywhere; else the first is what others take.
pub(in crate::image) fn for_this_machine(index: &[Descriptor]) -> Option<&Descriptor> {
    let fits = |d: &&Descriptor| {
        d.platform()
            .as_ref()
            .is_none_or(|p| *p.architecture() == Arch::default() && *p.os() == Os::Linux)
    };
    let variant = |d: &Descriptor| d.platform().as_ref().and_then(|p| p.variant().clone());
    let mut fitting = index.iter().filter(fits);
    let first = fitting.next()?;
    std::iter::once(first)
        .chain(fitting)
        .find(|d| variant(d).is_none())
        .or(Some(first))
}

/// What to say of an index without an image for this machine.
pub(in crate::image) fn other_platforms(index: &[Descriptor]) -> String {
    let mut platforms: Vec<_> = index
        .iter()
        .filter_map(|d| d.platform().as_ref())
        .map(|p| format!("{}/{}", p.os(), p.architecture()))
        // What build tools attach to an image, such as where it came from.
        .filter(|p| p != "unknown/unknown")
        .collect();
    platforms.sort();
    platforms.dedup();
    let there = if platforms.is_empty() {
        "nothing".to_owned()
    } else {
        platforms.join(", ")
    };
    format!(
        "it holds no image for linux/{}; there is {there}",
        Arch::default()
    )
}

fn manifest(dir: &Path, tag: Option<&str>) -> Result<(String, ImageManifest), Error> {
    let path = dir.join("index.json");
    let index: ImageIndex = parse(dir, "index.json", &read_limited(&path)?)?;
    let tag_of = |d: &Descriptor| {
        d.annotations()
            .as_ref()
            .and_then(|a| a.get(REF_NAME).cloned())
    };
    let tagged = |d: &&Descriptor| tag.is_none() || tag_of(d).as_deref() == tag;
    let fitting: Vec<&Descriptor> = index.manifests().iter().filter(tagged).collect();
    let mut one = match &fitting[..] {
        [one] => (*one).clone(),
        [] => {
            let tags: Vec<_> = index.manifests().iter().filter_map(tag_of).collect();
            let tag = tag.unwrap_or_default();
            return Err(wrong(
                dir,
                match &tags[..] {
                    [] if index.manifests().is_empty() => "it holds no image".to_owned(),
                    [] => format!("no image is tagged `{tag}`, nor any other"),
                    _ => format!("no image is tagged `{tag}`; there are: {}", tags.join(", ")),
                },
            ));
        }
        // The platforms of one image may stand in the first index as well.
        several if several.iter().all(|d| tag_of(d) == tag_of(several[0])) => {
            let all: Vec<_> = several.iter().map(|d| (*d).clone()).collect();
            for_this_machine(&all)
                .cloned()
                .ok_or_else(|| wrong(dir, other_platforms(&all)))?
        }
        several => {
            let tags: Vec<_> = several.iter().filter_map(|d| tag_of(d)).collect();
            return Err(wrong(
                dir,
                format!(
                    "it holds {} images; name one as FOLDER:TAG, of: {}",
                    several.len(),
                    tags.join(", ")
                ),
            ));
        }
    };
    for _ in 0..DEPTH {
        if !is_index(one.media_type()) {
            return Ok((one.digest().to_string(), json(dir, &one)?));
        }
        let inner: ImageIndex = json(dir, &one)?;
        one = for_this_machine(inner.manifests())
            .cloned()
            .ok_or_else(|| wrong(dir, other_platforms(inner.manifests())))?;
    }
    Err(wrong(
        dir,
        format!("its indexes are nested more than {DEPTH} deep"),
    ))
}

fn is_index(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageIndex || media_type.to_string().contains("manifest.list")
}

fn compression(dir: &Path, media_type: &MediaType) -> Result<Compression, Error> {
    let name = media_type.to_string();
    match name.as_str() {
        n if n.ends_with("+gzip") || n.ends_with(".tar.gzip") => Ok(Compression::Gzip),
        n if n.rsplit('.').next() == Some("tar") => Ok(Compression::None),
        n if n.ends_with("+zstd") => Ok(Compression::Zstd),
        _ => Err(wrong(dir, format!("a layer's type `{name}` is unknown"))),
    }
}

fn run_config(config: &ImageConfiguration) -> RunConfig {
    let config = config.config().clone().unwrap_or_default();
    let pairs = config.env().clone().unwrap_or_default();
    RunConfig {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: pairs
            .iter()
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        user: config.user().clone().unwrap_or_default(),
        workdir: config.working_dir().clone().unwrap_or_default().into(),
        stop_signal: config.stop_signal().clone(),
    }
}

/// Reads a JSON blob, its size and digest checked.
pub(super) fn json<T: serde::de::DeserializeOwned>(
    dir: &Path,
    descriptor: &Descriptor,
) -> Result<T, Error> {
    let want = descriptor.digest().to_string();
    let bytes = read_limited(&blob(dir, &want)?)?;
    let got = digest::of(&bytes);
    if got != want || bytes.len() as u64 != descriptor.size() {
        return Err(Error::Digest {
            what: format!("blob {want} in {}", dir.display()),
            want,
            got,
        });
    }
    parse(dir, &want, &bytes)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(
    dir: &Path,
    what: &str,
    bytes: &[u8],
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| wrong(dir, format!("{what}: {e}")))
}

pub(super) fn read_limited(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).on("open", path)?;
    file.take(MAX_JSON + 1)
        .read_to_end(&mut bytes)
        .on("read", path)?;
    if bytes.len() as u64 > MAX_JSON {
        let source = std::io::Error::other("it is larger than 4 MiB");
        return Err(source).on("read", path);
    }
    Ok(bytes)
}
