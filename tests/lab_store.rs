//! The image store under labs: who uses what, what is shared, what a node keeps.
//!
//! Needs root and the packages of scripts/setup test (busybox-static, util-linux).

mod common;
#[path = "image/handmade.rs"]
#[expect(dead_code, reason = "other tests write layers one by one")]
mod handmade;
#[path = "layer/tarball.rs"]
#[allow(dead_code, reason = "other tests write stranger archives")]
mod tarball;

use std::fmt::Write as _;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use common::{Bench, host, same_host, text, tool, until};
use serde_json::{Value, json};
use tarball::{Head, Tarball, head};

/// A bench with a store of its own, and a small image in `./image`.
struct Case {
    bench: Bench,
}

impl Case {
    fn new() -> Self {
        let this = Self {
            bench: Bench::new(),
        };
        this.image("one");
        this
    }

    /// Writes `./image`: busybox below, and a layer with this text in /version.
    fn image(&self, version: &str) -> String {
        let busybox = fs::read("/bin/busybox").expect("busybox-static is there");
        let mut base = Tarball::default().dir("bin/").put(&Head {
            data: &busybox,
            mode: 0o755,
            ..head(b'0', "bin/busybox")
        });
        for name in ["sh", "cat", "sleep", "ls", "rm"] {
            base = base.symlink(&format!("bin/{name}"), "busybox");
        }
        let top = Tarball::default().file("version", version);
        let config = json!({ "Cmd": ["/bin/sleep", "100000"], "Env": ["PATH=/bin"] });
        handmade::layout(&self.bench.path("image"), &[base.end(), top.end()], &config)
    }

    fn store(&self) -> PathBuf {
        self.bench.path("store")
    }

    fn nslab(&self, words: &str) -> Command {
        let mut command = self.bench.nslab();
        command
            .env("NSLAB_STORE", self.store())
            .args(words.split(' '));
        command
    }

    fn output(&self, words: &str) -> Output {
        self.nslab(words).output().expect("nslab runs")
    }

    fn ok(&self, words: &str) -> String {
        let output = self.output(words);
        assert!(output.status.success(), "nslab {words}: {output:?}");
        text(&output.stdout)
    }

    fn fails(&self, words: &str) -> String {
        self.fails_with(words, 1)
    }

    fn fails_with(&self, words: &str, code: i32) -> String {
        let output = self.output(words);
        assert_eq!(
            output.status.code(),
            Some(code),
            "nslab {words}: {output:?}"
        );
        let said = text(&output.stderr);
        let at = said.find("error: ").unwrap_or_else(|| panic!("{said}"));
        said[at..].trim_end().to_owned()
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ok(words)).expect("json")
    }

    fn up(&self, nodes: &str) -> PathBuf {
        let lab = self.lab(nodes);
        self.ok(&format!("up {}", lab.display()));
        lab
    }

    /// A lab file of these tables of nodes.
    fn lab(&self, nodes: &str) -> PathBuf {
        self.bench.lab(&format!("name = \"keeper\"\n{nodes}"))
    }

    fn users(&self) -> Value {
        self.json("image list --json")[0]["used_by"].clone()
    }

    fn pid(&self, node: usize) -> i64 {
        self.json("ps --json")[0]["nodes"][node]["pid"]
            .as_i64()
            .expect("a pid")
    }

    /// The kernel ends the inits with it; nobody unmounts anything in good order.
    fn kill_supervisor(&self) {
        let pid = self.json("ps --json")[0]["supervisor"]["pid"].to_string();
        tool("kill", &["-KILL", &pid]);
    }

    fn mount(&self, node: usize) -> String {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.pid(node)));
        let mounts = mounts.expect("mountinfo");
        let root = mounts
            .lines()
            .find(|l| l.contains(" / / ") && l.contains(" - overlay "));
        root.unwrap_or_else(|| panic!("{mounts}")).to_owned()
    }

    fn name(&self) -> String {
        self.bench.path("image").display().to_string()
    }

    fn layers(&self) -> usize {
        let folders = fs::read_dir(self.store().join("layers")).expect("layers");
        folders
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .count()
    }
}

/// Bytes of disk below a folder.
fn du(path: &Path) -> u64 {
    let said = tool("du", &["-s", "-B1", path.to_str().expect("utf-8")]);
    let bytes = said.split_whitespace().next().expect("a number");
    bytes.parse().expect("a number")
}

const TWO: &str = "[nodes.a]\nimage = \"./image\"\n[nodes.b]\nimage = \"./image\"\n";
const KEEPS: &str = "[nodes.a]\nimage = \"./image\"\nkeep = true\n[nodes.b]\nimage = \"./image\"\n";

fn node(name: &str) -> Value {
    json!({ "kind": "node", "lab": "keeper", "node": name })
}

