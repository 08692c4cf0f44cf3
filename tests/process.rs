//! What a lab file says about the processes of its nodes, judged by what the host's /proc shows of
//! them and by what they write down themselves.
//!
//! Needs root and the packages umoci and busybox-static.

mod common;
#[path = "process/mounts.rs"]
mod mounts;
#[path = "process/program.rs"]
mod program;
#[path = "process/stop.rs"]
mod stop;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::images::Images;
use common::{Bench, text, until};

/// A process that ends only when it is killed.
const SLEEP: &str = r#"["sleep", "1000000"]"#;

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
