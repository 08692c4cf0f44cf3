//! Images for real: hostile layers, layouts seen by other tools, recipes built by two processes,
//! by killed ones and by ordinary users, and the images of images/ doing what they are for.
//!
//! Needs root (it makes overlay mounts and becomes `nobody`), and the packages skopeo, umoci, curl,
//! docker-registry, apache2-utils, busybox-static, crun, runc, netcdf-bin, openssl, iproute2, strace
//! and util-linux. What is missing fails a test; nothing is skipped.

#[path = "image/archives.rs"]
mod archives;
#[path = "image/bases.rs"]
mod bases;
#[path = "image/broken.rs"]
mod broken;
#[path = "common/command.rs"]
mod command;
mod common;
#[path = "image/crowd.rs"]
mod crowd;
#[path = "image/export.rs"]
mod export;
#[path = "image/export_config.rs"]
mod export_config;
#[path = "image/export_fails.rs"]
mod export_fails;
#[path = "image/export_runs.rs"]
mod export_runs;
#[path = "image/handmade.rs"]
mod handmade;
#[path = "common/install.rs"]
mod install;
#[path = "image/killed.rs"]
mod killed;
#[path = "image/layouts.rs"]
mod layouts;
#[path = "image/pruned.rs"]
mod pruned;
#[path = "image/recipes.rs"]
mod recipes;
#[path = "image/recipes_lab.rs"]
mod recipes_lab;
#[path = "image/registry.rs"]
mod registry;
#[path = "image/served.rs"]
mod served;
#[path = "image/shelf.rs"]
mod shelf;
#[path = "image/store.rs"]
mod store;
#[path = "layer/tarball.rs"]
#[expect(dead_code, reason = "the applier's own tests need more of it")]
mod tarball;
#[path = "image/thredds.rs"]
mod thredds;
#[path = "image/tokens.rs"]
mod tokens;
#[path = "image/tomcat.rs"]
mod tomcat;
#[path = "layer/tree.rs"]
#[expect(dead_code, reason = "the applier's own tests need more of it")]
mod tree;
#[path = "image/unpacking.rs"]
mod unpacking;

use command::{open_dir, require_root, tool};
use install::install;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nslab::image::{Progress, Store};

/// Variable that turns [`child`] into a process of its own.
const REFERENCE: &str = "NSLAB_TEST_REFERENCE";

/// Not a test of its own: what [`child_command`] runs. It resolves a reference in `NSLAB_STORE`
/// and prints each event, then `RESULT <digest>` or `ERROR <text>`.
#[test]
fn child() {
    let Ok(reference) = std::env::var(REFERENCE) else {
        return;
    };
    let store = Store::open(&Store::default_root()).expect("open the store");
    let image = store.resolve(&reference, &[], &mut |event| match event {
        Progress::Stage { text, .. } => println!("STAGE {text}"),
        Progress::Log(text) => println!("LOG {text}"),
        _ => {}
    });
    match image {
        Ok(image) => println!("RESULT {} {}", image.digest, image.layers[0].display()),
        Err(e) => println!("ERROR {e}"),
    }
}

/// This very program, copied to where everybody may run it, resolving `reference` in `store`.
fn child_command(program: &Path, store: &Path, reference: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", "child", "--nocapture"]);
    command.env("NSLAB_STORE", store).env(REFERENCE, reference);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Line of a child's output that begins with this word.
fn line_of(output: &Output, word: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|l| l.strip_prefix(word))
        .unwrap_or_else(|| {
            panic!(
                "no {word} in:\n{text}\n{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
        .trim()
        .to_owned()
}

fn copy_program(to: &Path) -> PathBuf {
    let program = to.join("image-test");
    install(
        &std::env::current_exe().expect("find the test program"),
        &program,
    );
    program
}
