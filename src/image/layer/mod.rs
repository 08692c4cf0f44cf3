//! The layer applier: one layer's tar stream into one folder, for overlayfs.
//!
//! Safe against any content, also as root: see [`beneath`](super::beneath). A layer is unpacked on
//! its own and not onto the layers below it, so whiteouts become what overlayfs takes for them
//! (Documentation/filesystems/overlayfs.rst): a character device 0/0 for a removed file, the
//! attribute `trusted.overlay.opaque` for a folder whose lower content is hidden. Without root the
//! attribute is `user.overlay.opaque`, for mounts with `userxattr`.
//!
//! ```text
//! tar stream --tarread--> Entry --applier--+-- folders, links, nodes
//!                                          +-- content    files, with their holes
//!                                          +-- whiteout   what hides lower layers
//!                                          +-- metadata   owners, modes, attributes, times
//! ```

mod applier;
mod content;
mod metadata;
mod whiteout;

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::error::{LayerError, shown};
use super::tarread::{Entry, Reader};
use applier::Applier;

/// What a layer may hold at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files together, holes included.
    pub bytes: u64,
}

impl Default for Limits {
    /// A million entries and 64 GiB: several times what the largest images have.
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            bytes: 64 << 30,
        }
    }
}

/// Most bytes of all names, link targets and attributes together: those of folders are kept in
/// memory, and attributes take room on the disk that the files' bytes do not tell of.
const MAX_NAMES: u64 = 256 << 20;

/// What was unpacked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
    /// What was left out, and why: device nodes and attributes that only root can make (the first
    /// hundred).
    pub skipped: Vec<String>,
    /// Folders that the layer has something in and no entry for, the deepest first; `""` is the root.
    pub implied: Vec<Vec<u8>>,
}

/// Unpacks an uncompressed layer into `dest`, an empty folder. The stream is read to its very end,
/// so that a hash over it is the layer's. After an error `dest` holds what came before it.
///
/// With `root` the owners are set and device nodes made; without it all files are the caller's.
pub fn apply(
    tar: impl Read,
    dest: OwnedFd,
    root: bool,
    limits: Limits,
) -> Result<Applied, LayerError> {
    let mut applier = Applier::new(dest, root)?;
    let mut reader = Reader::new(tar);
    let mut spent = Spent::default();
    while let Some(entry) = reader.next()? {
        spent.add(&entry, limits)?;
        applier.entry(&entry, &mut reader)?;
    }
    // Padding behind the archive's end counts for the layer's digest (which will not match if
    // there is more of it than any blocking factor explains).
    let rest = &mut reader.into_inner().take(16 << 20);
    io::copy(rest, &mut io::sink()).map_err(LayerError::Read)?;
    let (implied, skipped) = applier.finish()?;
    Ok(Applied {
        entries: spent.entries,
        bytes: spent.bytes,
        skipped,
        implied,
    })
}

/// What counts towards the limits.
#[derive(Default)]
struct Spent {
    entries: u64,
    bytes: u64,
    names: u64,
}

impl Spent {
    fn add(&mut self, entry: &Entry, limits: Limits) -> Result<(), LayerError> {
        let xattrs = entry.xattrs.iter().map(|(k, v)| k.len() + v.len());
        let names = entry.path.len() + entry.link.len() + xattrs.sum::<usize>();
        self.entries += 1;
        self.names += names as u64;
        self.bytes = self.bytes.saturating_add(entry.size);
        for (is, limit, what) in [
            (self.entries, limits.entries, "entries"),
            (self.names, MAX_NAMES, "bytes of names and attributes"),
            (self.bytes, limits.bytes, "bytes"),
        ] {
            if is > limit {
                return Err(LayerError::Limit { what, limit });
            }
        }
        Ok(())
    }
}

fn refuse(entry: &Entry, why: impl Into<String>) -> LayerError {
    LayerError::refused(&entry.path, why)
}

/// Turns an errno into an error about an entry.
fn failed(doing: &'static str, entry: &Entry) -> impl FnOnce(Errno) -> LayerError {
    move |e| match e {
        // openat2's way to say that the path leads out of the root.
        Errno::XDEV => refuse(entry, "it leads out of the layer by a symbolic link"),
        e => LayerError::Entry {
            doing,
            entry: shown(&entry.path),
            source: e.into(),
        },
    }
}
