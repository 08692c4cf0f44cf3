//! Stop signals and graces.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::common::images::Images;
use crate::common::{Bench, text, until};
use crate::main_process;

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
