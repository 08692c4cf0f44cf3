//! The layer applier: what becomes of each kind of entry, hostile layers, random ones against a model,
//! sparse files of GNU tar, and whole images against umoci.
//!
//! Needs root (owners, devices, overlay mounts), and the packages libcap2-bin, mmdebstrap, skopeo, tar,
//! umoci and util-linux. What is missing fails a test; nothing is skipped.

mod bounds;
#[path = "../image/handmade.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod handmade;
mod harmless;
#[path = "hostile/mod.rs"]
mod hostile;
mod implied;
#[path = "../common/install.rs"]
mod install;
mod kinds;
mod model;
mod property;
mod sparse;
mod survive;
mod tarball;
mod tree;
mod umoci;

use install::install;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nslab::image::layer::{Applied, Limits, apply};

fn unpack(tar: &[u8], to: &Path, root: bool) -> Result<Applied, String> {
    unpack_limited(tar, to, root, Limits::default())
}

fn unpack_limited(tar: &[u8], to: &Path, root: bool, limits: Limits) -> Result<Applied, String> {
    fs::create_dir(to).expect("make the target");
    unpack_into(tar, to, root, limits)
}

fn unpack_into(tar: &[u8], to: &Path, root: bool, limits: Limits) -> Result<Applied, String> {
    let dest = File::open(to).expect("open the target").into();
    apply(tar, dest, root, limits).map_err(|e| e.to_string())
}

fn copy_program(to: &Path) -> PathBuf {
    let program = to.join("layer-test");
    install(
        &std::env::current_exe().expect("find the test program"),
        &program,
    );
    program
}

fn xattr(path: &Path, key: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let n = rustix::fs::lgetxattr(path, key, &mut value[..]).ok()?;
    value.truncate(n);
    Some(value)
}

fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: sudo -E cargo test --test layer"
    );
}

/// Runs a tool that must succeed, and returns what it printed.
fn tool(command: &mut Command) -> String {
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
fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("make a temporary folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open it up");
    dir
}

/// Runs something with a folder in memory (syncing a disk thousands of times would take minutes), on
/// a thread with mounts of its own.
fn in_memory(what: impl FnOnce(&Path) + Send + 'static) {
    require_root();
    let thread = std::thread::spawn(move || {
        let dir = open_dir();
        own_mounts();
        let none = None::<&str>;
        mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .expect("mount a tmpfs");
        what(dir.path());
        umount2(dir.path(), MntFlags::MNT_DETACH).expect("unmount");
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Gives the calling thread mounts that nobody else sees.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("unshare mounts");
    let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    mount(none, "/", none, flags, none).expect("make mounts private");
}
