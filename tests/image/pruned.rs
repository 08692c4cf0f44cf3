//! What `inspect` shows and what `prune` takes.

use std::fs;
use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use crate::handmade;
use crate::require_root;
use crate::shelf::{Shelf, layer, tree};
use crate::store::Case;

fn all_there(shelf: &Shelf) {
    for name in crate::shelf::IMAGES {
        let output = shelf.child(name).output().expect("run");
        crate::line_of(&output, "RESULT");
    }
}

fn inspect(shelf: &Shelf, name: &str) -> Value {
    serde_json::from_str(&shelf.ok(&["image", "inspect", "--json", name])).expect("json")
}

#[test]
fn an_image_is_shown_with_what_it_shares() {
    require_root();
    let shelf = Shelf::new();
    let layer = layer("base");
    let digest = handmade::layout(
        &shelf.path("d"),
        std::slice::from_ref(&layer),
        &json!({
            "Entrypoint": ["/bin/d"], "Cmd": ["x"], "Env": ["A=1"], "User": "7", "WorkingDir": "/w",
            "StopSignal": "SIGQUIT", "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
            "Labels": { "k": "v" }, "Volumes": { "/data": {} },
        }),
    );
    all_there(&shelf);
    crate::line_of(&shelf.child("d").output().expect("run"), "RESULT");
    let d = inspect(&shelf, &shelf.reference("d"));
    assert_eq!(d["references"], json!([shelf.reference("d")]));
    assert_eq!(d["digest"], digest.as_str());
    assert_eq!(d["kind"], "layout");
    assert!(
        d["platform"]
            .as_str()
            .is_some_and(|p| p.starts_with("linux/")),
        "{d}"
    );
    assert_eq!(d["config"]["entrypoint"], json!(["/bin/d"]));
    assert_eq!(d["config"]["stop_signal"], "SIGQUIT");
    assert_eq!(
        (&d["ports"], &d["volumes"]),
        (&json!(["53/udp", "80/tcp"]), &json!(["/data"]))
    );
    assert_eq!(d["labels"], json!({ "k": "v" }));
    let blob = lowest(&shelf.path("d"));
    let shared = ["a", "b", "c"].map(|n| shelf.reference(n));
    assert_eq!(
        d["layers"],
        json!([{
            "diff_id": handmade::digest(&layer), "digest": blob["digest"], "size": blob["size"],
            // 0, 1000, 2000, 3000 bytes and a word; the second name of a file counts once.
            "unpacked": 6004, "shared_with": shared,
        }])
    );
    assert_eq!(
        (&d["unique"], &d["shared"], &d["unpacked"]),
        (&json!(0), &json!(6004), &json!(6004))
    );
    assert_eq!(d["used_by"], json!([]));
    let c = inspect(&shelf, &shelf.reference("c"));
    assert_eq!(
        (&c["unique"], &c["shared"]),
        (&json!(6001), &json!(6004 + 6001))
    );
    // By digest, the beginning of one, and a path that is not absolute.
    for name in [&digest[..], &digest[..19], &digest[7..14]] {
        assert_eq!(inspect(&shelf, name), d, "{name}");
    }
    let relative = shelf.cli.command(&["image", "inspect", "--json", "./d"]);
    let mut relative = relative;
    let output = relative
        .current_dir(shelf.cli.dir.path())
        .output()
        .expect("run");
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).expect("json"),
        d
    );
    for name in ["sha256:", "ffffffff", "nothing", &digest[..10]] {
        let said = crate::served::refused(&shelf.nslab(&["image", "inspect", name]));
        assert!(
            said.starts_with(&format!("error: no image `{name}` in ")),
            "{said}"
        );
    }
    // Without its layout it is what the store knows.
    fs::remove_dir_all(shelf.path("d")).expect("remove");
    let gone = inspect(&shelf, &digest);
    assert_eq!(
        (&gone["platform"], &gone["layers"][0]["digest"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(gone["layers"][0]["unpacked"], 6004);
    // And nothing leads to it any more.
    let said = shelf.ok(&["image", "prune"]);
    assert!(
        said.contains(&format!("  {} {digest}\n", shelf.reference("d"))),
        "{said}"
    );
    shelf.has_only(&["a", "b", "c"], "without d");
}

/// The descriptor of a layout's lowest layer.
fn lowest(layout: &Path) -> Value {
    let json = |path: &Path| -> Value {
        serde_json::from_slice(&fs::read(path).expect("read")).expect("json")
    };
    let index = json(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().expect("a digest");
    let hex = digest.trim_start_matches("sha256:");
    json(&layout.join("blobs/sha256").join(hex))["layers"][0].clone()
}

#[test]
fn prune_takes_what_nobody_needs_and_says_so() {
    require_root();
    let shelf = Shelf::new();
    all_there(&shelf);
    let root = shelf.root();
    assert_eq!(
        shelf.ok(&["image", "prune", "--dry-run"]),
        "nothing to remove\n"
    );
    fs::create_dir_all(root.join("build/tiny")).expect("mkdir");
    fs::write(root.join("build/tiny/file"), vec![1; 50_000]).expect("write");
    fs::write(root.join("partial/0123"), vec![1; 30_000]).expect("write");
    let held = File::create(root.join("partial/4567")).expect("create");
    held.lock().expect("lock");
    fs::create_dir_all(root.join("build/busy")).expect("mkdir");
    let busy = File::create(root.join("locks/recipe-busy")).expect("create");
    busy.lock().expect("lock");
    let before = tree(&root);
    let dry = shelf.ok(&["image", "prune", "-n"]);
    assert_eq!(tree(&root), before, "a dry run changes nothing");
    let lines: Vec<_> = dry.lines().collect();
    assert_eq!(
        lines
            .iter()
            .map(|l| l.split("  ").last().unwrap_or_default())
            .collect::<Vec<_>>(),
        [
            "sha256:0123",
            "tiny",
            "left download of sha256:4567: another nslab works on it",
            "left build of busy: another nslab works on it",
            lines[4],
        ],
        "{dry}"
    );
    let done: Value = serde_json::from_str(&shelf.ok(&["image", "prune", "--json"])).expect("json");
    let bytes = done["bytes"].as_u64().expect("a number");
    assert!((80_000..120_000).contains(&bytes), "{done}");
    assert!(!root.join("build/tiny").exists() && !root.join("partial/0123").exists());
    assert!(root.join("build/busy").exists() && root.join("partial/4567").exists());
    drop((held, busy));
    shelf.ok(&["image", "prune"]);
    shelf.has_only(&["a", "b", "c"], "after a prune");

    let said = shelf.ok(&["image", "prune", "--all", "--dry-run"]);
    assert_eq!(said.matches("would remove image ").count(), 3, "{said}");
    assert_eq!(said.matches("would remove layer ").count(), 4, "{said}");
    shelf.has_only(&["a", "b", "c"], "after a dry run");
    shelf.ok(&["image", "prune", "-a"]);
    shelf.has_only(&[], "after all");
    for name in ["a", "b", "c"] {
        assert!(
            shelf.path(name).join("index.json").exists(),
            "layouts are their owners'"
        );
    }
}

#[test]
fn of_a_recipe_the_newest_build_stays() {
    require_root();
    let case = Case::new();
    let first = case.resolve("tiny").expect("build");
    let script = fs::read_to_string(case.images("tiny/build.sh")).expect("read");
    fs::write(
        case.images("tiny/build.sh"),
        script + "echo more > srv/more\n",
    )
    .expect("write");
    // Their order is by the second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = case.resolve("tiny").expect("build again");
    let other = nslab::image::Store::open(&case.path("store")).expect("open");
    let pruned = other.prune(nslab::image::Prune::default()).expect("prune");
    assert_eq!(pruned.removed, [], "this process still has both");
    drop(case.store);
    let pruned = other.prune(nslab::image::Prune::default()).expect("prune");
    let what: Vec<_> = pruned.removed.iter().map(|r| r.what).collect();
    assert_eq!(what, ["image", "layout", "layer"], "{pruned:?}");
    assert!(!first.layers[0].exists() && second.layers[0].exists());
    assert_eq!(other.list().expect("list").len(), 1);
}
