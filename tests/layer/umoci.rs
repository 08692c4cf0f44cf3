//! Whole images, unpacked by umoci and by nslab, compared file by file with all that can be seen.
//!
//! The images come from the distribution's packages, over the network the first time: the Tomcat image,
//! and a root of mmdebstrap's with layers on top that umoci itself makes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nslab::image::Store;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev};

use crate::tree::{Tree, tree};
use crate::{open_dir, own_mounts, require_root, tool};

/// Layers as a node sees them.
pub fn merged(layers: &[PathBuf]) -> Tree {
    let layers = layers.to_vec();
    let thread = std::thread::spawn(move || {
        own_mounts();
        let at = open_dir();
        let lower: Vec<_> = layers.iter().map(|l| l.as_os_str().as_bytes()).collect();
        // Two at least, or it is no overlay.
        let empty = open_dir();
        let lower = [
            &b"lowerdir="[..],
            &lower.join(&b':'),
            b":",
            empty.path().as_os_str().as_bytes(),
        ];
        mount(
            Some("overlay"),
            at.path(),
            Some("overlay"),
            MsFlags::MS_RDONLY,
            Some(&lower.concat()[..]),
        )
        .expect("mount an overlay");
        let tree = tree(at.path());
        umount2(at.path(), MntFlags::empty()).expect("unmount");
        tree
    });
    thread.join().expect("look at the merged layers")
}

/// What differs, a line a file.
fn differences(nslab: &Tree, umoci: &Tree) -> Vec<String> {
    let mut names: Vec<_> = nslab.keys().chain(umoci.keys()).collect();
    names.sort();
    names.dedup();
    let show = |tree: &Tree, name: &Vec<u8>| {
        let node = tree.get(name);
        node.map_or("nothing".to_owned(), ToString::to_string)
    };
    let differ = names.into_iter().filter(|&n| nslab.get(n) != umoci.get(n));
    differ
        .map(|n| {
            let (ours, theirs) = (show(nslab, n), show(umoci, n));
            format!("{}:{ours} |{theirs}", n.escape_ascii())
        })
        .collect()
}

fn umoci(args: &[&str], paths: &[&Path]) {
    tool(Command::new("umoci").args(args).args(paths));
}

/// What umoci makes of an image.
fn unpacked(image: &str, bundle: &Path) -> Tree {
    umoci(&["unpack", "--image", image], &[bundle]);
    tree(&bundle.join("rootfs"))
}

#[test]
fn the_tomcat_image_is_what_umoci_unpacks() {
    require_root();
    let dir = open_dir();
    let store = Store::open(&Store::default_root()).expect("open the store");
    let image = store
        .resolve("tomcat", &[], &mut |_| {})
        .expect("the Tomcat image");
    let layout = dir.path().join("layout");
    store.export(&image, &layout).expect("export");
    let theirs = unpacked(
        &format!("{}:latest", layout.display()),
        &dir.path().join("bundle"),
    );
    let ours = merged(&image.layers);
    assert!(ours.len() > 150, "only {} files", ours.len());
    assert_eq!(differences(&ours, &theirs), Vec::<String>::new());
}

/// A Debian or Ubuntu root, made once: `mmdebstrap --variant=minbase` of this machine's release, from
/// where its own packages come.
fn root_tar() -> PathBuf {
    let release = fs::read_to_string("/etc/os-release").expect("read os-release");
    let suite = release
        .lines()
        .find_map(|l| l.strip_prefix("VERSION_CODENAME="))
        .expect("os-release has no VERSION_CODENAME");
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("minbase-{suite}.tar"));
    if kept.exists() {
        return kept;
    }
    let new = kept.with_extension("new.tar");
    let mut sources: Vec<PathBuf> = vec!["/etc/apt/sources.list".into()];
    for entry in fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
    {
        sources.push(entry.expect("list apt's sources").path());
    }
    sources.retain(|s| {
        s.is_file()
            && matches!(
                s.extension().and_then(|e| e.to_str()),
                Some("list" | "sources")
            )
    });
    tool(
        Command::new("mmdebstrap")
            .args(["--quiet", "--mode=root", "--variant=minbase", suite])
            .arg(&new)
            .args(sources),
    );
    fs::rename(new, &kept).expect("keep the root");
    kept
}

