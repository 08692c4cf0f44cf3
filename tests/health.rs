//! Health checks with the nft engine: what they see, and what follows. With IPVS, and for NAT and
//! tunnels: tests/ipvs_health.rs.

#[path = "health/bench.rs"]
mod bench;
mod common;

use std::collections::BTreeSet;

use bench::{Lab, PLAIN, Recipe};
use common::{count, frames, until};

const DR: Recipe = Recipe {
    service: "engine = \"nft\"\n\
              check = { http = \"http://VIP:8080/\", every = \"200ms\", timeout = \"500ms\" }",
    ..PLAIN
};

const LOOPBACK: Recipe = Recipe {
    service: "engine = \"nft\"\naccept = \"loopback\"\n\
              check = { tcp = true, every = \"200ms\", timeout = \"500ms\", rise = 1 }",
    ..DR
};

/// The reason that the next death of a server gives.
fn death(lab: &mut Lab, server: &str) -> String {
    let event = lab.event("server-died");
    assert_eq!(event["server"], server, "{event}");
    assert_eq!(event["service"], "web");
    event["why"].as_str().unwrap().to_owned()
}

#[test]
fn a_server_without_its_redirect_rule_is_dead_and_with_it_alive() {
    let mut lab = Recipe {
        listen: "RIP",
        ..DR
    }
    .up();
    // It listens on its own address only, to which the rule leads clients: they are answered, and
    // so is the check.
    let answers: Vec<_> = (0..4).map(|_| lab.ask().unwrap()).collect();
    assert!(answers.contains(&"server1".into()) && answers.contains(&"server2".into()));
    let rules = lab.outside("server1", "nft list table ip nslab");
    lab.outside("server1", "nft delete table ip nslab");
    // Its own address answers as before, which is what a check of that would see.
    lab.outside("router", "curl -sS --max-time 5 http://10.85.1.4:8080/");
    assert_eq!(
        death(&mut lab, "server1"),
        "no answer from 10.85.1.3:8080 within 500ms"
    );
    let file = lab.bench.path("rules");
    std::fs::write(&file, rules).unwrap();
    lab.outside("server1", &format!("nft -f {}", file.display()));
    assert_eq!(lab.event("server-revived")["server"], "server1");
}

#[test]
fn a_server_without_the_vip_on_its_loopback_is_dead() {
    let mut lab = LOOPBACK.up();
    lab.outside("server2", "ip address del 10.85.1.3/32 dev lo");
    lab.outside("router", "curl -sS --max-time 5 http://10.85.1.5:8080/");
    assert_eq!(
        death(&mut lab, "server2"),
        "no answer from 10.85.1.3:8080 within 500ms"
    );
    lab.outside("server2", "ip address add 10.85.1.3/32 dev lo");
    assert_eq!(lab.event("server-revived")["server"], "server2");
}

#[test]
fn a_server_that_listens_on_its_own_address_only_is_dead_to_the_vip() {
    let mut lab = Recipe {
        listen: "RIP",
        ..LOOPBACK
    }
    .up();
    let mut dead = BTreeSet::new();
    for _ in 0..2 {
        let event = lab.event("server-died");
        dead.insert(event["server"].as_str().unwrap().to_owned());
        assert_eq!(
            event["why"],
            "no connection to 10.85.1.3:8080: Connection refused"
        );
    }
    assert_eq!(dead.into_iter().collect::<Vec<_>>(), ["server1", "server2"]);
    lab.event("no-servers");
    assert!(lab.ask().is_err());
}

#[test]
fn a_killed_server_is_out_after_three_checks_and_back_after_its_restart() {
    let mut lab = DR.up();
    lab.kill_and_restart();
}

const EXEC: Recipe = Recipe {
    service: "engine = \"nft\"\non_fail = \"remove\"\n\
              check = { exec = [\"test\", \"!\", \"-e\", \"/tmp/srv/sick\"], every = \"200ms\", \
              timeout = \"5s\", rise = 1, fall = 2 }",
    ..DR
};

