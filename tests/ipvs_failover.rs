//! The flagship, checked: a realserver's Tomcat is killed under a client that asks all the time. It is
//! out within the check's bound, and back after its restart. Takes `scripts/with-ipvs`.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::failover::{Asked, Client, Events, failures_explained, known};
use common::{Bench, frames, needs_ipvs, tool};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What clients and checks ask for; the stand-in and a real THREDDS both have it.
const URL: &str = "http://172.28.128.3:8080/thredds/catalog/catalog.html";

/// Often, so that Tomcat is not back before it is missed, however fast the machine; and patient: a
/// Tomcat that is slow, on a slow machine, is not dead. A dead one refuses at once.
const CHECK: &str = "check = { http = \"http://VIP:8080/thredds/catalog/catalog.html\", every = \"200ms\", \
                     timeout = \"20s\", rise = 2, fall = 2 }";

/// A check of `server1` as its capture has it.
struct Check {
    begun: SystemTime,
    passed: bool,
}

fn lab() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/dsr.toml");
    let mut lab = std::fs::read_to_string(file).unwrap();
    for (old, new) in [
        ("engine = \"auto\"", &*format!("engine = \"ipvs\"\n{CHECK}")),
        (
            "image = \"tomcat\"",
            "restart = \"on-failure\"\nimage = \"tomcat\"",
        ),
        (
            "interfaces = \"all\"",
            "interfaces = [\"server1:eth1\", \"lb:eth1\"]",
        ),
    ] {
        assert!(lab.contains(old), "{old}");
        lab = lab.replace(old, new);
    }
    lab
}

/// A connection and a request of its own, by the field's own tool; the realserver that answered.
fn ask() -> Result<String, String> {
    let output = std::process::Command::new("curl")
        .args(["-sS", "--fail", "--max-time", "30", "-o", "/dev/null"])
        .args(["-w", "%header{x-realserver}", URL])
        .output()
        .unwrap();
    if output.status.success() {
        Ok(common::text(&output.stdout))
    } else {
        Err(common::text(&output.stderr))
    }
}

fn status(bench: &Bench, node: &str) -> serde_json::Value {
    let labs = bench.json("ps --json");
    let nodes = labs[0]["nodes"].as_array().unwrap();
    nodes.iter().find(|n| n["name"] == node).unwrap().clone()
}

/// Kills a node's JVM from outside, by its pid on the host: it is a child of the node's init. When.
fn kill_tomcat(bench: &Bench, node: &str) -> SystemTime {
    let init = status(bench, node)["pid"].to_string();
    let java = tool("pgrep", &["-P", &init, "-x", "java"]);
    let java = Pid::from_raw(java.trim().parse().expect("one JVM"));
    let now = SystemTime::now();
    kill(java, Signal::SIGKILL).unwrap();
    now
}

/// The weights that ipvsadm shows, of server1 and server2.
fn weights(bench: &Bench) -> Vec<String> {
    let rules = bench.outside("dsr", "lb", "ipvsadm --save -n");
    ["172.28.128.4", "172.28.128.5"]
        .iter()
        .map(|server| {
            let own = format!("-r {server}:8080 -g -w ");
            let weight = rules.lines().find_map(|l| l.split_once(&own));
            weight.expect(&rules).1.to_owned()
        })
        .collect()
}

/// The checks of a server, in their order.
fn checks(file: &Path) -> Vec<Check> {
    const FROM: &str = "ip.src == 172.28.128.254 && tcp.flags.syn == 1";
    const OK: &str = "ip.dst == 172.28.128.254 && tcp.payload contains \"HTTP/1.1 200\"";
    let passed: BTreeSet<_> = frames(file, OK, &["tcp.stream"]).into_iter().collect();
    let begun = frames(file, FROM, &["tcp.stream", "frame.time_epoch"]);
    let mut seen = BTreeSet::new();
    let mut checks = Vec::new();
    for line in begun {
        let (stream, time) = line.split_once('\t').unwrap();
        if !seen.insert(stream.to_owned()) {
            continue; // a SYN once more
        }
        let time = Duration::from_secs_f64(time.parse().unwrap());
        checks.push(Check {
            begun: SystemTime::UNIX_EPOCH + time,
            passed: passed.contains(stream),
        });
    }
    checks
}