/// Changes a root as people and packages do, and further.
fn change(root: &Path) {
    let at = |name: &str| root.join(name);
    let write = |name: &str, content: &str| fs::write(at(name), content).expect(name);
    let copy = |name: &str, mode: u32| {
        fs::copy("/bin/true", at(name)).expect(name);
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect(name);
    };
    let xattr = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at(name), key, value, XattrFlags::empty()).expect(name);
    };
    // What is removed, and replaced by something of another kind.
    fs::remove_dir_all(at("usr/share/doc")).expect("remove");
    fs::remove_file(at("etc/debconf.conf")).expect("remove");
    fs::remove_dir_all(at("etc/skel")).expect("remove");
    write("etc/skel", "was a folder");
    fs::remove_file(at("etc/issue")).expect("remove");
    fs::create_dir(at("etc/issue")).expect("mkdir");
    write("etc/issue/in", "was a file");
    fs::remove_dir_all(at("var/lib/apt")).expect("remove");
    symlink("/somewhere", at("var/lib/apt")).expect("link");
    fs::remove_file(at("etc/mtab")).ok();
    fs::create_dir(at("etc/mtab")).expect("mkdir");
    write("etc/mtab/in", "was a link");
    fs::remove_dir_all(at("var/cache/debconf")).expect("remove");
    fs::create_dir(at("var/cache/debconf")).expect("mkdir");
    write("var/cache/debconf/new", "in a new folder of an old name");
    // Content and metadata.
    write("etc/hostname", "changed");
    fs::set_permissions(at("srv"), fs::Permissions::from_mode(0o2775)).expect("chmod");
    std::os::unix::fs::chown(at("opt"), Some(4_000_000_000), Some(7)).expect("chown");
    copy("usr/bin/setuid", 0o4755);
    copy("usr/bin/setgid", 0o2711);
    copy("usr/bin/capable", 0o755);
    tool(
        Command::new("setcap")
            .arg("cap_net_raw,cap_net_admin+ep")
            .arg(at("usr/bin/capable")),
    );
    fs::create_dir(at("opt/sticky")).expect("mkdir");
    fs::set_permissions(at("opt/sticky"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    write("opt/attributes", "");
    xattr("opt/attributes", "user.text", b"value");
    xattr("opt/attributes", "user.bytes", b"=\n\xff\x01");
    xattr("opt/attributes", "trusted.x", b"y");
    xattr("opt/attributes", "user.empty", b"");
    xattr("opt/sticky", "user.folder", b"value");
    for (name, kind, mode, device) in [
        ("opt/null", FileType::CharacterDevice, 0o666, makedev(1, 3)),
        ("opt/loop", FileType::BlockDevice, 0o660, makedev(7, 300)),
        ("opt/fifo", FileType::Fifo, 0o622, 0),
    ] {
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mknodat(CWD, at(name), kind, mode, device).expect(name);
    }
    // Links of both kinds, to each other.
    write("opt/a", "three names");
    fs::hard_link(at("opt/a"), at("opt/sticky/b")).expect("link");
    fs::hard_link(at("opt/a"), at("c")).expect("link");
    symlink("a", at("opt/link")).expect("link");
    fs::hard_link(at("opt/link"), at("opt/link2")).expect("link");
    symlink("../../../../outside", at("opt/out")).expect("link");
    // Names.
    let deep = at(&format!("opt/{}", "deep/".repeat(30)));
    fs::create_dir_all(&deep).expect("mkdir");
    fs::write(deep.join("x".repeat(255)), "long").expect("write");
    write("opt/line\nfeed", "");
    write("opt/\u{fc}ml\u{e4}ut", "");
    // Times, and holes.
    let times = |name: &str, tv_sec, tv_nsec| {
        let time = Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).expect(name);
    };
    times("opt/attributes", -5, 500_000_000);
    times("opt/link", 1_234_567_890, 123_456_789);
    times("usr/bin/setgid", 5_000_000_000, 1);
    let holes = File::create(at("opt/holes")).expect("create");
    std::os::unix::fs::FileExt::write_all_at(&holes, b"end", 10 << 20).expect("write");
}

#[test]
fn a_distribution_with_layers_of_umocis_is_what_umoci_unpacks() {
    require_root();
    let base = root_tar();
    let dir = open_dir();
    let path = |name: &str| dir.path().join(name);
    let layout = path("layout");
    let image = format!("{}:v", layout.display());
    umoci(&["init", "--layout"], &[&layout]);
    umoci(&["new", "--image", &image], &[]);
    umoci(&["raw", "add-layer", "--image", &image], &[&base]);
    let bundle = path("first");
    umoci(&["unpack", "--image", &image], &[&bundle]);
    change(&bundle.join("rootfs"));
    umoci(&["repack", "--image", &image], &[&bundle]);
    // Layers that name a folder without the ones above it.
    let new = path("new");
    fs::create_dir_all(new.join("sub")).expect("mkdir");
    fs::write(new.join("sub/file"), "inserted").expect("write");
    let insert = ["insert", "--image", &image];
    umoci(&insert, &[&new, Path::new("/opt/inserted")]);
    umoci(&insert, &[&new.join("sub/file"), Path::new("/tmp/file")]);
    umoci(
        &[&insert[..], &["--opaque"]].concat(),
        &[&new, Path::new("/etc/apt")],
    );
    umoci(
        &[&insert[..], &["--whiteout", "/usr/share/locale"]].concat(),
        &[],
    );
    let theirs = unpacked(&image, &path("second"));
    let store = Store::open(&path("store")).expect("open a store");
    let ours = store.resolve(&image, &[], &mut |_| {}).expect("unpack");
    // umoci's layers, and one more on top: those name folders without the ones above them.
    assert_eq!(ours.layers.len(), 7);
    let ours = merged(&ours.layers);
    assert!(ours.len() > 1500, "only {} files", ours.len());
    let kinds = ours.values().fold(BTreeMap::new(), |mut kinds, node| {
        *kinds.entry(node.kind).or_insert(0) += 1;
        kinds
    });
    println!("{} files: {kinds:?}", ours.len());
    let differ = differences(&ours, &theirs);
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    // The same layers in zstd.
    let zstd = path("zstd");
    let to = format!("oci:{}:v", zstd.display());
    tool(
        Command::new("skopeo")
            .args(["copy", "-q", "--dest-compress-format", "zstd"])
            .args([&format!("oci:{image}"), &to]),
    );
    let store = Store::open(&path("store2")).expect("open a store");
    let image = store.resolve(&to[4..], &[], &mut |_| {}).expect("unpack");
    assert!(merged(&image.layers) == ours, "zstd makes a difference");
}
