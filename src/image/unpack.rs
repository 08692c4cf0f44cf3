//! From a layer's blob to its folder in the store: read once, verified before it gets its name.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::Progress;
use super::counted::Counted;
use super::digest::{self, Hashed};
use super::error::{Error, IoContext, LayerError};
use super::files;
use super::layer::{self, Applied, Limits};
use super::layout::{Compression, Layer};
use super::zstd::Frames;

/// Bytes that the zstd decoder reads at a time.
const BUFFER: usize = 256 * 1024;

/// Name of the file, next to a layer's folder, with the bytes of its files.
fn size_path(store: &Path, hex: &str) -> PathBuf {
    store.join("layers").join(format!("{hex}.size"))
}

/// Whether the layer is in the store.
pub(super) fn is_layer(store: &Path, hex: &str) -> bool {
    store.join("layers").join(hex).is_dir()
}

/// Removes what makes a layer known: it is about to be removed.
pub(super) fn forget_size(store: &Path, hex: &str) -> Result<(), Error> {
    let path = size_path(store, hex);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).on("remove", &path),
        _ => Ok(()),
    }
}

/// Unpacks a layer if the store does not have it, and returns the bytes of its files.
pub(super) fn unpack(
    store: &Path,
    layer: &Layer,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, Error> {
    let hex = digest::sha256_hex(&layer.diff_id).ok_or_else(|| Error::Digest {
        what: format!("layer {}", layer.digest),
        want: "sha256:...".into(),
        got: layer.diff_id.clone(),
    })?;
    let known = || {
        let text = fs::read_to_string(size_path(store, hex)).ok()?;
        is_layer(store, hex).then(|| text.trim().parse().ok())?
    };
    if let Some(bytes) = known() {
        return Ok(bytes);
    }
    let _lock = files::lock(&store.join("locks").join(format!("layer-{hex}")), || {
        progress(Progress::Log(format!(
            "waiting for another nslab that unpacks {}",
            layer.digest
        )));
    })?;
    if let Some(bytes) = known() {
        return Ok(bytes);
    }
    let folder = store.join("layers").join(hex);
    let temp = store.join("layers").join(format!(".new-{hex}"));
    files::remove_tree(&temp)?;
    // Without its size file the layer was being removed.
    files::remove_tree(&folder)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&temp)
        .on("create folder", &temp)?;
    let applied = match apply(layer, &temp, progress) {
        Ok(applied) => applied,
        Err(e) => {
            files::remove_tree(&temp)?;
            return Err(e);
        }
    };
    for line in &applied.skipped {
        progress(Progress::Log(format!("left out {line}")));
    }
    let size = size_path(store, hex);
    files::replace(&size, applied.bytes.to_string().as_bytes()).on("write", &size)?;
    fs::rename(&temp, &folder).on("move the layer to", &folder)?;
    Ok(applied.bytes)
}

fn apply(layer: &Layer, into: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Applied, Error> {
    let failed = |source| Error::Layer {
        digest: layer.digest.clone(),
        source,
    };
    let dest: OwnedFd = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(into)
        .on("open", into)?
        .into();
    let root = rustix::process::geteuid().is_root();
    let file = File::open(&layer.blob).on("open", &layer.blob)?;
    let counted = Counted::new(file, "layer", layer.size, progress);
    // One byte more than the descriptor says is enough to see that there is more.
    let mut blob = Hashed::new(counted.take(layer.size.saturating_add(1)));
    let (applied, diff_id) = match layer.compression {
        Compression::None => {
            let mut tar = Hashed::new(&mut blob);
            let applied = layer::apply(&mut tar, dest, root, Limits::default()).map_err(failed)?;
            (applied, tar.finish().1)
        }
        Compression::Gzip => {
            let mut tar = Hashed::new(MultiGzDecoder::new(&mut blob));
            let applied = layer::apply(&mut tar, dest, root, Limits::default()).map_err(failed)?;
            (applied, tar.finish().1)
        }
        Compression::Zstd => {
            let frames = Frames::new(BufReader::with_capacity(BUFFER, &mut blob));
            let mut tar = Hashed::new(frames);
            let applied = layer::apply(&mut tar, dest, root, Limits::default()).map_err(failed)?;
            (applied, tar.finish().1)
        }
    };
    io::copy(&mut blob, &mut io::sink()).map_err(|e| failed(LayerError::Read(e)))?;
    let (_, blob_digest, bytes) = blob.finish();
    for (what, want, got) in [
        (
            format!("layer {}", layer.blob.display()),
            &layer.digest,
            blob_digest,
        ),
        (
            format!("content of layer {}", layer.digest),
            &layer.diff_id,
            diff_id,
        ),
    ] {
        if *want != got {
            return Err(Error::Digest {
                what,
                want: want.clone(),
                got,
            });
        }
    }
    if bytes != layer.size {
        return Err(failed(LayerError::Tar(format!(
            "its blob has {bytes} bytes, its descriptor says {}",
            layer.size
        ))));
    }
    Ok(applied)
}
