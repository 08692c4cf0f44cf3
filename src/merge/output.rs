//! Where a merge goes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Error;
use crate::capture::WholeFile;

/// Where a merge goes.
#[derive(Debug)]
pub enum Output {
    /// Into a file that appears when it is whole. Pipes and devices are written to as they are.
    File {
        /// Its path.
        path: PathBuf,
        /// User and group whom it shall belong to; the process's own when none.
        owner: Option<(u32, u32)>,
    },
    /// To standard output.
    Stdout,
}

/// An output that can be written to.
#[derive(Debug)]
pub(super) enum Opened {
    Whole(WholeFile),
    Device(File, PathBuf),
    Stdout(io::Stdout),
}

impl Output {
    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => Some(path),
            Self::Stdout => None,
        }
    }

    pub(super) fn open(self) -> Result<Opened, Error> {
        let (path, owner) = match self {
            Self::File { path, owner } => (path, owner),
            Self::Stdout => return Ok(Opened::Stdout(io::stdout())),
        };
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            let opened = File::options().write(true).open(&path);
            return match opened {
                Ok(file) => Ok(Opened::Device(file, path)),
                Err(source) => Err(Error::Write { path, source }),
            };
        }
        Ok(Opened::Whole(WholeFile::create(&path, owner)?))
    }
}

impl Opened {
    /// What a failure to write means.
    pub(super) fn failed(&self, source: io::Error) -> Error {
        let path = match self {
            Self::Whole(file) => file.path(),
            Self::Device(_, path) => path,
            Self::Stdout(_) => return Error::Stdout(source),
        };
        Error::Write {
            path: path.to_owned(),
            source,
        }
    }

    /// Makes it appear.
    pub(super) fn commit(self) -> Result<(), Error> {
        match self {
            Self::Whole(file) => Ok(file.commit()?),
            Self::Device(..) | Self::Stdout(_) => Ok(()),
        }
    }
}

impl Write for Opened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Whole(file) => file.write(bytes),
            Self::Device(file, _) => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Whole(file) => file.flush(),
            Self::Device(file, _) => file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}
