//! `nslab events`: what has happened in a lab and what happens, as people and programs see it.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use common::{Bench, host, same_host, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LAB: &str = r#"name = "tell"
[networks.lan]
subnet = "10.84.1.0/24"
[nodes.a]
interfaces.eth0 = { network = "lan", address = "10.84.1.1" }
[nodes.c]
command = ["sh", "-c", "read x < /dev/zero"]
restart = "no"
[capture]
interfaces = "off"
"#;

/// `nslab events --follow` with these words.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(bench: &Bench, words: &str) -> Self {
        let mut child = bench
            .nslab()
            .args(["events", "--follow"])
            .args(words.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("one more line").unwrap()
    }

    /// Exit code and standard error.
    fn end(mut self) -> (Option<i32>, String) {
        assert!(self.lines.next().is_none(), "a line too many");
        let said = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

/// A line's time, checked for its form, and what follows.
fn dated(line: &str) -> (&str, &str) {
    let (time, text) = line.split_once(' ').expect(line);
    let form: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z", "{line}");
    (time, text)
}

fn without_ms(text: &str) -> String {
    let (head, tail) = text.split_once(" (").unwrap_or((text, ""));
    assert!(tail.is_empty() || tail.ends_with(" ms)"), "{text}");
    head.to_owned()
}

fn pid_of(bench: &Bench, words: &str) -> Pid {
    Pid::from_raw(bench.ok(words).trim().parse().unwrap())
}

#[test]
fn the_past_then_what_happens_until_the_lab_is_down() {
    let bench = Bench::new();
    let before = host();
    bench.up(&bench.lab(LAB));

    let past = bench.ok("events");
    let texts: Vec<_> = past.lines().map(|l| without_ms(dated(l).1)).collect();
    let expected = [
        "network: 2 nodes, 1 interface",
        "c: started",
        "lab tell is up",
    ];
    assert_eq!(texts, expected);
    let times: Vec<_> = past.lines().map(|l| dated(l).0).collect();
    assert!(times.is_sorted(), "{past}");
    assert_eq!(
        bench.ok("events -n 1"),
        format!("{}\n", past.lines().last().unwrap())
    );
    assert_eq!(bench.ok("events -n 0"), "");

    let json: Vec<serde_json::Value> = bench
        .ok("events --json")
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let numbers: Vec<_> = json.iter().map(|r| r["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(json[1]["event"], "started");
    assert_eq!(json[1]["node"], "c");
    assert_eq!(json[2]["time"], *times.last().unwrap());

    let mut people = Follower::start(&bench, "");
    let mut program = Follower::start(&bench, "--json -n 0");
    for _ in 0..3 {
        people.line();
    }
    // Not before the second follower listens: what it misses is in no stream.
    common::until("both follow", || sockets(&bench) == 2);
    let main = pid_of(&bench, "exec c pgrep -o -x sh");
    assert!(main.as_raw() > 1, "pids are the node's own");
    bench.ok(&format!("exec c kill -9 {main}"));
    assert_eq!(
        dated(&people.line()).1,
        "c: main process was killed by signal 9"
    );
    let record: serde_json::Value = serde_json::from_str(&program.line()).unwrap();
    assert_eq!(record["number"], 4);
    assert_eq!(record["event"], "exited");
    assert_eq!(record["restart_in_ms"], serde_json::Value::Null);

    bench.ok("down");
    assert_eq!(dated(&people.line()).1, "lab tell is down");
    let record: serde_json::Value = serde_json::from_str(&program.line()).unwrap();
    assert_eq!(
        (&record["event"], &record["number"]),
        (&"down".into(), &5.into())
    );
    assert_eq!(people.end(), (Some(0), String::new()));
    assert_eq!(program.end(), (Some(0), String::new()));
    same_host(&before);
}

/// Connections to the lab's control socket, as ss(8) sees them.
fn sockets(bench: &Bench) -> usize {
    let path = bench.path("run/tell/control");
    common::tool("ss", &["-xH", "state", "connected"])
        .lines()
        .filter(|l| l.contains(path.to_str().unwrap()))
        .count()
}

#[test]
fn a_follower_that_is_stopped_or_gone_holds_nobody_up() {
    let bench = Bench::new();
    let before = host();
    bench.up(&bench.lab(LAB));
    let mut stopped = Follower::start(&bench, "");
    let mut gone = Follower::start(&bench, "");
    stopped.line();
    gone.line();
    kill(
        Pid::from_raw(stopped.child.id().cast_signed()),
        Signal::SIGSTOP,
    )
    .unwrap();
    gone.child.kill().unwrap();
    gone.child.wait().unwrap();
    bench.ok("exec c true");
    bench.ok("down");
    common::until("the supervisor has ended", || {
        common::host()["processes"] == before["processes"]
    });
    kill(
        Pid::from_raw(stopped.child.id().cast_signed()),
        Signal::SIGCONT,
    )
    .unwrap();
    // What was sent to it before the end is there when it wakes.
    let rest: Vec<_> = stopped.lines.by_ref().map(Result::unwrap).collect();
    assert_eq!(dated(rest.last().unwrap()).1, "lab tell is down");
    assert!(stopped.child.wait().unwrap().success());
    same_host(&before);
}

#[test]
fn a_reader_that_has_enough_ends_it() {
    let bench = Bench::new();
    bench.up(&bench.lab(LAB));
    let script = format!(
        "NSLAB_RUN={} {} events --follow | head -n 1",
        bench.path("run").display(),
        env!("CARGO_BIN_EXE_nslab")
    );
    let output = common::tool("sh", &["-c", &script]);
    assert_eq!(output.lines().count(), 1);
    bench.ok("down");
}

#[test]
fn a_dead_supervisor_ends_a_follower_with_the_reason_and_leaves_the_log() {
    let bench = Bench::new();
    bench.up(&bench.lab(LAB));
    let mut follower = Follower::start(&bench, "");
    for _ in 0..3 {
        follower.line();
    }
    let pid = bench.json("ps --json")[0]["supervisor"]["pid"]
        .as_i64()
        .unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let reason =
        "error: the supervisor of lab tell has died; `sudo nslab down tell` removes what it left\n";
    assert_eq!(follower.end(), (Some(1), reason.to_owned()));
    assert_eq!(bench.ok("events").lines().count(), 3);
    assert_eq!(bench.fails("events --follow", 1), reason);
    bench.ok("down tell");
    let output = bench.run("events");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: no lab is up; start one with `sudo nslab up LAB.toml`\n"
    );
}
