//! The flagship lab, `labs/dsr.toml`, judged from outside: by curl, tshark, ip and nft.

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;

use common::{Bench, count, frames, host, same_host, text, tool};

const VIP: &str = "172.28.128.3";
const CLIENT: &str = "192.168.10.168";
const TO_VIP: &str = "ip.dst==172.28.128.3 && tcp.dstport==8080";
const FROM_VIP: &str = "ip.src==172.28.128.3 && tcp.srcport==8080";
const INTERFACES: [&str; 6] = [
    "client:eth1",
    "router:eth1",
    "router:eth2",
    "lb:eth1",
    "server1:eth1",
    "server2:eth1",
];

/// The lab with the nft engine, whatever this kernel has; tests/ipvs_dsr.rs has the other one.
fn flagship(bench: &Bench) -> PathBuf {
    let path = bench.path("dsr.toml");
    let text = include_str!("../labs/dsr.toml");
    assert!(text.contains("engine = \"auto\""), "{text}");
    std::fs::write(&path, text.replace("engine = \"auto\"", "engine = \"nft\"")).unwrap();
    path
}

/// A curl as in the README; the realserver that answered.
fn curl(bench: &Bench) -> String {
    let page = bench.ok("exec client curl -sS --max-time 20 VIP:8080/thredds -L");
    realserver(&page)
}

fn realserver(page: &str) -> String {
    let at = page
        .find("<th scope=\"row\">realserver</th><td>")
        .expect(page);
    page[at..].split(['<', '>']).nth(6).unwrap().to_owned()
}

fn mac(bench: &Bench, node: &str) -> String {
    let link = bench.outside("dsr", node, "ip -j link show dev eth1");
    let link: serde_json::Value = serde_json::from_str(&link).unwrap();
    link[0]["address"].as_str().unwrap().to_owned()
}

/// Runs the lab with six curls of the client and two of the host, and leaves it up.
fn with_traffic(bench: &Bench) -> (Vec<String>, Vec<String>) {
    bench.up(&flagship(bench));
    let client = (0..6).map(|_| curl(bench)).collect();
    let url = format!("http://{VIP}:8080/thredds");
    let host = (0..2)
        .map(|_| realserver(&tool("curl", &["-sS", "--max-time", "20", "-L", &url])))
        .collect();
    (client, host)
}

#[test]
fn requests_pass_the_director_and_answers_bypass_it() {
    let bench = Bench::new();
    let before = host();
    let (client, host) = with_traffic(&bench);

    // Round robin: who is first does not matter, that they alternate does; the host's count too.
    let all: Vec<_> = client.iter().chain(&host).collect();
    for pair in all.windows(2) {
        assert_ne!(pair[0], pair[1], "round robin does not alternate: {all:?}");
    }
    let page = bench.ok("exec client curl -sS VIP:8080/thredds/catalog/catalog.html");
    assert!(page.contains("stand-in"), "{page}");
    assert!(
        page.contains("<td>VIP:8080</td>") && page.contains(CLIENT),
        "{page}"
    );
    let hops = bench.ok("exec client curl -sSL -o /dev/null -w %{http_code}/%{num_redirects}/%{num_connects} VIP:8080/thredds");
    assert_eq!(
        hops, "200/2/1",
        "two redirects and the page, on one connection"
    );

    // The director could not answer if it wanted to.
    let routes = bench.outside("dsr", "lb", "ip -j -4 route");
    assert!(!routes.contains("default"), "{routes}");
    let macs = ["server1", "server2", "lb", "router"].map(|n| mac(&bench, n));
    let forwarded = bench.outside("dsr", "lb", "nft -j list ruleset");
    assert!(
        forwarded.contains("\"hook\": \"ingress\"") && forwarded.contains("numgen"),
        "{forwarded}"
    );
    let redirect = bench.outside("dsr", "server1", "nft list ruleset");
    assert!(
        redirect.contains("ip daddr 172.28.128.3 tcp dport 8080 redirect"),
        "{redirect}"
    );

    let listed = bench.json("capture --json");
    bench.ok("down");
    let file = |interface: &str| bench.capture_file("dsr", interface);
    director_passes_on_and_sees_no_answer(&bench);
    answers_come_from_the_realservers(&bench, &macs);
    only_macs_change(&bench, &macs);

    // The internal client is answered directly: nothing of it crosses the router.
    assert_eq!(
        count(&file("router:eth2"), "ip.addr==172.28.128.1 && tcp"),
        0
    );
    assert_eq!(count(&file("router:eth1"), "ip.addr==172.28.128.1"), 0);

    for interface in INTERFACES {
        well_formed(&bench, interface, &listed);
    }
    // Before the first connection there is the ARP that precedes it: the capture began in time.
    let first = frames(
        &file("client:eth1"),
        "frame.number==1",
        &["_ws.col.Protocol"],
    );
    assert_eq!(first, ["ARP"]);
    same_host(&before);
}

