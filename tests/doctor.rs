//! `nslab doctor`: what it says of this machine, against what the field's tools say, and that it
//! leaves nothing.

mod common;

use std::os::unix::process::CommandExt;
use std::path::Path;

use common::{Bench, host, same_host, text, tool};

fn check<'a>(report: &'a serde_json::Value, subject: &str) -> &'a serde_json::Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|c| c["subject"] == subject).expect(subject)
}

#[test]
fn every_line_is_true_and_nothing_is_left() {
    let bench = Bench::new();
    let modules = || std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let names = |text: String| -> Vec<String> {
        let first = |l: &str| l.split(' ').next().unwrap().to_owned();
        text.lines().map(first).collect()
    };
    let (before, loaded_before) = (host(), names(modules()));
    let json = bench.json("doctor --json");
    same_host(&before);

    let mut new = names(modules());
    new.retain(|m| !loaded_before.contains(m));
    new.sort();
    let told: Vec<_> = json["loaded"].as_array().unwrap().iter().collect();
    assert_eq!(told, new.iter().collect::<Vec<_>>(), "modules");

    // The tests of labs run here, so what every lab needs is there.
    assert_eq!(json["ok"], true, "{json:#}");
    for subject in [
        "root",
        "namespaces",
        "bridge and veth",
        "nftables",
        "nat",
        "packet sockets",
        "overlayfs",
    ] {
        assert_eq!(check(&json, subject)["state"], "ok", "{subject}");
    }
    let release = tool("uname", &["-r"]);
    assert_eq!(
        check(&json, "kernel")["detail"],
        format!("Linux {}", release.trim())
    );
    let ipvs = if Path::new("/proc/net/ip_vs").exists() {
        "ok"
    } else {
        "lacking"
    };
    assert_eq!(check(&json, "ipvs")["state"], ipvs);
    for (subject, kind) in [("ipip", "ipip"), ("ip6tnl", "ip6tnl")] {
        let script = format!("ip link add tun type {kind} local any remote any");
        let made = std::process::Command::new("unshare")
            .args(["-n", "sh", "-c", &script])
            .output()
            .unwrap();
        let expected = if made.status.success() {
            "ok"
        } else {
            "lacking"
        };
        assert_eq!(
            check(&json, subject)["state"],
            expected,
            "{}",
            text(&made.stderr)
        );
    }
    let people = bench.ok("doctor");
    assert!(
        people.lines().next().unwrap().starts_with("ok       root "),
        "{people}"
    );
    assert!(people.ends_with("nslab can work here\n"), "{people}");
}

#[test]
fn the_leftovers_of_a_dead_lab_are_named_with_what_removes_them() {
    let bench = Bench::new();
    let lab = "name = \"dead\"\n[nodes.a]\n[capture]\ninterfaces = \"off\"\n";
    bench.up(&bench.lab(lab));
    let pid = bench.json("ps --json")[0]["supervisor"]["pid"]
        .as_i64()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    common::until("the supervisor is gone", || {
        let json = bench.json("doctor --json");
        let leftovers = check(&json, "leftovers");
        leftovers["state"] == "lacking"
            && leftovers["detail"] == "the supervisors of these labs have died: dead"
            && leftovers["advice"] == "`nslab down dead` removes what they left"
    });
    bench.ok("down dead");
    assert_eq!(
        check(&bench.json("doctor --json"), "leftovers")["state"],
        "ok"
    );
}

#[test]
fn an_ordinary_user_is_told_what_is_missing_and_gets_exit_code_1() {
    let bench = Bench::new();
    let mut command = bench.nslab();
    // The folder of the test's binary may be root's: the kernel opens it before it becomes nobody.
    let binary = std::fs::File::open(env!("CARGO_BIN_EXE_nslab")).unwrap();
    drop(command);
    command = std::process::Command::new("setpriv");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&binary));
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.args([path.as_str(), "doctor"]).current_dir("/");
    // SAFETY: fcntl(2) is async-signal-safe.
    unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&binary);
        command.pre_exec(move || {
            libc::fcntl(fd, libc::F_SETFD, 0);
            Ok(())
        });
    }
    let output = command.output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{said}{}",
        text(&output.stderr)
    );
    assert!(
        said.starts_with(
            "MISSING  root             this is an ordinary user; only check, plan, graph and image build work\n         -> run it with sudo\n"
        ),
        "{said}"
    );
    assert!(
        said.contains("\nunknown  nftables         cannot be tried without root\n"),
        "{said}"
    );
    assert!(
        said.ends_with("nslab cannot work here as it is\n"),
        "{said}"
    );
}
