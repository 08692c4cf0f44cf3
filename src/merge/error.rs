//! What can go wrong with a merge.

use std::{io, path::PathBuf};

use crate::capture::{self, savefile};
use crate::trace::TopologyError;

/// A merge that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A given file is no capture file, or cannot be read.
    #[error(transparent)]
    Savefile(#[from] savefile::Error),
    /// The merged file cannot be made.
    #[error(transparent)]
    Output(#[from] capture::Error),
    /// It cannot be written.
    #[error("cannot write {}: {source}; the file is as it was before", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// A folder of captures cannot be read.
    #[error("cannot read the folder of captures {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to merge.
    #[error("there are no captures in {}", .0.display())]
    Nothing(PathBuf),
    /// What `up` wrote about the lab is not readable.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}
