//! The layer applier: what becomes of each kind of entry, hostile layers, random ones against a model,
//! sparse files of GNU tar, and whole images against umoci.
//!
//! Needs root (owners, devices, overlay mounts), and the packages libcap2-bin, mmdebstrap, skopeo, tar,
//! umoci and util-linux. What is missing fails a test; nothing is skipped.

mod bounds;
#[path = "../common/command.rs"]
mod command;
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

use command::{open_dir, require_root, tool};
use install::install;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

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
