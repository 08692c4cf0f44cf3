//! The content of files.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::super::error::LayerError;
use super::super::tarread::{Entry, Extent};
use super::failed;

/// Bytes that are copied at a time.
const BUFFER: usize = 128 * 1024;

/// What copies content: one buffer for all files of a layer.
pub(super) struct Copier(Box<[u8]>);

impl Copier {
    pub(super) fn new() -> Self {
        Self(vec![0; BUFFER].into())
    }

    /// Writes an entry's content into its new file. Holes are not written, and stay holes.
    pub(super) fn copy(
        &mut self,
        entry: &Entry,
        data: &mut impl Read,
        file: &File,
    ) -> Result<(), LayerError> {
        let whole = [Extent {
            offset: 0,
            length: entry.size,
        }];
        let mut end = 0;
        for extent in entry.sparse.as_deref().unwrap_or(&whole) {
            end = extent.offset;
            let stop = extent.offset + extent.length;
            while end < stop {
                let most = usize::try_from(stop - end).map_or(BUFFER, |left| left.min(BUFFER));
                let n = match data.read(&mut self.0[..most]) {
                    Ok(0) => return Err(LayerError::Tar("it ends within an entry".into())),
                    Ok(n) => n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(LayerError::Read(e)),
                };
                file.write_all_at(&self.0[..n], end)
                    .map_err(|source| LayerError::Entry {
                        doing: "write",
                        entry: super::shown(&entry.path),
                        source,
                    })?;
                end += n as u64;
            }
        }
        if end < entry.size || entry.sparse.is_some() {
            rustix::fs::ftruncate(file, entry.size).map_err(failed("set size of", entry))?;
        }
        Ok(())
    }
}
