//! SIGKILL at each change that a command makes, one after the other, and at any time during a pull:
//! no half layer is ever used, the next command repairs everything, and `prune` leaves nothing over.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nslab::image::{Error, Store};

use crate::served::Registry;
use crate::shelf::{Shelf, killed_at, list};
use crate::store::Case;
use crate::{child_command, line_of, require_root, tool};

/// System calls that change a store, by kind. strace counts each for itself.
const CHANGES: [&str; 5] = [
    "rename,renameat,renameat2",
    "unlink,unlinkat,rmdir",
    "mkdir,mkdirat",
    "symlink,symlinkat,link,linkat,utimensat,fchmod,fchmodat,chmod,fchown,fchownat",
    "flock",
];
/// More than any of these commands makes of one kind: a loop that finds no end is a failure.
const MOST: usize = 300;

/// Kills a command at each of its changes; `before` makes the store, `after` looks at it. Returns how
/// often it was killed.
fn at_each_change(
    command: &dyn Fn() -> Command,
    before: &dyn Fn(),
    after: &dyn Fn(&str, usize),
) -> usize {
    let mut kills = 0;
    for calls in CHANGES {
        let mut nth = 1;
        loop {
            before();
            if !killed_at(&command(), calls, nth) {
                break;
            }
            after(&format!("after a kill at {nth}. of {calls}"), nth);
            kills += 1;
            nth += 1;
            assert!(nth < MOST, "{calls} has no end");
        }
    }
    kills
}

#[test]
fn unpacking_at_each_change() {
    require_root();
    let shelf = Shelf::new();
    let kills = at_each_change(&|| shelf.child("c"), &|| shelf.clear(), &|when, nth| {
        if !shelf.root().join("layers").is_dir() {
            // Killed before there was a store.
            return;
        }
        shelf.is_sound(when);
        // Every other time the next command has to do with what is there.
        if nth % 2 == 0 {
            shelf.prune();
            shelf.is_sound(when);
        }
        shelf.works("c", when);
        shelf.prune();
        shelf.has_only(&["c"], when);
    });
    assert!(kills >= 35, "only {kills} kills");
}

#[test]
fn removing_at_each_change() {
    require_root();
    let shelf = Shelf::new();
    let full = full_store(&shelf);
    let command = || shelf.cli.command(&["image", "rm", &shelf.reference("c")]);
    let kills = at_each_change(&command, &|| restore(&shelf, &full), &|when, _| {
        shelf.is_sound(when);
        // What has layers in common with it is as it was.
        for name in ["a", "b"] {
            shelf.works(name, when);
        }
        match shelf.open().remove(&shelf.reference("c")) {
            Ok(_) | Err(Error::NotInStore { .. }) => {}
            Err(e) => panic!("{when}: {e}"),
        }
        shelf.prune();
        shelf.has_only(&["a", "b"], when);
    });
    assert!(kills >= 20, "only {kills} kills");
}

#[test]
fn pruning_at_each_change() {
    require_root();
    let shelf = Shelf::new();
    let full = full_store(&shelf);
    let litter = || {
        restore(&shelf, &full);
        let root = shelf.root();
        // A record that went without its layers, and what kills leave.
        for path in list(&root.join("images")) {
            let record = fs::read_to_string(&path).expect("a record");
            if record.contains(&format!("{}\"", shelf.reference("c"))) {
                fs::remove_file(path).expect("forget it");
            }
        }
        for dir in [
            "layers/.new-x",
            "oci/.new-y-1",
            "build/z",
            "trash/1/2",
            "nodes/gone/a/upper",
        ] {
            fs::create_dir_all(root.join(dir)).expect("litter");
            fs::write(root.join(dir).join("file"), "x").expect("litter");
        }
        for file in [
            "partial/0",
            "images/.tmp1",
            "locks/layer-1",
            "users/1",
            "cache/.tmp2",
        ] {
            fs::write(root.join(file), "x").expect("litter");
        }
    };
    let command = || shelf.cli.command(&["image", "prune"]);
    let kills = at_each_change(&command, &litter, &|when, _| {
        shelf.is_sound(when);
        shelf.works("a", when);
        shelf.prune();
        shelf.has_only(&["a", "b"], when);
        assert_eq!(shelf.prune().removed, [], "{when}");
    });
    assert!(kills >= 30, "only {kills} kills");
}