fn director_passes_on_and_sees_no_answer(bench: &Bench) {
    let file = |interface: &str| bench.capture_file("dsr", interface);
    let to = |interface: &str, from: &str| {
        count(&file(interface), &format!("{TO_VIP} && ip.src=={from}"))
    };
    let from = |interface: &str| count(&file(interface), FROM_VIP);

    // The director: every frame of the client twice, none from the VIP.
    let sent = to("client:eth1", CLIENT);
    assert!(sent > 40, "{sent}");
    assert_eq!(to("lb:eth1", CLIENT), 2 * sent);
    assert_eq!(
        to("lb:eth1", "172.28.128.1"),
        2 * to_servers(bench, "172.28.128.1")
    );
    assert_eq!(from("lb:eth1"), 0, "the director saw an answer");
    assert_eq!(to("router:eth2", CLIENT), sent);
    assert_eq!(to_servers(bench, CLIENT), sent);
}

fn answers_come_from_the_realservers(bench: &Bench, macs: &[String; 4]) {
    let file = |interface: &str| bench.capture_file("dsr", interface);
    let from = |interface: &str| count(&file(interface), FROM_VIP);
    // Answers: from the realservers' own MACs over the router to the client.
    let answers = count(&file("client:eth1"), FROM_VIP);
    assert!(answers > 20);
    assert_eq!(from("router:eth2"), answers);
    let sources: BTreeSet<_> = frames(&file("router:eth2"), FROM_VIP, &["eth.src"])
        .into_iter()
        .collect();
    assert_eq!(sources, BTreeSet::from([macs[0].clone(), macs[1].clone()]));
}

fn only_macs_change(bench: &Bench, macs: &[String; 4]) {
    let file = |interface: &str| bench.capture_file("dsr", interface);
    // Only the MACs change at the director: all else of a frame is the same, in and out.
    let fields = [
        "ip.id",
        "ip.ttl",
        "tcp.srcport",
        "tcp.seq_raw",
        "tcp.ack_raw",
        "tcp.flags",
        "tcp.len",
        "tcp.checksum",
    ];
    let lb = &macs[2];
    let came = frames(
        &file("lb:eth1"),
        &format!("{TO_VIP} && eth.dst=={lb}"),
        &fields,
    );
    let went = frames(
        &file("lb:eth1"),
        &format!("{TO_VIP} && eth.src=={lb}"),
        &fields,
    );
    assert_eq!(came, went);
    let targets: BTreeSet<_> = frames(
        &file("lb:eth1"),
        &format!("{TO_VIP} && eth.src=={lb}"),
        &["eth.dst"],
    )
    .into_iter()
    .collect();
    assert_eq!(targets, BTreeSet::from([macs[0].clone(), macs[1].clone()]));
}

