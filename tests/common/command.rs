//! What tests of images and layers run, and where.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: sudo -E cargo test"
    );
}

/// Runs a tool that must succeed, and returns what it printed.
pub fn tool(command: &mut Command) -> String {
    let name = command.get_program().to_owned();
    let output = command.output().unwrap_or_else(|e| {
        panic!(
            "{} does not run ({e}); install the test's packages",
            name.display()
        )
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A folder that every user may enter, unlike cargo's or root's home.
pub fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("make a temporary folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open it up");
    dir
}
