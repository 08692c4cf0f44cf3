//! `nslab image export`: a bundle's tree, compared with what overlayfs and umoci make of the same
//! image.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::handmade::Layout;
use crate::served::{Cli, noise};
use crate::tarball::{Head, Tarball, head};
use crate::tree::{Tree, tree};
use crate::{require_root, tool};

/// A static shell with everything, from Debian's busybox-static.
pub fn busybox() -> Vec<u8> {
    fs::read("/bin/busybox").expect("busybox; scripts/setup test installs busybox-static")
}

/// A folder for bundles, with a store of its own.
pub struct Case {
    pub cli: Cli,
}

impl Case {
    pub fn new() -> Self {
        require_root();
        Self { cli: Cli::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.cli.dir.path().join(name)
    }

    /// A layout of these layers, the lowest first, and this `config` of the process; a reference.
    pub fn layout(&self, name: &str, layers: &[Vec<u8>], config: &Value) -> String {
        self.layout_with(name, layers, &json!({ "config": config }))
    }

    pub fn layout_with(&self, name: &str, layers: &[Vec<u8>], more: &Value) -> String {
        let mut layout = Layout::new(self.path(name));
        for layer in layers {
            layout.layer(layer);
        }
        format!("{}:v1", layout.finish_with(more).display())
    }

    pub fn export(&self, image: &str, bundle: &str, more: &[&str]) -> Output {
        let mut words = vec!["image", "export", image];
        let bundle = self.path(bundle);
        words.push(bundle.to_str().unwrap());
        words.extend(more);
        self.cli.command(&words).output().unwrap()
    }

    /// Exports an image, which must succeed; the bundle's folder.
    pub fn exported(&self, image: &str, bundle: &str, more: &[&str]) -> PathBuf {
        let output = self.export(image, bundle, more);
        assert!(output.status.success(), "{output:?}");
        self.path(bundle)
    }

    /// Names in the folder of bundles.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.cli.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub fn config(bundle: &Path) -> Value {
    serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap()
}

/// The root of each of the layers.
fn root() -> Tarball {
    Tarball::default().put(&Head {
        mode: 0o751,
        mtime: 77,
        ..head(b'5', "./")
    })
}

/// Every kind of thing.
fn kinds(tar: Tarball) -> Tarball {
    tar.put(&Head {
        mode: 0o4755,
        uid: 0,
        gid: 5,
        data: b"setuid",
        ..head(b'0', "setuid")
    })
    .put(&Head {
        mode: 0o2750,
        uid: 3,
        gid: 4,
        ..head(b'5', "setgid/")
    })
    .put(&Head {
        mode: 0,
        uid: 7,
        gid: 8,
        data: b"nobody reads",
        ..head(b'0', "secret")
    })
    .pax(&[
        ("mtime", b"1700000000.123456789"),
        // cap_net_raw+ep, version 2 (linux/capability.h).
        (
            "SCHILY.xattr.security.capability",
            b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ),
        ("SCHILY.xattr.user.empty", b""),
    ])
    .file("capable", "capable")
    .pax(&[("SCHILY.xattr.user.folder", b"\x00\xff")])
    .dir("attributes/")
    .hardlink("attributes/second", "data/kept")
    .hardlink("attributes/third", "data/kept")
    .put(&Head {
        mode: 0o622,
        uid: 9,
        ..head(b'6', "fifo")
    })
    .put(&Head {
        mode: 0o666,
        device: (1, 3),
        ..head(b'3', "null")
    })
    .put(&Head {
        mode: 0o660,
        gid: 6,
        device: (7, 300),
        ..head(b'4', "block")
    })
    .pax(&[("mtime", b"1600000000.5")])
    .put(&Head {
        uid: 11,
        gid: 12,
        link: b"nowhere/at all",
        ..head(b'2', "dangling")
    })
    .pax(&[("path", b"name with \xff and \n")])
    .file("x", "odd")
    .file("empty", "")
    .put(&Head {
        data: &noise(300_000),
        ..head(b'0', "big")
    })
}

/// Wants two trees to be the same, and says in which places they are not. Overlayfs' own attributes
/// are not the image's.
pub fn same(ours: &Tree, theirs: &Tree, what: &str) {
    let mut theirs = theirs.clone();
    for node in theirs.values_mut() {
        node.xattrs
            .retain(|key, _| !key.starts_with(b"trusted.overlay."));
    }
    let missing = theirs.keys().filter(|p| !ours.contains_key(*p));
    let differences: Vec<_> = ours
        .keys()
        .chain(missing)
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| {
            let (a, b) = (ours.get(path), theirs.get(path));
            format!("{}\n  ours   {a:?}\n  theirs {b:?}", path.escape_ascii())
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{what}:\n{}",
        differences.join("\n")
    );
}

/// Three layers with every kind of thing, and every way in which an upper one changes a lower one.
fn everything() -> Vec<Vec<u8>> {
    let low = root()
        .put(&Head {
            mode: 0o1777,
            ..head(b'5', "tmp/")
        })
        .dir("data/")
        .file("data/removed", "gone")
        .file("data/replaced", "old")
        .file("data/kept", "kept")
        .dir("data/inner/")
        .file("data/inner/file", "x")
        .dir("gone/")
        .dir("gone/deep/")
        .file("gone/deep/file", "x")
        .dir("back/")
        .file("back/old", "old")
        .dir("opaque/")
        .file("opaque/old", "old")
        .dir("opaque/sub/")
        .file("opaque/sub/old", "old")
        .dir("becomes-file/")
        .file("becomes-file/x", "x")
        .file("becomes-folder", "x")
        .symlink("link-becomes-folder", "data");
    let low = kinds(low).end();
    let middle = root()
        .put(&Head {
            mode: 0o700,
            uid: 1,
            mtime: 99,
            ..head(b'5', "data/")
        })
        .file("data/.wh.removed", "")
        .file("data/replaced", "new")
        .file(".wh.gone", "")
        .file(".wh.back", "")
        .dir("opaque/")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "new")
        .file(".wh.becomes-file", "")
        .file(".wh.becomes-folder", "")
        .file(".wh.link-becomes-folder", "")
        .end();
    let high = root()
        .dir("back/")
        .file("back/new", "new")
        .file("becomes-file", "now a file")
        .dir("becomes-folder/")
        .file("becomes-folder/x", "x")
        .dir("link-becomes-folder/")
        .file("link-becomes-folder/x", "x")
        .dir("opaque/")
        .dir("opaque/sub/")
        .file("opaque/sub/newer", "newer")
        .end();
    vec![low, middle, high]
}

