//! Recipes of images/, built: by root and by an ordinary user on a host that has next to nothing, and
//! compared byte for byte but for what image.toml names.
//!
//! The packages (250 MB for all, once; then they stay in cargo's target folder) come over the network.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nslab::image::{Image, Store};

use crate::{child_command, copy_program, line_of, open_dir, require_root, tool};

/// Where packages stay from one run of the tests to the next. Everybody may write there: builds of
/// ordinary users share it.
pub fn packages() -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image-debs");
    fs::create_dir_all(&kept).expect("make the packages' folder");
    let lock = kept.join(".lock");
    File::options()
        .create(true)
        .append(true)
        .open(&lock)
        .expect("make the lock");
    for (path, mode) in [(&kept, 0o777), (&lock, 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("open it up");
    }
    kept
}

/// A store with those packages.
pub fn store(dir: &Path) -> Store {
    fs::create_dir_all(dir).expect("make the store");
    std::os::unix::fs::symlink(packages(), dir.join("debs")).expect("link the packages");
    Store::open(dir).expect("open the store")
}

pub fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("images")
        .join(name)
}

/// What an exported image's layer has, in its order.
#[derive(PartialEq, Eq, Debug)]
struct Entry {
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    link: Option<PathBuf>,
    content: Vec<u8>,
}

