//! `nslab proof` and `nslab explain` on real labs and on captures that come from elsewhere, held
//! against tshark's reading of the same files.

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{Bench, count, text, tool};
use serde_json::Value;

const TWO: &str = r#"name = "two"
[networks.n]
subnet = "10.77.0.0/24"
[nodes.a]
interfaces.eth0 = { network = "n", address = "10.77.0.1" }
[nodes.b]
interfaces.eth0 = { network = "n", address = "10.77.0.2" }
"#;

fn lab_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("labs")
        .join(name)
}

/// Whatever the outcome is.
fn proof(bench: &Bench, words: &str) -> (Option<i32>, Value) {
    let output = bench.run(&format!("proof --json {words}"));
    let json = serde_json::from_slice(&output.stdout);
    let json = json.unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    (output.status.code(), json)
}

fn service(proof: &Value) -> &Value {
    &proof["services"][0]
}

fn verdict<'v>(proof: &'v Value, id: &str) -> (&'v str, &'v str) {
    let all = service(proof)["verdicts"].as_array().unwrap();
    let found = all.iter().find(|v| v["id"] == id);
    let found = found.unwrap_or_else(|| panic!("no verdict {id} in {proof:#}"));
    (
        found["outcome"].as_str().unwrap(),
        found["answer"].as_str().unwrap(),
    )
}

/// The matrix as (interface, to the VIP, from the VIP).
fn matrix(proof: &Value) -> Vec<(String, u64, u64)> {
    let rows = service(proof)["matrix"].as_array().unwrap();
    rows.iter()
        .map(|r| {
            let number = |key: &str| r[key].as_u64().unwrap();
            let point = r["point"].as_str().unwrap().to_owned();
            (point, number("to_vip"), number("from_vip"))
        })
        .collect()
}

/// What tshark counts in the same files.
fn by_tshark(bench: &Bench, lab: &str, vip: &str, points: &[String]) -> Vec<(String, u64, u64)> {
    points
        .iter()
        .map(|point| {
            let file = bench.capture_file(lab, point);
            let to = count(&file, &format!("ip.dst=={vip} && tcp.dstport==8080"));
            let from = count(&file, &format!("ip.src=={vip} && tcp.srcport==8080"));
            (point.clone(), to as u64, from as u64)
        })
        .collect()
}

fn points(rows: &[(String, u64, u64)]) -> Vec<String> {
    rows.iter().map(|(point, ..)| point.clone()).collect()
}

/// The flagship with two pages asked for, taken down.
fn flagship(bench: &Bench) {
    bench.up(&lab_file("dsr.toml"));
    for _ in 0..2 {
        bench.ok("exec client curl -sSL --max-time 20 -o /dev/null VIP:8080/thredds");
    }
    bench.ok("down");
}

#[test]
fn up_leaves_the_shape_of_the_lab_beside_its_captures() {
    let bench = Bench::new();
    let lab = bench.lab(TWO);
    let status = bench
        .nslab()
        .env("SUDO_UID", "1234")
        .env("SUDO_GID", "1235")
        .args(["up", lab.to_str().unwrap()])
        .status()
        .unwrap();
    assert!(status.success());
    bench.ok("down");
    let path = bench.path("exchange/two/lab.json");
    let meta = path.metadata().unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1234, 1235, 0o644)
    );
    let topology = nslab::trace::Topology::read(&path).unwrap();
    assert_eq!(topology.lab, "two");
    let b = topology.node("b").unwrap();
    assert_eq!(
        b.interfaces[0].addresses,
        ["10.77.0.2".parse::<std::net::IpAddr>().unwrap()]
    );
    // A lab without a service has nothing to prove.
    assert_eq!(
        bench.fails("proof two", 2),
        "error: lab two has no balanced service, so there is nothing to prove; `nslab explain FROM \
         TO` follows packets between its nodes\n"
    );
    assert_eq!(
        bench.fails("explain a b", 1),
        "error: no packet between a and b was captured; send some while the lab is up, as in `sudo \
         nslab exec a curl -sS b`, then ask again\n"
    );
}

