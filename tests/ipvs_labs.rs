//! The labs of `labs/` for each of IPVS's methods, for UDP and IPv6, and the topology of the
//! kernel's own selftest, under a kernel that has IPVS (`scripts/with-ipvs`), judged by tcpdump
//! and ipvsadm.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::tape::{SYN, bytes, packets};
use common::{Bench, needs_ipvs, text};

/// The shipped lab of this name, with kernel IPVS or not at all.
fn shipped(bench: &Bench, name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("labs/{name}.toml"));
    let lab = std::fs::read_to_string(file).unwrap();
    let keys: Vec<_> = lab.lines().filter(|l| !l.starts_with('#')).collect();
    let mut lab = keys.join("\n");
    if !lab.contains("engine = \"ipvs\"") {
        assert!(!lab.contains("engine ="));
        let director = "director = \"lb\"\n";
        lab = lab.replace(director, &format!("{director}engine = \"ipvs\"\n"));
    }
    bench.lab(&lab)
}

fn up(name: &str) -> Bench {
    needs_ipvs();
    let bench = Bench::new();
    let lab = shipped(&bench, name);
    bench.up(&lab);
    bench
}

/// `ipvsadm --save -n` of a node, sorted.
fn saved(bench: &Bench, lab: &str, node: &str) -> Vec<String> {
    let saved = bench.outside(lab, node, "ipvsadm --save -n");
    let mut lines: Vec<_> = saved.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// HTTP codes of this many requests of the client, each a connection of its own.
fn get(bench: &Bench, times: usize, url: &str) {
    let urls = vec![url; times].join(" -o /dev/null ");
    let codes = bench.ok(&format!(
        "exec client curl -sS --globoff --max-time 60 --no-keepalive -H Connection:close \
         -w %{{http_code}}/%{{num_connects}}\\n -o /dev/null {urls}"
    ));
    assert_eq!(codes, "200/1\n".repeat(times));
}

#[test]
fn nat_passes_both_ways_through_the_director_and_maps_ports() {
    let bench = up("nat");
    assert_eq!(
        saved(&bench, "nat", "lb"),
        [
            "-A -t 192.168.30.3:80 -s rr",
            "-a -t 192.168.30.3:80 -r 172.28.130.4:8081 -m -w 1",
            "-a -t 192.168.30.3:80 -r 172.28.130.5:8082 -m -w 1",
        ]
    );
    get(&bench, 6, "http://192.168.30.3/");
    bench.ok("down");
    let file = |interface| bench.capture_file("nat", interface);
    let asked = packets(
        &file("client:eth1"),
        "dst host 192.168.30.3 and tcp dst port 80",
    );
    let answered = packets(
        &file("client:eth1"),
        "src host 192.168.30.3 and tcp src port 80",
    );
    assert!(asked >= 6 * 5 && answered >= 6 * 4, "{asked} {answered}");
    // The VIP is known on the client's side only, the servers' addresses on the other only.
    let on_lb = |interface, filter: &str| packets(&file(interface), filter);
    assert_eq!(on_lb("lb:eth1", "tcp and dst host 192.168.30.3"), asked);
    assert_eq!(on_lb("lb:eth1", "tcp and src host 192.168.30.3"), answered);
    assert_eq!(on_lb("lb:eth1", "net 172.28.130.0/24"), 0);
    let inside = "tcp and host 192.168.30.10 and net 172.28.130.0/24 and (port 8081 or port 8082)";
    assert_eq!(on_lb("lb:eth2", inside), asked + answered);
    assert_eq!(on_lb("lb:eth2", "host 192.168.30.3"), 0);
    for server in ["server1:eth1", "server2:eth1"] {
        assert_eq!(packets(&file(server), SYN), 3, "{server}");
    }
}

#[test]
fn a_tunnel_reaches_a_server_behind_a_router_which_answers_itself() {
    let bench = up("tun");
    assert_eq!(
        saved(&bench, "tun", "lb"),
        [
            "-A -t 172.28.140.100:8080 -s rr",
            "-a -t 172.28.140.100:8080 -r 172.28.140.4:8080 -i -w 1 --tun-type ipip",
            "-a -t 172.28.140.100:8080 -r 172.28.141.5:8080 -i -w 1 --tun-type ipip",
        ]
    );
    get(&bench, 6, "http://172.28.140.100:8080/");
    bench.ok("down");
    let file = |interface| bench.capture_file("tun", interface);
    let asked = packets(&file("client:eth1"), "dst host 172.28.140.100 and tcp");
    assert!(asked >= 6 * 5, "{asked}");
    let wrapped = bytes(&file("lb:eth1"), "ip proto 4");
    assert_eq!(wrapped.len(), asked, "one wrapped frame for each");
    for frame in &wrapped {
        let (outer, inner) = (&frame[14..34], &frame[34..54]);
        assert_eq!(outer[12..16], [172, 28, 140, 3], "from the director");
        let to = &outer[16..20];
        assert!(to == [172, 28, 140, 4] || to == [172, 28, 141, 5], "{to:?}");
        assert_eq!(inner[12..], [192, 168, 40, 10, 172, 28, 140, 100]);
        assert_eq!(inner[8], 62, "TTL 64, less the router and the director");
    }
    let answers = "tcp and src host 172.28.140.100";
    assert_eq!(packets(&file("lb:eth1"), answers), 0);
    for (server, router) in [
        ("server1:eth1", "router:eth2"),
        ("server2:eth1", "router:eth3"),
    ] {
        let frames = bytes(&file(server), "ip proto 4");
        let syns = frames.iter().filter(|f| f[14 + 20 + 20 + 13] & 0x12 == 2);
        assert_eq!(syns.count(), 3, "{server}");
        // Answers come unwrapped, and go their own way.
        let from = packets(&file(server), answers);
        assert!(from >= 3 * 4, "{server}: {from}");
        assert_eq!(packets(&file(router), answers), from, "{server}");
    }
}

#[test]
fn direct_routing_over_ipv6_in_both_styles() {
    let bench = up("ipv6");
    assert_eq!(
        saved(&bench, "ipv6", "lb"),
        [
            "-A -t [fd00:51::100]:8080 -s rr",
            "-A -t [fd00:51::3]:8080 -s rr",
            "-a -t [fd00:51::100]:8080 -r [fd00:51::4]:8080 -g -w 1",
            "-a -t [fd00:51::100]:8080 -r [fd00:51::5]:8080 -g -w 1",
            "-a -t [fd00:51::3]:8080 -r [fd00:51::4]:8080 -g -w 1",
            "-a -t [fd00:51::3]:8080 -r [fd00:51::5]:8080 -g -w 1",
        ]
    );
    for vip in ["fd00:51::3", "fd00:51::100"] {
        get(&bench, 4, &format!("http://[{vip}]:8080/"));
    }
    bench.ok("down");
    for vip in ["fd00:51::3", "fd00:51::100"] {
        let file = |interface| bench.capture_file("ipv6", interface);
        let to = format!("ip6 dst host {vip} and tcp");
        let from = format!("ip6 src host {vip} and tcp");
        let asked = packets(&file("client:eth1"), &to);
        assert!(asked >= 4 * 5, "{vip}: {asked}");
        assert_eq!(packets(&file("lb:eth1"), &to), 2 * asked, "{vip}");
        assert_eq!(packets(&file("lb:eth1"), &from), 0, "{vip}");
        assert_eq!(
            packets(&file("client:eth1"), &from),
            packets(&file("router:eth2"), &from),
            "{vip}"
        );
        for server in ["server1:eth1", "server2:eth1"] {
            let syns = format!("{to} and ip6[40 + 13] & 0x12 == 2");
            assert_eq!(packets(&file(server), &syns), 2, "{vip} at {server}");
        }
    }
}

#[test]
fn each_datagram_of_one_port_goes_to_another_server() {
    let bench = up("udp");
    assert_eq!(
        saved(&bench, "udp", "lb")[0],
        "-A -u 172.28.132.3:5300 -s rr -o"
    );
    let ask = "import socket\n\
               one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
               one.settimeout(60)\n\
               one.connect(('172.28.132.3', 5300))\n\
               for _ in range(20):\n    one.send(b'who')\n    print(one.recv(99).decode().strip())";
    let output = bench
        .nslab()
        .args(["exec", "client", "python3", "-c", ask])
        .output()
        .unwrap();
    let names = text(&output.stdout);
    let names: Vec<_> = names.lines().collect();
    assert_eq!(names.len(), 20, "{}", text(&output.stderr));
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    // One packet, no connection: nothing is left in the director's table.
    let table = bench.outside("udp", "lb", "ipvsadm -Lnc");
    assert_eq!(table.lines().count(), 2, "{table}");
    bench.ok("down");
    let file = |interface| bench.capture_file("udp", interface);
    assert_eq!(packets(&file("lb:eth1"), "udp dst port 5300"), 40);
    assert_eq!(packets(&file("lb:eth1"), "udp src port 5300"), 0);
    assert_eq!(
        packets(
            &file("client:eth1"),
            "src host 172.28.132.3 and udp src port 5300"
        ),
        20
    );
}

/// What tools/testing/selftests/net/netfilter/ipvs.sh asks for: bytes arrive unharmed at a VIP that
/// is on no network, by each method; and how they went.
#[test]
fn the_topology_of_the_kernels_selftest() {
    for (method, flags) in [
        ("dr", "-g -w 1"),
        ("nat", "-m -w 1"),
        ("tun", "-i -w 1 --tun-type ipip"),
    ] {
        let name = format!("kernel-selftest-{method}");
        let lab = format!("selftest-{method}");
        let bench = up(&name);
        assert_eq!(
            saved(&bench, &lab, "director"),
            [
                "-A -t 207.175.44.110:8080 -s rr".to_owned(),
                format!("-a -t 207.175.44.110:8080 -r 172.16.0.2:8080 {flags}"),
            ]
        );
        let sent: [u8; 32] = std::array::from_fn(|n| (n as u8).wrapping_mul(37) ^ 0xa5);
        let mut client = bench
            .nslab()
            .args([
                "exec",
                "client",
                "timeout",
                "60",
                "busybox",
                "nc",
                "207.175.44.110",
                "8080",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(&sent).unwrap();
        let output = client.wait_with_output().unwrap();
        assert_eq!(output.stdout, sent, "{method}");
        bench.ok("down");
        let file = |interface| bench.capture_file(&lab, interface);
        let (to, from) = (
            "dst host 207.175.44.110 and tcp",
            "src host 207.175.44.110 and tcp",
        );
        let asked = packets(&file("client:eth0"), to);
        let answered = packets(&file("client:eth0"), from);
        assert!(asked >= 4 && answered >= 3, "{method}: {asked} {answered}");
        assert_eq!(packets(&file("director:eth0"), to), asked, "{method}");
        let back = |filter| packets(&file("director:eth1"), filter);
        if method == "nat" {
            assert_eq!(packets(&file("director:eth0"), from), answered);
            assert_eq!(back("dst host 172.16.0.2 and tcp"), asked);
            assert_eq!(back("src host 172.16.0.2 and tcp"), answered);
        } else {
            assert_eq!(packets(&file("director:eth0"), from), 0, "{method}");
            assert_eq!(packets(&file("server:eth1"), from), answered, "{method}");
            let wrapped = back("ip proto 4 and dst host 172.16.0.2");
            assert_eq!(wrapped, if method == "tun" { asked } else { 0 });
            assert_eq!(back(to), if method == "tun" { 0 } else { asked });
        }
    }
}
