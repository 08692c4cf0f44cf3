//! Folders that a layer has something in and no entry for are as the layers below have them.

use std::fs;

use nslab::image::{Image, Store};
use serde_json::json;

use crate::handmade::layout;
use crate::tarball::{Head, Tarball, head};
use crate::umoci::merged;
use crate::{open_dir, require_root};

/// Unpacks an image of these layers, the lowest first.
fn image(layers: &[Tarball]) -> (tempfile::TempDir, Image) {
    let dir = open_dir();
    let blobs: Vec<_> = layers.iter().map(|layer| layer.0.clone()).collect();
    layout(
        &dir.path().join("layout"),
        &blobs,
        &json!({ "Cmd": ["/x"] }),
    );
    let store = Store::open(&dir.path().join("store")).expect("open a store");
    let reference = format!("{}:v1", dir.path().join("layout").display());
    let image = store.resolve(&reference, &[], &mut |_| {}).expect("unpack");
    (dir, image)
}

fn folder(name: &str, mode: u32, uid: u32, mtime: u64) -> Head<'_> {
    Head {
        mode,
        uid,
        mtime,
        ..head(b'5', name)
    }
}

fn base() -> Tarball {
    Tarball::default()
        .put(&folder("./", 0o755, 0, 7))
        .put(&folder("tmp", 0o1777, 0, 8))
        .put(&folder("home", 0o711, 5, 9))
        .put(&folder("home/me", 0o700, 6, 10))
        .file("home/me/old", "old")
}

#[test]
fn owners_modes_and_times_are_those_of_the_layers_below() {
    require_root();
    let above = Tarball::default()
        .file("tmp/x", "x")
        .file("home/me/new/file", "y");
    let (_dir, image) = image(&[base(), above]);
    assert_eq!(image.layers.len(), 3);
    let tree = merged(&image.layers);
    let line = |name: &str| {
        let node = &tree[name.as_bytes()];
        format!("{:o} {} {}", node.mode, node.owner.0, node.mtime.0)
    };
    assert_eq!(line("tmp"), "1777 0 8");
    assert_eq!(line("home"), "711 5 9");
    assert_eq!(line("home/me"), "700 6 10");
    // Of this one no layer says anything.
    assert_eq!(line("home/me/new"), "755 0 0");
    assert!(tree.contains_key(&b"home/me/old"[..]) && tree.contains_key(&b"tmp/x"[..]));
    let names: Vec<_> = walk(&image.layers[0]);
    assert_eq!(
        names,
        ["home", "home/me", "tmp"],
        "folders and nothing else"
    );
}

#[test]
fn what_was_removed_in_between_says_nothing() {
    require_root();
    let removed = Tarball::default()
        .file(".wh.tmp", "")
        .file("home/.wh.me", "");
    let opaque = Tarball::default()
        .put(&folder("home", 0o750, 3, 11))
        .file("home/.wh..wh..opq", "");
    let above = Tarball::default().file("tmp/x", "x").file("home/me/z", "z");
    let (_dir, image) = image(&[base(), removed, opaque, above]);
    let tree = merged(&image.layers);
    let mode = |name: &str| {
        format!(
            "{:o} {}",
            tree[name.as_bytes()].mode,
            tree[name.as_bytes()].owner.0
        )
    };
    assert_eq!(mode("tmp"), "755 0");
    assert_eq!(mode("home"), "750 3");
    assert_eq!(mode("home/me"), "755 0");
    assert!(!tree.contains_key(&b"home/me/old"[..]));
}

#[test]
fn an_image_that_mentions_all_its_folders_has_no_layer_more() {
    require_root();
    let above = Tarball::default()
        .put(&folder("./", 0o755, 0, 7))
        .put(&folder("tmp", 0o1777, 0, 12))
        .file("tmp/x", "x");
    let (_dir, image) = image(&[base(), above]);
    assert_eq!(image.layers.len(), 2);
}

/// Names of everything in a folder, sorted.
fn walk(root: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("list") {
            let path = entry.expect("list").path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            names.push(
                path.strip_prefix(root)
                    .expect("below")
                    .display()
                    .to_string(),
            );
        }
    }
    names.sort();
    names
}
