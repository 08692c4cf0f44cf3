//! Copies of programs that a test will run.

use std::path::Path;
use std::process::Command;

/// Copies a program by another process. With fs::copy, what another thread of the tests starts meanwhile
/// would inherit the file that is being written, and executing it would fail with ETXTBSY.
pub fn install(program: &Path, to: &Path) {
    let copied = Command::new("install")
        .arg("-m755")
        .args([program, to])
        .status();
    assert!(
        copied.expect("install(1) runs").success(),
        "{}",
        to.display()
    );
}