#[test]
fn direct_routing_is_proven_and_tshark_counts_the_same() {
    let bench = Bench::new();
    bench.up(&lab_file("dsr.toml"));
    for _ in 0..2 {
        bench.ok("exec client curl -sSL --max-time 20 -o /dev/null VIP:8080/thredds");
    }
    bench.ok("down");
    let (code, proof) = proof(&bench, "");
    assert_eq!(code, Some(0), "{proof:#}");
    let rows = matrix(&proof);
    assert_eq!(
        rows,
        by_tshark(&bench, "dsr", "172.28.128.3", &points(&rows))
    );
    let of = |point: &str| {
        let row = rows.iter().find(|r| r.0 == point).unwrap();
        (row.1, row.2)
    };
    let (asked, answered) = of("client:eth1");
    assert!(asked > 10 && answered > 6, "{rows:?}");
    assert_eq!(of("lb:eth1"), (2 * asked, 0), "each in and out, no answer");
    for server in ["server1", "server2"] {
        let file = bench.capture_file("dsr", &format!("{server}:eth1"));
        let opened = "tcp.flags.syn==1 && tcp.flags.ack==0 && ip.dst==172.28.128.3";
        assert_eq!(count(&file, opened), 1, "{server} has one connection");
    }
    let proven = service(&proof);
    assert_eq!(proven["flows"].as_array().unwrap().len(), 2);
    assert_eq!(
        proven["conclusion"],
        format!(
            "Direct Routing: lb passed on each of the clients' {asked} frames (in and out: {}) and \
             saw none from the VIP: the realservers answered the clients themselves.",
            2 * asked
        )
    );
    for verdict in proven["verdicts"].as_array().unwrap() {
        assert_eq!(verdict["outcome"], "pass", "{verdict:#}");
    }
    // The evidence is where it says.
    let changed = proven["verdicts"].as_array().unwrap();
    let changed = changed.iter().find(|v| v["id"] == "changed").unwrap();
    let (came, went) = (&changed["evidence"][0], &changed["evidence"][1]);
    let file = bench.capture_file("dsr", "lb:eth1");
    let ids: Vec<_> = [came, went]
        .iter()
        .map(|e| {
            let this = format!("frame.number=={}", e["frame"]);
            common::frames(&file, &this, &["ip.id", "tcp.srcport", "tcp.seq_raw"]).remove(0)
        })
        .collect();
    assert_eq!(ids[0], ids[1], "the same packet, in and out");

    // The text that people see.
    let said = bench.ok("proof dsr");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[0],
        "lab dsr, service thredds at 172.28.128.3:8080/tcp, director lb"
    );
    assert_eq!(lines[2], "FRAMES        to VIP  from VIP");
    assert_eq!(lines[3], format!("client:eth1   {asked:>6}  {answered:>8}"));
    assert_eq!(*lines.last().unwrap(), "PROVEN (declared: method dr)");

    // And what CI servers read.
    bench.ok("proof --junit verdicts.xml");
    let xml = bench.path("verdicts.xml");
    let names = "import sys, xml.etree.ElementTree as x\n\
                 for case in x.parse(sys.argv[1]).iter('testcase'): print(case.get('name'))";
    let cases = tool("python3", &["-c", names, xml.to_str().unwrap()]);
    let ids = proven["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["id"].as_str().unwrap());
    assert_eq!(cases.lines().collect::<Vec<_>>(), ids.collect::<Vec<_>>());

    explained(&bench);
}

/// The lab's captures are there still.
fn explained(bench: &Bench) {
    let explained = bench.json("explain client VIP --json");
    let stops = |way: &str| -> Vec<String> {
        let hops = explained[way].as_array().unwrap();
        hops.iter()
            .map(|h| {
                format!(
                    "{} {}",
                    h["point"].as_str().unwrap(),
                    h["direction"].as_str().unwrap()
                )
            })
            .collect()
    };
    let server = explained["there"].as_array().unwrap().last().unwrap()["point"].clone();
    let server = server.as_str().unwrap();
    let there = [
        "client:eth1 out",
        "router:eth1 in",
        "router:eth2 out",
        "lb:eth1 in",
        "lb:eth1 out",
        &format!("{server} in"),
    ];
    assert_eq!(stops("there"), there);
    let back = [
        &format!("{server} out"),
        "router:eth2 in",
        "router:eth1 out",
        "client:eth1 in",
    ];
    assert_eq!(stops("back"), back);
    assert_eq!(explained["request"], "\"GET /thredds HTTP/1.1\"");
    let ttls: Vec<_> = explained["there"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["ttl"].as_u64().unwrap())
        .collect();
    assert_eq!(ttls[..3], [64, 64, 63]);
    let node = server.split(':').next().unwrap();
    let said = bench.ok(&format!("explain client {node}"));
    for sentence in [
        "client asks 172.28.128.3:8080; 172.28.128.3 is on none of its networks, so the frame goes to",
        &format!(
            "{node} does not have the VIP; NAT REDIRECT hands the packet to its socket on port 8080."
        ),
        "client has its answer.",
        "lb had no part in the way back: it saw none of this connection's",
        "note: nothing was captured from client to",
    ] {
        assert!(said.contains(sentence), "{sentence:?} is not in:\n{said}");
    }
}

