//! Labs that fail, are interrupted, lose their supervisor, or run side by side: what users are
//! told, and that nothing is left.

mod common;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use common::{Bench, host, same_host, text, tool, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A small lab on the host's own root.
fn small(name: &str, net: u8, extra: &str) -> String {
    format!(
        r#"name = "{name}"
[networks.lan]
subnet = "10.83.{net}.0/24"
host = "10.83.{net}.254"
[nodes.a]
interfaces.eth0 = {{ network = "lan", address = "10.83.{net}.1" }}
[nodes.b]
interfaces.eth0 = {{ network = "lan", address = "10.83.{net}.2" }}
{extra}
"#
    )
}

fn supervisor(bench: &Bench, lab: &str) -> Option<i32> {
    let state = std::fs::read(bench.path("run").join(lab).join("state.json")).ok()?;
    let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
    state["supervisor"]["pid"].as_i64()?.try_into().ok()
}

#[test]
fn two_labs_at_once_and_which_one_is_meant() {
    let bench = Bench::new();
    let before = host();
    bench.up(&bench.lab(&small("one", 1, "")));
    bench.up(&bench.lab(&small("two", 2, "")));
    assert_eq!(
        bench.fails("exec a true", 125),
        "error: 2 labs are up (one, two): say which with --lab NAME\n"
    );
    assert_eq!(bench.ok("exec --lab one a hostname"), "a\n");
    bench.ok("exec --lab two a ping -c1 -W5 10.83.2.2");
    bench.ok("exec --lab two a ping -c1 -W5 10.83.2.254");
    assert_eq!(
        bench.fails("down three", 1),
        "error: lab three is not up; up: one, two\n"
    );
    let ps = bench.json("ps --json");
    assert_eq!(ps.as_array().unwrap().len(), 2);
    bench.ok("down one");
    // The other one goes on.
    bench.ok("exec b ping -c1 -W5 10.83.2.1");
    bench.ok("down two.toml");
    same_host(&before);
}

#[test]
fn a_failing_up_shows_the_cause_and_undoes_everything() {
    let bench = Bench::new();
    let before = host();
    let node = |command: &str, ready: &str| {
        format!("[nodes.c]\ncommand = {command}\n{ready}\nrestart = \"no\"")
    };
    let lab = bench.lab(&small(
        "fails",
        3,
        &node(
            r#"["sh", "-c", "echo one; echo two >&2; exit 3"]"#,
            "ready = { tcp = 80 }",
        ),
    ));
    let said = bench.fails(&format!("up {}", lab.display()), 1);
    assert!(
        said.contains("error: node c is not ready: its main process ended with exit code 3\nits last output:\n  | one\n  | two\n"),
        "{said}"
    );
    assert!(said.ends_with("lab fails is down\n"), "{said}");
    same_host(&before);

    let lab = bench.lab(&small("missing", 3, &node(r#"["no-such-program"]"#, "")));
    let said = bench.fails(&format!("up {}", lab.display()), 1);
    assert!(
        said.contains("error: node c is not ready: no-such-program: command not found in node c\n"),
        "{said}"
    );
    assert!(said.ends_with("lab missing is down\n"), "{said}");
    same_host(&before);

    let lab = bench.lab(&small(
        "silent",
        3,
        &node(
            r#"["sleep", "100"]"#,
            r#"ready = { tcp = 80, timeout = "300ms" }"#,
        ),
    ));
    let said = bench.fails(&format!("up {}", lab.display()), 1);
    assert!(
        said.contains("error: node c is not ready: nothing accepts connections on localhost:80: Connection refused (os error 111) (waited 0.3 s)\n"),
        "{said}"
    );
    same_host(&before);
    assert!(!bench.path("run").exists());
}

#[test]
fn the_hosts_own_network_is_not_run_over() {
    let bench = Bench::new();
    bench.up(&bench.lab(&small("first", 4, "")));
    let before = host();
    let lab = bench.lab(&small("second", 4, ""));
    assert_eq!(
        bench.fails(&format!("up {}", lab.display()), 1),
        "error: the host already has a route to 10.83.4.0/24, which overlaps network lan (10.83.4.0/24) that the lab puts the host on; take another subnet in the lab file, or remove `host` from the network\nlab second is down\n"
    );
    same_host(&before);
}

#[test]
fn the_engine_of_this_kernel_is_taken_and_one_that_it_lacks_is_refused() {
    let bench = Bench::new();
    let before = host();
    let service = |engine| {
        format!(
            "[services.web]\nvip = \"10.83.5.1\"\nport = 80\ndirector = \"a\"\nservers = [\"b\"]\nengine = \"{engine}\""
        )
    };
    let lab = bench.lab(&small("auto", 5, &service("auto")));
    let up = bench.run(&format!("up {}", lab.display()));
    let said = text(&up.stderr);
    assert!(up.status.success(), "{said}");
    bench.ok("down");
    let lab = bench.lab(&small("ipvs", 5, &service("ipvs")));
    // Asking has loaded ip_vs where the kernel has it as a module.
    if Path::new("/proc/net/ip_vs").exists() {
        assert!(said.contains("director a: engine ipvs ("), "{said}");
        bench.up(&lab);
        bench.ok("down");
    } else {
        assert!(
            said.contains("director a: engine nft (this kernel has no IPVS)"),
            "{said}"
        );
        let said = bench.fails(&format!("up {}", lab.display()), 1);
        assert!(said.contains("error: director a: "), "{said}");
        assert!(said.contains("engine = \"auto\""), "{said}");
        assert!(
            said.contains("CONFIG_IP_VS") && said.contains("modprobe ip_vs"),
            "{said}"
        );
    }
    same_host(&before);
}

#[test]
fn a_terminal_that_shows_no_bars_gets_lines() {
    let bench = Bench::new();
    let lab = bench.lab(&small("dumb", 6, ""));
    let nslab = env!("CARGO_BIN_EXE_nslab");
    let script = format!(
        "TERM=dumb NSLAB_RUN={} {nslab} up --no-capture {}",
        bench.path("run").display(),
        lab.display()
    );
    let up = common::Terminal::start(&script);
    up.wait_for("lab dumb is up (");
    assert_eq!(up.code(), 0);
    bench.ok("down");
}

#[test]
fn down_during_up_ends_both() {
    let bench = Bench::new();
    let before = host();
    let never = "[nodes.c]\ncommand = [\"sleep\", \"1000\"]\nready = { tcp = 80 }";
    let lab = bench.lab(&small("both", 11, never));
    let mut up = bench
        .nslab()
        .arg("up")
        .arg(&lab)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = bench.path("run/both/supervisor.log");
    until("the node has started", || {
        std::fs::read_to_string(&log).is_ok_and(|t| t.contains("\"started\""))
    });
    bench.ok("down both");
    let said = std::io::read_to_string(up.stderr.take().unwrap()).unwrap();
    assert_eq!(up.wait().unwrap().code(), Some(1));
    assert!(said.contains("error: interrupted\n"), "{said}");
    same_host(&before);
}

#[test]
fn after_a_sigkill_at_any_point_down_removes_everything() {
    let bench = Bench::new();
    let before = host();
    let sleeper = "[nodes.c]\ncommand = [\"sleep\", \"1000\"]\n";
    let lab = bench.lab(&small("killed", 6, sleeper));
    // Points in the life of `up`, counted in lines of the journal; the last is after it.
    for lines in [0, 1, 2, 3, 4, usize::MAX] {
        let mut up = bench
            .nslab()
            .arg("up")
            .arg(&lab)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let journal = bench.path("run/killed/journal");
        let written = || std::fs::read_to_string(&journal).map_or(0, |t| t.lines().count());
        if lines == usize::MAX {
            assert!(up.wait().unwrap().success());
        } else {
            until("the journal has grown", || {
                written() >= lines && supervisor(&bench, "killed").is_some()
            });
        }
        let pid = supervisor(&bench, "killed").unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let _ = up.wait();
        if lines == usize::MAX {
            // Between making the host's link and marking it there is a moment as well.
            tool("ip", &["link", "set", "killed-lan", "alias", ""]);
        }
        std::fs::rename(&lab, bench.path("hidden")).unwrap();
        bench.ok("down killed");
        std::fs::rename(bench.path("hidden"), &lab).unwrap();
        same_host(&before);
        assert!(!bench.path("run").exists(), "after {lines} lines");
    }
}

#[test]
fn a_dead_supervisor_is_told_of_and_a_new_up_recovers() {
    let bench = Bench::new();
    let before = host();
    let lab = bench.lab(&small("dead", 7, ""));
    bench.up(&lab);
    kill(
        Pid::from_raw(supervisor(&bench, "dead").unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    until("the supervisor is gone", || {
        bench.fails("ps", 1)
            == "error: the supervisor of lab dead has died; `sudo nslab down dead` removes what it left\n"
    });
    let output = bench.run(&format!("up {}", lab.display()));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("warning: lab dead had been left behind by a supervisor that was killed; it was removed first\n"), "{said}");
    bench.ok("exec a ping -c1 -W5 10.83.7.2");
    bench.ok("down");
    same_host(&before);
}

#[test]
fn interrupting_up_undoes_it() {
    let bench = Bench::new();
    let before = host();
    let never = "[nodes.c]\ncommand = [\"sleep\", \"1000\"]\nready = { tcp = 80 }";
    let lab = bench.lab(&small("cut", 8, never));
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut up = bench
            .nslab()
            .arg("up")
            .arg(&lab)
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let log = bench.path("run/cut/supervisor.log");
        until("the node has started", || {
            std::fs::read_to_string(&log).is_ok_and(|t| t.contains("\"started\""))
        });
        kill(Pid::from_raw(up.id().cast_signed()), signal).unwrap();
        let said = std::io::read_to_string(up.stderr.take().unwrap()).unwrap();
        let status = up.wait().unwrap();
        if signal == Signal::SIGINT {
            assert_eq!(status.code(), Some(1));
            assert!(
                said.contains("error: interrupted\n") && said.ends_with("lab cut is down\n"),
                "{said}"
            );
        }
        until("the lab is gone", || !bench.path("run").exists());
        same_host(&before);
    }
}

#[test]
fn a_failing_process_is_started_again_and_told_of() {
    let bench = Bench::new();
    // Fails twice, then stays.
    let script = "echo try; n=$(cat /tmp/n 2>/dev/null || echo 0); echo $((n+1)) > /tmp/n; [ $n -ge 2 ] && exec sleep 1000; exit 1";
    let node = format!("[nodes.c]\ncommand = [\"sh\", \"-c\", {script:?}]");
    bench.up(&bench.lab(&small("again", 9, &node)));
    until("it was started twice more", || {
        let ps = bench.json("ps --json");
        let c = &ps[0]["nodes"][2];
        c["restarts"] == 2 && c["state"] == "running"
    });
    assert_eq!(bench.ok("logs c"), "try\ntry\ntry\n");
    assert_eq!(bench.ok("logs -n 1 c"), "try\n");
    bench.ok("down");
}

#[test]
fn exec_hands_on_options_streams_codes_and_terminals() {
    let bench = Bench::new();
    bench.up(&bench.lab(&small("exec", 10, "")));
    let sh = |script: &str| {
        bench
            .nslab()
            .args(["exec", "a", "sh", "-c", script])
            .output()
            .unwrap()
    };
    assert_eq!(text(&sh("echo out; echo err >&2; exit 9").stdout), "out\n");
    let output = sh("echo out; echo err >&2; exit 9");
    assert_eq!(
        (text(&output.stderr).as_str(), output.status.code()),
        ("err\n", Some(9))
    );
    assert_eq!(sh("kill -9 $$").status.code(), Some(137));
    // Options of the command are the command's.
    assert_eq!(bench.ok("exec a echo -L --json -h"), "-L --json -h\n");
    assert_eq!(
        bench.fails("exec a no-such-command", 127),
        "nslab: exec: no-such-command: command not found in node a\n"
    );
    assert_eq!(
        bench
            .fails("exec a /etc/hosts", 126)
            .matches("nslab: exec: /etc/hosts: ")
            .count(),
        1
    );
    assert_eq!(
        bench.fails("exec nobody true", 125),
        "error: lab exec has no node nobody; its nodes are a, b\n"
    );
    assert_eq!(bench.ok("exec -e X=1 -w /tmp a sh -c pwd"), "/tmp\n");
    assert_eq!(bench.ok("exec -e X=1 a printenv X"), "1\n");
    // A terminal of the node's own, whose size follows the outer one.
    let nslab = env!("CARGO_BIN_EXE_nslab");
    let run = bench.path("run");
    let script = format!("NSLAB_RUN={} {nslab} shell a", run.display());
    let mut shell = common::Terminal::start(&script);
    shell.type_line("tty; stty size");
    shell.wait_for("/dev/pts/0");
    shell.resize(31, 97);
    shell.type_line("stty size");
    shell.wait_for("31 97");
    shell.type_line("exit 5");
    assert_eq!(shell.code(), 5);
    bench.ok("down");
}
