//! Files that commands write where the user says, `-o FILE`.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;

use super::{Failure, Result};
use crate::supervisor::Owner;

/// Writes a file in one move: readers see the old one or the new one, and a symbolic link that
/// somebody planted for root is replaced, not followed. The file belongs to the user who ran sudo.
/// What is no ordinary file (`/dev/stdout`, a pipe) is written to as it is.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    put(path, text.as_bytes())
        .map_err(|e| Failure::lab(format!("cannot write {}: {e}", path.display())))
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    give(file.as_file())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// A file system that knows no owners keeps the file as it is.
fn give(file: &File) -> io::Result<()> {
    let Some(owner) = Owner::from_sudo() else {
        return Ok(());
    };
    match fchown(file, Some(owner.uid), Some(owner.gid)) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_replaced_and_its_target_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("report.html"));
        std::fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "new");
        let meta = std::fs::symlink_metadata(&link).unwrap();
        assert!(meta.is_file());
        assert_eq!(meta.permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn devices_are_written_to_and_failures_told() {
        write(Path::new("/dev/null"), "x").unwrap();
        let meta = std::fs::metadata("/dev/null").unwrap();
        assert!(!meta.is_file(), "/dev/null was replaced");
        let failure = write(Path::new("/nowhere/x.svg"), "x").unwrap_err();
        assert!(
            failure
                .message
                .starts_with("error: cannot write /nowhere/x.svg: No such file"),
            "{}",
            failure.message
        );
    }
}
