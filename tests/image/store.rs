//! The store with a recipe that takes no packages and no time, and with layouts by other tools.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nslab::image::{Error, Image, Progress, Store, User};

use crate::{child_command, copy_program, line_of, open_dir, require_root};

const TOML: &str = r#"
format = 1
name = "tiny"
description = "A few files"
script = "build.sh"
epoch = 86400

[config]
entrypoint = ["/bin/hello", "world"]
cmd = ["--now"]
env = { B = "2", A = "1=one" }
user = "7:8"
workdir = "/srv"
ports = ["80/tcp", "53/udp", "443/tcp"]
stop_signal = "SIGINT"
"#;

/// Counts its runs in `../count`; tells in `../started` that it runs, and then waits while there
/// is a file `../hold`.
const SCRIPT: &str = r#"#!/bin/bash
set -e
echo "==> making files"
echo run >> "$NSLAB_RECIPE/../count"
echo $$ > "$NSLAB_RECIPE/../started"
while [ -e "$NSLAB_RECIPE/../hold" ]; do sleep 0.02; done
[ ! -e "$NSLAB_RECIPE/../fail" ] || { echo "no such luck"; exit 3; }
cd "$NSLAB_ROOT"
mkdir -p bin srv
printf hello > bin/hello; chmod 755 bin/hello
ln -s hello bin/link
[ -z "$EXTRA" ] || cp "$EXTRA" srv/extra
echo "uid $(id -u), network $(ls /sys/class/net 2>/dev/null | wc -w)" > srv/about
"#;

