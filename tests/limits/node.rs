//! What limits do to a node.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::common::{Bench, host, same_host, text, until};
use super::{
    CONTROLLERS, PYTHON_TAKES, children, entry, exec, group_of, groups, hierarchies, init, lab, up,
    value,
};

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
    assert_eq!(
        text(&output.stderr),
        "nslab: exec: killed by the memory limit of node a (oom_kill)\n"
    );
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
