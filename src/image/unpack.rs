//! From a layer's blob to its folder in the store: read once, verified before it gets its name.
//!
//! ```text
//! thread `layer`:    blob -> sha256 -> gzip, zstd or nothing -> blocks
//! calling thread:                                               blocks -> sha256 -> files
//! ```

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use flate2::bufread::MultiGzDecoder;

use super::Progress;
use super::ahead::{self, Ahead, Producer};
use super::beneath::RelPath;
use super::counted::Meter;
use super::digest::{self, Hashed};
use super::error::{Error, IoContext, LayerError};
use super::files;
use super::layer::{self, Applied, Limits};
use super::layout::{Compression, Layer};
use super::zstd::Frames;

/// Bytes of the blob that are read at a time.
const BUFFER: usize = 256 * 1024;

/// Name of the file, next to a layer's folder, with what else is to be known of it: the bytes of its
/// files on the first line, then its implied folders, each with a zero byte behind it.
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

/// The bytes of a layer's files, if the store has it.
pub(super) fn known(store: &Path, hex: &str) -> Option<u64> {
    let note = fs::read(size_path(store, hex)).ok()?;
    let line = note.split(|&b| b == b'\n').next()?;
    let bytes = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
    is_layer(store, hex).then_some(bytes)
}

/// Folders that a layer of the store has something in and no entry for.
pub(super) fn implied(store: &Path, hex: &str) -> HashSet<RelPath> {
    let note = fs::read(size_path(store, hex)).unwrap_or_default();
    let paths = note.splitn(2, |&b| b == b'\n').nth(1).unwrap_or_default();
    let mut paths: Vec<_> = paths.split(|&b| b == 0).collect();
    paths.pop();
    let paths = paths.into_iter().map(RelPath::parse);
    paths.filter_map(Result::ok).collect()
}

/// Makes a folder for a layer that the store does not have. Whoever calls has its lock.
pub(super) fn begin(store: &Path, hex: &str) -> Result<PathBuf, Error> {
    let folder = store.join("layers").join(hex);
    let temp = store.join("layers").join(format!(".new-{hex}"));
    // Without its size file the layer was being removed. By a rename: what has its name is whole.
    let old = store.join("layers").join(format!(".old-{hex}"));
    for left in [&temp, &old] {
        files::remove_tree(left)?;
    }
    if fs::rename(&folder, &old).is_ok() {
        files::remove_tree(&old)?;
    }
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&temp)
        .on("create folder", &temp)?;
    Ok(temp)
}

/// Gives a layer its name if it was made, and removes what there is of it otherwise.
pub(super) fn end(
    store: &Path,
    hex: &str,
    temp: &Path,
    made: Result<Applied, Error>,
) -> Result<Applied, Error> {
    let folder = store.join("layers").join(hex);
    // Under a name that tells whose it is: a killed process leaves it.
    let new = temp.with_extension("size");
    let named = |applied: &Applied| {
        let mut note = format!("{}\n", applied.bytes).into_bytes();
        for path in &applied.implied {
            note.extend_from_slice(path);
            note.push(0);
        }
        let size = size_path(store, hex);
        fs::write(&new, note).on("write", &new)?;
        fs::rename(&new, &size).on("write", &size)?;
        fs::rename(temp, &folder).on("move the layer to", &folder)
    };
    made.and_then(|applied| named(&applied).map(|()| applied))
        .inspect_err(|_| {
            // Often a full disk. What is in the way of tidying up was in the way before.
            let _ = fs::remove_file(&new);
            let _ = files::remove_tree(temp);
        })
}

/// Unpacks a layer if the store does not have it, and returns the bytes of its files. It fails, with
/// an error that is nobody's business, soon after `stop` begins to say so.
pub(super) fn unpack(
    store: &Path,
    layer: &Layer,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, Error> {
    let hex = digest::sha256_hex(&layer.diff_id).ok_or_else(|| Error::Digest {
        what: format!("layer {}", layer.digest),
        want: "sha256:...".into(),
        got: layer.diff_id.clone(),
    })?;
    if let Some(bytes) = known(store, hex) {
        return Ok(bytes);
    }
    let _lock = files::lock(&store.join("locks").join(format!("layer-{hex}")), || {
        progress(Progress::Log(format!(
            "waiting for another nslab that unpacks {}",
            layer.digest
        )));
    })?;
    if let Some(bytes) = known(store, hex) {
        return Ok(bytes);
    }
    let temp = begin(store, hex)?;
    let applied = end(store, hex, &temp, apply(layer, &temp, stop, progress))?;
    for line in &applied.skipped {
        progress(Progress::Log(format!("left out {line}")));
    }
    Ok(applied.bytes)
}

fn apply(
    layer: &Layer,
    into: &Path,
    stop: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Applied, Error> {
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
    let (read, given_up) = (AtomicU64::new(0), AtomicBool::new(false));
    let (applied, diff_id, blob) = thread::scope(|scope| {
        let (producer, ahead) = ahead::ends();
        let (read, given_up) = (&read, &given_up);
        let decoding = thread::Builder::new()
            .name("layer".into())
            .spawn_scoped(scope, move || decode(layer, file, producer, read, given_up))
            .on("start a thread to unpack", &layer.blob)?;
        let mut tar = Hashed::new(Watched {
            ahead,
            read,
            stop,
            meter: Meter::new("layer", layer.size, progress),
        });
        let applied = layer::apply(&mut tar, dest, root, Limits::default());
        given_up.store(applied.is_err(), Ordering::Relaxed);
        // With its reading end the other thread's work is over, or what is left is to hash the rest.
        let (watched, diff_id, _) = tar.finish();
        drop(watched);
        let blob = decoding
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((applied, diff_id, blob))
    })?;
    let applied = applied.map_err(failed)?;
    let (blob_digest, bytes) = blob.map_err(|e| failed(LayerError::Read(e)))?;
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

/// Decodes the blob until its end, an error, or until nobody reads any more; then the rest of it is
/// hashed, unless all is given up. Returns the blob's digest and bytes.
fn decode(
    layer: &Layer,
    file: File,
    producer: Producer,
    read: &AtomicU64,
    given_up: &AtomicBool,
) -> io::Result<(String, u64)> {
    // One byte more than the descriptor says is enough to see that there is more.
    let file = file.take(layer.size.saturating_add(1));
    let mut blob = Hashed::new(Tallied { file, read });
    let source = BufReader::with_capacity(BUFFER, &mut blob);
    match layer.compression {
        Compression::None => producer.run(source),
        Compression::Gzip => producer.run(MultiGzDecoder::new(source)),
        Compression::Zstd => producer.run(Frames::new(source)),
    }
    let mut rest = vec![0; BUFFER];
    while !given_up.load(Ordering::Relaxed) {
        match blob.read(&mut rest) {
            Ok(0) => break,
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
    }
    let (_, digest, bytes) = blob.finish();
    Ok((digest, bytes))
}

/// Lets other threads know how much was read.
struct Tallied<'a> {
    file: io::Take<File>,
    read: &'a AtomicU64,
}

impl Read for Tallied<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// What was decoded, with a look at how far the blob is and whether to go on.
struct Watched<'a> {
    ahead: Ahead,
    read: &'a AtomicU64,
    stop: &'a dyn Fn() -> bool,
    meter: Meter<'a>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if (self.stop)() {
            return Err(io::Error::other("another layer failed"));
        }
        let n = self.ahead.read(buf)?;
        self.meter.at(self.read.load(Ordering::Relaxed));
        Ok(n)
    }
}
