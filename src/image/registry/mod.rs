//! Pulling images from registries (OCI distribution-spec,
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>) into OCI image
//! layouts.
//!
//! | file | job |
//! |---|---|
//! | `auth` | where credentials are |
//! | `http` | the protocol |
//! | `client` | one registry: the way in, and its refusals in words |
//! | `download` | a blob: resumed, verified |

mod auth;
mod client;
mod download;
mod http;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};

use super::error::{Error, IoContext};
use super::{Progress, digest, layout};
use client::Session;
use download::Wanted;

/// Blobs at a time, Docker's number; more help nobody and annoy registries.
const AT_ONCE: usize = 3;
/// Bytes between two reports of a blob.
const REPORT: u64 = 256 * 1024;

/// Types of manifests that are understood, Docker's schema 2 and OCI's.
const ACCEPT: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// An image's manifest, as the registry has it now.
#[derive(Debug)]
struct Manifest {
    bytes: Vec<u8>,
    digest: String,
    parsed: Box<ImageManifest>,
}

/// A manifest or an index: umoci's manifests and some registries' say neither in the content nor in
/// the type, so it is told by what is in it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Document {
    Index(Box<ImageIndex>),
    Manifest(Box<ImageManifest>),
}

/// Where a pull puts things.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folders<'a> {
    /// The new layout: an empty folder.
    pub into: &'a Path,
    /// Layouts of other images, whose blobs are taken by hard link where they are the same.
    pub others: &'a Path,
    /// Where unfinished downloads stay.
    pub partial: &'a Path,
}

/// Pulls `image` for this machine's platform. `known` is the digest of a manifest that need not be
/// pulled again: `false` if the registry still has that one.
pub(super) fn pull(
    image: &Reference,
    known: Option<&str>,
    folders: Folders<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<bool, Error> {
    // One thread is enough: it waits for the network, and hashes what has come.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .on("start a runtime for", folders.into)?;
    runtime.block_on(async {
        let session = Session::open(image).await?;
        let manifest = manifest(&session).await?;
        if known == Some(manifest.digest.as_str()) {
            return Ok(false);
        }
        blobs(&session, &manifest, folders, progress).await?;
        let tag = image.tag().or(image.digest()).unwrap_or_default();
        layout::write_pulled(folders.into, tag, &manifest.bytes, &manifest.digest)?;
        Ok(true)
    })
}

/// The manifest for this machine, through as many indexes as there are.
async fn manifest(session: &Session<'_>) -> Result<Manifest, Error> {
    let image = session.image;
    let wrong = |why: String| Error::Registry {
        reference: image.whole(),
        why,
    };
    let mut wanted = image.clone();
    for _ in 0..layout::DEPTH {
        let (bytes, claimed) = session.manifest(&wanted, ACCEPT).await?;
        let digest = digest::of(&bytes);
        for want in [wanted.digest(), claimed.as_deref()].into_iter().flatten() {
            if digest::sha256_hex(want).is_some() && want != digest {
                return Err(Error::Digest {
                    what: format!("manifest of {}", image.whole()),
                    want: want.to_owned(),
                    got: digest,
                });
            }
        }
        let document = serde_json::from_slice(&bytes).map_err(|e| {
            wrong(format!(
                "{} answers neither a manifest of OCI nor one of Docker's schema 2 ({e})",
                image.registry()
            ))
        })?;
        match document {
            Document::Manifest(parsed) => {
                return Ok(Manifest {
                    bytes,
                    digest,
                    parsed,
                });
            }
            Document::Index(index) => {
                let one = layout::for_this_machine(index.manifests())
                    .ok_or_else(|| wrong(layout::other_platforms(index.manifests())))?;
                wanted = image.clone_with_digest(one.digest().to_string());
            }
        }
    }
    Err(wrong(format!(
        "its indexes are nested more than {} deep",
        layout::DEPTH
    )))
}

/// Downloads what the manifest names, a few blobs at a time.
async fn blobs(
    session: &Session<'_>,
    manifest: &Manifest,
    folders: Folders<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    let target = folders.into.join("blobs/sha256");
    fs::create_dir_all(&target).on("create folder", &target)?;
    let config = manifest.parsed.config();
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for descriptor in std::iter::once(config).chain(manifest.parsed.layers()) {
        let wanted = wanted(session, descriptor)?;
        if seen.insert(wanted.digest.clone()) && !shared(&wanted, folders, &target)? {
            missing.push(wanted);
        }
    }
    let progress = RefCell::new(progress);
    let all = missing.iter().map(|wanted| async {
        let report = |done| {
            (progress.borrow_mut())(Progress::Blob {
                digest: wanted.digest.clone(),
                done,
                total: wanted.size,
            });
        };
        let reported = std::cell::Cell::new(0);
        let tell = |done: u64| {
            if done < reported.get() || done - reported.get() >= REPORT {
                reported.set(done);
                report(done);
            }
        };
        let partial = folders.partial.join(hex(wanted));
        let target = target.join(hex(wanted));
        report(0);
        download::blob(session, wanted, &partial, &target, &tell).await?;
        report(wanted.size);
        Ok::<(), Error>(())
    });
    stream::iter(all)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

fn hex(wanted: &Wanted) -> &str {
    // Checked when it was made.
    digest::sha256_hex(&wanted.digest).unwrap_or_default()
}

fn wanted(session: &Session<'_>, descriptor: &Descriptor) -> Result<Wanted, Error> {
    let digest = descriptor.digest().to_string();
    let refuse = |why: String| {
        Err(Error::Registry {
            reference: session.image.whole(),
            why,
        })
    };
    if digest::sha256_hex(&digest).is_none() {
        return refuse(format!("only sha256 digests are supported, not `{digest}`"));
    }
    let foreign = matches!(
        descriptor.media_type(),
        MediaType::ImageLayerNonDistributable
            | MediaType::ImageLayerNonDistributableGzip
            | MediaType::ImageLayerNonDistributableZstd
    );
    if foreign {
        return refuse(format!(
            "layer {digest} is not distributable; nslab does not get it"
        ));
    }
    Ok(Wanted {
        digest,
        size: descriptor.size(),
    })
}

/// Takes the blob from another image of the store, if one has it. It is verified when it is used,
/// as every blob of a layout is.
fn shared(wanted: &Wanted, folders: Folders<'_>, target: &Path) -> Result<bool, Error> {
    let entries = fs::read_dir(folders.others).on("list", folders.others)?;
    let candidates: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path().join("blobs/sha256").join(hex(wanted)))
        .filter(|path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() == wanted.size))
        .collect();
    Ok(candidates
        .iter()
        .any(|path| fs::hard_link(path, target.join(hex(wanted))).is_ok()))
}
