//! What a lab file says about the processes of its nodes, judged by what the host's /proc shows of
//! them and by what they write down themselves.
//!
//! Needs root and the packages umoci and busybox-static.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::images::Images;
use common::{Bench, host, same_host, text, until};

/// A process that ends only when it is killed.
const SLEEP: &str = r#"["sleep", "1000000"]"#;

/// A shell script that writes each signal down in /out/NAME and ends at `ends`.
fn logger(name: &str, ends: &str) -> String {
    let mut traps = String::new();
    for signal in ["TERM", "QUIT", "INT", "WINCH"] {
        let end = if signal == ends { "exit 0" } else { ":" };
        let _ = write!(
            traps,
            "trap 'echo {signal} >> /out/{name}; {end}' {signal}; "
        );
    }
    let script = format!("{traps}echo up >> /out/{name}; while :; do sleep 0.05; done");
    format!("[\"sh\", \"-c\", {script:?}]")
}

/// Pid here of a node's main process: the only child of its init.
fn main_process(bench: &Bench, node: &str) -> i32 {
    let ps = bench.json("ps --json");
    let nodes = ps[0]["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|n| n["name"] == node).unwrap();
    let init = found["pid"].as_i64().unwrap();
    let children = format!("/proc/{init}/task/{init}/children");
    let mut pid = None;
    until(&format!("{node} has a main process"), || {
        let list = std::fs::read_to_string(&children).unwrap();
        pid = list.split_whitespace().next().map(|p| p.parse().unwrap());
        pid.is_some()
    });
    pid.unwrap()
}

/// The words of a file of /proc that ends each with a zero byte.
fn words(pid: i32, file: &str) -> Vec<String> {
    let content = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
    let text = text(&content);
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn environ(pid: i32) -> BTreeMap<String, String> {
    let pair = |w: &String| {
        let (key, value) = w.split_once('=').unwrap();
        (key.to_owned(), value.to_owned())
    };
    words(pid, "environ").iter().map(pair).collect()
}

/// A line of /proc/PID/status.
fn status(pid: i32, key: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("no {key}"))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn cwd(pid: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap()
}

/// Mount options and filesystem of what is mounted at `target` in a process' view, and the
/// filesystem's own options.
fn mounted(pid: i32, target: &str) -> Option<(String, String, String)> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    table.lines().rev().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let filesystem: Vec<&str> = filesystem.split(' ').collect();
        (mount[4] == target).then(|| {
            (
                mount[5].to_owned(),
                filesystem[0].to_owned(),
                filesystem[2].to_owned(),
            )
        })
    })
}

#[test]
fn entrypoint_and_command_are_merged_as_docker_does() {
    let bench = Bench::new();
    let images = Images::new(&bench);
    let entry = ["config.entrypoint=/bin/busybox", "config.entrypoint=sleep"];
    images.with("both", &[&entry[..], &["config.cmd=1000001"]].concat());
    images.with("cmd", &["config.cmd=sleep", "config.cmd=1000002"]);
    images.with("entry", &entry);
    let node = |name: &str, rest: &str| format!("[nodes.{name}]\n{rest}\n");
    let lab = bench.lab(&format!(
        "name = \"merge\"\n{}{}{}{}{}{}{}",
        node("both", "image = \"./images:both\""),
        node("cmd", "image = \"./images:cmd\""),
        // `command` takes the place of CMD only.
        node(
            "new-cmd",
            "image = \"./images:both\"\ncommand = [\"1000003\"]"
        ),
        node(
            "no-entry",
            "image = \"./images:cmd\"\ncommand = [\"sleep\", \"1000004\"]"
        ),
        node(
            "args",
            "image = \"./images:entry\"\ncommand = [\"1000005\"]"
        ),
        // `entrypoint` drops CMD.
        node(
            "new-entry",
            "image = \"./images:both\"\nentrypoint = [\"/bin/sleep\", \"1000006\"]"
        ),
        node(
            "neither",
            "image = \"./images:both\"\nentrypoint = []\ncommand = [\"sleep\", \"1000007\"]"
        ),
    ));
    bench.up(&lab);
    for (node, runs) in [
        ("both", "/bin/busybox sleep 1000001"),
        ("cmd", "sleep 1000002"),
        ("new-cmd", "/bin/busybox sleep 1000003"),
        ("no-entry", "sleep 1000004"),
        ("args", "/bin/busybox sleep 1000005"),
        ("new-entry", "/bin/sleep 1000006"),
        ("neither", "sleep 1000007"),
    ] {
        let pid = main_process(&bench, node);
        assert_eq!(words(pid, "cmdline").join(" "), runs, "{node}");
    }
}