#[test]
fn an_image_of_a_lab_has_users_and_stays() {
    let case = Case::new();
    let before = host();
    case.up(TWO);
    assert_eq!(case.users(), json!([node("a"), node("b")]));
    let table = case.ok("image list");
    assert!(
        table
            .lines()
            .nth(1)
            .is_some_and(|l| l.ends_with("  keeper:a, keeper:b")),
        "{table}"
    );
    let refused = format!(
        "error: image `{}` is used by node a of lab keeper and node b of lab keeper; `nslab down \
         keeper` first",
        case.name()
    );
    assert_eq!(case.fails("image rm ./image"), refused);
    // Without their inits nothing is mounted, and the next exec mounts it again.
    for number in 0..2 {
        tool("kill", &["-KILL", &case.pid(number).to_string()]);
    }
    until("the inits are gone", || {
        case.json("ps --json")[0]["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.iter().all(|n| n["pid"].is_null()))
    });
    assert_eq!(case.users(), json!([node("a"), node("b")]));
    assert_eq!(case.fails("image rm ./image"), refused);
    case.ok("image prune --all");
    assert_eq!(case.layers(), 2);
    assert_eq!(case.ok("exec b cat /version"), "one");
    case.ok("down keeper");
    assert_eq!(case.users(), json!([]));
    let listed = case.ok("image inspect ./image");
    assert!(listed.contains("used by     -\n"), "{listed}");
    case.ok("image rm ./image");
    assert_eq!(case.layers(), 0);
    same_host(&before);
}

#[test]
fn a_supervisor_that_was_killed_uses_nothing() {
    let case = Case::new();
    case.up(TWO);
    case.kill_supervisor();
    until("its claims have ended", || case.users() == json!([]));
    case.ok("image rm ./image");
    case.ok("down keeper");
    assert_eq!(case.layers(), 0);
    assert!(case.ok("image prune").starts_with("nothing to remove"));
}

#[test]
fn a_second_node_of_an_image_costs_no_copy() {
    let case = Case::new();
    let one = "[nodes.a]\nimage = \"./image\"\n";
    case.up(one);
    let with_one = du(&case.store());
    let first = case.mount(0);
    case.ok("down keeper");
    case.up(TWO);
    let with_two = du(&case.store());
    let option = |mount: &str, key: &str| {
        let options = mount.rsplit(' ').next().expect("options").to_owned();
        let one = options.split(',').find(|o| o.starts_with(key));
        one.expect("the option").to_owned()
    };
    let (a, b) = (case.mount(0), case.mount(1));
    for mount in [&a, &b] {
        assert_eq!(option(mount, "lowerdir="), option(&first, "lowerdir="));
    }
    assert_ne!(option(&a, "upperdir="), option(&b, "upperdir="));
    // The node's own /etc/hosts and folders; busybox alone is 20 times that.
    assert!(
        with_two < with_one + 100_000,
        "one node: {with_one} bytes, two: {with_two}"
    );
    assert_eq!(case.layers(), 2);
    case.ok("down keeper");
}

#[test]
fn a_node_keeps_its_files_and_its_neighbour_does_not() {
    let case = Case::new();
    let before = host();
    let write = |word: &str| {
        for node in ["a", "b"] {
            let script = format!("echo {word} >> /own; rm -f /version");
            let mut command = case.nslab(&format!("exec {node} sh -c"));
            assert!(command.arg(script).status().expect("exec").success());
        }
    };
    case.up(KEEPS);
    write("first");
    assert!(!case.mount(0).contains("volatile"), "{}", case.mount(0));
    assert!(case.mount(1).contains("volatile"), "{}", case.mount(1));
    case.ok("down keeper");
    assert_eq!(
        case.users(),
        json!([{ "kind": "kept", "lab": "keeper", "node": "a" }])
    );

    case.up(KEEPS);
    assert_eq!(case.ok("exec a cat /own"), "first\n");
    assert!(
        !case.output("exec a cat /version").status.success(),
        "a whiteout is kept as well"
    );
    assert!(!case.output("exec b cat /own").status.success());
    assert_eq!(case.users(), json!([node("a"), node("b")]));
    write("second");
    case.kill_supervisor();
    case.ok("down keeper");
    case.up(KEEPS);
    assert_eq!(case.ok("exec a cat /own"), "first\nsecond\n");
    case.ok("down keeper");

    assert_eq!(
        case.fails("image rm ./image"),
        format!(
            "error: image `{}` is used by the files that node a of lab keeper keeps; `nslab image \
             prune --kept` throws those away",
            case.name()
        )
    );
    case.ok("image prune --all");
    assert_eq!(case.layers(), 2);
    let said = case.ok("image prune --kept --dry-run");
    assert!(said.starts_with("would remove kept "), "{said}");
    assert!(case.store().join("kept/keeper/a/upper/own").exists());
    let said = case.ok("image prune --kept");
    assert!(said.contains("  keeper:a\n"), "{said}");
    assert!(!case.store().join("kept/keeper").exists());
    case.ok("image rm ./image");
    assert_eq!(case.layers(), 0);
    same_host(&before);
}

#[test]
fn kept_files_are_for_the_image_that_they_were_written_on() {
    let case = Case::new();
    let was = case.image("one");
    let lab = case.up(KEEPS);
    assert!(
        case.nslab("exec a sh -c")
            .arg("echo mine > /own")
            .status()
            .expect("exec")
            .success()
    );
    case.ok("down keeper");
    let is = case.image("two");
    let up = format!("up {}", lab.display());
    assert_eq!(
        case.fails(&up),
        format!(
            "error: node a keeps files (`keep = true`) that it wrote on top of image `./image` \
             ({was}); `./image` is another one now ({is}), and files of one on top of the other would \
             be neither: `nslab up LAB.toml --fresh a` throws the kept files away and starts from the \
             image as it is now"
        )
    );
    // Nothing is lost by that, and nothing left: with the old image it goes on.
    assert!(!case.bench.path("run/keeper").exists());
    case.image("one");
    case.ok(&up);
    assert_eq!(case.ok("exec a cat /own"), "mine\n");
    case.ok("down keeper");

    case.image("two");
    for (fresh, why) in [
        (
            "b",
            "that is no node of lab keeper with `keep = true`; those are a",
        ),
        (
            "c",
            "that is no node of lab keeper with `keep = true`; those are a",
        ),
    ] {
        let said = case.fails_with(&format!("{up} --fresh {fresh}"), 2);
        assert_eq!(said, format!("error: --fresh {fresh}: {why}"));
    }
    case.ok(&format!("{up} --fresh a"));
    assert!(!case.output("exec a cat /own").status.success());
    assert_eq!(case.ok("exec a cat /version"), "two");
    case.ok("down keeper");
}

#[test]
fn an_up_that_fails_loses_nothing_that_was_kept() {
    let case = Case::new();
    case.up(KEEPS);
    assert!(
        case.nslab("exec a sh -c")
            .arg("echo mine > /own")
            .status()
            .expect("exec")
            .success()
    );
    case.ok("down keeper");
    let broken = format!("{KEEPS}command = [\"/bin/nothing\"]\n");
    let lab = case.lab(&broken);
    assert!(
        !case
            .output(&format!("up {}", lab.display()))
            .status
            .success()
    );
    case.up(KEEPS);
    assert_eq!(case.ok("exec a cat /own"), "mine\n");
    // Another lab of this name, elsewhere, is kept away from them.
    let lab = case.lab(KEEPS);
    let other = case
        .nslab(&format!("up {}", lab.display()))
        .env("NSLAB_RUN", case.bench.path("other"))
        .output()
        .expect("nslab runs");
    let said = text(&other.stderr);
    assert!(
        said.contains(
            "the kept files of lab keeper are in use: a lab of the same name is up with another \
             NSLAB_RUN; take that one down first"
        ),
        "{said}"
    );
    assert!(!case.bench.path("other/keeper").exists());
    assert_eq!(case.ok("exec a cat /own"), "mine\n");
    case.ok("down keeper");
}

/// Killed at any time of its life, early and late in `up` and while it is up.
#[test]
fn kept_files_outlive_a_supervisor_that_is_killed_at_any_time() {
    const KILLS: u32 = 16;
    let case = Case::new();
    let lab = case.lab(KEEPS);
    let up = format!("up {}", lab.display());
    let begun = Instant::now();
    case.ok(&up);
    let took = begun.elapsed();
    let mut written = String::new();
    for n in 0..KILLS {
        let script = format!("echo {n} >> /own; exec cat /own");
        let said = case
            .nslab("exec a sh -c")
            .arg(script)
            .output()
            .expect("exec");
        let _ = writeln!(written, "{n}");
        assert_eq!(text(&said.stdout), written, "{said:?}");
        case.ok("down keeper");
        let mut child = case
            .nslab(&up)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nslab runs");
        std::thread::sleep(took * n / KILLS);
        let state = fs::read(case.bench.path("run/keeper/state.json")).unwrap_or_default();
        if let Ok(state) = serde_json::from_slice::<Value>(&state) {
            let _ = Command::new("kill")
                .args(["-KILL", &state["supervisor"]["pid"].to_string()])
                .status();
        }
        let _ = child.wait();
        let _ = case.output("down keeper");
        let own = case.store().join("kept/keeper/a/upper/own");
        assert_eq!(fs::read_to_string(own).expect("the kept file"), written);
        case.ok(&up);
    }
    case.ok("down keeper");
}

/// Whoever removes all the time what is not used never takes a layer from a lab.
#[test]
fn labs_come_up_while_others_remove_images() {
    let case = Case::new();
    let lab = case.lab(TWO);
    let up = format!("up {}", lab.display());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let removes = |words: &'static str| {
            let (case, over) = (&case, &over);
            move || {
                let mut removed = 0;
                while !over.load(Ordering::Relaxed) {
                    removed +=
                        usize::from(text(&case.output(words).stdout).contains("removed image"));
                }
                removed
            }
        };
        let prune = scope.spawn(removes("image prune --all"));
        scope.spawn(removes("image rm ./image"));
        let rounds = std::panic::catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..12 {
                case.ok(&up);
                assert_eq!(case.ok("exec b cat /version"), "one");
                case.ok("down keeper");
            }
        }));
        over.store(true, Ordering::Relaxed);
        rounds.expect("a round");
        assert!(
            prune.join().expect("prunes") > 0,
            "nothing was ever removed"
        );
    });
}
