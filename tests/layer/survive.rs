//! What has to hold for any bytes that are taken for a layer. The fuzz target runs this too.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nslab::image::layer::{Applied, Limits, apply};

/// A folder to unpack into, and what is next to it.
pub struct Place {
    dir: tempfile::TempDir,
    root: bool,
}

impl Place {
    /// In memory where that is possible: every layer is synced to the disk. As root the layer is
    /// unpacked as root.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        let dir = tempfile::tempdir_in(base).expect("make a temporary folder");
        fs::create_dir(dir.path().join("canary")).expect("make the canary");
        fs::write(dir.path().join("canary/file"), "alive").expect("write");
        // Whose folders are root's is root.
        let root = fs::metadata(dir.path()).expect("look").uid() == 0;
        Self { dir, root }
    }

    /// Unpacks the bytes twice. Panics where something does not hold.
    pub fn survive(&self, bytes: &[u8]) {
        let around = self.around();
        let first = self.unpack(bytes);
        assert_eq!(self.around(), around, "something outside changed");
        assert_eq!(self.unpack(bytes), first, "the same layer, another tree");
    }

    fn unpack(&self, bytes: &[u8]) -> (Result<Applied, String>, Vec<String>) {
        let out = self.dir.path().join("out");
        fs::create_dir(&out).expect("make the target");
        let limits = Limits {
            entries: 500,
            bytes: 1 << 20,
        };
        let dest = File::open(&out).expect("open the target").into();
        let result = apply(bytes, dest, self.root, limits).map_err(|e| e.to_string());
        let mut seen = Vec::new();
        look(&out, result.is_ok(), &mut seen);
        // All of it can be removed again.
        fs::remove_dir_all(&out).expect("clean up");
        (result, seen)
    }

    /// Everything but the target, with times that nobody can set back.
    fn around(&self) -> Vec<(PathBuf, u32, u64, i64, i64)> {
        ["canary", "canary/file"]
            .iter()
            .map(|name| {
                let path = self.dir.path().join(name);
                let m = path.symlink_metadata().expect("the canary is gone");
                (path, m.mode(), m.nlink(), m.ctime(), m.ctime_nsec())
            })
            .collect()
    }
}

/// What is there, a line each; of a refused layer without modes and times, which are not all set.
/// Opens folders that keep their own owner out.
fn look(path: &Path, complete: bool, seen: &mut Vec<String>) {
    let m = path.symlink_metadata().expect("look");
    let all = (m.mode(), m.uid(), m.rdev(), m.mtime(), m.mtime_nsec());
    seen.push(match complete {
        true if m.is_dir() => format!("{} {all:?}", path.display()),
        true => format!("{} {all:?} {} {}", path.display(), m.len(), m.nlink()),
        false => format!("{} {:o}", path.display(), m.mode() & libc::S_IFMT),
    });
    if !m.is_dir() {
        return;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("open a folder");
    let mut inner: Vec<_> = fs::read_dir(path)
        .expect("list")
        .map(|e| e.expect("list").path())
        .collect();
    inner.sort();
    for path in inner {
        look(&path, complete, seen);
    }
}

/// Makes the checksums of what looks like headers right: a fuzzer would not find them, and all that is
/// behind the first header would be safe from it.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}
