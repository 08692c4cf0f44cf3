//! `labs/mixed.toml`, several services, methods and directors at once, under a kernel that has IPVS
//! (`scripts/with-ipvs`), judged by ipvsadm, ip and tshark.

mod common;

use std::path::{Path, PathBuf};

use common::{Bench, count, frames, host, same_host, tool};

const LAB: &str = "mixed";

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/mixed.toml")
}

/// `ipvsadm --save -n` of a director, sorted.
fn saved(bench: &Bench, node: &str) -> Vec<String> {
    let text = bench.outside(LAB, node, "ipvsadm --save -n");
    let mut lines: Vec<_> = text.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.sort();
    lines
}

/// So many requests of a client to a service, each a connection of its own, all answered.
fn ask(bench: &Bench, client: &str, url: &str, times: usize) {
    for _ in 0..times {
        let code = bench.ok(&format!(
            "exec {client} curl -sS -o /dev/null --max-time 60 -w %{{http_code}} http://{url}/"
        ));
        assert_eq!(code, "200", "{url}");
    }
}

/// First packets of connections in an interface's file.
fn begun(bench: &Bench, interface: &str, filter: &str) -> usize {
    let syn = format!("tcp.flags.syn == 1 && tcp.flags.ack == 0 && {filter}");
    count(&bench.capture_file(LAB, interface), &syn)
}

#[test]
fn one_lab_has_all_that_directors_may_have_at_once() {
    let before = host();
    let bench = Bench::new();
    bench.up(&shipped());

    programmed(&bench);
    accepted(&bench);
    ask(&bench, "client", "routed:8080", 4);
    ask(&bench, "client", "tunnelled:8080", 2);
    ask(&bench, "client", "masqueraded:80", 1);
    ask(&bench, "client6", "six:8080", 1);
    signal(&bench, 8);
    bench.ok("down");
    passed(&bench);
    same_host(&before);
}

/// What ipvsadm finds in the directors is what it would have put there by hand.
fn programmed(bench: &Bench) {
    let mut all = [
        "-A -t 172.28.160.100:8080 -s rr -p 300",
        "-a -t 172.28.160.100:8080 -r 172.28.160.4:8080 -g -w 1",
        "-a -t 172.28.160.100:8080 -r 172.28.160.5:8080 -g -w 1",
        "-A --sctp-service 172.28.160.100:8080 -s sh -b sh-fallback,sh-port",
        "-a --sctp-service 172.28.160.100:8080 -r 172.28.160.4:8080 -g -w 1",
        "-a --sctp-service 172.28.160.100:8080 -r 172.28.160.5:8080 -g -w 1",
        "-A -t 172.28.160.101:8080 -s wlc",
        "-a -t 172.28.160.101:8080 -r 172.28.160.4:8080 -i -w 3 --tun-type ipip",
        "-a -t 172.28.160.101:8080 -r 172.28.160.5:8080 -i -w 1 --tun-type ipip",
        "-A -t 192.168.60.3:80 -s rr",
        "-a -t 192.168.60.3:80 -r 172.28.160.6:8080 -m -w 1",
    ];
    all.sort_unstable();
    assert_eq!(saved(bench, "lb1"), all);
    assert_eq!(
        saved(bench, "lb2"),
        [
            "-A -t [fd00:61::100]:8080 -s rr",
            "-a -t [fd00:61::100]:8080 -r [fd00:61::6]:8080 -i -w 1 --tun-type ipip",
        ]
    );
    // What --save leaves out.
    let thresholds = bench.outside(LAB, "lb1", "ipvsadm -Ln --thresholds");
    let limits = |server: &str| {
        let tunnelled = thresholds.split("172.28.160.101:8080").nth(1).unwrap();
        let line = tunnelled.lines().find(|l| l.contains(server)).unwrap();
        let words: Vec<_> = line.split_whitespace().skip(2).take(2).collect();
        words.join(" ")
    };
    assert_eq!(limits("172.28.160.4:8080"), "0 0", "{thresholds}");
    assert_eq!(limits("172.28.160.5:8080"), "100 80", "{thresholds}");
    let expire = "sysctl -n net.ipv4.vs.expire_nodest_conn";
    assert_eq!(bench.outside(LAB, "lb1", expire), "1\n");
    assert_eq!(bench.outside(LAB, "lb2", expire), "0\n");
    // The same from inside a node that asks for the capability.
    let inside = bench.ok("exec lb2 ipvsadm -Ln");
    assert!(inside.contains("[fd00:61::100]:8080 rr"), "{inside}");
}

