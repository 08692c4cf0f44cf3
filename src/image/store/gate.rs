//! The gate: who finds things in the store, and who takes things away, are never inside together.
//!
//! Both are there for moments only. Finding ends with a [lease](super::lease), which says for as long
//! as it lives what must stay; taking away is a rename into the bin, whose content is deleted after
//! the gate is open again. Both are flock(2)s, which the kernel releases however a process ends.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Store;
use crate::image::error::{Error, IoContext};
use crate::image::files;

/// Name of the gate's lock in `locks/`: the one that is never removed.
pub(super) const GATE: &str = "gate";

/// Inside, with others who find. Short files are written inside, so that whoever is inside alone
/// knows that a temporary file has no owner any more.
#[derive(Debug)]
#[must_use]
pub(super) struct Finding(#[expect(dead_code, reason = "held, not read")] File);

/// Inside, alone.
#[derive(Debug)]
#[must_use]
pub(super) struct Removing(#[expect(dead_code, reason = "held, not read")] File);

impl Store {
    fn gate(&self) -> Result<(PathBuf, File), Error> {
        let path = self.root.join("locks").join(GATE);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .on("open lock", &path)?;
        Ok((path, file))
    }

    /// Enters with others. Do not enter twice in one thread: an flock(2) of one's own blocks too.
    pub(super) fn finding(&self) -> Result<Finding, Error> {
        let (path, file) = self.gate()?;
        file.lock_shared().on("lock", &path)?;
        Ok(Finding(file))
    }

    /// Enters alone.
    pub(super) fn removing(&self) -> Result<Removing, Error> {
        let (path, file) = self.gate()?;
        file.lock().on("lock", &path)?;
        Ok(Removing(file))
    }

    /// Writes a file in one move, inside the gate: see [`files::replace`].
    pub(super) fn write(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let _gate = self.finding()?;
        files::replace(path, content).on("write", path)
    }

    /// Where what is taken away goes.
    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}

impl Removing {
    /// A bin of one's own. Others know by its lock that it is being emptied.
    #[expect(
        clippy::unused_self,
        reason = "made inside the gate, where others take bins for left ones"
    )]
    pub(super) fn bin(&self, store: &Store) -> Result<Bin, Error> {
        let trash = store.trash();
        let path = tempfile::Builder::new()
            .prefix("")
            .tempdir_in(&trash)
            .on("create a folder in", &trash)?
            .keep();
        let lock = File::open(&path).on("open", &path)?;
        lock.lock().on("lock", &path)?;
        Ok(Bin {
            path,
            things: 0,
            _lock: lock,
        })
    }
}

/// Makes a folder that only its owner may enter: programs in it may be set-user-ID.
pub(super) fn private_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .on("create folder", path)
}

/// Makes the folder that a node sees as its `/`, whatever the umask of who brings its lab up. One that
/// is there stays as the node has it.
pub fn root_folder(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Ok(()) => {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(path, mode).on("set mode of", path)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e).on("create folder", path),
    }
}

/// Things that were taken away, to be deleted.
#[derive(Debug)]
pub(super) struct Bin {
    path: PathBuf,
    things: usize,
    _lock: File,
}

impl Bin {
    /// Moves a file or folder into the bin; nothing there is fine.
    pub(super) fn take(&mut self, path: &Path) -> Result<(), Error> {
        let into = self.path.join(self.things.to_string());
        self.things += 1;
        match fs::rename(path, &into) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).on("remove", path),
            _ => Ok(()),
        }
    }

    /// Deletes what is in it. Call it outside the gate.
    pub(super) fn empty(self) -> Result<(), Error> {
        files::remove_tree(&self.path)
    }
}