#[test]
fn an_image_without_a_program_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    let images = Images::new(&bench);
    images.with("signal", &["config.cmd=sleep", "config.stopsignal=SIGFOO"]);
    let before = host();
    let lab = bench.lab("name = \"empty\"\n[nodes.web]\nimage = \"./images:base\"\n");
    let told = bench.fails(&format!("up {}", lab.display()), 1);
    let last = told.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        "error: node web: image ./images:base has neither ENTRYPOINT nor CMD; write a `command` \
         with the program and its arguments into [nodes.web]",
        "{told}"
    );
    let lab = bench.lab("name = \"signal\"\n[nodes.web]\nimage = \"./images:signal\"\n");
    let told = bench.fails(&format!("up {}", lab.display()), 1);
    let last = told.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        "error: node web: image ./images:signal wants to be stopped by \"SIGFOO\", which is no \
         signal; write a `stop_signal` into [nodes.web]",
        "{told}"
    );
    assert!(!bench.path("run").exists());
    same_host(&before);
}

#[test]
fn user_environment_and_working_directory_are_the_labs_over_the_images() {
    let bench = Bench::new();
    let images = Images::new(&bench);
    images.with(
        "web",
        &[
            "config.cmd=sleep",
            "config.cmd=1000000",
            "config.user=web",
            "config.workingdir=/srv/made/by image",
            "config.env=FROM=image",
            "config.env=FILE=image",
            "config.env=ENV=image",
        ],
    );
    std::fs::create_dir(bench.path("env")).unwrap();
    std::fs::write(
        bench.path("env/a.env"),
        "# Comment\nFILE=a\nENV=a\nONLY_A= \"as it is\" \n",
    )
    .unwrap();
    std::fs::write(bench.path("env/b.env"), "\nFILE=b\r\nB=b\n").unwrap();
    let lab = bench.lab(&format!(
        r#"name = "user"
[nodes.image]
image = "./images:web"
[nodes.lab]
image = "./images:web"
user = "0:logs"
workdir = "/new/place"
env_file = ["env/a.env", "env/b.env"]
env = {{ ENV = "lab" }}
[nodes.number]
image = "./images:web"
user = 1234
[nodes.host]
command = {SLEEP}
user = "nobody"
workdir = "/tmp/of the node"
env_file = "{}"
"#,
        bench.path("env/a.env").display()
    ));
    bench.up(&lab);
    let pid = main_process(&bench, "image");
    assert_eq!(status(pid, "Uid"), "101 101 101 101");
    assert_eq!(status(pid, "Gid"), "102 102 102 102");
    assert_eq!(status(pid, "Groups"), "103");
    assert_eq!(status(pid, "CapEff"), "0000000000000000");
    assert_eq!(cwd(pid), Path::new("/srv/made/by image"));
    let env = environ(pid);
    assert_eq!(env["FROM"], "image");
    assert_eq!(env["HOME"], "/srv");
    assert_eq!(
        bench.ok("exec image id"),
        "uid=101(web) gid=102(web) groups=103(logs)\n"
    );
    assert_eq!(bench.ok("exec image pwd"), "/srv/made/by image\n");

    let pid = main_process(&bench, "lab");
    assert_eq!(status(pid, "Uid"), "0 0 0 0");
    assert_eq!(status(pid, "Gid"), "103 103 103 103");
    assert_eq!(cwd(pid), Path::new("/new/place"));
    let env = environ(pid);
    for (key, value) in [
        ("FROM", "image"),
        ("FILE", "b"),
        ("ENV", "lab"),
        ("ONLY_A", " \"as it is\" "),
        ("B", "b"),
    ] {
        assert_eq!(env[key], value, "{key}");
    }
    assert_eq!(bench.ok("exec lab pwd"), "/new/place\n");
    let own = bench.ok("exec lab env");
    let has = |line: &str| own.lines().any(|l| l == line);
    assert!(
        has("FILE=b") && has("ENV=lab") && has("FROM=image"),
        "{own}"
    );

    let pid = main_process(&bench, "number");
    assert_eq!(status(pid, "Uid"), "1234 1234 1234 1234");
    assert_eq!(status(pid, "Gid"), "0 0 0 0");

    // A node without image sees the host's own users.
    let pid = main_process(&bench, "host");
    let ids = common::tool("id", &["-u", "nobody"]);
    assert_eq!(status(pid, "Uid").split(' ').next(), Some(ids.trim()));
    assert_eq!(cwd(pid), Path::new("/tmp/of the node"));
    assert_eq!(environ(pid)["FILE"], "a");
    assert!(!Path::new("/tmp/of the node").exists());
}

