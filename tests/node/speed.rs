//! How long it takes. Prints; asserts only what no machine's load can turn around by itself.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::harness::{Node, need_root, options, plain, run};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn time(what: impl FnOnce()) -> Duration {
    let start = Instant::now();
    what();
    start.elapsed()
}

/// Run by hand: `cargo test --test node -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    need_root();
    let mut nodes = Vec::new();
    let up = median(
        (0..50)
            .map(|_| time(|| nodes.push(Node::up(&plain("n")))))
            .collect(),
    );
    println!("netns + spawn -> Up      {up:?}");
    let node = nodes.pop().expect("a node");
    let down = median(nodes.into_iter().map(|node| time(|| drop(node))).collect());
    println!("SIGKILL -> reaped        {down:?}");
    let rss = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", node.init.pid)).unwrap();
    for line in rss
        .lines()
        .filter(|l| l.starts_with("Rss") || l.starts_with("Private_Dirty"))
    {
        println!("init {line}");
    }

    let name = format!("nslabspeed{}", std::process::id());
    run(Command::new("ip").args(["netns", "add", &name]));
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut bare = Vec::new();
    let exec = options(&["true"]);
    for _ in 0..200 {
        let mut command = node.command(&exec);
        command.stdin(Stdio::null());
        ours.push(time(|| assert!(command.status().unwrap().success())));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name, "true"]);
        theirs.push(time(|| assert!(command.status().unwrap().success())));
        bare.push(time(|| {
            assert!(Command::new("true").status().unwrap().success())
        }));
    }
    run(Command::new("ip").args(["netns", "del", &name]));
    let (ours, theirs) = (median(ours), median(theirs));
    println!("true                     {:?}", median(bare));
    println!("ip netns exec NODE true  {theirs:?}");
    println!(
        "nslab exec NODE true     {ours:?}  ({:.2} x)",
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}
