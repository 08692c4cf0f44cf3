//! Many processes in one store at once, and a disk that is full.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nslab::image::{Error, Prune, Store, User};

use crate::handmade;
use crate::served::noise;
use crate::shelf::{IMAGES, Shelf, list, tree};
use crate::tarball::{Head, Tarball, head};
use crate::{child_command, line_of, require_root};

/// Whoever has resolved an image finds its layers whole until it lets go, whatever others remove.
#[test]
fn layers_stay_under_those_who_have_them() {
    const ROUNDS: usize = 25;
    require_root();
    let shelf = Shelf::new();
    let truth = IMAGES.map(|name| {
        let good = Store::open(&shelf.path("good")).expect("open");
        let image = shelf.resolve(&good, name).expect("resolve");
        image.layers.iter().map(|l| tree(l)).collect::<Vec<_>>()
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut users = Vec::new();
        for worker in 0..4 {
            let (shelf, truth) = (&shelf, &truth);
            users.push(scope.spawn(move || {
                for round in 0..ROUNDS {
                    let which = (worker + round) % IMAGES.len();
                    // Opened anew: a store is a process' own.
                    let store = Store::open(&shelf.root()).expect("open");
                    let image = shelf.resolve(&store, IMAGES[which]).expect("resolve");
                    for _ in 0..3 {
                        let seen: Vec<_> = image.layers.iter().map(|l| tree(l)).collect();
                        assert_eq!(seen, truth[which]);
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            }));
        }
        // Removers: by call and, as other processes, by command.
        let (shelf, over) = (&shelf, &over);
        scope.spawn(move || {
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let store = Store::open(&shelf.root()).expect("open");
                let all = round % 2 == 0;
                let asked = Prune {
                    all,
                    ..Prune::default()
                };
                store.prune(asked).expect("prune");
                match store.remove(&shelf.reference(IMAGES[round % IMAGES.len()])) {
                    Ok(_)
                    | Err(Error::InUse { .. } | Error::Busy { .. } | Error::NotInStore { .. }) => {}
                    Err(e) => panic!("{e}"),
                }
            }
        });
        scope.spawn(move || {
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let name = shelf.reference(IMAGES[round % IMAGES.len()]);
                let output = shelf.nslab(&["image", "rm", &name]);
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success()
                        || said.contains("no image `")
                        || said.contains("is used by process ")
                        || said.contains("is being worked on by another nslab"),
                    "{said}"
                );
                shelf.ok(&["image", "list"]);
                shelf.ok(&["image", "prune", "--all"]);
            }
        });
        let outcomes: Vec<_> = users
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Relaxed);
        assert!(
            outcomes.iter().all(Result::is_ok),
            "a user found something missing"
        );
    });
    shelf.ok(&["image", "prune", "--all"]);
    shelf.has_only(&[], "after the crowd");
}

/// An image that was resolved is in use from that moment on, with nothing mounted.
#[test]
fn who_has_resolved_an_image_uses_it() {
    require_root();
    let shelf = Shelf::new();
    let store = Store::open(&shelf.root()).expect("open");
    let image = shelf.resolve(&store, "c").expect("resolve");
    let me = User::Process {
        pid: std::process::id(),
    };
    let other = Store::open(&shelf.root()).expect("open");
    assert_eq!(other.list().expect("list")[0].used_by, [me]);
    let said = other.remove(&image.digest).expect_err("in use").to_string();
    assert_eq!(
        said,
        format!(
            "image `{}` is used by process {}; try again when it has ended",
            shelf.reference("c"),
            std::process::id()
        )
    );
    // Changed meanwhile: its layers stay all the same.
    handmade::layout(
        &shelf.path("c"),
        &[Tarball::default().file("new", "new").end()],
        &serde_json::json!({}),
    );
    shelf.resolve(&other, "c").expect("resolve the new one");
    other
        .prune(Prune {
            all: true,
            ..Prune::default()
        })
        .expect("prune");
    assert!(image.layers.iter().all(|l| l.is_dir()));
    drop(store);
    other.prune(Prune::default()).expect("prune");
    assert!(image.layers.iter().all(|l| !l.exists()));
}

/// The disk is full at any point of the way: an error that says so, and nothing half done.
#[test]
fn a_disk_that_is_full_leaves_nothing_half_done() {
    require_root();
    let shelf = Shelf::new();
    let layer = |n: usize| {
        let data = noise(400_000 + n);
        let mut tar = Tarball::default();
        for file in 0..3 {
            tar = tar.put(&Head {
                data: &data,
                ..head(b'0', &format!("{n}-{file}"))
            });
        }
        tar.end()
    };
    let layout = shelf.path("big");
    handmade::layout(&layout, &[layer(0), layer(1)], &serde_json::json!({}));
    let mut archive = Command::new("tar");
    archive
        .args(["-cf", "../big.tar", "."])
        .current_dir(&layout);
    assert!(archive.status().expect("tar").success());
    let program = std::env::current_exe().expect("our own program");
    // The layers take 2.4 MB; the archive's layout as much again.
    for (reference, enough) in [(layout.clone(), 4000), (shelf.path("big.tar"), 8000)] {
        let mut failures = 0;
        for kib in (100..enough).step_by(350) {
            let child = child_command(
                &program,
                &shelf.path("full"),
                reference.to_str().expect("utf-8"),
            );
            // Then with room enough, in what is left of it.
            let script = format!(
                "mkdir -p {0}; mount -t tmpfs -o size={kib}k none {0} && \"$@\"; \
                 echo LEFT $(cd {0}; find layers oci images partial trash -mindepth 1 -name '.*' | wc -l); \
                 mount -o remount,size=64m {0} && \"$@\" | sed 's/RESULT/AGAIN/'",
                shelf.path("full").display()
            );
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", &script, "sh"]);
            command.arg(child.get_program()).args(child.get_args());
            command.envs(child.get_envs().filter_map(|(k, v)| Some((k, v?))));
            let output = command.output().expect("unshare");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if !text.contains("RESULT") {
                failures += 1;
                let error = line_of(&output, "ERROR");
                assert!(error.contains("No space left on device"), "{kib}: {error}");
                assert_eq!(line_of(&output, "LEFT"), "0", "{kib}");
            }
            line_of(&output, "AGAIN");
        }
        assert!(failures >= 5, "only {failures} were too small");
    }
    fs::remove_dir(shelf.path("full")).expect("nothing of it is on the real disk");
    assert!(list(&shelf.path("good")).len() > 5);
}
