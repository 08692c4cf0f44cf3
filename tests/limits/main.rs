//! Limits of nodes: real processes over each of them, judged by the kernel's own files. It runs on
//! whichever version of cgroups this machine has, and `scripts/test` runs it again under a kernel with
//! version 2 (`scripts/with-ipvs`).

#[path = "../common/mod.rs"]
mod common;
mod groups;
mod node;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use common::{Bench, text, tool};

const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// Python that takes as many MiB as its argument says.
const PYTHON_TAKES: &str = "x = bytearray(int(__import__('sys').argv[1]) << 20)";

/// A lab of two nodes, the first with these lines. Groups are the whole machine's, so that its name is
/// this process's own.
fn lab(what: &str, lines: &str) -> (String, String) {
    let name = format!("limits-{what}-{}", std::process::id());
    let text = format!(
        "name = \"{name}\"\n[networks.lan]\nsubnet = \"10.84.1.0/24\"\n[capture]\ninterfaces = \
         \"off\"\n[nodes.a]\ninterfaces.eth0 = {{ network = \"lan\", address = \"10.84.1.1\" }}\n\
         {lines}\n[nodes.b]\ninterfaces.eth0 = {{ network = \"lan\", address = \"10.84.1.2\" }}\n"
    );
    (name, text)
}

/// Hierarchies by controller, as this process sees them: (version, folder of the root, own path).
fn hierarchies() -> BTreeMap<&'static str, (u8, PathBuf)> {
    let kinds = tool(
        "findmnt",
        &[
            "-n",
            "-r",
            "-t",
            "cgroup,cgroup2",
            "-o",
            "FSTYPE,TARGET,OPTIONS",
        ],
    );
    let mut found = BTreeMap::new();
    for controller in CONTROLLERS {
        for mount in kinds.lines() {
            let fields: Vec<_> = mount.split(' ').collect();
            let target = PathBuf::from(fields[1]);
            let given = fs::read_to_string(target.join("cgroup.controllers")).unwrap_or_default();
            let version = match fields[0] {
                "cgroup" if fields[2].split(',').any(|o| o == controller) => 1,
                "cgroup2" if given.split_whitespace().any(|c| c == controller) => 2,
                _ => continue,
            };
            found.insert(controller, (version, target));
        }
        assert!(
            found.contains_key(controller),
            "no {controller} controller: these tests need one of either version\n{kinds}"
        );
    }
    found
}

/// Where a process is: the path of its group in the controller's hierarchy.
fn group_of(pid: &str, controller: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    group_in(&text, controller)
}

fn group_in(text: &str, controller: &str) -> String {
    let version = hierarchies()[controller].0;
    for line in text.lines() {
        let fields: Vec<_> = line.splitn(3, ':').collect();
        let own = if version == 2 {
            fields[0] == "0"
        } else {
            fields[1].split(',').any(|c| c == controller)
        };
        if own {
            return fields[2].to_owned();
        }
    }
    panic!("no {controller} in {text}");
}

/// A file of the group that a process is in, named for version 1 and 2.
fn value(pid: &str, controller: &str, names: [&str; 2]) -> String {
    let (version, root) = &hierarchies()[controller];
    let name = names[usize::from(*version) - 1];
    let path = root.join(group_of(pid, controller).trim_start_matches('/'));
    let text = fs::read_to_string(path.join(name));
    text.unwrap_or_else(|e| panic!("{}/{name}: {e}", path.display()))
        .trim()
        .to_owned()
}

/// Value of a key in such a file.
fn entry(pid: &str, controller: &str, names: [&str; 2], key: &str) -> u64 {
    let text = value(pid, controller, names);
    let found = text
        .lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
    found
        .unwrap_or_else(|| panic!("no {key} in {text}"))
        .parse()
        .unwrap()
}

/// All groups whose path holds this.
fn groups(part: &str) -> Vec<String> {
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d"])
        .output()
        .unwrap();
    let found = text(&found.stdout);
    found
        .lines()
        .filter(|l| l.contains(part))
        .map(str::to_owned)
        .collect()
}

fn init(bench: &Bench, node: usize) -> String {
    bench.json("ps --json")[0]["nodes"][node]["pid"].to_string()
}

/// Children of a process.
fn children(pid: &str) -> Vec<String> {
    let found = Command::new("pgrep").args(["-P", pid]).output().unwrap();
    text(&found.stdout).lines().map(str::to_owned).collect()
}

fn exec(bench: &Bench, node: &str, words: &[&str]) -> Output {
    bench
        .nslab()
        .arg("exec")
        .arg(node)
        .args(words)
        .output()
        .unwrap()
}

/// Standard error of `up` of a lab that comes up.
fn up(bench: &Bench, lab: &str) -> String {
    let lab = bench.lab(lab);
    let output = bench.run(&format!("up {}", lab.display()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}
