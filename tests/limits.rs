//! Limits of nodes: real processes over each of them, judged by the kernel's own files. It runs on
//! whichever version of cgroups this machine has, and `scripts/test` runs it again under a kernel with
//! version 2 (`scripts/with-ipvs`).

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Bench, host, same_host, text, tool, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

#[test]
fn every_process_of_a_node_is_in_its_group_and_no_other_is() {
    let bench = Bench::new();
    let before = host();
    let (name, text) = lab(
        "all",
        "limits = { memory = \"64m\", cpus = 1.5, pids = 30 }\n\
         command = [\"sh\", \"-c\", \"sleep 1000 & wait\"]",
    );
    let said = up(&bench, &text);
    assert!(!said.contains("warning"), "{said}");
    let init = init(&bench, 0);
    for (controller, names, expected) in [
        (
            "memory",
            ["memory.limit_in_bytes", "memory.max"],
            "67108864",
        ),
        ("pids", ["pids.max", "pids.max"], "30"),
    ] {
        assert_eq!(value(&init, controller, names), expected);
    }
    if hierarchies()["cpu"].0 == 2 {
        assert_eq!(value(&init, "cpu", ["", "cpu.max"]), "150000 100000");
    } else {
        assert_eq!(value(&init, "cpu", ["cpu.cfs_quota_us", ""]), "150000");
        assert_eq!(value(&init, "cpu", ["cpu.cfs_period_us", ""]), "100000");
    }

    until("the main process has a child", || {
        children(&init)
            .first()
            .is_some_and(|main| !children(main).is_empty())
    });
    let main = children(&init)[0].clone();
    let child = children(&main)[0].clone();
    let mut relay = bench.nslab();
    let mut relay = relay.args(["exec", "a", "sleep", "1001"]).spawn().unwrap();
    let outside = relay.id().to_string();
    until("the command runs", || {
        children(&outside).first().is_some_and(|c| {
            fs::read_to_string(format!("/proc/{c}/comm")).is_ok_and(|n| n == "sleep\n")
        })
    });
    let command = children(&outside)[0].clone();
    let supervisor = bench.json("ps --json")[0]["supervisor"]["pid"].to_string();
    bench.ok("exec b true");
    let other = self::init(&bench, 1);
    for controller in CONTROLLERS {
        let of = |pid: &str| group_of(pid, controller);
        assert!(
            of(&init).ends_with(&format!("/nslab/{name}/a")),
            "{}",
            of(&init)
        );
        for pid in [&main, &child, &command] {
            assert_eq!(of(pid), of(&init), "{controller}");
        }
        // Who starts them, and nodes without limits, are where they were.
        for pid in [&outside, &supervisor, &other] {
            assert_eq!(of(pid), of("self"), "{controller}");
        }
    }
    inside(&bench);
    kill(Pid::from_raw(command.parse().unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(relay.wait().unwrap().code(), Some(137));

    let ps = bench.json("ps --json");
    let limits = &ps[0]["nodes"][0]["limits"];
    assert_eq!(
        (&limits["memory"], &limits["cpus_milli"], &limits["pids"]),
        (&67_108_864.into(), &1500.into(), &30.into())
    );
    assert_eq!(limits["not_kept"], serde_json::json!([]));
    assert_eq!(limits["usage"]["pids"], 3, "init, sh, sleep: {limits}");
    assert!(
        limits["usage"]["memory"].as_u64().unwrap() > 1 << 18,
        "{limits}"
    );
    assert!(ps[0]["nodes"][1]["limits"].is_null());
    let people = bench.ok("ps");
    assert!(people.contains("/64.0M   1.5   3/30 "), "{people}");

    bench.ok("down");
    same_host(&before);
    assert_eq!(groups(&name), [""; 0]);
}

/// What the node itself sees of its limits, as runtimes look for it that size their heaps by it.
fn inside(bench: &Bench) {
    let own = bench.ok("exec a cat /proc/self/cgroup");
    let sees =
        |file: &str| text(&exec(bench, "a", &["cat", &format!("/sys/fs/cgroup/{file}")]).stdout);
    if hierarchies()["memory"].0 == 1 {
        assert_eq!(
            sees("memory/memory.limit_in_bytes"),
            "",
            "version 1 is not shown"
        );
        return;
    }
    assert!(own.ends_with("0::/\n"), "{own}");
    assert_eq!(sees("memory.max"), "67108864\n");
    assert_eq!(sees("pids.max"), "30\n");
    assert!(sees("cgroup.procs").lines().any(|p| p == "1"));
    let raise = exec(
        bench,
        "a",
        &["sh", "-c", "echo max > /sys/fs/cgroup/memory.max"],
    );
    assert!(
        text(&raise.stderr).contains("Read-only file system"),
        "{raise:?}"
    );
    assert_eq!(sees("memory.max"), "67108864\n");
    // The main process is in the same namespace, and a node without limits in none of its own.
    let namespace =
        |node: &str, pid: &str| bench.ok(&format!("exec {node} readlink /proc/{pid}/ns/cgroup"));
    assert_eq!(namespace("a", "self"), namespace("a", "2"));
    let here = fs::read_link("/proc/self/ns/cgroup").unwrap();
    assert_eq!(namespace("b", "self").trim(), here.to_str().unwrap());
}

#[test]
fn memory_over_the_limit_is_a_kill_that_is_told() {
    let bench = Bench::new();
    let script = format!(
        "until [ -e /tmp/go ]; do sleep 0.05; done; exec python3 -c \\\"{PYTHON_TAKES}\\\" 200"
    );
    let (_, text_) = lab(
        "memory",
        &format!(
            "limits = {{ memory = \"64m\" }}\nrestart = \"no\"\ncommand = [\"sh\", \"-c\", \"{script}\"]"
        ),
    );
    up(&bench, &text_);
    let init = init(&bench, 0);
    // What fits is no matter, and neither is what goes again.
    let output = exec(&bench, "a", &["python3", "-c", PYTHON_TAKES, "20"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = exec(&bench, "a", &["python3", "-c", PYTHON_TAKES, "200"]);
    assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
    let kills = || {
        entry(
            &init,
            "memory",
            ["memory.oom_control", "memory.events"],
            "oom_kill",
        )
    };
    assert_eq!(kills(), 1);
    until("the kill is told", || {
        bench
            .ok("events")
            .contains("a: its memory limit of 64 MiB is reached: 1 process was killed\n")
    });
    // The main process is still there; now it takes as much.
    assert_eq!(bench.json("ps --json")[0]["nodes"][0]["state"], "running");
    bench.ok("exec a touch /tmp/go");
    until("its end is told", || {
        let events = bench.ok("events");
        events.contains("a: main process was killed by the memory limit of 64 MiB (oom_kill)\n")
    });
    assert_eq!(kills(), 2);
    let usage = &bench.json("ps --json")[0]["nodes"][0]["limits"]["usage"];
    assert_eq!(usage["oom_kills"], 2);
    bench.ok("down");
}

#[test]
fn a_node_that_is_killed_for_memory_while_it_comes_up_says_so_and_leaves_nothing() {
    let bench = Bench::new();
    let before = host();
    let command = format!(
        "restart = \"no\"\nready = {{ tcp = 80 }}\ncommand = [\"python3\", \"-c\", \"{PYTHON_TAKES}\", \
         \"200\"]"
    );
    let (name, text) = lab("up", &format!("limits = {{ memory = \"64m\" }}\n{command}"));
    let said = bench.fails(&format!("up {}", bench.lab(&text).display()), 1);
    assert!(
        said.contains(
            "error: node a is not ready: its main process was killed by the memory limit of 64 MiB \
             (oom_kill)\n"
        ),
        "{said}"
    );
    same_host(&before);
    assert_eq!(groups(&name), [""; 0]);
}

#[test]
fn a_fork_bomb_is_bounded_by_pids() {
    let bench = Bench::new();
    let (_, text_) = lab(
        "pids",
        "limits = { pids = 30 }\ncommand = [\"sleep\", \"1000\"]",
    );
    up(&bench, &text_);
    let init = init(&bench, 0);
    // Children of children, until no process gets any more. They let go of our pipes.
    let bomb = "
import os, time
for fd in 0, 1, 2: os.dup2(os.open('/dev/null', os.O_RDWR), fd)
if os.fork() == 0:
    try:
        while True: os.fork()
    except OSError: time.sleep(1000)
time.sleep(3)
";
    let output = exec(&bench, "a", &["python3", "-c", bomb]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (tasks, most) = ("pids.current", "pids.max");
    assert_eq!(value(&init, "pids", [most, most]), "30");
    // The command has ended; all others are there.
    until("it is full but for the command", || {
        value(&init, "pids", [tasks, tasks]) == "29"
    });
    // Somebody who enters is not refused, and can look; what he starts is.
    let output = exec(&bench, "a", &["sh", "-c", "echo in; true | true"]);
    assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    until("it is told", || {
        bench
            .ok("events")
            .contains("a: its limit of 30 tasks is reached: ")
    });
    bench.ok("down");
}

#[test]
fn a_busy_node_gets_its_share_of_a_processor() {
    let bench = Bench::new();
    let (_, text_) = lab(
        "cpu",
        "limits = { cpus = 0.2 }\ncommand = [\"sleep\", \"1000\"]",
    );
    up(&bench, &text_);
    let init = init(&bench, 0);
    let busy = "
import time
end = time.monotonic() + 3
while time.monotonic() < end: pass
print(time.process_time())
";
    let output = exec(&bench, "a", &["python3", "-c", busy]);
    let took: f64 = text(&output.stdout).trim().parse().unwrap();
    let throttled = entry(&init, "cpu", ["cpu.stat", "cpu.stat"], "nr_throttled");
    // A fifth of 3 s, and a tick of a slow clock too much in each period.
    assert!(
        throttled >= 5 && took < 1.5,
        "throttled {throttled} times, took {took} s"
    );
    bench.ok("down");
}

#[test]
fn groups_go_with_down_also_when_the_supervisor_is_dead() {
    let bench = Bench::new();
    let before = host();
    let all = "limits = { memory = \"64m\", cpus = 1, pids = 30 }\ncommand = [\"sleep\", \"1000\"]";
    let (name, text) = lab("dead", all);
    up(&bench, &text);
    // Two labs at once: one keeps what it has when the other goes.
    let (other, second) = lab("other", all);
    up(&bench, &second.replace("10.84.1.", "10.84.2."));
    let (one, two) = (
        groups(&format!("nslab/{name}/a")),
        groups(&format!("nslab/{other}/a")),
    );
    assert_eq!(one.len(), two.len());
    assert!(!one.is_empty());

    let pid = bench.json(&format!("ps --json --lab {name}"))[0]["supervisor"]["pid"].clone();
    let pid = Pid::from_raw(pid.as_i64().unwrap().try_into().unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    fs::remove_file(bench.path(&format!("{name}.toml"))).unwrap();
    until("the supervisor is gone", || {
        bench.run(&format!("ps --lab {name}")).status.code() != Some(0)
    });
    bench.ok(&format!("down {name}"));
    assert_eq!(groups(&name), [""; 0]);
    assert_eq!(groups(&format!("nslab/{other}/a")), two);
    bench.ok("exec a true");
    bench.ok("down");
    assert_eq!(groups(&other), [""; 0]);
    same_host(&before);
}

#[test]
fn a_group_of_another_lab_of_the_same_name_is_left_alone() {
    let bench = Bench::new();
    let (name, text) = lab(
        "twice",
        "limits = { pids = 30 }\ncommand = [\"sleep\", \"1000\"]",
    );
    up(&bench, &text);
    let init = init(&bench, 0);
    let elsewhere = tempfile::tempdir().unwrap();
    let output = bench
        .nslab()
        .env("NSLAB_RUN", elsewhere.path().join("run"))
        .args(["up", &format!("{name}.toml")])
        .output()
        .unwrap();
    let said = common::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: cannot take the control group ")
            && said.contains(&format!(
                "/nslab/{name}/a, which another lab of this name still uses: "
            )),
        "{said}"
    );
    assert!(!elsewhere.path().join("run").exists(), "{said}");
    assert!(group_of(&init, "pids").ends_with(&format!("nslab/{name}/a")));
    bench.ok("exec a true");
    bench.ok("down");
}

/// Runs nslab where a shell has changed the mounts of the cgroup file systems.
fn with_mounts(bench: &Bench, script: &str, args: &[&str]) -> Output {
    let nslab = bench.nslab();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-ec", &format!("{script}; exec \"$@\""), "sh"])
        .arg(nslab.get_program())
        .args(args)
        .current_dir(bench.dir.path());
    for (name, value) in nslab.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

#[test]
fn a_machine_without_controllers_says_so_and_goes_on() {
    let bench = Bench::new();
    let (name, text_) = lab("none", "limits = { memory = \"64m\", pids = 30 }");
    let file = bench.lab(&text_);
    let file = file.to_str().unwrap();
    let hidden = "mount -t tmpfs tmpfs /sys/fs/cgroup";
    let output = with_mounts(&bench, hidden, &["up", file]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for key in ["memory", "pids"] {
        let (why, advice) = if hierarchies()[key].0 == 1 {
            (
                format!("the {key} controller is in a hierarchy that is mounted nowhere"),
                format!(
                    "mount it: mkdir -p /sys/fs/cgroup/{key} && mount -t cgroup -o {key} cgroup \
                     /sys/fs/cgroup/{key}"
                ),
            )
        } else {
            (
                "no cgroup file system is mounted".to_owned(),
                "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
            )
        };
        let warning = format!("warning: limits.{key} of node a is not kept: {why}; {advice}\n");
        assert!(said.contains(&warning), "{said}");
        let doctor = with_mounts(&bench, hidden, &["doctor", "--json"]);
        let doctor: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let checks = doctor["checks"].as_array().unwrap();
        let check = checks
            .iter()
            .find(|c| c["subject"] == format!("limits.{key}"))
            .unwrap();
        assert_eq!(check["state"], "lacking");
        assert_eq!(check["detail"], format!("not kept: {why}"));
        assert_eq!(check["advice"], advice);
    }
    bench.ok("exec a true");
    let limits = &bench.json("ps --json")[0]["nodes"][0]["limits"];
    assert_eq!(limits["not_kept"], serde_json::json!(["memory", "pids"]));
    assert!(bench.ok("ps").contains("(64.0M)"));
    assert_eq!(groups(&name), [""; 0]);
    bench.ok("down");
}

#[test]
fn read_only_groups_as_in_a_container_are_told() {
    let bench = Bench::new();
    let (name, text_) = lab("ro", "limits = { pids = 30 }");
    let file = bench.lab(&text_);
    let (_, root) = &hierarchies()["pids"];
    let root = root.display();
    let output = with_mounts(
        &bench,
        &format!("mount -o remount,bind,ro {root}"),
        &["up", file.to_str().unwrap()],
    );
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains(&format!(
            "warning: limits.pids of node a is not kept: {root} is mounted read-only; a container \
             engine does that: "
        )),
        "{said}"
    );
    assert_eq!(groups(&name), [""; 0]);
    bench.ok("down");
}

#[test]
fn doctor_says_where_limits_are_kept() {
    let bench = Bench::new();
    let doctor = bench.json("doctor --json");
    for (controller, key) in [("memory", "memory"), ("cpu", "cpus"), ("pids", "pids")] {
        let (version, root) = &hierarchies()[controller];
        let mut folder = root.clone();
        if *version == 1 {
            folder.push(group_of("self", controller).trim_start_matches('/'));
        }
        let subject = format!("limits.{key}");
        let checks = doctor["checks"].as_array().unwrap();
        let check = checks.iter().find(|c| c["subject"] == subject).unwrap();
        let folder = folder.join("nslab");
        assert_eq!(check["state"], "ok", "{check}");
        assert_eq!(
            check["detail"],
            format!("cgroup version {version}, in {}", folder.display())
        );
    }
}

#[test]
fn a_group_that_somebody_removed_is_missed_by_exec() {
    let bench = Bench::new();
    let (name, text_) = lab(
        "gone",
        "limits = { pids = 30 }\ncommand = [\"sleep\", \"1000\"]",
    );
    up(&bench, &text_);
    let init = init(&bench, 0);
    let (_, root) = &hierarchies()["pids"];
    let group = groups(&format!("nslab/{name}/a")).into_iter();
    let group = group
        .filter(|g| Path::new(g).join("pids.max").exists())
        .next_back()
        .unwrap();
    for pid in [&init, &children(&init)[0]] {
        fs::write(root.join("cgroup.procs"), pid).unwrap();
    }
    until("the group can be removed", || {
        fs::remove_dir(&group).is_ok()
    });
    let said = bench.fails("exec a true", 125);
    assert!(
        said.starts_with(&format!(
            "nslab: exec: cannot join the control group {group} of node a: "
        )) && said.ends_with("if somebody removed it, `nslab down` and `up` make it again\n"),
        "{said}"
    );
    bench.ok("down");
}
