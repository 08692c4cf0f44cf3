//! A folder as one layer: a tar stream that depends on the folder's content alone.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::digest::Hashed;
use super::error::{Error, IoContext};

/// A layer that was written.
pub(super) struct Packed {
    /// Digest of the uncompressed stream.
    pub diff_id: String,
    /// Digest of the blob.
    pub digest: String,
    /// Bytes of the blob.
    pub size: u64,
}

/// Writes `root` as a gzip'ed tar to `blob`: names sorted, owners 0:0, each mtime `epoch` seconds.
/// `progress` gets the bytes of file content packed so far.
pub(super) fn pack(
    root: &Path,
    blob: &Path,
    epoch: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Packed, Error> {
    let file = File::create(blob).on("create", blob)?;
    // Level 1: a layer of this machine for this machine; half the size, four times the speed of 6.
    // The gzip header has no time and no name in it.
    let gzip = GzEncoder::new(Hashed::new(BufWriter::new(file)), Compression::fast());
    let mut tar = tar::Builder::new(Hashed::new(gzip));
    tar.mode(tar::HeaderMode::Deterministic);
    let mut done = 0;
    walk(root, &mut |path, rel| {
        done += append(&mut tar, path, rel, epoch)?;
        progress(done);
        Ok(())
    })?;
    let (gzip, diff_id, _) = tar.into_inner().on("write", blob)?.finish();
    let (file, digest, size) = gzip.finish().on("write", blob)?.finish();
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)
        .on("write", blob)?;
    Ok(Packed {
        diff_id,
        digest,
        size,
    })
}

/// Bytes of file content below `root`.
pub(super) fn size_of(root: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    walk(root, &mut |path, _| {
        let meta = path.symlink_metadata().on("look at", path)?;
        bytes += if meta.is_file() { meta.len() } else { 0 };
        Ok(())
    })?;
    Ok(bytes)
}

/// Visits all below `root`, a folder before its content, names in the order of their bytes.
fn walk(
    root: &Path,
    visit: &mut dyn FnMut(&Path, &Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut stack = vec![PathBuf::new()];
    while let Some(rel) = stack.pop() {
        let path = if rel.as_os_str().is_empty() {
            root.to_owned()
        } else {
            root.join(&rel)
        };
        visit(&path, &rel)?;
        if path.symlink_metadata().on("look at", &path)?.is_dir() {
            let mut names = fs::read_dir(&path)
                .and_then(|dir| {
                    dir.map(|e| Ok(e?.file_name()))
                        .collect::<io::Result<Vec<_>>>()
                })
                .on("list", &path)?;
            names.sort_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
            stack.extend(names.into_iter().map(|name| rel.join(name)));
        }
    }
    Ok(())
}

/// Appends one entry and returns the bytes of its content.
fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &Path,
    rel: &Path,
    epoch: u64,
) -> Result<u64, Error> {
    let meta = path.symlink_metadata().on("look at", path)?;
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(epoch);
    header.set_mode(meta.mode() & 0o7777);
    header.set_size(0);
    let name = if rel.as_os_str().is_empty() {
        Path::new("./")
    } else {
        rel
    };
    let kind = meta.file_type();
    if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, name, io::empty())
            .on("pack", path)?;
    } else if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        let target = fs::read_link(path).on("read link", path)?;
        tar.append_link(&mut header, name, target)
            .on("pack", path)?;
    } else if kind.is_file() {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(meta.len());
        let file = File::open(path).on("open", path)?;
        tar.append_data(&mut header, name, BufReader::new(file))
            .on("pack", path)?;
        return Ok(meta.len());
    } else {
        return Err(Error::Io {
            doing: "pack",
            path: path.to_owned(),
            source: io::Error::other("neither a file, a folder nor a symbolic link"),
        });
    }
    Ok(0)
}
