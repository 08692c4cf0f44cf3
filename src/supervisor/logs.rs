//! Output of main processes: one file a node, bounded, with its predecessor kept as `.1`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::Result;
use super::error::OnPath;

/// A log is moved to `.1` when it has grown to so many bytes; two files a node at most.
const LIMIT: u64 = 8 << 20;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Log {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .on("open", path)?;
        let len = file.metadata().on("look at", path)?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            len,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.len >= LIMIT {
            let old = self.path.with_extension("log.1");
            fs::rename(&self.path, &old).on("rename", &self.path)?;
            *self = Self::open(&self.path)?;
        }
        self.len += bytes.len() as u64;
        self.file.write_all(bytes).on("write", &self.path)
    }
}

/// The last `lines` lines of a log; fewer if there are fewer, none if there is no log.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let old = fs::read(path.with_extension("log.1")).unwrap_or_default();
    let new = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&new);
    let mut all: Vec<String> = text.lines().map(str::to_owned).collect();
    if all.len() < lines && !old.is_empty() {
        let text = String::from_utf8_lossy(&old);
        let mut older: Vec<String> = text.lines().map(str::to_owned).collect();
        older.append(&mut all);
        all = older;
    }
    all.split_off(all.len().saturating_sub(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_its_tail_reaches_into_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n.log");
        let mut log = Log::open(&path).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..(LIMIT / 1024) * 3 {
            log.write(line.as_bytes()).unwrap();
        }
        log.write(b"last\n").unwrap();
        let sizes: u64 = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert!(sizes <= 2 * (LIMIT + 1024), "{sizes}");
        let tail = tail(&path, 3);
        assert_eq!(tail.len(), 3);
        assert_eq!(tail[2], "last");
    }
}