/// A copy of a store with all images.
fn full_store(shelf: &Shelf) -> std::path::PathBuf {
    let full = shelf.path("full");
    for name in crate::shelf::IMAGES {
        shelf.works(name, "at first");
    }
    copy(&shelf.root(), &full);
    full
}

fn restore(shelf: &Shelf, full: &Path) {
    shelf.clear();
    copy(full, &shelf.root());
}

fn copy(from: &Path, to: &Path) {
    tool(Command::new("cp").arg("-a").arg(from).arg(to));
}

#[test]
fn building_at_each_change() {
    require_root();
    let case = Case::new();
    let program = std::env::current_exe().expect("our own program");
    let reference = case.images("tiny");
    let reference = reference.to_str().expect("utf-8");
    let root = case.path("store");
    let command = || child_command(&program, &root, reference);
    let good = case.resolve("tiny").expect("build");
    let layer = good.layers[0].file_name().expect("a name");
    let mut kills = 0;
    // What comes before the first rename and after it is all there is: the kinds of the others are
    // those of unpacking, and a build takes its time.
    for nth in 1..MOST {
        fs::remove_dir_all(&root).expect("remove the store");
        if !killed_at(&command(), CHANGES[0], nth) {
            break;
        }
        kills += 1;
        let output = command().output().expect("run");
        assert!(
            line_of(&output, "RESULT").starts_with(&good.digest),
            "{nth}: {output:?}"
        );
        let store = Store::open(&root).expect("open");
        store.prune(nslab::image::Prune::default()).expect("prune");
        assert_eq!(case.litter(), Vec::<std::path::PathBuf>::new(), "{nth}");
        let hello = root.join("layers").join(layer).join("bin/hello");
        assert_eq!(fs::read(hello).expect("hello"), b"hello", "{nth}");
    }
    assert!(kills >= 4, "only {kills} kills");
}

#[test]
fn pulling_at_any_time() {
    require_root();
    let (registry, shelf) = (Registry::plain(), Shelf::new());
    registry.copy(&format!("oci:{}", shelf.reference("c")), "c:v1", &[]);
    let image = registry.name("c:v1");
    let pull = || shelf.cli.command(&["image", "pull", "--json", &image]);
    let begun = Instant::now();
    let whole = tool(&mut pull());
    let took = begun.elapsed();
    // The bits of the number, backwards: early, late, and in between.
    let spread = |n: u32| f64::from(n.reverse_bits() >> 24) / 256.0;
    let mut kills = 0;
    for n in 0..60_u32 {
        // Each third time from nothing, else from what the one before left.
        if n % 3 == 0 {
            shelf.clear();
        }
        let mut child = pull()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        std::thread::sleep(took.mul_f64(spread(n)).max(Duration::from_millis(1)));
        child.kill().expect("SIGKILL");
        kills += usize::from(child.wait().expect("wait").code().is_none());
        if shelf.root().join("trash").exists() {
            shelf.is_sound(&format!("after kill {n}"));
        }
        if n % 10 == 9 {
            assert_eq!(tool(&mut pull()), whole);
        }
    }
    assert!(kills >= 30, "only {kills} kills");
    assert_eq!(tool(&mut pull()), whole);
    shelf.prune();
    shelf.is_sound("at last");
    for (sub, left) in [("partial", 0), ("users", 0), ("trash", 0), ("layers", 6)] {
        assert_eq!(list(&shelf.root().join(sub)).len(), left, "{sub}");
    }
}