#[test]
fn a_command_decides_and_the_dead_are_removed_until_nobody_is_left() {
    let mut lab = EXEC.up();
    let sick = |lab: &Lab, server: &str| lab.bench.path(server).join("sick");
    std::fs::write(sick(&lab, "server1"), "").unwrap();
    assert_eq!(
        death(&mut lab, "server1"),
        "test ! -e /tmp/srv/sick ended with code 1"
    );
    assert_eq!(lab.weights(), [("server2".into(), 1)]);
    // It answers as well as ever: nobody asks it any more.
    let answers: BTreeSet<_> = (0..4).map(|_| lab.ask().unwrap()).collect();
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["server2"]);

    std::fs::write(sick(&lab, "server2"), "").unwrap();
    death(&mut lab, "server2");
    assert_eq!(lab.event("no-servers")["service"], "web");
    assert_eq!(lab.weights(), []);
    let ps = lab.bench.ok("ps");
    assert!(ps.contains("no live server"), "{ps}");
    assert!(lab.ask().is_err());

    std::fs::remove_file(sick(&lab, "server1")).unwrap();
    assert_eq!(lab.event("server-revived")["server"], "server1");
    assert_eq!(lab.event("served")["service"], "web");
    assert_eq!(lab.ask().unwrap(), "server1");
    let words: Vec<_> = lab
        .bench
        .ok("events")
        .lines()
        .filter_map(|l| l.split_once(" service web: "))
        .map(|(_, words)| words.to_owned())
        .collect();
    let dead = "is dead, removed (2 failed checks: test ! -e /tmp/srv/sick ended with code 1)";
    assert_eq!(
        words,
        [
            format!("server server1:8080 {dead}"),
            format!("server server2:8080 {dead}"),
            "no live server is left, clients get no answer".into(),
            "server server1:8080 is alive, weight 1 (1 passed check)".into(),
            "served again".into(),
        ]
    );
}

#[test]
fn checks_are_seen_on_the_servers_pass_no_director_and_prove_nothing() {
    let lab = DR.up();
    for _ in 0..4 {
        lab.ask().unwrap();
    }
    // The highest address of the servers' network.
    let plan = lab.bench.ok("plan check.toml");
    assert!(
        plan.contains("_switch: add address 10.85.1.254/24 to servers"),
        "{plan}"
    );
    let checks = |interface: &str| {
        let file = lab.bench.capture_file("check", interface);
        let filter = "ip.src==10.85.1.254 && ip.dst==10.85.1.3 && tcp.flags.syn==1";
        frames(&file, filter, &["eth.dst"])
    };
    until("each server was checked three times", || {
        ["server1:eth1", "server2:eth1"]
            .iter()
            .all(|i| checks(i).len() >= 3)
    });
    lab.bench.ok("down");
    for server in ["server1", "server2"] {
        let to: BTreeSet<_> = checks(&format!("{server}:eth1")).into_iter().collect();
        let mac = nslab::lab::Mac::from_seed(&["check", server, "eth1"]).to_string();
        assert_eq!(to.into_iter().collect::<Vec<_>>(), [mac], "at {server}");
    }
    for interface in ["lb:eth1", "router:eth1", "client:eth1"] {
        let file = lab.bench.capture_file("check", interface);
        assert_eq!(
            count(&file, "tcp && ip.addr==10.85.1.254"),
            0,
            "{interface}"
        );
    }
    let proof = lab.bench.ok("proof check");
    assert!(proof.contains("4 connections"), "{proof}");
}

#[test]
fn commands_and_checks_agree() {
    let mut lab = DR.up();
    lab.kill("server1");
    death(&mut lab, "server1");
    let said = lab.bench.run("service weight web server1 5");
    assert!(said.status.success());
    let said = common::text(&said.stderr) + &common::text(&said.stdout);
    let expected =
        "server server1:8080 of service web is dead: it gets weight 5 when it lives again";
    assert!(said.contains(expected), "{said}");
    assert_eq!(lab.weights()[0], ("server1".into(), 0));
    let table = lab.bench.ok("service web");
    assert!(
        table.contains("server1:8080 is dead: no connection to"),
        "{table}"
    );
    lab.start("server1");
    assert_eq!(lab.event("server-revived")["weight"], 5);
    assert_eq!(lab.weights()[0], ("server1".into(), 5));

    // One that leaves is checked no more, one that joins is.
    lab.bench.ok("service remove web server2");
    lab.bench.ok("service add web server2");
    lab.kill("server2");
    assert_eq!(
        death(&mut lab, "server2"),
        "no connection to 10.85.1.3:8080: Connection refused"
    );
}