#[test]
fn a_killed_tomcat_is_out_and_back_while_a_client_asks() {
    needs_ipvs();
    let bench = Bench::new();
    bench.up(&bench.lab(&lab()));
    let mut events = Events::follow(&bench);
    assert_eq!(weights(&bench), ["1", "1"]);
    let pin: PathBuf = bench.ns("dsr", "client");
    let client = Client::start(pin, ask);
    client.more(6);

    let killed = kill_tomcat(&bench, "server1");
    let died = events.next("server-died");
    assert_eq!(weights(&bench), ["0", "1"]);
    assert_eq!(died["server"], "server1");
    assert_eq!(died["failed"], 2);
    let revived = events.next("server-revived");
    assert_eq!(weights(&bench), ["1", "1"]);
    assert_eq!(revived["server"], "server1");
    assert_eq!(revived["weight"], 1);
    assert_eq!(status(&bench, "server1")["restarts"], 1);
    client.more(6);
    let asked = client.end();
    let all = bench.ok("events --json");
    bench.ok("down");

    let (out, back) = (known(&died), known(&revived));
    failures_explained(&asked, killed, out);
    let checks = checks(&bench.capture_file("dsr", "server1:eth1"));
    explained(&asked, &checks, killed, out, back);
    // It was neither out before, nor again, and the other one never.
    let turns = |kind: &str| all.lines().filter(|l| l.contains(kind)).count();
    assert_eq!(
        (turns("\"server-died\""), turns("\"server-revived\"")),
        (1, 1)
    );
}

fn explained(
    asked: &[Asked],
    checks: &[Check],
    killed: SystemTime,
    out: SystemTime,
    back: SystemTime,
) {
    // As many checks as `fall` says failed before the event: all of them, one after the other.
    let (before, after): (Vec<_>, Vec<_>) = checks.iter().partition(|c| c.begun <= out);
    let missed = before.iter().filter(|c| !c.passed).count();
    assert_eq!(missed, 2);
    assert!(before[..before.len() - 2].iter().all(|c| c.passed));

    // The requests that the interval explains are those under way while nobody knew; and round robin
    // gives the dead server every other one of them.
    let unaware: Vec<_> = asked
        .iter()
        .filter(|a| a.ended >= killed && a.begun <= out)
        .collect();
    let failed = unaware.iter().filter(|a| a.answer.is_err()).count();
    assert!(failed <= unaware.len().div_ceil(2), "{unaware:#?}");

    // Nobody reached it until enough checks had passed: it was given its weight by the second.
    let passed: Vec<_> = after.iter().filter(|c| c.passed).collect();
    let trusted = passed[1].begun;
    assert!(trusted <= back);
    let meanwhile: Vec<_> = asked
        .iter()
        .filter(|a| a.begun > out && a.ended < trusted)
        .collect();
    assert!(meanwhile.len() > 2, "{}", meanwhile.len());
    for a in &meanwhile {
        assert_eq!(a.answer.as_deref(), Ok("server2"), "{a:?} {out:?}");
    }
    let again: Vec<_> = asked
        .iter()
        .filter(|a| a.begun > back)
        .map(|a| a.answer.as_deref().unwrap())
        .collect();
    assert!(again.contains(&"server1"), "{again:?}");
    for pair in again.windows(2) {
        assert_ne!(
            pair[0], pair[1],
            "round robin does not alternate: {again:?}"
        );
    }
    println!(
        "killed to out: {missed} checks failed, {} requests under way, {failed} of them failed; \
         out to back: {} requests, all of them answered by server2, back {} ms after the kill",
        unaware.len(),
        meanwhile.len(),
        back.duration_since(killed).unwrap().as_millis()
    );
}
