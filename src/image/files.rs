//! Small things that the standard library has no function for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::error::{Error, IoContext};

/// Writes a file so that a reader sees the old or the new content, also after a crash.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut temp = tempfile::NamedTempFile::new_in(dir)?;
    temp.write_all(content)?;
    temp.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    temp.as_file().sync_all()?;
    temp.persist(path)?;
    Ok(())
}

/// A lock that is held. Its end is said, not left to the last close(2): a child that another thread
/// has just forked has a copy of the descriptor until it calls execve(2).
#[derive(Debug)]
pub(super) struct Lock(pub(super) File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Takes an exclusive flock(2) on `path`, which stays when it is released; `waits` is called once
/// if another process has it. The kernel releases it however the process ends.
pub(super) fn lock(path: &Path, waits: impl FnOnce()) -> Result<Lock, Error> {
    if let Some(file) = try_lock(path)? {
        return Ok(file);
    }
    waits();
    loop {
        let file = open_lock(path)?;
        file.lock().on("lock", path)?;
        if has_name(&file, path) {
            return Ok(Lock(file));
        }
    }
}

/// The same, unless another process has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, Error> {
    loop {
        let file = open_lock(path)?;
        match file.try_lock() {
            Ok(()) if has_name(&file, path) => return Ok(Some(Lock(file))),
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(e)) => return Err(e).on("lock", path),
        }
    }
}

fn open_lock(path: &Path) -> Result<File, Error> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .on("open lock", path)
}

/// Whether the file still has its name: locks that nobody has may be removed, between our opening
/// one and locking it too.
pub(super) fn has_name(file: &File, path: &Path) -> bool {
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(named)) => id(ours) == id(named),
        _ => false,
    }
}

/// Removes a tree, also one whose folders forbid their owner to write; nothing there is fine.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path)
        }
        other => other,
    }
    .or_else(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(e)
        }
    })
    .on("remove", path)
}

/// Makes each folder writable for its owner; what fails here fails again in the removal.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}
