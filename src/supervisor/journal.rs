//! The journal: what has to be undone, written down before it is done, one JSON object a line.
//!
//! It is short by design: what is made inside namespaces dies with them, so only what the host
//! can see is in it. A line that was cut off by a crash is the last one, and what it would have
//! announced was not done yet.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Result;
use super::error::OnPath;
use crate::kernel::process::ProcessId;

/// One thing that teardown removes; none of them being there is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// A link in the host's namespace. It is recognised by its mark (alias), which it gets just after
    /// it is made, and until then by its name together with its MAC address, which nobody else has.
    HostLink {
        /// The mark.
        mark: String,
        /// Its name.
        name: String,
        /// Its MAC address.
        mac: [u8; 6],
    },
    /// A mount, with everything below it.
    Mount {
        /// Where.
        path: PathBuf,
    },
    /// A folder of nslab's own, with everything in it.
    Folder {
        /// Which.
        path: PathBuf,
    },
    /// A control group, with what runs in it.
    ControlGroup {
        /// Its folder.
        path: PathBuf,
    },
    /// A process.
    Process {
        /// What it is, for messages.
        what: String,
        /// Which.
        id: ProcessId,
    },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens a new journal.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(path)
            .on("create", path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes down what is about to be done.
    pub fn note(&mut self, undo: &Undo) -> Result<()> {
        let mut line = serde_json::to_vec(undo)
            .map_err(std::io::Error::other)
            .on("encode", &self.path)?;
        line.push(b'\n');
        self.file.write_all(&line).on("write", &self.path)
    }

    /// Everything that was written, oldest first; an unfinished last line is left out.
    pub fn read(path: &Path) -> Result<Vec<Undo>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(text
                .lines()
                .filter_map(|l| serde_json::from_str(l).ok())
                .collect()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e).on("read", path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cut_off_by_a_crash_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let first = Undo::Mount {
            path: "/run/x".into(),
        };
        let mut journal = Journal::create(&path).unwrap();
        journal.note(&first).unwrap();
        journal.file.write_all(br#"{"undo":"folder","pa"#).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), [first]);
    }

    #[test]
    fn a_journal_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        Journal::create(&path).unwrap();
        assert!(Journal::create(&path).is_err());
    }
}