/// A mount in a mount namespace of its own, seen through /proc.
struct Mounted(Child);

impl Mounted {
    fn new(layers: &[PathBuf]) -> Self {
        let lower: Vec<_> = layers.iter().map(|l| l.display().to_string()).collect();
        let script = "mount -t overlay overlay -o \"lowerdir=$1\" /mnt && echo up && read -r end";
        let mut child = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh", &lower.join(":")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self(child)
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/root/mnt", self.0.id()).into()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

pub fn umoci(case: &Case, image: &str) -> PathBuf {
    let to = case.path("umoci");
    tool(
        Command::new("umoci")
            .args(["unpack", "--image", image])
            .arg(&to),
    );
    to
}

#[test]
fn the_tree_is_overlayfs_and_umocis() {
    let case = Case::new();
    let image = case.layout("layout", &everything(), &json!({ "Cmd": ["/x"] }));
    let bundle = case.exported(&image, "bundle", &["--json"]);
    let ours = tree(&bundle.join("rootfs"));
    for gone in [
        "data/removed",
        "gone",
        "opaque/old",
        "opaque/sub/old",
        "back/old",
    ] {
        assert!(!ours.contains_key(gone.as_bytes()), "{gone}");
    }
    for (name, want) in [
        (
            "attributes/third",
            "attributes/third 644 \"kept\" same as attributes/second",
        ),
        ("setuid", "setuid 4755 \"setuid\" 0:5"),
        (
            "dangling",
            "dangling -> nowhere/at all 11:12 @1600000000.500000000",
        ),
        ("block", "block b7/300 660 0:6"),
    ] {
        assert_eq!(format!("{name}{}", ours[name.as_bytes()]), want);
    }
    let capable = &ours[&b"capable"[..]].xattrs;
    assert_eq!(capable[&b"security.capability"[..]].len(), 20);
    let store = nslab::image::Store::open(&case.path("store")).unwrap();
    let layers = store.resolve(&image, &[], &mut |_| {}).unwrap().layers;
    let mounted = Mounted::new(&layers);
    same(&ours, &tree(&mounted.path()), "overlayfs");
    let mut theirs = tree(&umoci(&case, &image).join("rootfs"));
    // Go's archive/tar drops attributes without a value.
    let capable = theirs.get_mut(&b"capable"[..]).unwrap();
    assert_eq!(
        capable.xattrs.insert(b"user.empty".to_vec(), Vec::new()),
        None
    );
    same(&ours, &theirs, "umoci");
    // Nothing of the store's own bookkeeping comes along.
    let overlay = |key: &Vec<u8>| key.windows(9).any(|w| w == b".overlay.");
    assert!(
        !ours
            .values()
            .flat_map(|node| node.xattrs.keys())
            .any(overlay)
    );
    let meta = fs::metadata(&bundle).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.uid()), (0o700, 0));
}