/// The entries of the one layer of a layout.
fn entries(layout: &Path) -> Vec<(PathBuf, Entry)> {
    let blob = fs::read_dir(layout.join("blobs/sha256"))
        .expect("list")
        .map(|e| e.expect("entry").path())
        .max_by_key(|p| p.metadata().expect("look").len())
        .expect("a layer");
    let gzip = flate2::read::GzDecoder::new(File::open(blob).expect("open"));
    let mut tar = tar::Archive::new(gzip);
    tar.entries()
        .expect("entries")
        .map(|entry| {
            let mut entry = entry.expect("entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            let header = entry.header();
            let value = Entry {
                kind: header.entry_type(),
                mode: header.mode().expect("mode"),
                owner: (header.uid().expect("uid"), header.gid().expect("gid")),
                mtime: header.mtime().expect("mtime"),
                link: entry
                    .link_name()
                    .expect("link")
                    .map(std::borrow::Cow::into_owned),
                content,
            };
            (entry.path().expect("path").into_owned(), value)
        })
        .collect()
}

/// Everything of the host that a package's installation would change.
fn host() -> BTreeMap<PathBuf, Option<(u64, std::time::SystemTime)>> {
    [
        "/var/lib/dpkg/status",
        "/var/lib/apt/lists",
        "/var/cache/apt/archives",
        "/usr/lib/jvm",
        "/etc",
    ]
    .map(|p| {
        let meta = fs::metadata(p).ok();
        (
            p.into(),
            meta.map(|m| (m.len(), m.modified().expect("mtime"))),
        )
    })
    .into()
}

/// A recipe that was built twice, and was the same.
pub struct Twice {
    pub dir: tempfile::TempDir,
    /// Root's store, with the image.
    pub store: Store,
    pub image: Image,
}

/// Builds the recipe of images/ as root from its folder and, at the same time, as an ordinary user from
/// what is part of the program, in two stores; with these variables in the environment.
pub fn twice(name: &str, environment: &[(&str, &Path)]) -> Twice {
    require_root();
    let dir = open_dir();
    let program = copy_program(dir.path());
    let before = host();
    let homes = ["root", "nobody"].map(|user| {
        let home = dir.path().join(user);
        fs::create_dir_all(home.join("debs")).expect("make the store");
        home
    });
    tool(
        Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(&homes[1]),
    );
    let folder = recipe(name);
    let as_root = child_command(&program, &homes[0], folder.to_str().expect("UTF-8"));
    let as_nobody = child_command(&program, &homes[1], name);
    let builds = [(as_root, 0), (as_nobody, 65534)].map(|(child, user)| {
        let mut command = on_a_bare_host(&child, user);
        command.envs(environment.iter().copied());
        std::thread::spawn(move || command.output().expect("run a build"))
    });
    let digests = builds.map(|build| {
        let output = build.join().expect("a build");
        let result = line_of(&output, "RESULT");
        result
            .split_once(' ')
            .expect("digest and layer")
            .0
            .to_owned()
    });
    assert_eq!(host(), before, "building changed the host");

    let stores = homes.map(|home| Store::open(&home).expect("open"));
    let image = |store: usize| Image {
        reference: name.into(),
        digest: digests[store].clone(),
        layers: Vec::new(),
        config: nslab::image::RunConfig::default(),
    };
    let layouts = [0, 1].map(|which| {
        let to = dir.path().join(format!("layout-{which}"));
        stores[which].export(&image(which), &to).expect("export");
        to
    });
    same(name, &layouts, &digests);
    let [store, _] = stores;
    let image = stored(&store, name);
    Twice { dir, store, image }
}

/// The only image of a store, without asking what its recipe is now.
fn stored(store: &Store, name: &str) -> Image {
    let info = &store.list().expect("list")[0];
    assert_eq!(info.name, name);
    let layout = info.layout.to_str().expect("UTF-8").to_owned();
    store.resolve(&layout, &[], &mut |_| {}).expect("resolve")
}

/// `child` as this user where there is no Java and no library: only the packages may be used. The
/// packages are those of all tests.
fn on_a_bare_host(child: &Command, user: u32) -> Command {
    let script = "for d in /usr/lib/jvm /etc/java-17-openjdk /usr/share/java; do \
                  [ ! -d $d ] || mount -t tmpfs tmpfs $d; done; \
                  mount --bind \"$1\" \"$NSLAB_STORE/debs\"; shift; exec setpriv \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(packages());
    let id = user.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    command.arg(child.get_program()).args(child.get_args());
    command.envs(child.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.current_dir("/");
    command
}

/// Both layouts are the same, but for what the recipe says is not.
fn same(name: &str, layouts: &[PathBuf; 2], digests: &[String; 2]) {
    let toml = fs::read_to_string(recipe(name).join("image.toml")).expect("read");
    let toml: toml::Table = toml.parse().expect("toml");
    let differ: Vec<PathBuf> = toml
        .get("not_reproducible")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .map(|path| path.as_str().expect("a path").into())
        .collect();
    if differ.is_empty() {
        assert_eq!(digests[0], digests[1], "{name} is not reproducible");
    }
    let epoch = toml["epoch"].as_integer().expect("epoch").unsigned_abs();
    let (one, two) = (entries(&layouts[0]), entries(&layouts[1]));
    let names = |e: &[(PathBuf, Entry)]| e.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
    assert_eq!(names(&one), names(&two));
    assert!(names(&one).is_sorted_by(|a, b| a.components().lt(b.components())));
    for path in &differ {
        assert!(names(&one).contains(path), "{} is named", path.display());
    }
    for ((path, a), (_, b)) in one.iter().zip(&two) {
        assert_eq!((a.owner, a.mtime), ((0, 0), epoch), "{}", path.display());
        if differ.contains(path) {
            assert_eq!((a.kind, a.mode, a.mtime), (b.kind, b.mode, b.mtime));
        } else {
            assert!(a == b, "{} of {name} differs", path.display());
        }
    }
}

/// Prints what the image's size is and wants it to be at most this.
pub fn at_most(twice: &Twice, bytes: u64) {
    let list = twice.store.list().expect("list");
    let info = list
        .iter()
        .find(|i| i.kind == "recipe")
        .expect("the recipe's");
    eprintln!(
        "{}: {} bytes, {} as a blob",
        info.name, info.unpacked, info.size
    );
    assert!(info.unpacked <= bytes, "{} bytes", info.unpacked);
}

#[test]
fn net_tools_is_reproducible() {
    at_most(&twice("net-tools", &[]), 80_000_000);
}

#[test]
fn nginx_is_reproducible() {
    at_most(&twice("nginx", &[]), 14_000_000);
}
