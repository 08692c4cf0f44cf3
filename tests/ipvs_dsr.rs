//! The flagship lab by the kernel's IPVS: what its packets say, and the same lab made by hand with
//! ip(8), nft(8) and ipvsadm(8) beside it. Takes a kernel with IPVS: `scripts/with-ipvs`.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::tape::{bytes, packets};
use common::{Bench, needs_ipvs, text, tool};

const VIP: &str = "172.28.128.3";
const CLIENT: &str = "192.168.10.168";
const TO_VIP: &str = "dst host 172.28.128.3 and tcp dst port 8080";
const FROM_VIP: &str = "src host 172.28.128.3 and tcp src port 8080";
const NODES: [&str; 5] = ["client", "router", "lb", "server1", "server2"];

/// Which sysctls decide about IPv4 and IPVS in a namespace; per-interface ones of what both have.
const SYSCTLS: &str = "^net\\.ipv4\\.(ip_forward|vs\\..*|conf\\.(all|default|eth1|eth2)\\.(rp_filter|\
                       arp_ignore|arp_announce|arp_filter|arp_accept|arp_notify|forwarding|\
                       accept_local|accept_redirects|send_redirects|route_localnet|\
                       accept_source_route|proxy_arp|src_valid_mark))$";

/// The same lab, made by hand, as one reads it in FAQs: without images, for nobody is served.
const BY_HAND: &str = r"
set -e
make() { ip netns add hand-$1; sysctls $1 all; sysctls $1 default; ip -n hand-$1 link set lo up; }
sysctls() {
    for key in rp_filter arp_ignore arp_announce arp_filter accept_redirects send_redirects; do
        ip netns exec hand-$1 sysctl -qw net.ipv4.conf.$2.$key=0
    done
}
plug() { # node, interface, switch, address
    ip -n hand-$1 link add $2 type veth peer name $1-$2 netns hand-switch
    ip -n hand-switch link set $1-$2 master $3 up
    ip -n hand-$1 addr add $4/24 dev $2
    ip -n hand-$1 link set $2 up
}
ip netns add hand-switch
for net in internet servers; do ip -n hand-switch link add $net up type bridge; done
for node in client router lb server1 server2; do make $node; done
ip netns exec hand-router sysctl -qw net.ipv4.ip_forward=1
plug client eth1 internet 192.168.10.168
plug router eth1 internet 192.168.10.2
plug router eth2 servers 172.28.128.2
plug lb eth1 servers 172.28.128.3
plug server1 eth1 servers 172.28.128.4
plug server2 eth1 servers 172.28.128.5
ip -n hand-client route add default via 192.168.10.2 proto static
for server in server1 server2; do
    ip -n hand-$server route add default via 172.28.128.2 proto static
    ip netns exec hand-$server nft 'table ip nat { chain prerouting {
        type nat hook prerouting priority dstnat; ip daddr 172.28.128.3 tcp dport 8080 redirect; }; }'
done
ip netns exec hand-lb ipvsadm -A -t 172.28.128.3:8080 -s rr
ip netns exec hand-lb ipvsadm -a -t 172.28.128.3:8080 -r 172.28.128.4:8080 -g
ip netns exec hand-lb ipvsadm -a -t 172.28.128.3:8080 -r 172.28.128.5:8080 -g
";

/// Sysctls of the caller's namespace, as they were, when it is dropped.
struct Inherited(Vec<(String, String)>);

impl Inherited {
    /// What every new namespace will inherit.
    fn set(keys: &[(&str, &str)]) -> Self {
        let path = |key: &str| PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        let was = keys
            .iter()
            .map(|(key, value)| {
                let was = std::fs::read_to_string(path(key)).unwrap();
                std::fs::write(path(key), value).unwrap();
                (path(key).display().to_string(), was)
            })
            .collect();
        Self(was)
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        for (path, value) in &self.0 {
            let _ = std::fs::write(path, value);
        }
    }
}

/// The namespaces of [`BY_HAND`], gone when it is dropped.
struct ByHand;

impl ByHand {
    fn make() -> Self {
        let made = Self;
        tool("bash", &["-c", BY_HAND]);
        made
    }

    fn run(node: &str, command: &str) -> String {
        let netns = format!("hand-{node}");
        let words = command.split(' ');
        tool(
            "ip",
            &[&["netns", "exec", &netns], &words.collect::<Vec<_>>()[..]].concat(),
        )
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for node in ["switch"].iter().chain(&NODES) {
            let _ = Command::new("ip")
                .args(["netns", "del", &format!("hand-{node}")])
                .status();
        }
    }
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<_> = text.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.sort();
    lines
}

/// A curl as in the README; the realserver that answered.
fn realserver(page: &str) -> String {
    let (_, after) = page
        .split_once("<th scope=\"row\">realserver</th><td>")
        .expect(page);
    after.split('<').next().unwrap().to_owned()
}