#[test]
fn one_layer_and_holes() {
    let case = Case::new();
    let mut data = vec![0; 4 << 20];
    data[2 << 20] = 1;
    let layer = Tarball::default()
        .put(&Head {
            data: &data,
            ..head(b'0', "holes")
        })
        .put(&Head {
            data: &vec![0; 1 << 20],
            ..head(b'0', "nothing but a hole")
        })
        .file(".wh.nothing", "")
        .end();
    let image = case.layout("layout", &[layer], &json!({ "Cmd": ["/x"] }));
    let store = nslab::image::Store::open(&case.path("store")).unwrap();
    let unpacked = store.resolve(&image, &[], &mut |_| {}).unwrap().layers;
    for file in ["holes", "nothing but a hole"] {
        tool(
            Command::new("fallocate")
                .arg("--dig-holes")
                .arg(unpacked[0].join(file)),
        );
    }
    let rootfs = case.exported(&image, "bundle", &[]).join("rootfs");
    assert!(fs::read(rootfs.join("holes")).unwrap() == data);
    assert!(fs::read(rootfs.join("nothing but a hole")).unwrap() == vec![0; 1 << 20]);
    let blocks = |file: &str| fs::metadata(rootfs.join(file)).unwrap().blocks();
    assert!(blocks("holes") < 1 << 10, "{}", blocks("holes"));
    assert_eq!(blocks("nothing but a hole"), 0);
    assert!(!rootfs.join("nothing").exists());
}

#[test]
fn the_bundle_is_a_copy() {
    let case = Case::new();
    let layer = Tarball::default().file("x", "before").end();
    let image = case.layout("layout", &[layer], &json!({ "Cmd": ["/x"] }));
    let bundle = case.exported(&image, "b", &[]);
    let store = nslab::image::Store::open(&case.path("store")).unwrap();
    let layers = store.resolve(&image, &[], &mut |_| {}).unwrap().layers;
    let mut file = File::options()
        .append(true)
        .open(bundle.join("rootfs/x"))
        .unwrap();
    file.write_all(b" and after").unwrap();
    assert_eq!(fs::read(layers[0].join("x")).unwrap(), b"before");
}
