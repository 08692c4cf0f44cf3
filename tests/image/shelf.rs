//! Three images that share layers, a store for them, and what must be true of it at any moment.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nslab::image::{Image, Prune, Pruned, Store};
use serde_json::json;

use crate::served::Cli;
use crate::tarball::{Head, Tarball, head};
use crate::{child_command, handmade};

/// Images a (base, a), b (base, b) and c (base, a, c), and a good copy of their layers.
pub struct Shelf {
    pub cli: Cli,
    /// What each layer holds, by its hexadecimal diff id.
    truth: BTreeMap<String, Vec<String>>,
}

/// A layer as a tar archive, with files in a folder of its name.
pub fn layer(name: &str) -> Vec<u8> {
    let mut tar = Tarball::default().dir(&format!("{name}/")).put(&Head {
        mode: 0o4555,
        data: name.as_bytes(),
        ..head(b'0', &format!("{name}/setuid"))
    });
    for number in 0..4 {
        tar = tar.file(&format!("{name}/{number}"), &"x".repeat(1000 * number));
    }
    tar.symlink(&format!("{name}/link"), "0")
        .hardlink(&format!("{name}/second"), &format!("{name}/1"))
        .end()
}

/// The images' names.
pub const IMAGES: [&str; 3] = ["a", "b", "c"];

impl Shelf {
    pub fn new() -> Self {
        let cli = Cli::new();
        let layers = ["base", "a", "b", "c"].map(layer);
        let pick =
            |which: &[usize]| -> Vec<_> { which.iter().map(|n| layers[*n].clone()).collect() };
        for (name, which) in [("a", &[0, 1][..]), ("b", &[0, 2]), ("c", &[0, 1, 3])] {
            let config = json!({ "Cmd": [name] });
            handmade::layout(&cli.dir.path().join(name), &pick(which), &config);
        }
        let mut this = Self {
            cli,
            truth: BTreeMap::new(),
        };
        let good = Store::open(&this.path("good")).expect("open a store");
        for name in IMAGES {
            let image = this.resolve(&good, name).expect("a good image");
            for layer in &image.layers {
                this.truth.insert(hex(layer), tree(layer));
            }
        }
        assert_eq!(this.truth.len(), 4);
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.cli.dir.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path("store")
    }