/// Right checksums, frames that fit the wire, no IPv6, nanoseconds, and the listed count.
fn well_formed(bench: &Bench, interface: &str, listed: &serde_json::Value) {
    let file = bench.capture_file("dsr", interface);

    assert_eq!(
        count(
            &file,
            "ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0"
        ),
        0,
        "{interface}"
    );
    assert!(
        count(&file, "tcp.checksum.status==1") > 0,
        "{interface}: checksums were not looked at"
    );
    assert_eq!(count(&file, "frame.len > 1514"), 0, "{interface}");
    assert_eq!(count(&file, "ipv6"), 0, "{interface}");
    let info = tool("capinfos", &["-M", file.to_str().unwrap()]);
    assert!(info.contains("nanosecond"), "{info}");
    let row = listed.as_array().unwrap().iter().find(|r| {
        format!(
            "{}:{}",
            r["node"].as_str().unwrap(),
            r["interface"].as_str().unwrap()
        ) == interface
    });
    assert_eq!(row.unwrap()["dropped"], 0);
    // `down` may add a few frames of connections that end; none is missing.
    assert!(
        count(&file, "frame") as u64 >= row.unwrap()["packets"].as_u64().unwrap(),
        "{interface}"
    );
}

/// Frames to the VIP that reached the two realservers.
fn to_servers(bench: &Bench, from: &str) -> usize {
    ["server1:eth1", "server2:eth1"]
        .map(|i| {
            count(
                &bench.capture_file("dsr", i),
                &format!("{TO_VIP} && ip.src=={from}"),
            )
        })
        .iter()
        .sum()
}

#[test]
fn what_people_see() {
    let bench = Bench::new();
    let output = bench.run(&format!("up {}", flagship(&bench).display()));
    assert!(output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("director lb: engine nft (the lab file asks for it), serving thredds\n"),
        "{said}"
    );
    for line in [
        "server1: started\n",
        "server2: started\n",
        "server1: ready (",
        "server2: ready (",
    ] {
        assert!(said.contains(line), "{line:?} is not in:\n{said}");
    }
    assert!(
        said.lines().last().unwrap().starts_with("lab dsr is up ("),
        "{said}"
    );

    let ps = bench.ok("ps");
    let squeezed: Vec<_> = ps
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert!(squeezed[0].starts_with("lab dsr ("), "{ps}");
    assert_eq!(squeezed[1], "NODE STATE PID RESTARTS IMAGE ADDRESSES");
    assert_eq!(
        squeezed[3],
        "router up - 0 - eth1=192.168.10.2/24 eth2=172.28.128.2/24"
    );
    assert!(
        squeezed[5].starts_with("server1 ready ")
            && squeezed[5].ends_with(" 0 tomcat eth1=172.28.128.4/24"),
        "{ps}"
    );
    assert_eq!(
        squeezed[7],
        "SERVICE ADDRESS DIRECTOR ENGINE METHOD SCHEDULER SERVERS"
    );
    assert_eq!(
        squeezed[8],
        "thredds 172.28.128.3:8080/tcp lb nft dr rr server1(1) server2(1)"
    );
    let pid = bench.json("ps --json")[0]["supervisor"]["pid"]
        .as_i64()
        .unwrap();
    let again = bench.fails(&format!("up {}", flagship(&bench).display()), 1);
    assert_eq!(
        again,
        format!(
            "error: lab dsr is up already (supervisor pid {pid}); `nslab ps` shows it, `nslab down dsr` ends it\n"
        )
    );

    let logs = bench.ok("logs server1");
    assert!(
        logs.contains("Starting Servlet engine") || logs.contains("GET /thredds"),
        "{logs}"
    );
    assert_eq!(bench.ok("exec client hostname"), "client\n");
    let hosts = bench.ok("exec client cat /etc/hosts");
    assert!(hosts.contains("172.28.128.3\tthredds VIP\n"), "{hosts}");
    let down = bench.run("down");
    assert!(
        text(&down.stderr).starts_with("captured "),
        "{}",
        text(&down.stderr)
    );
    assert!(
        text(&down.stderr).ends_with("lab dsr is down\n"),
        "{}",
        text(&down.stderr)
    );
    assert_eq!(
        bench.fails("down", 1),
        "error: no lab is up; start one with `sudo nslab up LAB.toml`\n"
    );
}
