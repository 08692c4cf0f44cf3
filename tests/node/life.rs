//! Start, restart, stop and end of a node and its main process.

use std::fs;
use std::io::BufRead as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nslab::node::{InitEvent, InitSpec, Process, RestartPolicy, SpawnOptions, spawn_with};

use super::harness::{NSLAB, Node, alive, need_root, netns, plain, running, until};

fn exited(code: i32, restart_in_ms: Option<u64>) -> InitEvent {
    InitEvent::Exited {
        code: Some(code),
        signal: None,
        restart_in_ms,
    }
}

#[test]
fn a_main_process_has_its_surroundings() {
    let script = "echo $$ $LAB $HOME; pwd; readlink /proc/self/fd/0; grep SigIgn /proc/self/status; \
                  grep SigBlk /proc/self/status; cut -d' ' -f6 /proc/$$/stat; umask; exit 7";
    let mut node = Node::up(&running("n", script, RestartPolicy::No));
    let pid = node.started();
    assert_eq!(node.event(), Some(exited(7, None)));
    // The node outlives its main process.
    assert_eq!(node.sh("echo there"), "there\n");
    assert_eq!(node.end(Signal::SIGTERM), 0);
    assert_eq!(
        node.output(),
        format!(
            "{pid} test /root\n/\n/dev/null\nSigIgn:\t0000000000000000\n\
             SigBlk:\t0000000000000000\n{pid}\n0022\n"
        )
    );
}

#[test]
fn the_open_files_limit_is_raised() {
    let hard = super::harness::run(Command::new("sh").args(["-c", "ulimit -Hn"]));
    let mut node = Node::up(&running("n", "ulimit -Sn", RestartPolicy::No));
    node.started();
    assert_eq!(node.output_line(), hard.trim());
    assert_eq!(node.sh("ulimit -Sn"), hard);
}

#[test]
fn a_failing_process_is_started_again_later_and_later() {
    let mut node = Node::up(&running(
        "n",
        "echo again; exit 3",
        RestartPolicy::OnFailure,
    ));
    for delay in [100, 200, 400] {
        node.started();
        assert_eq!(node.output_line(), "again");
        assert_eq!(node.event(), Some(exited(3, Some(delay))));
    }
    node.started();
}

#[test]
fn what_ends_well_is_started_again_only_when_always() {
    let mut node = Node::up(&running("n", "exit 0", RestartPolicy::OnFailure));
    node.started();
    assert_eq!(node.event(), Some(exited(0, None)));
    let mut node = Node::up(&running("n", "exit 0", RestartPolicy::Always));
    node.started();
    assert_eq!(node.event(), Some(exited(0, Some(100))));
    let mut node = Node::up(&running("n", "exit 1", RestartPolicy::No));
    node.started();
    assert_eq!(node.event(), Some(exited(1, None)));
}

#[test]
fn a_signal_that_ends_the_process_is_told_real_time_ones_too() {
    for (name, number) in [("KILL", 9), ("40", 40)] {
        let script = format!("kill -{name} $$");
        let mut node = Node::up(&running("n", &script, RestartPolicy::OnFailure));
        node.started();
        let signal = Some(number);
        let expected = InitEvent::Exited {
            code: None,
            signal,
            restart_in_ms: Some(100),
        };
        assert_eq!(node.event(), Some(expected));
    }
}

#[test]
fn a_program_that_cannot_be_started_is_told_and_not_tried_again() {
    let start = |program: &str| {
        let argv = vec![program.to_owned()];
        let process = Some(Process {
            argv,
            restart: RestartPolicy::Always,
        });
        Node::up(&InitSpec {
            process,
            ..plain("web")
        })
    };
    for (program, code, message) in [
        ("catalina", 127, "catalina: command not found in node web"),
        ("/no/such", 127, "/no/such: no such file in node web"),
        (
            "/etc/passwd",
            126,
            "/etc/passwd: cannot be executed in node web: Permission denied (os error 13)",
        ),
    ] {
        let mut node = start(program);
        assert_eq!(
            node.event(),
            Some(InitEvent::Failed {
                message: message.to_owned()
            })
        );
        assert_eq!(node.event(), Some(exited(code, None)));
        assert_eq!(node.sh("echo there"), "there\n");
        assert_eq!(node.end(Signal::SIGTERM), 0);
        assert_eq!(node.output(), format!("nslab: {message}\n"));
    }
    let mut spec = running("web", "exit 0", RestartPolicy::Always);
    spec.cwd = "/not/there".into();
    let node = Node::spawn(&spec);
    let message = "cannot make folder /not/there: Read-only file system (os error 30); a node \
                   without image has the host's root read-only: use a place below /tmp or /run, \
                   or make the mount point on the host";
    assert_eq!(
        node.early,
        [InitEvent::Failed {
            message: message.to_owned()
        }]
    );
    spec.cwd = "/root".into();
    spec.user = "nobody".into();
    let mut node = Node::up(&spec);
    let message =
        "cannot enter working directory /root in node web: Permission denied (os error 13)";
    assert_eq!(
        node.event(),
        Some(InitEvent::Failed {
            message: message.to_owned()
        })
    );
    assert_eq!(node.event(), Some(exited(125, None)));
}

#[test]
fn stop_gives_the_main_process_time_to_end() {
    let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut node = Node::up(&running("n", script, RestartPolicy::Always));
    node.started();
    assert_eq!(node.output_line(), "ready");
    assert_eq!(node.end(Signal::SIGTERM), 0);
    assert_eq!(node.output(), "bye\n");
    assert_eq!(node.event(), Some(exited(5, None)));
    assert_eq!(node.event(), None);
}

