//! `nslab service` on kernel IPVS, compared with what ipvsadm(8) says of the same moment. Fails on a
//! kernel without IPVS: scripts/with-ipvs runs it under one that has it.

mod common;

use std::fmt::Write as _;

use common::talk::{Connection, SERVE};
use common::{Bench, host, same_host, until};

/// A client, a director, and servers that say their names.
fn lab(name: &str, net: u8, service: &str) -> String {
    let mut text = format!("name = \"{name}\"\n[networks.lan]\nsubnet = \"10.87.{net}.0/24\"\n");
    for (n, node, more) in [
        (9, "client", String::new()),
        (1, "lb", format!(", aliases = [\"10.87.{net}.100\"]")),
        (11, "s1", String::new()),
        (12, "s2", String::new()),
        (13, "s3", String::new()),
    ] {
        let _ = writeln!(
            text,
            "[nodes.{node}]\ninterfaces.eth0 = {{ network = \"lan\", address = \"10.87.{net}.{n}\"{more} }}"
        );
        if node.starts_with('s') {
            let _ = writeln!(
                text,
                "command = [\"python3\", \"-c\", {SERVE:?}]\nready = {{ tcp = 80 }}"
            );
        }
    }
    format!(
        "{text}[services.web]\nvip = \"10.87.{net}.100\"\nport = 80\ndirector = \"lb\"\n\
         engine = \"ipvs\"\nservers = [\"s1\", \"s2\"]\n{service}"
    )
}

/// ipvsadm's own lines of servers: address, then its columns.
fn ipvsadm(bench: &Bench, lab: &str, options: &str) -> Vec<Vec<String>> {
    let text = bench.outside(lab, "lb", format!("ipvsadm -Ln {options}").trim_end());
    text.lines()
        .filter_map(|l| l.trim_start().strip_prefix("-> "))
        .filter(|l| !l.starts_with("RemoteAddress"))
        .map(|l| l.split_whitespace().map(str::to_owned).collect())
        .collect()
}

fn servers(bench: &Bench) -> Vec<serde_json::Value> {
    let json = bench.json("service web --json");
    assert_eq!(json[0]["engine"], "ipvs");
    json[0]["servers"].as_array().unwrap().clone()
}

fn address(server: &serde_json::Value) -> String {
    format!("{}:{}", server["address"].as_str().unwrap(), server["port"])
}

/// The rows of `nslab service`: address, weight, active, inactive, then the counters.
fn our_rows(bench: &Bench) -> Vec<Vec<String>> {
    let row = |s: &serde_json::Value| {
        let mut row = vec![address(s)];
        row.extend(["weight", "active", "inactive"].map(|k| s[k].to_string()));
        let keys = [
            "connections",
            "packets_in",
            "packets_out",
            "bytes_in",
            "bytes_out",
        ];
        row.extend(keys.map(|k| s["counters"][k].to_string()));
        row
    };
    let mut rows: Vec<_> = servers(bench).iter().map(row).collect();
    rows.sort();
    rows
}

/// The same as ipvsadm has it, in two listings.
fn their_rows(bench: &Bench, lab: &str) -> Vec<Vec<String>> {
    let (mut list, mut stats) = (
        ipvsadm(bench, lab, ""),
        ipvsadm(bench, lab, "--stats --exact"),
    );
    list.sort();
    stats.sort();
    let both = list.iter().zip(&stats);
    both.map(|(list, stats)| {
        assert_eq!(list[0], stats[0]);
        [&list[..1], &list[2..5], &stats[1..6]].concat()
    })
    .collect()
}

/// The kernel renews its counters every two seconds: one of two looks may be before that.
fn agrees(bench: &Bench, lab: &str) {
    let mut last = (Vec::new(), Vec::new());
    for _ in 0..20 {
        last = (our_rows(bench), their_rows(bench, lab));
        if last.0 == last.1 {
            return;
        }
    }
    assert_eq!(last.0, last.1);
}

#[test]
fn the_table_is_ipvsadms_and_weights_drain() {
    let bench = Bench::new();
    let before = host();
    bench.up(&bench.lab(&lab("table", 1, "")));
    agrees(&bench, "table");
    let mut stays = Connection::open(&bench, "table", [10, 87, 1, 100]);
    let old = stays.ask();
    let other = if old == "s1" { "s2" } else { "s1" };
    bench.ok(&format!("service weight {old} 0"));
    for _ in 0..4 {
        assert_eq!(
            Connection::open(&bench, "table", [10, 87, 1, 100]).ask(),
            other
        );
    }
    assert_eq!(stays.ask(), old, "the established connection goes on");
    // The kernel's estimator turns every two seconds, and renews the counters then.
    until("the counters have it", || {
        let all = servers(&bench).into_iter();
        let sum: u64 = all
            .map(|s| s["counters"]["connections"].as_u64().unwrap())
            .sum();
        sum == 5
    });
    agrees(&bench, "table");
    let of = |name: &str| {
        let all = servers(&bench);
        all.into_iter().find(|s| s["name"] == name).unwrap()
    };
    assert_eq!(
        (&of(&old)["weight"], &of(&old)["active"]),
        (&0.into(), &1.into())
    );
    assert_eq!(of(other)["counters"]["connections"], 4);
    // Between two of its turns, rates of both are the same numbers.
    until("there is a rate", || {
        stays.ask();
        let rate = |s: &serde_json::Value| s["rates"]["packets_in"].as_f64().unwrap();
        let theirs = ipvsadm(&bench, "table", "--rate");
        let ours = of(&old);
        let row = theirs.iter().find(|r| r[0] == address(&ours)).unwrap();
        rate(&ours) > 0.0 && row[2] == format!("{:.0}", rate(&ours))
    });

    // What ipvsadm changes by hand is seen, and can be changed back.
    let s1 = "10.87.1.11:80";
    bench.outside(
        "table",
        "lb",
        &format!("ipvsadm -e -t 10.87.1.100:80 -r {s1} -g -w 7"),
    );
    bench.outside(
        "table",
        "lb",
        "ipvsadm -a -t 10.87.1.100:80 -r 10.87.1.77:80 -g -w 2",
    );
    assert_eq!(of("s1")["weight"], 7);
    assert_eq!(of("10.87.1.77")["weight"], 2);
    agrees(&bench, "table");
    let ps = bench.ok("ps");
    assert!(ps.contains("s1(7)") && ps.contains("10.87.1.77(2)"), "{ps}");
    bench.ok("service remove 10.87.1.77");
    bench.ok("service weight web s1 1");
    assert_eq!(ipvsadm(&bench, "table", "").len(), 2);
    let events = bench.ok("events");
    assert!(
        events
            .lines()
            .any(|l| l.ends_with(&format!(" service web: weight of {old} 1 -> 0 (asked for)"))),
        "{events}"
    );
    let text = bench.ok("service --once");
    assert!(
        text.starts_with(
            "service web 10.87.1.100:80/tcp, scheduler rr, method dr, engine ipvs on lb\n"
        ),
        "{text}"
    );
    bench.ok("down");
    same_host(&before);
}