    pub fn reference(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The store, as another process would open it.
    pub fn open(&self) -> Store {
        Store::open(&self.root()).expect("open the store")
    }

    pub fn prune(&self) -> Pruned {
        self.open().prune(Prune::default()).expect("prune")
    }

    /// Resolves an image and looks at its layers; nobody holds it afterwards.
    pub fn works(&self, name: &str, when: &str) {
        let store = self.open();
        let image = self
            .resolve(&store, name)
            .unwrap_or_else(|e| panic!("{when}: {e}"));
        for layer in &image.layers {
            assert_eq!(Some(&tree(layer)), self.truth.get(&hex(layer)), "{when}");
        }
    }

    pub fn resolve(&self, store: &Store, name: &str) -> Result<Image, nslab::image::Error> {
        store.resolve(&self.reference(name), &[], &mut |_| {})
    }

    /// Another process that resolves an image.
    pub fn child(&self, name: &str) -> Command {
        let program = std::env::current_exe().expect("our own program");
        child_command(&program, &self.root(), &self.reference(name))
    }

    /// The command line.
    pub fn nslab(&self, words: &[&str]) -> Output {
        self.cli.command(words).output().expect("nslab runs")
    }

    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.nslab(words);
        assert!(output.status.success(), "nslab {words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("utf-8")
    }

    /// Layers of an image, the uppermost first, as they would be in the store.
    pub fn layers(&self, name: &str) -> Vec<PathBuf> {
        let good = Store::open(&self.path("good")).expect("open a store");
        let image = self.resolve(&good, name).expect("a good image");
        let here = |layer: &PathBuf| self.root().join("layers").join(hex(layer));
        image.layers.iter().map(here).collect()
    }

    /// Whatever happened: a layer that is there is whole, and so is a record.
    pub fn is_sound(&self, when: &str) {
        for path in list(&self.root().join("layers")) {
            let name = hex(&path);
            if name.len() == 64 {
                assert_eq!(
                    Some(&tree(&path)),
                    self.truth.get(&name),
                    "layer {name}, {when}"
                );
            }
        }
        for path in list(&self.root().join("images")) {
            if path.extension().is_some_and(|e| e == "json") {
                let record = fs::read(&path).expect("a record");
                let whole = serde_json::from_slice::<serde_json::Value>(&record);
                assert!(whole.is_ok(), "{}, {when}", path.display());
            }
        }
    }

    /// After a prune with nobody there: these images, their layers and nothing else.
    pub fn has_only(&self, images: &[&str], when: &str) {
        self.is_sound(when);
        let listed = self.open().list().expect("list");
        let names: Vec<_> = listed.into_iter().map(|i| i.name).collect();
        let want: Vec<_> = images.iter().map(|i| self.reference(i)).collect();
        assert_eq!(names, want, "{when}");
        let mut layers: Vec<_> = images.iter().flat_map(|i| self.layers(i)).collect();
        layers.extend(layers.clone().iter().map(|l| l.with_extension("size")));
        layers.sort();
        layers.dedup();
        assert_eq!(list(&self.root().join("layers")), layers, "{when}");
        for empty in ["build", "partial", "trash", "users", "nodes", "kept"] {
            assert_eq!(
                list(&self.root().join(empty)),
                Vec::<PathBuf>::new(),
                "{when}"
            );
        }
        let gate = self.root().join("locks/gate");
        assert_eq!(list(&self.root().join("locks")), [gate], "{when}");
        let hidden = ["images", "oci", "cache"].map(|sub| list(&self.root().join(sub)));
        let hidden = hidden.iter().flatten().filter(|p| hex(p).starts_with('.'));
        assert_eq!(hidden.count(), 0, "{when}");
    }

    /// An empty store.
    pub fn clear(&self) {
        if self.root().exists() {
            fs::remove_dir_all(self.root()).expect("remove the store");
        }
    }
}

/// Runs a command that is killed when it enters one of these system calls the `nth` time, and tells
/// whether it was.
pub fn killed_at(command: &Command, calls: &str, nth: usize) -> bool {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    traced.arg(format!("trace={calls}"));
    traced
        .arg("-e")
        .arg(format!("inject={calls}:signal=SIGKILL:when={nth}"));
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    let output = traced
        .output()
        .expect("strace runs; scripts/setup test installs it");
    // strace ends as the traced process does.
    let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
    assert!(
        killed || matches!(output.status.code(), Some(0 | 1)),
        "{calls} {nth}: {output:?}"
    );
    killed
}

/// Everything in a folder, sorted.
pub fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn hex(path: &Path) -> String {
    let name = path.file_name().expect("a name");
    name.to_string_lossy().into_owned()
}

/// All that a folder holds: names, kinds, modes, owners, times, links and content.
pub fn tree(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    grow(dir, dir, &mut lines);
    lines.sort();
    lines
}

fn grow(top: &Path, dir: &Path, lines: &mut Vec<String>) {
    for path in list(dir) {
        let meta = fs::symlink_metadata(&path).expect("look at it");
        let content = if meta.is_symlink() {
            fs::read_link(&path)
                .expect("read the link")
                .display()
                .to_string()
        } else if meta.is_file() {
            handmade::digest(&fs::read(&path).expect("read the file"))
        } else {
            grow(top, &path, lines);
            String::new()
        };
        let name = path.strip_prefix(top).expect("it is inside");
        lines.push(format!(
            "{} {:o} {}:{} {}.{} {} {content}",
            name.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            // A folder's own count depends on the filesystem.
            if meta.is_dir() { 0 } else { meta.nlink() },
        ));
    }
}
