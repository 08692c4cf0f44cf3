//! `nslab service` on the nft engine: what people and programs see, and what packets do while
//! servers are drained, removed and added.

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::talk::{Connection, SERVE};
use common::{Bench, count, frames, host, same_host, until};

/// A client, a director and three machines with a server that says its name each time it is asked.
fn lab(name: &str, net: u8, servers: &str, extra: &str) -> String {
    let node = |n: u8, name: &str| {
        format!(
            "[nodes.{name}]\ninterfaces.eth0 = {{ network = \"lan\", address = \"10.85.{net}.{n}\" }}\n"
        )
    };
    let mut text = format!("name = \"{name}\"\n[networks.lan]\nsubnet = \"10.85.{net}.0/24\"\n");
    text += &node(9, "client");
    text += &node(1, "lb");
    for n in 1..=3 {
        text += &node(10 + n, &format!("s{n}"));
        let _ = write!(
            text,
            "command = [\"python3\", \"-c\", {SERVE:?}]\nready = {{ tcp = 80 }}\n"
        );
    }
    format!(
        "{text}[networks.far]\nsubnet = \"10.86.{net}.0/24\"\n[nodes.away]\n\
         interfaces.eth0 = {{ network = \"far\", address = \"10.86.{net}.1\" }}\n\
         [services.web]\nvip = \"10.85.{net}.1\"\nport = 80\ndirector = \"lb\"\nengine = \"nft\"\n\
         servers = {servers}\n{extra}"
    )
}

