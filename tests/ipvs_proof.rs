//! `nslab proof` and `nslab explain` under the kernel's IPVS: DR, NAT and tunnels, held against
//! tshark's reading of the same files. Needs a kernel with IPVS; scripts/with-ipvs gives one.

mod common;

use std::path::{Path, PathBuf};

use common::{Bench, count, text};
use serde_json::Value;

fn lab_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("labs")
        .join(name)
}

/// A lab with some pages asked for, taken down; what `proof` says of it.
fn prove(bench: &Bench, lab: &str, port: u16, pages: usize) -> Value {
    bench.up(&lab_file(&format!("{lab}.toml")));
    for _ in 0..pages {
        bench.ok(&format!(
            "exec client curl -sS --max-time 30 -o /dev/null http://VIP:{port}/"
        ));
    }
    bench.ok("down");
    let output = bench.run(&format!("proof --json {lab}"));
    let proof: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    assert_eq!(output.status.code(), Some(0), "{proof:#}");
    let topology = nslab::trace::Topology::read(&bench.path(&format!("exchange/{lab}/lab.json")));
    assert_eq!(
        topology.unwrap().services[0].engine.as_deref(),
        Some("ipvs")
    );
    proof
}

fn row(proof: &Value, point: &str) -> Value {
    let rows = proof["services"][0]["matrix"].as_array().unwrap();
    rows.iter().find(|r| r["point"] == point).unwrap().clone()
}

fn number(row: &Value, key: &str) -> usize {
    usize::try_from(row[key].as_u64().unwrap()).unwrap()
}

fn answer(proof: &Value, id: &str) -> String {
    let all = proof["services"][0]["verdicts"].as_array().unwrap();
    let found = all.iter().find(|v| v["id"] == id).unwrap();
    assert_eq!(found["outcome"], "pass", "{found:#}");
    found["answer"].as_str().unwrap().to_owned()
}

fn says(text: &str, sentences: &[&str]) {
    // Sentences are wrapped where the line ends.
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in sentences {
        assert!(flat.contains(sentence), "{sentence:?} is not in:\n{text}");
    }
}

#[test]
fn direct_routing_takes_one_off_the_ttl() {
    let bench = Bench::new();
    let proof = prove(&bench, "dsr-loopback", 8080, 4);
    let lb = row(&proof, "lb:eth1");
    let file = bench.capture_file("dsr-loopback", "lb:eth1");
    let to = count(&file, "ip.dst==172.28.129.100 && tcp.dstport==8080");
    assert_eq!((number(&lb, "to_vip"), number(&lb, "from_vip")), (to, 0));
    assert_eq!(to, 2 * number(&row(&proof, "client:eth1"), "to_vip"));
    let changed = answer(&proof, "changed");
    assert_eq!(
        changed,
        format!(
            "Yes: only MAC addresses and the TTL (63 to 62), in all {} frames compared byte by byte.",
            to / 2
        )
    );
    assert_eq!(
        answer(&proof, "distribution"),
        "Yes, 4 connections: server1 3, server2 1, in turns of 3 to 1."
    );
    let said = bench.ok("explain client VIP");
    says(
        &said,
        &[
            "On lb IPVS keeps the connection with server",
            "TTL 63 to 62",
            "has the VIP on lo",
        ],
    );
}

