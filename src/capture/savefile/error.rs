//! Why a capture file cannot be read at all.

use std::{io, path::PathBuf};

/// Why a capture file cannot be read at all, or no further. What leaves a part of it readable is a
/// [`super::Note`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("cannot {op} {name}: {source}")]
    Io {
        /// The verb.
        op: &'static str,
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It begins like no capture file.
    #[error("{name} is not a capture file: {why}")]
    NotACapture {
        /// The file.
        name: String,
        /// What it is instead, or begins with.
        why: String,
    },
    /// A kind of capture file that nslab does not read.
    #[error("{name} is {what}, which nslab does not read; {hint}")]
    Unsupported {
        /// The file.
        name: String,
        /// What it is.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// It ends before its first frame could begin.
    #[error(
        "{name} ends after {have} bytes, within its header, which has {need}: there are no frames in it"
    )]
    Header {
        /// The file.
        name: String,
        /// Bytes that there are.
        have: usize,
        /// Bytes that there should be at least.
        need: usize,
    },
    /// Its header contradicts the format.
    #[error("{name} is damaged at its beginning: {why}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Not a regular file.
    #[error("{} is not a regular file; a lab's captures are", .0.display())]
    NotRegular(PathBuf),
}

impl Error {
    /// An I/O error with what was done to which file.
    pub(super) fn io(op: &'static str, name: &str, source: io::Error) -> Self {
        Self::Io {
            op,
            name: name.to_owned(),
            source,
        }
    }
}