#[test]
fn captures_of_any_origin_need_only_the_vip() {
    let bench = Bench::new();
    flagship(&bench);
    let folder = bench.path("foreign");
    std::fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let of = |point: &str| {
        bench
            .capture_file("dsr", point)
            .to_str()
            .unwrap()
            .to_owned()
    };
    // Microseconds, pcapng, cut, in the middle of a frame, and one as it is.
    tool(
        "editcap",
        &["-F", "pcap", &of("client:eth1"), &path("client.cap")],
    );
    tool(
        "editcap",
        &["-F", "pcapng", &of("lb:eth1"), &path("balancer.pcapng")],
    );
    tool(
        "editcap",
        &["-s", "68", &of("server1:eth1"), &path("one.pcap")],
    );
    std::fs::copy(of("server2:eth1"), path("two.pcap")).unwrap();
    let mut torn = std::fs::read(of("router:eth2")).unwrap();
    torn.truncate(torn.len() - 5);
    std::fs::write(path("router.pcap"), torn).unwrap();
    let kinds = tool(
        "capinfos",
        &["-t", &path("client.cap"), &path("balancer.pcapng")],
    );
    assert!(
        kinds.contains("pcapng") && !kinds.contains("nanosecond libpcap"),
        "{kinds}"
    );

    let files = "foreign/client.cap foreign/router.pcap foreign/balancer.pcapng foreign/one.pcap \
                 foreign/two.pcap";
    let (code, found) = proof(&bench, &format!("--vip 172.28.128.3:8080 {files}"));
    assert_eq!(code, Some(0), "{found:#}");
    let rows = matrix(&found);
    assert_eq!(
        points(&rows),
        ["client", "router", "balancer", "one", "two"]
    );
    assert_eq!(service(&found)["director"]["name"], "balancer");
    assert_eq!((rows[2].1, rows[2].2), (2 * rows[0].1, 0));
    let servers: Vec<_> = service(&found)["flows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["server"].clone())
        .collect();
    assert!(
        servers == ["one", "two"] || servers == ["two", "one"],
        "{servers:?}"
    );
    let notes = &found["files"][1]["notes"][0];
    assert!(
        notes.as_str().unwrap().starts_with("the file ends within"),
        "{notes}"
    );
    let cut = &service(&found)["notes"][0];
    assert!(
        cut.as_str()
            .unwrap()
            .ends_with("what was not captured of them was not compared"),
        "{cut}"
    );

    merged_and_missing(&bench, rows[0].1);
    without_knowing(&bench, files);
}

/// The same files as one, and without the director's.
fn merged_and_missing(bench: &Bench, asked: u64) {
    let path = |name: &str| {
        bench
            .path("foreign")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let of = |point: &str| {
        bench
            .capture_file("dsr", point)
            .to_str()
            .unwrap()
            .to_owned()
    };
    // One file of many interfaces, as mergecap makes it, is as good.
    let merged = path("merged.pcapng");
    let inputs = [
        "client:eth1",
        "router:eth2",
        "lb:eth1",
        "server1:eth1",
        "server2:eth1",
    ]
    .map(of);
    let mut args = vec!["-I", "none", "-w", &merged];
    args.extend(inputs.iter().map(String::as_str));
    tool("mergecap", &args);
    let (code, found) = proof(bench, "--vip 172.28.128.3 foreign/merged.pcapng");
    assert_eq!(code, Some(0), "{found:#}");
    assert_eq!(service(&found)["method"]["kind"], "direct");
    assert_eq!(matrix(&found).iter().map(|r| r.1).max(), Some(2 * asked));

    // Without the director's capture nothing is claimed of it.
    let (code, found) = proof(
        bench,
        "--vip 172.28.128.3:8080 foreign/client.cap foreign/router.pcap foreign/one.pcap foreign/two.pcap",
    );
    assert_eq!(code, Some(1));
    assert_eq!(service(&found)["outcome"], "inconclusive");
    assert_eq!(verdict(&found, "both-directions").0, "inconclusive");
}

fn without_knowing(bench: &Bench, files: &str) {
    // Who does not know the VIP is told.
    let said = bench.fails("proof foreign/client.cap foreign/balancer.pcapng", 2);
    assert_eq!(
        said,
        "error: which address is the VIP? give it with --vip; connections are opened to \
         172.28.128.3:8080 (2 connections, passed on), so perhaps --vip 172.28.128.3\n"
    );
    let said = bench.ok(&format!("explain 192.168.10.168 172.28.128.3:8080 {files}"));
    assert!(
        said.contains("On balancer the director keeps the connection with"),
        "{said}"
    );
}

#[test]
fn weights_show_in_the_loopback_lab() {
    let bench = Bench::new();
    bench.up(&lab_file("dsr-loopback.toml"));
    for _ in 0..8 {
        bench.ok("exec client curl -sS --max-time 20 -o /dev/null VIP:8080/");
    }
    // While the lab is up, too.
    let (code, proof) = proof(&bench, "");
    assert_eq!(code, Some(0), "{proof:#}");
    assert_eq!(
        verdict(&proof, "distribution"),
        (
            "pass",
            "Yes, 8 connections: server1 6, server2 2, in turns of 3 to 1."
        )
    );
    assert_eq!(verdict(&proof, "arp"), ("pass", "Only the director, lb."));
    let said = bench.ok("explain client VIP");
    assert!(said.contains("has the VIP on lo, silent to ARP"), "{said}");
    let direct = "exec client curl -sS --max-time 20 -o /dev/null http://server2:8080/";
    bench.ok(direct);
    let said = bench.ok("explain client server2");
    assert!(
        !said.contains("through the VIP") && said.contains("server2 answers 192.168.20.10;"),
        "{said}"
    );
}

/// The loopback style without its ARP sysctls: whoever answers first has the VIP, and HTTP is
/// answered all the same. So that the director does not answer first, its own answer is kept back.
#[test]
fn an_arp_leak_is_found_although_http_says_200() {
    let bench = Bench::new();
    let text = std::fs::read_to_string(lab_file("dsr-loopback.toml")).unwrap();
    let quiet = ["all", "eth1"].map(|c| format!("\"net.ipv4.conf.{c}.arp_ignore\" = \"0\", \"net.ipv4.conf.{c}.arp_announce\" = \"0\"")).join(", ");
    let mut broken = text.replace("name = \"dsr-loopback\"", "name = \"leak\"");
    for server in ["server1", "server2"] {
        let node = format!("[nodes.{server}]\n");
        broken = broken.replace(&node, &format!("{node}sysctls = {{ {quiet} }}\n"));
    }
    broken = broken.replace(
        "[nodes.lb]\n",
        "[nodes.lb]\nsysctls = { \"net.ipv4.conf.all.arp_ignore\" = \"8\" }\n",
    );
    let lab = bench.path("leak.toml");
    std::fs::write(&lab, broken).unwrap();
    bench.up(&lab);
    let status =
        bench.ok("exec client curl -sS --max-time 20 -o /dev/null -w %{http_code} VIP:8080/");
    assert_eq!(status, "200");
    bench.ok("down");
    let (code, proof) = proof(&bench, "leak");
    assert_eq!(code, Some(1), "{proof:#}");
    assert_eq!(service(&proof)["method"]["kind"], "bypassed");
    let said = service(&proof)["conclusion"].as_str().unwrap();
    assert!(
        said.starts_with(
            "Director bypassed (ARP leak): HTTP answered though lb saw no frame of it; server"
        ),
        "{said}"
    );
    assert_eq!(verdict(&proof, "passed-on").0, "fail");
    assert_eq!(verdict(&proof, "arp").0, "fail");
    let said = bench.run("proof leak");
    assert!(common::text(&said.stdout).ends_with("REFUTED (declared: method dr)\n"));
}

#[test]
fn weights_that_change_at_run_time_are_known_afterwards() {
    let bench = Bench::new();
    bench.up(&lab_file("dsr-loopback.toml"));
    let page = "exec client curl -sS --max-time 20 -o /dev/null VIP:8080/";
    bench.ok(page);
    bench.ok("service weight server1 0");
    for _ in 0..3 {
        bench.ok(page);
    }
    bench.ok("down");
    let (code, proof) = proof(&bench, "dsr-loopback");
    assert_eq!(code, Some(0), "{proof:#}");
    let (outcome, answer) = verdict(&proof, "distribution");
    assert_eq!(outcome, "inconclusive");
    assert!(
        answer.ends_with(", but the weight of server1 was changed from 3 to 0."),
        "{answer}"
    );
}