pub struct Case {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

impl Case {
    pub fn new() -> Self {
        let dir = open_dir();
        let recipe = dir.path().join("images/tiny");
        fs::create_dir_all(&recipe).expect("make the recipe");
        fs::write(recipe.join("image.toml"), TOML).expect("write");
        fs::write(recipe.join("build.sh"), SCRIPT).expect("write");
        let store = Store::open(&dir.path().join("store")).expect("open the store");
        Self { dir, store }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn images(&self, name: &str) -> PathBuf {
        self.path("images").join(name)
    }

    pub fn resolve(&self, reference: &str) -> Result<Image, Error> {
        self.store
            .resolve(reference, &[self.path("images")], &mut |_| {})
    }

    pub fn runs(&self) -> usize {
        fs::read_to_string(self.images("count"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    /// Files of the store that are neither whole nor locks.
    pub fn litter(&self) -> Vec<PathBuf> {
        ["layers", "oci", "build", "images"]
            .iter()
            .flat_map(|d| fs::read_dir(self.path("store").join(d)).expect("list"))
            .map(|e| e.expect("entry").path())
            .filter(|p| {
                p.file_name()
                    .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."))
                    || p.parent().is_some_and(|d| d.ends_with("build"))
            })
            .collect()
    }
}

/// Polls for what another process does; only a process that hangs reaches the end.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} did not come about");
}

#[test]
fn a_recipe_is_built_once_and_again_when_it_changes() {
    require_root();
    let case = Case::new();
    let mut events = Vec::new();
    let image = case
        .store
        .resolve("tiny", &[case.path("images")], &mut |e| events.push(e))
        .expect("build");
    let stages: Vec<_> = events
        .iter()
        .filter_map(|e| match e {
            Progress::Stage { text, step, of } => Some(format!("{step}/{of} {text}")),
            _ => None,
        })
        .collect();
    assert_eq!(
        stages,
        [
            "1/4 downloading packages",
            "2/4 making files",
            "3/4 packing the layer",
            "4/4 unpacking the layer"
        ]
    );
    assert!(matches!(events.last(), Some(Progress::Done { name, .. }) if name == "tiny"));

    assert_eq!(image.reference, "tiny");
    assert_eq!(image.config.entrypoint, ["/bin/hello", "world"]);
    assert_eq!(image.config.cmd, ["--now"]);
    assert_eq!(
        image.config.env,
        [
            ("A".to_owned(), "1=one".to_owned()),
            ("B".to_owned(), "2".to_owned())
        ]
    );
    assert_eq!(image.config.user, "7:8");
    assert_eq!(image.config.workdir, Path::new("/srv"));
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGINT"));
    let layer = &image.layers[0];
    assert_eq!(fs::read(layer.join("bin/hello")).expect("hello"), b"hello");
    // The script ran as root of its namespaces, with no network but a loopback.
    let about = fs::read_to_string(layer.join("srv/about")).expect("about");
    assert!(about.starts_with("uid 0, "), "{about}");

    assert_eq!(case.resolve("tiny").expect("again"), image);
    let by_path = case
        .resolve(case.images("tiny").to_str().expect("utf-8"))
        .expect("by path");
    assert_eq!(
        (by_path.digest, by_path.layers),
        (image.digest.clone(), image.layers.clone())
    );
    assert_eq!(case.runs(), 1);
    assert_eq!(case.litter(), Vec::<PathBuf>::new());

    // Nothing in the layer depends on when or where it was built.
    let forced = case
        .store
        .build(&case.images("tiny"), true, &mut |_| {})
        .expect("force");
    assert_eq!(forced.digest, image.digest);
    assert_eq!(case.runs(), 2);

    fs::write(
        case.images("tiny/build.sh"),
        format!("{SCRIPT}\n# changed\n"),
    )
    .expect("write");
    case.resolve("tiny").expect("changed");
    assert_eq!(case.runs(), 3);

    // A layer that was removed by hand comes back without a build.
    let layer = case.resolve("tiny").expect("there").layers.remove(0);
    fs::remove_dir_all(&layer).expect("remove");
    case.resolve("tiny").expect("unpacked again");
    assert!(layer.join("bin/hello").exists());
    assert_eq!(case.runs(), 3);
}

#[test]
fn an_input_of_the_users_counts() {
    require_root();
    let case = Case::new();
    let extra = case.path("extra");
    fs::write(&extra, "one").expect("write");
    let toml = format!(
        "{TOML}\n[inputs.extra]\npath = \"../../extra\"\nconfig.env = {{ A = \"given\", C = \"3\" }}\n"
    );
    fs::write(case.images("tiny/image.toml"), toml).expect("write");
    let image = case.resolve("tiny").expect("build");
    assert_eq!(
        fs::read(image.layers[0].join("srv/extra")).expect("extra"),
        b"one"
    );
    let env: Vec<_> = image
        .config
        .env
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(env, ["A=given", "B=2", "C=3"]);
    fs::write(&extra, "two").expect("write");
    let image = case.resolve("tiny").expect("build again");
    assert_eq!(
        fs::read(image.layers[0].join("srv/extra")).expect("extra"),
        b"two"
    );
    fs::remove_file(&extra).expect("remove");
    let error = case.resolve("tiny").expect_err("gone").to_string();
    assert!(
        error.contains("inputs.extra.path: ") && error.ends_with("is no file"),
        "{error}"
    );
}

#[test]
fn a_failing_script_is_quoted_and_leaves_nothing() {
    require_root();
    let case = Case::new();
    fs::write(case.images("fail"), "").expect("write");
    let error = case.resolve("tiny").expect_err("fail").to_string();
    assert_eq!(
        error,
        "the build script of image `tiny` failed (exit status: 3); its last lines:\n  \
         ==> making files\n  no such luck"
    );
    assert_eq!(case.litter(), Vec::<PathBuf>::new());
    assert_eq!(case.store.list().expect("list"), []);
}

#[test]
fn two_at_once_build_once() {
    require_root();
    let case = Case::new();
    let program = copy_program(case.dir.path());
    fs::write(case.images("hold"), "").expect("write");
    let reference = case.images("tiny");
    let start = || {
        child_command(
            &program,
            &case.path("store"),
            reference.to_str().expect("utf-8"),
        )
        .spawn()
        .expect("start")
    };
    let first = start();
    until("the first build", || case.images("started").exists());
    let mut second = start();
    let mut lines = BufReader::new(second.stdout.take().expect("stdout")).lines();
    let waits = lines.find(|l| {
        l.as_ref()
            .is_ok_and(|l| l == "LOG waiting for another nslab that builds `tiny`")
    });
    assert!(waits.is_some(), "the second did not wait");
    fs::remove_file(case.images("hold")).expect("go on");
    let first = line_of(&first.wait_with_output().expect("wait"), "RESULT");
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert!(second.wait().expect("wait").success());
    assert!(
        rest.contains(&format!("RESULT {first}")),
        "{first} is not in {rest:?}"
    );
    assert_eq!(case.runs(), 1);
}

#[test]
fn a_killed_build_leaves_no_process_and_no_obstacle() {
    require_root();
    let case = Case::new();
    let program = copy_program(case.dir.path());
    fs::write(case.images("hold"), "").expect("write");
    let reference = case.images("tiny");
    let mut child = child_command(
        &program,
        &case.path("store"),
        reference.to_str().expect("utf-8"),
    )
    .spawn()
    .expect("start");
    until("the build", || case.images("started").exists());
    let script = case.images("tiny/build.sh");
    let running = || {
        fs::read_dir("/proc").expect("proc").flatten().any(|p| {
            fs::read(p.path().join("cmdline")).is_ok_and(|line| {
                line.windows(script.as_os_str().len())
                    .any(|w| w == script.as_os_str().as_encoded_bytes())
            })
        })
    };
    assert!(running());
    child.kill().expect("SIGKILL");
    child.wait().expect("wait");
    until("the end of the script", || !running());
    assert!(
        !case.litter().is_empty(),
        "killed too late to test anything"
    );
    fs::remove_file(case.images("hold")).expect("let the next one run");
    let image = case.resolve("tiny").expect("build after the kill");
    assert_eq!(
        fs::read(image.layers[0].join("bin/hello")).expect("hello"),
        b"hello"
    );
    assert_eq!(case.runs(), 2);
    assert_eq!(case.litter(), Vec::<PathBuf>::new());
}

#[test]
fn images_are_listed_and_removed_but_not_under_somebody() {
    require_root();
    let case = Case::new();
    let image = case.resolve("tiny").expect("build");
    let layout = case.path("layout");
    case.store.export(&image, &layout).expect("export");
    let twin = case
        .resolve(layout.to_str().expect("utf-8"))
        .expect("layout");
    assert_eq!(twin.layers, image.layers, "equal layers are unpacked once");
    let list = case.store.list().expect("list");
    let names: Vec<_> = list
        .iter()
        .map(|i| (i.name.as_str(), i.kind.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            (layout.to_str().expect("utf-8"), "layout"),
            ("tiny", "recipe")
        ]
    );
    assert!(
        list.iter()
            .all(|i| i.digest == image.digest && i.unpacked > 0 && i.size > 0)
    );

    let script = "mount -t overlay overlay -o lowerdir=\"$1:$2\" /mnt && echo up && read -r _";
    let mut user = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([&image.layers[0], &case.path("images")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start");
    let mut line = String::new();
    BufReader::new(user.stdout.take().expect("stdout"))
        .read_line(&mut line)
        .expect("read");
    assert_eq!(line, "up\n");
    let error = case.store.remove("tiny").expect_err("in use");
    assert!(
        matches!(&error, Error::InUse { users, .. } if *users == [User::Process { pid: user.id() }]),
        "{error}"
    );
    drop(user.stdin.take());
    user.wait().expect("wait");

    case.store.remove("tiny").expect("remove");
    assert!(
        image.layers[0].join("bin/hello").exists(),
        "the layout still has the layer"
    );
    case.store
        .remove(layout.to_str().expect("utf-8"))
        .expect("remove");
    assert!(!image.layers[0].exists());
    assert!(
        layout.join("index.json").exists(),
        "a layout outside of the store is its owner's"
    );
    assert_eq!(
        fs::read_dir(case.path("store/layers"))
            .expect("list")
            .count(),
        0
    );
    let error = case.store.remove("tiny").expect_err("gone").to_string();
    assert!(error.starts_with("no image `tiny` in "), "{error}");
}

#[test]
fn what_is_not_there_is_said() {
    let case = Case::new();
    // A bare word that is no recipe is an image of Docker Hub, which is not asked here.
    let program = copy_program(case.dir.path());
    let child = child_command(&program, &case.path("store"), "nothing");
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(child.get_program())
        .args(child.get_args())
        .envs(child.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .output()
        .expect("unshare");
    let error = line_of(&output, "ERROR");
    assert!(
        error.starts_with(
            "image `nothing`: no such recipe is built in; as an image of Docker Hub: cannot speak to \
             docker.io: "
        ),
        "{error}"
    );
    let error = case
        .resolve(case.dir.path().to_str().expect("utf-8"))
        .expect_err("empty");
    assert!(
        error.to_string().contains("has neither an index.json nor"),
        "{error}"
    );
    let layers = case.path("store/layers").metadata().expect("layers");
    assert_eq!(layers.permissions().mode() & 0o777, 0o700);
}

#[test]
fn root_without_its_capability_is_told_so() {
    require_root();
    let case = Case::new();
    let program = copy_program(case.dir.path());
    let child = child_command(
        &program,
        &case.path("store"),
        case.images("tiny").to_str().expect("utf-8"),
    );
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]);
    command.arg(child.get_program()).args(child.get_args());
    command.envs(child.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let error = line_of(&command.output().expect("run"), "ERROR");
    assert_eq!(
        error,
        "building image `tiny` needs namespaces, and `unshare` failed: unshare: unshare failed: \
         Operation not permitted; root lacks CAP_SYS_ADMIN here: in a container, give it (docker: \
         --privileged)"
    );
}

/// A fresh container has no package lists; the host's are not written.
#[test]
fn empty_package_lists_are_replaced_by_ones_of_the_stores_own() {
    require_root();
    let case = Case::new();
    let program = copy_program(case.dir.path());
    let toml = TOML.replace(
        "[config]",
        "packages = [\"no-such-package | busybox-static\"]\n[config]",
    );
    fs::write(case.images("tiny/image.toml"), toml).expect("write");
    let child = child_command(
        &program,
        &case.path("store"),
        case.images("tiny").to_str().expect("utf-8"),
    );
    let script = "mount -t tmpfs tmpfs /var/lib/apt/lists && \"$@\" && \
                  echo LISTS $(find /var/lib/apt/lists -type f | wc -l)";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]);
    command.arg(child.get_program()).args(child.get_args());
    command.envs(child.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = command.output().expect("run");
    line_of(&output, "RESULT");
    assert_eq!(line_of(&output, "LISTS"), "0");
    assert_eq!(
        line_of(&output, "LOG"),
        "the host's package lists do not do; fetching current ones"
    );
    let debs: Vec<_> = fs::read_dir(case.path("store/debs"))
        .expect("list")
        .map(|e| e.expect("entry").file_name().into_string().expect("utf-8"))
        .filter(|n| n != ".lock")
        .collect();
    assert!(
        matches!(&debs[..], [one] if one.starts_with("busybox-static_")),
        "{debs:?}"
    );
}