#[test]
fn servers_leave_come_back_and_join() {
    let bench = Bench::new();
    let before = host();
    bench.up(&bench.lab(&lab("join", 2, "")));
    let mut hangs = Connection::open(&bench, "join", [10, 87, 2, 100]);
    let gone = hangs.ask();
    bench.ok(&format!("service remove {gone}"));
    assert_eq!(ipvsadm(&bench, "join", "").len(), 1);
    hangs.send();
    for _ in 0..3 {
        assert_ne!(
            Connection::open(&bench, "join", [10, 87, 2, 100]).ask(),
            gone
        );
    }
    assert_eq!(
        bench.fails(&format!("service remove {gone}"), 1),
        format!(
            "error: service web has no server {gone}; there are {}\n",
            if gone == "s1" { "s2" } else { "s1" }
        )
    );
    bench.ok(&format!(
        "service add {gone} --weight 3 --upper 100 --lower 50"
    ));
    assert_eq!(
        hangs.answer(),
        gone,
        "the client's retransmission arrives now"
    );
    let n = if gone == "s1" { 11 } else { 12 };
    let own = format!("10.87.2.{n}:80");
    let column = |options: &str, range: std::ops::Range<usize>| {
        let rows = ipvsadm(&bench, "join", options);
        let row = rows.iter().find(|r| r[0] == own).unwrap();
        row[range].join(" ")
    };
    assert_eq!(column("", 1..3), "Route 3");
    assert_eq!(column("--thresholds", 1..3), "100 50");
    bench.ok("service add s3");
    assert!(
        bench
            .outside("join", "s3", "nft list ruleset")
            .contains("ip daddr 10.87.2.100 tcp dport 80 redirect")
    );
    let answers: std::collections::BTreeSet<_> = (0..6)
        .map(|_| Connection::open(&bench, "join", [10, 87, 2, 100]).ask())
        .collect();
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["s1", "s2", "s3"]);
    agrees(&bench, "join");
    bench.ok("down");
    same_host(&before);
}

#[test]
fn a_server_that_joins_a_tunnel_gets_its_end_of_it() {
    let bench = Bench::new();
    bench.up(&bench.lab(&lab("tun", 3, "method = \"tun\"\n")));
    assert!(
        !bench
            .outside("tun", "s3", "ip -d link")
            .contains("ipip remote any local 10.87.3.13")
    );
    bench.ok("service add s3");
    let links = bench.outside("tun", "s3", "ip -d link show up");
    assert!(
        links.contains("ipip remote any local 10.87.3.13"),
        "{links}"
    );
    let answers: std::collections::BTreeSet<_> = (0..6)
        .map(|_| Connection::open(&bench, "tun", [10, 87, 3, 100]).ask())
        .collect();
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["s1", "s2", "s3"]);
    bench.ok("down");
}

/// What the doctor says of IPVS, against ipvsadm in a namespace of its own.
#[test]
fn the_doctor_names_the_schedulers_that_ipvsadm_gets() {
    let bench = Bench::new();
    let before = host();
    let json = bench.json("doctor --json");
    same_host(&before);
    let check = |subject: &str| {
        let mut checks = json["checks"].as_array().unwrap().iter();
        checks.find(|c| c["subject"] == subject).unwrap().clone()
    };
    let list = common::tool("unshare", &["-n", "ipvsadm", "-Ln"]);
    assert_eq!(check("ipvs")["detail"], list.lines().next().unwrap());
    assert_eq!(check("ipvs")["state"], "ok");
    let schedulers = check("ipvs schedulers");
    let detail = schedulers["detail"].as_str().unwrap();
    let there: Vec<_> = detail.split(';').next().unwrap().split(' ').collect();
    for scheduler in [
        "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf",
        "twos",
    ] {
        let made = std::process::Command::new("unshare")
            .args(["-n", "ipvsadm", "-A", "-t", "127.0.0.1:1", "-s", scheduler])
            .output()
            .unwrap();
        assert_eq!(
            there.contains(&scheduler),
            made.status.success(),
            "{scheduler}: {schedulers}"
        );
    }
    assert!(there.len() > 3, "{detail}");
}