fn accepted(bench: &Bench) {
    // The VIPs are on server1's lo and tunnel, and it does not answer ARP for either.
    let addresses = bench.outside(LAB, "server1", "ip -br -4 address");
    let words = |link: &str| {
        let line = addresses.lines().find(|l| l.starts_with(link)).unwrap();
        line.split_whitespace()
            .skip(2)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(words("lo"), "127.0.0.1/8 172.28.160.100/32");
    assert_eq!(words("ipip1"), "172.28.160.101/32");
    let tunnel = bench.outside(LAB, "server1", "ip -d link show ipip1");
    assert!(
        tunnel.contains("ipip remote any local 172.28.160.4"),
        "{tunnel}"
    );
}

fn passed(bench: &Bench) {
    // Persistence: the client stayed with one server, over four connections.
    let routed = "ip.dst == 172.28.160.100 && !(ip.proto == 4)";
    let shares = ["server1:eth1", "server2:eth1"].map(|i| begun(bench, i, routed));
    assert!(shares == [4, 0] || shares == [0, 4], "{shares:?}");
    // The tunnel: packets whole inside others, answers straight to the router.
    let inner = "ip.proto == 4 && ip.dst == 172.28.160.101";
    let shares = ["server1:eth1", "server2:eth1"].map(|i| begun(bench, i, inner));
    assert_eq!(shares.iter().sum::<usize>(), 2, "{shares:?}");
    let outer = frames(
        &bench.capture_file(LAB, "lb1:eth2"),
        "ip.proto == 4",
        &["ip.src", "ip.dst"],
    );
    assert!(
        outer
            .iter()
            .all(|f| f.starts_with("172.28.160.3,192.168.60.10\t172.28.160.")),
        "{outer:?}"
    );
    let answers = "ip.src == 172.28.160.100 || ip.src == 172.28.160.101";
    assert_eq!(count(&bench.capture_file(LAB, "lb1:eth2"), answers), 0);
    assert!(count(&bench.capture_file(LAB, "client:eth1"), answers) > 0);
    // NAT: the server was asked at its own address and port, and the client knows the VIP only.
    assert_eq!(
        begun(
            bench,
            "server3:eth1",
            "ip.dst == 172.28.160.6 && tcp.dstport == 8080"
        ),
        1
    );
    let server3 = "ip.addr == 172.28.160.6";
    assert_eq!(count(&bench.capture_file(LAB, "client:eth1"), server3), 0);
    assert!(
        count(
            &bench.capture_file(LAB, "lb1:eth2"),
            "ip.src == 172.28.160.6"
        ) > 0
    );
    // IPv6 in IPv6, and answers that the second director never saw.
    let six = bench.capture_file(LAB, "server6:eth1");
    assert_eq!(begun(bench, "server6:eth1", "ipv6.nxt == 41"), 1);
    assert!(count(&six, "ipv6.src == fd00:61::100 && tcp") > 0);
    let lb2 = bench.capture_file(LAB, "lb2:eth1");
    assert_eq!(count(&lb2, "ipv6.src == fd00:61::100 && tcp"), 0);
    // Source hashing with the port: each packet came to a server, and not all to one.
    let sctp = |i: &str| count(&bench.capture_file(LAB, i), "sctp.chunk_type == 1 && !icmp");
    assert_eq!(sctp("lb1:eth2"), 16, "in and out");
    let shares = ["server1:eth1", "server2:eth1"].map(sctp);
    assert_eq!(shares[0] + shares[1], 8, "{shares:?}");
    assert!(shares.iter().all(|n| *n > 0), "{shares:?}");
}

/// An SCTP association's first packet (INIT, RFC 9260, 3.3.2) from so many ports. The kernel needs
/// no SCTP of its own for that, as little as IPVS does.
fn signal(bench: &Bench, ports: u16) {
    let script = bench.path("init.py");
    let text = format!(
        r#"
import socket, struct
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
for port in range(5000, 5000 + {ports}):
    head = struct.pack(">HHI", port, 8080, 0)
    init = struct.pack(">BBHIIHHI", 1, 0, 20, port, 65536, 1, 1, 1)
    check = struct.pack("<I", crc32c(head + bytes(4) + init))
    out.sendto(head + check + init, ("172.28.160.100", 0))
"#
    );
    std::fs::write(&script, text).unwrap();
    let pin = format!("--net={}", bench.ns(LAB, "client").display());
    tool("nsenter", &[&pin, "python3", script.to_str().unwrap()]);
}
