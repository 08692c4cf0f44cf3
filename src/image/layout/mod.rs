//! OCI image layouts
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>): writing one for a
//! recipe or for what was pulled, reading any.

mod details;
mod read;
mod write;

use std::path::{Path, PathBuf};

use super::digest;
use super::error::Error;

pub(super) use details::details;
pub(super) use read::{
    Compression, DEPTH, Layer, configuration, for_this_machine, manifest_digest, other_platforms,
    read,
};
pub(super) use write::{Below, New, base_digest, write, write_pulled};

/// Most bytes of a manifest, index or configuration (what registries allow as well).
const MAX_JSON: u64 = 4 * 1024 * 1024;
/// Annotation with an image's tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn wrong(dir: &Path, why: impl Into<String>) -> Error {
    Error::Layout {
        path: dir.to_owned(),
        why: why.into(),
    }
}

/// Path of a blob.
pub(super) fn blob(dir: &Path, digest: &str) -> Result<PathBuf, Error> {
    let hex = digest::sha256_hex(digest).ok_or_else(|| {
        wrong(
            dir,
            format!("only sha256 digests are supported, not `{digest}`"),
        )
    })?;
    Ok(dir.join("blobs/sha256").join(hex))
}