#[test]
fn stop_does_not_wait_longer_than_the_grace() {
    let mut spec = running(
        "n",
        "trap '' TERM; echo ready; sleep 1000",
        RestartPolicy::No,
    );
    spec.grace_ms = 50;
    let mut node = Node::up(&spec);
    let inner = node.started();
    assert_eq!(node.output_line(), "ready");
    let main = node.init.host_pid(inner).expect("it runs").as_raw();
    assert!(alive(main));
    assert_eq!(node.end(Signal::SIGTERM), 0);
    assert!(!alive(main));
    // Killed with the namespace: init was gone before it could tell.
    assert_eq!(node.event(), None);
}

#[test]
fn a_node_without_process_stops_at_once_and_one_that_waits_to_restart_too() {
    let mut node = Node::up(&plain("n"));
    assert_eq!(node.end(Signal::SIGTERM), 0);
    let mut node = Node::up(&running("n", "exit 1", RestartPolicy::Always));
    for _ in 0..8 {
        node.event();
    }
    assert_eq!(node.end(Signal::SIGTERM), 0);
}

#[test]
fn a_full_output_pipe_does_not_keep_init_from_its_work() {
    let script = "exec cat /dev/zero";
    let mut spec = running("n", script, RestartPolicy::No);
    spec.grace_ms = 0;
    let mut node = Node::up(&spec);
    node.started();
    // Orphans are reaped though nobody reads the output.
    orphans(&node);
    assert_eq!(node.end(Signal::SIGTERM), 0);
}

fn orphans(node: &Node) {
    node.sh("for i in 1 2 3 4 5; do (sleep 0.01 &) ; done");
    // Init and the asking shell, and the main process if there is one; a zombie would count.
    let expected = if node.target.node == "idle" {
        "2\n"
    } else {
        "3\n"
    };
    until("reaping", || {
        node.sh("set -- /proc/[0-9]*; echo $#") == expected
    });
}

#[test]
fn orphans_are_reaped() {
    orphans(&Node::up(&plain("idle")));
}

#[test]
fn a_killed_init_takes_everything_along() {
    let mut node = Node::up(&running(
        "n",
        "sleep 1000 & sleep 1000",
        RestartPolicy::Always,
    ));
    let main = node.started();
    let main = node.init.host_pid(main).expect("it runs").as_raw();
    let exec = super::harness::options(&["sleep", "1000"]);
    let mut exec = node.command(&exec).spawn().unwrap();
    let inside = format!("/proc/{0}/task/{0}/children", exec.id());
    until("exec", || {
        fs::read_to_string(&inside).is_ok_and(|text| !text.is_empty())
    });
    let command: i32 = fs::read_to_string(&inside).unwrap().trim().parse().unwrap();
    assert_eq!(node.end(Signal::SIGKILL), -9);
    assert_eq!(exec.wait().unwrap().code(), Some(137));
    assert!(!alive(main) && !alive(command));
    // Entering it is refused, by name.
    let output = node.exec(&["true"]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        super::harness::stderr(&output),
        format!(
            "nslab: exec: node n is not running (its init was pid {}); `nslab ps` shows what is\n",
            node.target.pid
        )
    );
}

/// Not a test of its own: what `a_node_dies_with_its_supervisor` runs in a process of its own.
#[test]
#[ignore = "a helper process of another test"]
fn helper_supervisor() {
    let options = SpawnOptions {
        exe: Some(NSLAB.into()),
        ..SpawnOptions::default()
    };
    let spec = running("n", "sleep 1000", RestartPolicy::No);
    let init = spawn_with(&spec, netns().as_fd(), &options).unwrap();
    println!("init {}", init.pid);
    std::thread::sleep(std::time::Duration::from_mins(10));
}

#[test]
fn a_node_dies_with_its_supervisor() {
    need_root();
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "life::helper_supervisor",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(supervisor.stdout.take().unwrap()).lines();
    let init: i32 = lines
        .map_while(Result::ok)
        .find_map(|line| line.split("init ").nth(1).and_then(|pid| pid.parse().ok()))
        .expect("the pid");
    let children = format!("/proc/{init}/task/{init}/children");
    until("main", || {
        fs::read_to_string(&children).is_ok_and(|text| !text.is_empty())
    });
    let main: i32 = fs::read_to_string(&children)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    until("the end of main", || !alive(main));
    until("the end of init", || {
        // Nobody may reap it here; a zombie has ended.
        let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

#[test]
fn an_init_by_hand_does_nothing() {
    use std::os::unix::process::CommandExt as _;
    let output = Command::new(NSLAB).arg0("nslab-init").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        super::harness::stderr(&output),
        "nslab: nslab-init is started by nslab, as the first process of a node\n"
    );
}

#[test]
fn a_failed_start_in_the_clone_is_told() {
    need_root();
    let options = |exe: &str| SpawnOptions {
        exe: Some(exe.into()),
        ..SpawnOptions::default()
    };
    for (exe, message) in [
        (
            "/no/nslab",
            "cannot make a read-only view of nslab for node n: No such file or directory (os \
             error 2)",
        ),
        (
            "/etc/passwd",
            "cannot execute nslab for node n: Permission denied (os error 13)",
        ),
    ] {
        let error = spawn_with(&plain("n"), netns().as_fd(), &options(exe)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let options = options("/etc/passwd");
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = spawn_with(&plain("n"), file.as_fd(), &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot enter the network namespace for node n: Invalid argument (os error 22)"
    );
}

#[test]
fn a_node_cannot_kill_its_init() {
    let node = Node::up(&plain("n"));
    node.sh("kill -KILL 1; kill -SEGV 1; kill -HUP 1; kill -USR1 1");
    assert_eq!(node.sh("echo there"), "there\n");
    assert!(kill(Pid::from_raw(node.target.pid), None).is_ok());
}