#[test]
fn an_unknown_user_is_named() {
    let bench = Bench::new();
    Images::new(&bench);
    let lab = bench.lab(&format!(
        "name = \"who\"\n[nodes.web]\nimage = \"./images:base\"\ncommand = {SLEEP}\nuser = \"tomcat\"\n"
    ));
    let told = bench.fails(&format!("up {}", lab.display()), 1);
    assert!(
        told.contains(
            "error: node web is not ready: user `tomcat` is not in the node's /etc/passwd; use a \
             number, or add it to the image\n"
        ),
        "{told}"
    );
    assert!(told.ends_with("lab who is down\n"), "{told}");
}

#[test]
fn env_files_are_checked_with_the_lab_file() {
    let bench = Bench::new();
    let lab = bench.lab(
        "name = \"files\"\n[nodes.a]\nforward = 1\nenv_file = [\"gone.env\", \"bad.env\", \".\"]\n",
    );
    // What is wrong in the lab file itself comes first.
    let told = bench.fails("check files.toml", 2);
    assert!(
        told.contains("NSL003") && !told.contains("NSL081"),
        "{told}"
    );
    let fixed = std::fs::read_to_string(&lab)
        .unwrap()
        .replace("forward = 1\n", "");
    std::fs::write(&lab, fixed).unwrap();
    std::fs::write(bench.path("bad.env"), "A=1\nexport B=2\n\nC\n").unwrap();
    let expected = "\
error[NSL081]: cannot read env file gone.env: No such file or directory (os error 2)
 --> files.toml:3:13
  |
3 | env_file = [\"gone.env\", \"bad.env\", \".\"]
  |             ^^^^^^^^^^ named here
  |
  = help: correct the path, which starts at the lab file's folder, or make the file

error[NSL081]: env file bad.env, line 2: the name before `=` has white space or control characters
 --> files.toml:3:25
  |
3 | env_file = [\"gone.env\", \"bad.env\", \".\"]
  |                         ^^^^^^^^^ named here
  |
  = help: write lines like `NAME=value`; what is behind `=` is the value as it is, and lines that begin with `#` are comments

error[NSL081]: env file bad.env, line 4: it has no `=`, and nothing is taken from the shell that runs nslab
 --> files.toml:3:25
  |
3 | env_file = [\"gone.env\", \"bad.env\", \".\"]
  |                         ^^^^^^^^^ named here
  |
  = help: write lines like `NAME=value`; what is behind `=` is the value as it is, and lines that begin with `#` are comments

error[NSL081]: cannot read env file .: it is not a file
 --> files.toml:3:36
  |
3 | env_file = [\"gone.env\", \"bad.env\", \".\"]
  |                                    ^^^ named here
  |
  = help: correct the path, which starts at the lab file's folder, or make the file

4 errors in files.toml
";
    for command in ["check", "plan", "up"] {
        let told = bench.fails(&format!("{command} files.toml"), 2);
        assert_eq!(told, expected, "{command}");
    }
    let json = bench.run("check --json files.toml");
    assert_eq!(json.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["errors"], 4);
    assert_eq!(json["diagnostics"][2]["code"], "NSL081");
    // `down` needs the lab's name only.
    assert_eq!(
        bench.fails("down files.toml", 1),
        "error: lab files is not up; no lab is\n"
    );
}

#[test]
fn volumes_and_tmpfs_are_mounted_outside_in() {
    let bench = Bench::new();
    Images::new(&bench);
    std::fs::create_dir_all(bench.path("site/cache")).unwrap();
    std::fs::write(bench.path("site/index"), "of the host\n").unwrap();
    let lab = bench.lab(&format!(
        r#"name = "mounts"
[nodes.image]
image = "./images:base"
command = {SLEEP}
volumes = ["./site/index:/scratch/deep/index:ro", "./site:/site", {{ source = "./site/index", target = "/etc/one" }}]
tmpfs = ["/site/cache:size=1m,mode=750,exec", "/scratch", {{ target = "/srv", size = "64k" }}]
workdir = "/scratch/work"
[nodes.host]
command = {SLEEP}
volumes = ["./site:/tmp/site"]
tmpfs = ["/tmp/site/cache", "/srv"]
"#
    ));
    bench.up(&lab);
    let pid = main_process(&bench, "image");
    let (flags, kind, options) = mounted(pid, "/scratch").unwrap();
    assert_eq!(
        (flags.as_str(), kind.as_str()),
        ("rw,nosuid,nodev,noexec,relatime", "tmpfs")
    );
    assert!(!options.contains("size="), "{options}");
    assert_eq!(
        bench.ok("exec image stat -c %a /scratch /site/cache /srv"),
        "1777\n750\n1777\n"
    );
    let (flags, _, options) = mounted(pid, "/site/cache").unwrap();
    assert_eq!(flags, "rw,nosuid,nodev,relatime");
    assert!(options.contains("size=1024k"), "{options}");
    let (_, _, options) = mounted(pid, "/srv").unwrap();
    assert!(options.contains("size=64k"), "{options}");
    // A tmpfs hides what the image has there, and is full at its size.
    assert_eq!(bench.ok("exec image ls /srv"), "");
    let full = bench.run("exec image dd if=/dev/zero of=/srv/big bs=1k count=100");
    assert!(text(&full.stderr).contains("No space left on device"));
    // A file as a volume in a tmpfs, read-only, and one in the image.
    assert_eq!(
        bench.ok("exec image cat /scratch/deep/index /etc/one"),
        "of the host\nof the host\n"
    );
    let (flags, ..) = mounted(pid, "/scratch/deep/index").unwrap();
    assert!(flags.starts_with("ro,"), "{flags}");
    assert_eq!(cwd(pid), Path::new("/scratch/work"));
    bench.ok("exec image touch /site/new /site/cache/gone");
    assert!(bench.path("site/new").exists());
    assert!(!bench.path("site/cache/gone").exists());

    let pid = main_process(&bench, "host");
    let (flags, ..) = mounted(pid, "/srv").unwrap();
    assert_eq!(flags, "rw,nosuid,nodev,noexec,relatime");
    bench.ok("exec host touch /tmp/site/two /tmp/site/cache/gone /srv/x");
    assert!(bench.path("site/two").exists());
    assert!(!bench.path("site/cache/gone").exists());
    bench.ok("down");
    assert!(bench.path("site/index").exists());
}

#[test]
fn a_volume_that_is_not_there_is_named_before_anything_is_made() {
    let bench = Bench::new();
    let before = host();
    bench.lab("name = \"gone\"\n[nodes.a]\nvolumes = [\"./site:/srv/site\"]\n");
    assert_eq!(
        bench.fails("up gone.toml", 2),
        "\
error[NSL032]: cannot show ./site in a node: No such file or directory (os error 2)
 --> gone.toml:3:12
  |
3 | volumes = [\"./site:/srv/site\"]
  |            ^^^^^^^^^^^^^^^^^^ nothing that could be shown
  |
  = help: make the folder or file first, or correct the path, which starts at the lab file's folder
"
    );
    assert!(!bench.path("run").exists());
    assert!(!bench.path("site").exists());
    same_host(&before);
    // A lab can be checked where it is not run.
    bench.ok("check gone.toml");
}

#[test]
fn each_node_is_stopped_by_its_own_signal_and_killed_after_its_own_grace() {
    let bench = Bench::new();
    let images = Images::new(&bench);
    images.with("quit", &["config.cmd=sh", "config.stopsignal=SIGQUIT"]);
    images.with("number", &["config.cmd=sh", "config.stopsignal=28"]);
    std::fs::create_dir(bench.path("out")).unwrap();
    let mut lab = "name = \"stop\"\n".to_owned();
    for (name, ends, rest) in [
        ("plain", "TERM", "image = \"./images:base\""),
        ("image", "QUIT", "image = \"./images:quit\""),
        ("number", "WINCH", "image = \"./images:number\""),
        (
            "lab",
            "INT",
            "image = \"./images:quit\"\nstop_signal = \"INT\"",
        ),
        (
            "stubborn",
            "none",
            "image = \"./images:quit\"\nstop_grace = \"200ms\"",
        ),
        (
            "slow",
            "none",
            "image = \"./images:base\"\nstop_signal = \"SIGRTMIN+3\"\nstop_grace = \"6s\"",
        ),
    ] {
        let command = logger(name, ends);
        let volume = "volumes = [\"./out:/out\"]";
        let _ = write!(
            lab,
            "[nodes.{name}]\n{rest}\ncommand = {command}\n{volume}\n"
        );
    }
    // A real-time signal ends `slow` unless it is trapped, which shells can by number only.
    lab = lab.replace("trap 'echo WINCH >> /out/slow; :' WINCH", "trap '' 37");
    bench.up(&bench.lab(&lab));
    let out =
        |name: &str| std::fs::read_to_string(bench.path("out").join(name)).unwrap_or_default();
    let names = ["plain", "image", "number", "lab", "stubborn", "slow"];
    until("all have set their traps", || {
        names.iter().all(|n| out(n) == "up\n")
    });
    let begun = Instant::now();
    let down = bench.run("down");
    let told = text(&down.stderr);
    assert!(down.status.success(), "{told}");
    for (name, signals) in [
        ("plain", "up\nTERM\n"),
        ("image", "up\nQUIT\n"),
        ("number", "up\nWINCH\n"),
        ("lab", "up\nINT\n"),
        ("stubborn", "up\nQUIT\n"),
        ("slow", "up\n"),
    ] {
        assert_eq!(out(name), signals, "{name}");
    }
    // `slow` had all its time, and was named as the one that is waited for.
    assert!(begun.elapsed() >= Duration::from_secs(6), "{told}");
    let waited = told.lines().next().unwrap_or_default();
    assert!(
        waited.starts_with("waiting for ") && waited.contains("slow to end ("),
        "{told}"
    );
    assert!(told.ends_with("lab stop is down\n"), "{told}");
}

/// A main process that takes its time keeps nobody from asking, and a second `down` waits too.
#[test]
fn a_lab_that_goes_down_answers() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("out")).unwrap();
    let lab = bench.lab(&format!(
        "name = \"slow\"\n[nodes.idle]\n[nodes.a]\ncommand = {}\nvolumes = [\"./out:/tmp/out\"]\n\
         stop_grace = \"60m\"\n",
        logger("a", "INT").replace("/out/", "/tmp/out/")
    ));
    bench.up(&lab);
    until("its traps are set", || bench.path("out/a").exists());
    let pid = main_process(&bench, "a");
    let down = |words: &str| {
        let mut command = bench.nslab();
        command.args(words.split(' '));
        command
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let first = down("down");
    until("it has been asked to end", || {
        std::fs::read_to_string(bench.path("out/a")).unwrap() == "up\nTERM\n"
    });
    let second = down("down slow");
    let status = bench.json("ps --json");
    assert_eq!(status[0]["lab"], "slow");
    assert_eq!(
        bench.fails("exec idle true", 125),
        "error: lab slow is going down\n"
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    for child in [first, second] {
        let output = child.wait_with_output().unwrap();
        let told = text(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(told.ends_with("lab slow is down\n"), "{told}");
    }
}

#[test]
fn capabilities_are_dropped_for_all_processes_of_a_node() {
    let bench = Bench::new();
    Images::new(&bench);
    let lab = bench.lab(&format!(
        r#"name = "caps"
[nodes.less]
image = "./images:base"
command = {SLEEP}
cap_drop = ["NET_RAW", "CAP_MKNOD"]
[nodes.none]
command = {SLEEP}
cap_drop = ["ALL"]
[nodes.one]
image = "./images:base"
command = {SLEEP}
cap_drop = ["ALL"]
cap_add = ["NET_BIND_SERVICE"]
"#
    ));
    bench.up(&lab);
    // A container's default set is a80425fb; 13 is CAP_NET_RAW, 27 is CAP_MKNOD (capability.h).
    let less = 0xa804_25fb_u64 & !(1 << 13) & !(1 << 27);
    for (node, set) in [("less", less), ("none", 0), ("one", 1 << 10)] {
        let pid = main_process(&bench, node);
        for key in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(status(pid, key), format!("{set:016x}"), "{node} {key}");
        }
        let own = bench.ok(&format!("exec {node} grep CapEff /proc/self/status"));
        assert_eq!(own, format!("CapEff:\t{set:016x}\n"), "{node}");
    }
}
