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
    // In a mount namespace of this thread's own, with a thousand pinned namespaces later.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private");
    let table = || std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
    let mounts = || table().lines().count();
    for point in table().lines().filter_map(|line| line.split(' ').nth(4)) {
        if point.starts_with("/tmp/") || point.starts_with("/run/") {
            // Those of others; a pin below one that is gone already cannot be found.
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
    }
    let file = tempfile::NamedTempFile::new_in("/run").expect("a file");
    let pin = || {
        for _ in 0..1000 {
            let bind = nix::mount::MsFlags::MS_BIND;
            let net = Some("/proc/self/ns/net");
            nix::mount::mount(net, file.path(), None::<&str>, bind, None::<&str>).expect("a pin");
        }
    };
    let mut nodes = Vec::new();
    let up = median(
        (0..50)
            .map(|_| time(|| nodes.push(Node::up(&plain("n")))))
            .collect(),
    );
    println!("netns + spawn -> Up      {up:?}");
    let template = Some(std::sync::Arc::new(
        nslab::node::MountTemplate::new().expect("mounts"),
    ));
    println!("mounts here              {}", mounts());
    pin();
    println!("mounts here              {}", mounts());
    let up = median(
        (0..50)
            .map(|_| time(|| nodes.push(Node::up(&plain("n")))))
            .collect(),
    );
    println!("netns + spawn -> Up      {up:?}");
    let up = median(
        (0..50)
            .map(|_| time(|| nodes.push(Node::spawn_from(&plain("n"), template.clone()))))
            .collect(),
    );
    println!("the same from a template {up:?}");
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
            assert!(Command::new("true").status().unwrap().success());
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