fn squeezed(text: &str) -> Vec<String> {
    text.lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The table once a row begins with these words: a connection's last frames may still be on their way.
fn table_with(bench: &Bench, row: &str) -> String {
    for _ in 0..100 {
        let table = bench.ok("service");
        if squeezed(&table).iter().any(|r| r.starts_with(row)) {
            return table;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    bench.ok("service")
}

#[test]
fn weight_0_drains_and_back_again() {
    let bench = Bench::new();
    let before = host();
    bench.up(&bench.lab(&lab("drain", 1, r#"["s1", "s2"]"#, "")));
    let mut stays = Connection::open(&bench, "drain", [10, 85, 1, 1]);
    let old = stays.ask();
    let other = if old == "s1" { "s2" } else { "s1" };

    assert_eq!(bench.ok(&format!("service weight {old} 0")), "");
    for _ in 0..4 {
        let mut new = Connection::open(&bench, "drain", [10, 85, 1, 1]);
        assert_eq!(new.ask(), other);
        new.close();
    }
    assert_eq!(stays.ask(), old, "the established connection goes on");

    let table = table_with(&bench, "total 1 1 4 ");
    let rows = squeezed(&table);
    assert_eq!(
        rows[0],
        "service web 10.85.1.1:80/tcp, scheduler rr, method dr, engine nft on lb"
    );
    assert_eq!(
        rows[1],
        "SERVER ADDRESS WEIGHT ACTIVE INACTIVE CONNS PACKETS BYTES CONNS/S PACKETS/S BYTES/S"
    );
    let row = |server: &str| {
        let row = rows.iter().find(|r| r.starts_with(server)).unwrap();
        row.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let n = if old == "s1" { 11 } else { 12 };
    assert_eq!(
        row(&old)[1..6],
        [&format!("10.85.1.{n}:80"), "0", "1", "0", "1"]
    );
    assert_eq!(row(other)[2..6], ["1", "0", "4", "4"]);
    assert_eq!(row("total")[1..5], ["1", "1", "4", "5"]);

    let ps = bench.json("ps --json");
    let weights: Vec<_> = ps[0]["services"][0]["servers"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert!(
        weights.contains(&&serde_json::json!([old, 0])),
        "{weights:?}"
    );

    // What the table says is what the director's own recording says.
    let json = bench.json("service web --json");
    assert_eq!(json[0]["lab"], "drain");
    assert_eq!(json[0]["engine"], "nft");
    let servers = json[0]["servers"].as_array().unwrap();
    let of = |name: &str| servers.iter().find(|s| s["name"] == name).unwrap();
    let mac = |name: &str| {
        let link = bench.outside("drain", name, "ip -j link show dev eth0");
        let link: serde_json::Value = serde_json::from_str(&link).unwrap();
        link[0]["address"].as_str().unwrap().to_owned()
    };
    let file = bench.capture_file("drain", "lb:eth0");
    for name in [old.as_str(), other] {
        let filter = format!("eth.dst=={} && tcp.dstport==80", mac(name));
        let packets = of(name)["counters"]["packets_in"].as_u64().unwrap();
        until("the recording has them", || {
            count(&file, &filter) as u64 == packets
        });
        let bytes: u64 = frames(&file, &filter, &["ip.len"])
            .iter()
            .map(|l| l.parse::<u64>().unwrap())
            .sum();
        assert_eq!(of(name)["counters"]["bytes_in"].as_u64().unwrap(), bytes);
        assert!(of(name)["rates"]["packets_in"].is_number());
    }

    assert_eq!(
        bench.ok(&format!("service weight web {old} 1 --json")),
        format!(
            "{{\n  \"done\": \"weight\",\n  \"server\": \"{old}\",\n  \"service\": \"web\",\n  \"weight\": 1\n}}\n"
        )
    );
    let mut both: Vec<_> = (0..2)
        .map(|_| {
            let mut new = Connection::open(&bench, "drain", [10, 85, 1, 1]);
            let name = new.ask();
            new.close();
            name
        })
        .collect();
    both.sort();
    assert_eq!(both, ["s1", "s2"]);
    assert_eq!(stays.ask(), old);
    stays.close();

    let events = bench.ok("events");
    let told: Vec<_> = events.lines().filter(|l| l.contains("weight of")).collect();
    assert_eq!(told.len(), 2, "{events}");
    assert!(
        told[0].ends_with(&format!(" service web: weight of {old} 1 -> 0 (asked for)")),
        "{events}"
    );
    bench.ok("down");
    same_host(&before);
}

#[test]
fn a_removed_servers_connections_hang_and_go_on_when_it_is_back() {
    let bench = Bench::new();
    let before = host();
    bench.up(&bench.lab(&lab("leave", 2, r#"["s1", "s2"]"#, "")));
    let mut stays = Connection::open(&bench, "leave", [10, 85, 2, 1]);
    let mut hangs = Connection::open(&bench, "leave", [10, 85, 2, 1]);
    let (kept, gone) = (stays.ask(), hangs.ask());
    assert_ne!(kept, gone);

    bench.ok(&format!("service remove {gone}"));
    assert_eq!(stays.ask(), kept);
    for _ in 0..3 {
        let mut new = Connection::open(&bench, "leave", [10, 85, 2, 1]);
        assert_eq!(new.ask(), kept);
        new.close();
    }
    // Its packets come to the director and go nowhere, not even to the director's own stack.
    let file = bench.capture_file("leave", "lb:eth0");
    let port = hangs.port();
    let filter = format!("tcp.srcport=={port} && tcp.len>0");
    let seen = count(&file, &filter);
    hangs.send();
    until("the director has got it", || count(&file, &filter) > seen);
    let resets = format!("tcp.dstport=={port} && tcp.flags.reset==1");
    assert_eq!(count(&file, &resets), 0);
    let rows = squeezed(&bench.ok("service --once"));
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(
        bench.ok("events").lines().any(|l| l.ends_with(&format!(
            " service web: {gone} removed with 1 connection, whose packets are dropped now"
        ))),
        "{}",
        bench.ok("events")
    );

    bench.ok(&format!("service add {gone}"));
    assert_eq!(
        hangs.answer(),
        gone,
        "the client's retransmission arrives now"
    );
    assert_eq!(hangs.ask(), gone);
    hangs.close();

    // Drained first: waits for the last connection, then nothing is cut.
    let mut last = Connection::open(&bench, "leave", [10, 85, 2, 1]);
    let mut other = Connection::open(&bench, "leave", [10, 85, 2, 1]);
    if last.ask() != gone {
        std::mem::swap(&mut last, &mut other);
    }
    assert_eq!(last.ask(), gone);
    assert_eq!(
        bench.fails(&format!("service remove {gone} --drain --timeout 1"), 1),
        format!(
            "error: server {gone} of service web still has 1 established connection after 1 s; its \
             weight is 0 now. Wait longer with --timeout, or remove it without --drain, which cuts \
             them\n"
        )
    );
    assert_eq!(last.ask(), gone);
    let draining = bench
        .nslab()
        .args(["service", "remove", &gone, "--drain"])
        .spawn()
        .unwrap();
    last.close();
    assert!(draining.wait_with_output().unwrap().status.success());
    assert!(
        bench
            .ok("events")
            .lines()
            .any(|l| l.contains(&format!("service web: {gone} removed"))),
    );
    other.close();
    stays.close();
    bench.ok("down");
    same_host(&before);
}

#[test]
fn a_node_joins_at_run_time_and_shares_the_load() {
    let bench = Bench::new();
    let before = host();
    bench.up(&bench.lab(&lab("join", 3, r#"["s1", "s2"]"#, "")));
    let mut stays = Connection::open(&bench, "join", [10, 85, 3, 1]);
    let old = stays.ask();
    assert_eq!(
        bench.outside("join", "s3", "nft list ruleset"),
        "",
        "s3 is no server yet"
    );
    bench.ok("service add web s3 --weight 1");
    assert!(
        bench
            .outside("join", "s3", "nft list ruleset")
            .contains("ip daddr 10.85.3.1 tcp dport 80 redirect")
    );
    let mut answers: Vec<_> = (0..6)
        .map(|_| {
            let mut new = Connection::open(&bench, "join", [10, 85, 3, 1]);
            let name = new.ask();
            new.close();
            name
        })
        .collect();
    answers.sort();
    assert_eq!(answers, ["s1", "s1", "s2", "s2", "s3", "s3"]);
    assert_eq!(stays.ask(), old);
    stays.close();
    assert!(
        bench
            .ok("events")
            .lines()
            .any(|l| l.ends_with(" service web: s3 added, weight 1")),
    );
    bench.ok("down");
    same_host(&before);
}

/// Commands, their exit codes, and how what they say begins.
const REFUSALS: [(&str, i32, &str); 14] = [
    (
        "service mail",
        1,
        "lab errors has no service mail; its services are web, dns",
    ),
    (
        "service weight s1 0",
        1,
        "server s1 is in services web, dns: say in which, before the server's name",
    ),
    (
        "service weight s9 0",
        1,
        "services web, dns have no server s9; there are s1, s2, s3",
    ),
    (
        "service weight web s3 0",
        1,
        "service web has no server s3; there are s1, s2",
    ),
    (
        "service weight mail s3 0",
        1,
        "lab errors has no service mail; its services are web, dns",
    ),
    (
        "service weight s2 heavy",
        2,
        "\"heavy\" is not a weight: a number from 0 to 65535 is expected",
    ),
    (
        "service weight s2 65536",
        2,
        "\"65536\" is not a weight: a number from 0 to 65535 is expected",
    ),
    (
        "service add s3",
        1,
        "lab errors has several services: say to which of web, dns, before the server's name",
    ),
    (
        "service add web s1",
        1,
        "service web has server s1 already; `nslab service weight web s1 N` changes its weight",
    ),
    (
        "service add web nobody",
        1,
        "server `nobody` is no node of the lab; the lab has the nodes `client`, `lb`, `s1`, `s2`, `s3` and `away`",
    ),
    ("service add web lb", 1, "server `lb` is the director"),
    (
        "service add web away",
        1,
        "server `away` shares no IPv4 network with director `lb`",
    ),
    (
        "service add web s3 --port 81",
        1,
        "port mapping from 80 to 81 is impossible in DR",
    ),
    (
        "service remove web s3",
        1,
        "service web has no server s3; there are s1, s2",
    ),
];

#[test]
fn what_cannot_be_done_is_said() {
    let bench = Bench::new();
    let dns = "[services.dns]\nvip = \"10.85.4.1\"\nport = 53\nprotocol = \"udp\"\ndirector = \"lb\"\nengine = \"nft\"\nservers = [\"s1\", \"s3\"]\n";
    bench.up(&bench.lab(&lab("errors", 4, r#"["s1", "s2"]"#, dns)));
    for (words, code, said) in REFUSALS {
        let stderr = bench.fails(words, code);
        assert!(
            stderr.starts_with(&format!("error: {said}")),
            "nslab {words}: {stderr}"
        );
    }
    let upper = bench.fails("service add web s3 --upper 5", 1);
    assert!(upper.contains("engine") && upper.contains("nft"), "{upper}");
    // Nothing of all that has changed anything.
    assert!(!bench.ok("events").contains("weight of"));
    assert_eq!(
        bench
            .outside("errors", "s3", "nft list ruleset")
            .matches("redirect")
            .count(),
        1
    );
    // A node that serves another service already keeps its rule for that.
    bench.ok("service add web s3");
    let rules = bench.outside("errors", "s3", "nft list ruleset");
    assert!(
        rules.contains("udp dport 53 redirect") && rules.contains("tcp dport 80 redirect"),
        "{rules}"
    );
    bench.ok("service remove web s3");
    bench.ok("service remove dns s1");
    bench.ok("service weight s1 0");
    bench.ok("service remove s3");
    assert!(
        bench
            .ok("service dns")
            .ends_with("\n(no servers: nobody answers)\n"),
    );
    bench.ok("down");
    assert_eq!(
        bench.fails("service", 1),
        "error: no lab is up; start one with `sudo nslab up LAB.toml`\n"
    );
}

#[test]
fn on_a_terminal_it_is_shown_again_and_the_screen_comes_back() {
    let bench = Bench::new();
    bench.up(&bench.lab(&lab("watch", 5, r#"["s1", "s2"]"#, "")));
    let run = bench.path("run");
    let script = format!(
        "trap : INT; NSLAB_RUN={} {} service -w 0.2; echo code $?",
        run.display(),
        env!("CARGO_BIN_EXE_nslab")
    );
    let mut terminal = common::Terminal::start(&script);
    terminal.resize(30, 120);
    terminal.wait_for("\x1b[?1049h\x1b[?25l");
    terminal.wait_for("engine nft on lb");
    bench.ok("service weight s2 0");
    bench.ok("service weight s1 0");
    terminal.wait_for("(every weight is 0: new connections are not answered)");
    terminal.type_line("\x03");
    terminal.wait_for("\x1b[?25h\x1b[?1049l");
    terminal.wait_for("code 0");
    terminal.code();

    // Not on a terminal: once, or lines of JSON as long as somebody reads.
    let script = format!(
        "NSLAB_RUN={} {} service --json --watch 0.1 | head -n 2",
        run.display(),
        env!("CARGO_BIN_EXE_nslab")
    );
    let lines = common::tool("sh", &["-c", &script]);
    for line in lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value[0]["servers"][1]["weight"], 0);
    }
    assert_eq!(lines.lines().count(), 2);
    // Watching ends with the lab.
    let mut watching = bench
        .nslab()
        .args(["service", "--watch", "0.1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(watching.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    bench.ok("down");
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    let said = std::io::read_to_string(watching.stderr.take().unwrap()).unwrap();
    assert_eq!(
        (watching.wait().unwrap().code(), said),
        (Some(0), String::new())
    );
}