#[test]
fn nat_rewrites_both_ways() {
    let bench = Bench::new();
    let proof = prove(&bench, "nat", 80, 4);
    assert_eq!(proof["services"][0]["method"]["kind"], "nat");
    let (outside, inside) = (row(&proof, "lb:eth1"), row(&proof, "lb:eth2"));
    let tshark = |point: &str, filter: &str| count(&bench.capture_file("nat", point), filter);
    let vip = "ip.addr==192.168.30.3 && tcp.port==80";
    assert_eq!(
        number(&outside, "to_vip") + number(&outside, "from_vip"),
        tshark("lb:eth1", vip)
    );
    assert_eq!(
        number(&inside, "to_real"),
        tshark(
            "lb:eth2",
            "ip.dst==172.28.130.4 && tcp.dstport==8081 || ip.dst==172.28.130.5 && tcp.dstport==8082"
        )
    );
    assert_eq!(number(&inside, "to_vip"), 0);
    let said = proof["services"][0]["conclusion"].as_str().unwrap();
    assert!(
        said.starts_with("NAT: director saw both directions. lb sent the clients' requests on"),
        "{said}"
    );
    let changed = answer(&proof, "changed");
    for rewritten in [
        "192.168.30.3:80 to 172.28.130.4:8081",
        "192.168.30.3:80 to 172.28.130.5:8082",
    ] {
        assert!(changed.contains(rewritten), "{changed}");
    }
    assert_eq!(
        answer(&proof, "distribution"),
        "Yes, 4 connections: server1 2, server2 2, strictly in turn."
    );
    let said = bench.ok("explain client VIP");
    says(
        &said,
        &[
            "and rewrites the destination, 192.168.30.3:80 to 172.28.130.",
            "On lb IPVS puts the VIP back: source 172.28.130.",
            "is addressed itself",
        ],
    );

    // The same files without the lab: sequence numbers tell what belongs together.
    std::fs::create_dir(bench.path("foreign")).unwrap();
    let mut files = Vec::new();
    for point in [
        "client:eth1",
        "lb:eth1",
        "lb:eth2",
        "server1:eth1",
        "server2:eth1",
    ] {
        let name = format!("foreign/{}.cap", point.replace(':', "_"));
        std::fs::copy(bench.capture_file("nat", point), bench.path(&name)).unwrap();
        files.push(name);
    }
    let found = bench.json(&format!(
        "proof --json --vip 192.168.30.3:80 {}",
        files.join(" ")
    ));
    assert_eq!(found["services"][0]["method"]["kind"], "nat");
}

#[test]
fn tunnels_wrap_and_leave_the_packet_as_it_is() {
    let bench = Bench::new();
    let proof = prove(&bench, "tun", 8080, 4);
    assert_eq!(proof["services"][0]["method"]["tunnel"], "ipip");
    let lb = row(&proof, "lb:eth1");
    let file = bench.capture_file("tun", "lb:eth1");
    assert_eq!(number(&lb, "wrapped"), count(&file, "ip.proto==4"));
    assert_eq!(
        number(&lb, "to_vip"),
        count(&file, "ip.dst==172.28.140.100 && tcp.dstport==8080")
    );
    assert_eq!(number(&lb, "from_vip"), 0);
    let changed = answer(&proof, "changed");
    assert!(
        changed.starts_with("Yes: it wrapped them in IPIP (172.28.140.3 > 172.28.140.4) and wrapped them in IPIP (172.28.140.3 > 172.28.141.5); the packet inside is the same"),
        "{changed}"
    );
    let said = proof["services"][0]["conclusion"].as_str().unwrap();
    assert!(
        said.starts_with("Tunnel: lb wrapped the clients'"),
        "{said}"
    );
    let said = bench.ok("explain client server2");
    says(
        &said,
        &[
            "and wraps the packet: IPIP 172.28.140.3 > 172.28.141.5",
            "server2 unwraps it and finds the VIP on its tunnel device",
        ],
    );
}

#[test]
fn ipv6_is_followed_as_well() {
    let bench = Bench::new();
    let proof = prove(&bench, "ipv6", 8080, 2);
    let lb = row(&proof, "lb:eth1");
    let file = bench.capture_file("ipv6", "lb:eth1");
    let to = count(&file, "ipv6.dst==fd00:51::3 && tcp.dstport==8080");
    assert_eq!((number(&lb, "to_vip"), number(&lb, "from_vip")), (to, 0));
    assert_eq!(proof["services"][0]["method"]["kind"], "direct");
}