#[test]
fn the_flagship_by_kernel_ipvs() {
    needs_ipvs();
    let bench = Bench::new();
    // A host that drops what it has no route back to: with this, IPVS drops every request, unless
    // the lab sees to it that its namespaces do not inherit it.
    let host = Inherited::set(&[
        ("net.ipv4.conf.all.rp_filter", "2"),
        ("net.ipv4.conf.default.rp_filter", "2"),
    ]);
    let flagship = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/dsr.toml");
    let flagship = std::fs::read_to_string(flagship).unwrap();
    let lab = flagship.replace("engine = \"auto\"", "engine = \"ipvs\"");
    assert_ne!(lab, flagship);
    let output = bench.run(&format!("up {}", bench.lab(&lab).display()));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("director lb: engine ipvs"), "{said}");
    drop(host);

    let mut all = Vec::new();
    for _ in 0..6 {
        let page = bench.ok("exec client curl -sS --max-time 120 VIP:8080/thredds -L");
        all.push(realserver(&page));
    }
    let url = format!("http://{VIP}:8080/thredds");
    for _ in 0..2 {
        all.push(realserver(&tool(
            "curl",
            &["-sS", "--max-time", "120", "-L", &url],
        )));
    }
    for pair in all.windows(2) {
        assert_ne!(pair[0], pair[1], "round robin does not alternate: {all:?}");
    }
    the_same_as_by_hand(&bench);
    let macs = ["server1", "server2", "lb"].map(|node| {
        let link = bench.outside("dsr", node, "ip -j link show dev eth1");
        let link: serde_json::Value = serde_json::from_str(&link).unwrap();
        link[0]["address"].as_str().unwrap().to_owned()
    });
    bench.ok("down");
    the_director_passes_on_and_sees_no_answer(&bench);
    only_macs_and_ttl_change(&bench, &macs);
}

/// Table, routes and sysctls are those of the lab made by hand.
fn the_same_as_by_hand(bench: &Bench) {
    let _hand = ByHand::make();
    let save = "ipvsadm --save -n";
    let ours = sorted(&bench.outside("dsr", "lb", save));
    assert_eq!(ours, sorted(&ByHand::run("lb", save)));
    assert_eq!(ours.len(), 3, "{ours:?}");
    for node in NODES {
        let routes = "ip -4 route show table all";
        let ours = sorted(&bench.outside("dsr", node, routes));
        assert_eq!(ours, sorted(&ByHand::run(node, routes)), "{node}");
        assert!(ours.iter().any(|l| l.contains("dev eth1")), "{ours:?}");
        assert_eq!(
            ours.iter().any(|l| l.starts_with("default")),
            node.contains("server") || node == "client"
        );

        let sysctls = format!("sysctl -a -r {SYSCTLS}");
        let ours = sorted(&bench.outside("dsr", node, &sysctls));
        assert_eq!(ours, sorted(&ByHand::run(node, &sysctls)), "{node}");
        assert!(
            ours.contains(&"net.ipv4.conf.eth1.rp_filter = 0".to_owned()),
            "{ours:?}"
        );
    }
}

fn the_director_passes_on_and_sees_no_answer(bench: &Bench) {
    let file = |interface| bench.capture_file("dsr", interface);
    let from_client = format!("{TO_VIP} and src host {CLIENT}");
    let sent = packets(&file("client:eth1"), &from_client);
    assert!(sent > 40, "{sent}");
    assert_eq!(packets(&file("lb:eth1"), &from_client), 2 * sent);
    assert_eq!(
        packets(&file("lb:eth1"), FROM_VIP),
        0,
        "the director saw an answer"
    );
    assert_eq!(packets(&file("router:eth2"), &from_client), sent);
    let at_servers: usize = ["server1:eth1", "server2:eth1"]
        .map(|i| packets(&file(i), &from_client))
        .iter()
        .sum();
    assert_eq!(at_servers, sent);
    let answers = packets(&file("client:eth1"), FROM_VIP);
    assert!(answers > 20, "{answers}");
    assert_eq!(packets(&file("router:eth2"), FROM_VIP), answers);
    // The internal client, this host, is answered directly.
    assert_eq!(
        packets(&file("router:eth2"), "host 172.28.128.1 and tcp"),
        0
    );
}

/// Of each frame that the director passes on, nothing but the MAC addresses, the TTL and the sum over
/// the header that holds it is other than it came: not `ip.id`, not a byte of TCP.
fn only_macs_and_ttl_change(bench: &Bench, macs: &[String; 3]) {
    let file = bench.capture_file("dsr", "lb:eth1");
    let [server1, server2, lb] = macs;
    let came = bytes(&file, &format!("{TO_VIP} and ether dst {lb}"));
    let went = bytes(&file, &format!("{TO_VIP} and ether src {lb}"));
    assert!(came.len() > 40);
    assert_eq!(came.len(), went.len());
    let mut ttls = BTreeSet::new();
    let mut targets = BTreeSet::new();
    for (mut came, mut went) in came.into_iter().zip(went) {
        ttls.insert((came[TTL], went[TTL]));
        targets.insert(mac(&went[..6]));
        for frame in [&mut came, &mut went] {
            frame[..12].fill(0);
            frame[TTL] = 0;
            frame[CHECKSUM..CHECKSUM + 2].fill(0);
        }
        assert_eq!(came, went);
    }
    // net/netfilter/ipvs/ip_vs_xmit.c takes one: 64 of the host's, 63 of what the router passed on.
    assert_eq!(ttls, BTreeSet::from([(63, 62), (64, 63)]));
    assert_eq!(targets, BTreeSet::from([server1.clone(), server2.clone()]));
}

/// Offsets in an Ethernet frame with IPv4.
const TTL: usize = 14 + 8;
const CHECKSUM: usize = 14 + 10;

fn mac(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    digits.join(":")
}
