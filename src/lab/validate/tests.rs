//! What a valid file becomes.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::*;
use crate::lab::{Accept, CaptureScope, Method, Protocol, ReadyKind, Restart, Scheduler, Seccomp};

#[test]
fn macs_that_meet_are_told_apart_the_same_way_each_time() {
    let parts = ["lab", "node", "eth1"];
    let first = || {
        let mut taken = HashSet::from([Mac::from_seed(&parts)]);
        (
            unique_mac(&mut taken, &parts),
            unique_mac(&mut taken, &parts),
        )
    };
    let (a, b) = first();
    assert_ne!(a, Mac::from_seed(&parts));
    assert_ne!(a, b);
    assert_eq!((a, b), first());
    assert_eq!(
        unique_mac(&mut HashSet::new(), &parts),
        Mac::from_seed(&parts)
    );
}

fn lab(text: &str) -> Lab {
    load(Path::new("test.toml"), text).unwrap_or_else(|d| panic!("{d}"))
}

fn ip(s: &str) -> IpAddr {
    s.parse().expect("an address")
}

#[test]
fn the_flagship_is_resolved() {
    let lab = lab(include_str!("../../../labs/dsr.toml"));
    assert_eq!(lab.name().as_str(), "dsr");
    let names: Vec<&str> = lab.nodes().iter().map(|n| n.name().as_str()).collect();
    assert_eq!(names, ["client", "router", "lb", "server1", "server2"]);
    let node = |name: &str| lab.node(name).expect("a node");
    assert_eq!(node("client").gateway(), Some(ip("192.168.10.2")));
    assert_eq!(node("server1").gateway(), Some(ip("172.28.128.2")));
    assert_eq!(node("lb").gateway(), None);
    assert!(node("router").forward() && !node("lb").forward());
    assert!(lab.node("nobody").is_none());

    let servers = lab.network("servers").expect("a network");
    let host = servers.host().expect("the host is on it");
    assert_eq!(host.ifname().as_str(), "dsr-servers");
    assert_eq!(host.address().to_string(), "172.28.128.1/24");
    assert_eq!(host.mac(), Mac::from_seed(&["dsr", "", "servers"]));
    assert!(lab.network("internet").expect("a network").host().is_none());
    assert_eq!((servers.mtu(), servers.ipv6()), (1500, false));

    let [service] = lab.services() else {
        panic!("one service")
    };
    assert_eq!(service.director().as_str(), "lb");
    assert_eq!((service.vip(), service.port()), (ip("172.28.128.3"), 8080));
    assert_eq!(
        (service.protocol(), service.method()),
        (Protocol::Tcp, Method::Dr)
    );
    let server = &service.servers()[1];
    assert_eq!(server.node().as_str(), "server2");
    assert_eq!(server.address(), ip("172.28.128.5"));
    assert_eq!(server.mac(), Mac::from_seed(&["dsr", "server2", "eth1"]));
    assert_eq!(server.mac(), node("server2").interfaces()[0].mac());
    assert_eq!(
        (server.interface().as_str(), server.via().as_str()),
        ("eth1", "eth1")
    );
    assert_eq!(server.weight(), 1);

    let ready = node("server1").ready().expect("a probe");
    assert_eq!(ready.timeout(), std::time::Duration::from_mins(1));
    assert_eq!(
        *ready.kind(),
        ReadyKind::Http {
            host: "localhost".into(),
            port: 8080,
            path: "/thredds/".into()
        }
    );
    assert_eq!(*lab.capture().scope(), CaptureScope::All);
    assert_eq!(lab.capture().snaplen(), 262_144);
    assert!(lab.capture().merge());
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one file with every key, and what became of each"
)]
fn every_key_arrives() {
    let lab = lab(r#"
name = "all-keys"
[networks.six]
subnet = "fd00:1::/64"
host = "fd00:1::1/64"
mtu = 1280
[networks.four]
subnet = "10.0.0.0/31"
ipv6 = true
[nodes.n]
image = "debian:12"
entrypoint = ["/bin/run", "-v"]
command = ["sleep", "9"]
user = "web:staff"
workdir = "/srv//x/"
env = { A = "1", "b c" = "" }
env_file = ["a.env", "/b.env"]
volumes = ["a:/x:ro", { source = "/b", target = "/y//z/" }]
tmpfs = ["/run", "/c:rw,noexec,size=64m,mode=755", { target = "/d", size = "1GiB", mode = "0700", exec = true }]
keep = true
stop_signal = "SIGRTMIN+3"
stop_grace = "60m"
limits = { memory = "512m", cpus = 1.255, pids = 200 }
cap_add = ["NET_RAW", "CAP_SYS_ADMIN"]
cap_drop = ["ALL", "MKNOD"]
seccomp = "unconfined"
sysctls = { "net.ipv4.tcp_ecn" = 1, "net.ipv4.ip_local_port_range" = "1 2" }
restart = "always"
ready = { tcp = 22, timeout = "1500ms" }
gateway = "fd00:1::1"
interfaces.e6 = { network = "six", address = "fd00:1::2" }
interfaces.e4 = { network = "four", address = "10.0.0.0/31", aliases = ["10.9.9.9", "fd00:2::9"] }
[nodes.peer]
interfaces.e4 = { network = "four", address = "10.0.0.1" }
[services.s]
vip = "10.9.9.9"
port = 53
protocol = "udp"
director = "n"
scheduler = "sh"
accept = "loopback"
servers = [{ node = "peer", weight = 65535, port = 53 }]
engine = "nft"
[capture]
interfaces = ["n:e4", "n:e4", "peer:e4"]
snaplen = 64
"#);
    let n = lab.node("n").expect("a node");
    assert_eq!(n.image().map(String::as_str), Some("debian:12"));
    assert_eq!(n.command().expect("a command"), &["sleep", "9"]);
    assert_eq!(n.env().len(), 2);
    let volumes: Vec<String> = n
        .volumes()
        .iter()
        .map(|v| {
            format!(
                "{}>{}:{}",
                v.source().display(),
                v.target().display(),
                v.read_only()
            )
        })
        .collect();
    assert_eq!(volumes, ["a>/x:true", "/b>/y/z:false"]);
    assert_eq!(n.cap_add(), ["CAP_NET_RAW", "CAP_SYS_ADMIN"]);
    assert_eq!(n.cap_drop(), ["ALL", "CAP_MKNOD"]);
    assert_eq!(n.entrypoint().expect("an entrypoint"), &["/bin/run", "-v"]);
    assert_eq!(n.user().map(String::as_str), Some("web:staff"));
    assert_eq!(n.workdir().map(PathBuf::as_path), Some(Path::new("/srv/x")));
    let files: Vec<&Path> = n.env_files().iter().map(|f| f.path().as_path()).collect();
    assert_eq!(files, [Path::new("a.env"), Path::new("/b.env")]);
    let tmpfs: Vec<String> = n
        .tmpfs()
        .iter()
        .map(|t| {
            let path = t.target().display();
            format!("{path} {:?} {:o} {}", t.size(), t.mode(), t.exec())
        })
        .collect();
    assert_eq!(
        tmpfs,
        [
            "/run None 1777 false",
            "/c Some(67108864) 755 false",
            "/d Some(1073741824) 700 true"
        ]
    );
    assert!(n.keep());
    assert_eq!(n.stop_signal(), Some(37));
    assert_eq!(n.stop_grace(), Some(std::time::Duration::from_hours(1)));
    let limits = n.limits().expect("limits");
    assert_eq!(
        (limits.memory(), limits.cpus_milli(), limits.pids()),
        (Some(512 << 20), Some(1255), Some(200))
    );
    assert_eq!(n.seccomp(), Seccomp::Unconfined);
    assert_eq!(n.sysctls()["net.ipv4.tcp_ecn"], "1");
    assert_eq!(n.restart(), Restart::Always);
    let ready = n.ready().expect("a probe");
    assert_eq!(*ready.kind(), ReadyKind::Tcp(22));
    assert_eq!(ready.timeout(), std::time::Duration::from_millis(1500));
    assert_eq!(n.gateway(), Some(ip("fd00:1::1")));
    let peer = lab.node("peer").expect("a node");
    assert_eq!((peer.limits(), peer.keep()), (None, false));
    assert_eq!((peer.stop_signal(), peer.stop_grace()), (None, None));
    assert_eq!(peer.seccomp(), Seccomp::Default);
    let e6 = n.interface("e6").expect("there");
    assert_eq!(
        (e6.address().to_string().as_str(), e6.mtu(), e6.ipv6()),
        ("fd00:1::2/64", 1280, true)
    );
    let e4 = n.interface("e4").expect("there");
    assert_eq!(
        (e4.address().to_string().as_str(), e4.mtu(), e4.ipv6()),
        ("10.0.0.0/31", 1500, true)
    );
    assert_eq!(e4.aliases(), [ip("10.9.9.9"), ip("fd00:2::9")]);
    let s = &lab.services()[0];
    assert_eq!(
        (s.protocol(), s.scheduler(), s.accept()),
        (Protocol::Udp, Scheduler::Sh, Accept::Loopback)
    );
    assert_eq!(s.servers()[0].weight(), 65535);
    let CaptureScope::Only(list) = lab.capture().scope() else {
        panic!("a list")
    };
    let list: Vec<String> = list.iter().map(|(n, i)| format!("{n}:{i}")).collect();
    assert_eq!(list, ["n:e4", "peer:e4"]);
    assert_eq!(lab.capture().snaplen(), 64);
}

#[test]
fn the_order_is_the_files() {
    let lab = lab("name = \"x\"\n[nodes.z.env]\nA = \"1\"\n[nodes.m]\n[nodes.a]\n");
    let names: Vec<&str> = lab.nodes().iter().map(|n| n.name().as_str()).collect();
    assert_eq!(names, ["z", "m", "a"]);
}

#[test]
fn the_first_shared_network_is_the_gateways() {
    let text = r#"
name = "x"
[networks.a]
subnet = "10.0.0.0/24"
[networks.b]
subnet = "10.0.1.0/24"
[nodes.n]
gateway = "r"
interfaces.e1 = { network = "b", address = "10.0.1.2" }
interfaces.e0 = { network = "a", address = "10.0.0.2" }
[nodes.r]
forward = true
interfaces.e0 = { network = "a", address = "10.0.0.1" }
interfaces.e1 = { network = "b", address = "10.0.1.1" }
"#;
    assert_eq!(lab(text).nodes()[0].gateway(), Some(ip("10.0.1.1")));
}

/// One network with many nodes and a service over all of them, as a file.
fn star(nodes: usize) -> String {
    let mut text = "name = \"star\"\n[networks.lan]\nsubnet = \"10.0.0.0/16\"\n\
        [nodes.hub]\nforward = true\n\
        interfaces.eth0 = { network = \"lan\", address = \"10.0.255.254\" }\n"
        .to_owned();
    let mut servers = String::new();
    for n in 0..nodes {
        let address = format!("10.0.{}.{}", n / 250, n % 250 + 1);
        let _ = write!(
            text,
            "[nodes.n{n}]\ngateway = \"hub\"\n\
             interfaces.eth0 = {{ network = \"lan\", address = \"{address}\" }}\n"
        );
        let _ = write!(servers, "\"n{n}\", ");
    }
    let _ = write!(
        text,
        "[services.s]\nvip = \"10.0.255.254\"\nport = 1\ndirector = \"hub\"\n\
         servers = [{servers}]\n"
    );
    text
}

#[test]
fn a_thousand_nodes_are_all_there() {
    let lab = lab(&star(1000));
    assert_eq!(lab.nodes().len(), 1001);
    assert_eq!(lab.services()[0].servers().len(), 1000);
    let macs: HashSet<Mac> = lab
        .nodes()
        .iter()
        .map(|n| n.interfaces()[0].mac())
        .collect();
    assert_eq!(macs.len(), 1001);
    assert_eq!(
        lab.node("n999").and_then(Node::gateway),
        Some(ip("10.0.255.254"))
    );
}

#[test]
fn a_thousand_mistakes_are_all_named() {
    let text = star(1000).replace("gateway = \"hub\"", "gateway = \"bub\"");
    let d = load(Path::new("test.toml"), &text).expect_err("broken");
    assert_eq!(d.errors(), 1000);
    assert_eq!(
        d.render(false).matches("help: did you mean `hub`?").count(),
        1000
    );
}
/// One character less is one mistake: the messages are about it, not about what follows from it.
#[test]
fn a_lost_bracket_or_quote_gives_one_message() {
    let text = include_str!("../../../labs/dsr.toml");
    let mut tried = 0;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.find('#').map_or(line, |at| &line[..at]);
        for (at, c) in code.char_indices().filter(|(_, c)| "[]{}\"=".contains(*c)) {
            let mutant = format!("{}{}", &text[..start + at], &text[start + at + 1..]);
            let d = load(Path::new("mutant.toml"), &mutant).expect_err("broken");
            assert_eq!(d.len(), 1, "without {c:?} in {line:?}:\n{d}");
            assert_eq!(
                d.iter().next().map(Diagnostic::code),
                Some(Code::Syntax),
                "{d}"
            );
            let place = d.iter().next().map_or(0, |d| d.span().start);
            assert!(
                (start..start + line.len()).contains(&place),
                "{c:?} in {line:?}:\n{d}"
            );
            tried += 1;
        }
        start += line.len();
    }
    assert!(tried > 100, "{tried}");
}

/// A client, a router, and beyond it a director whose servers may be elsewhere.
const FAR: &str = r#"
name = "far"
[networks.a]
subnet = "10.0.0.0/24"
[networks.b]
subnet = "10.0.1.0/24"
[networks.c]
subnet = "10.0.2.0/24"
[nodes.lb]
forward = true
gateway = "r1"
interfaces.eth0 = { network = "a", address = "10.0.0.3", aliases = ["10.9.9.9"] }
[nodes.r1]
forward = true
gateway = "r2"
interfaces.eth0 = { network = "a", address = "10.0.0.1" }
interfaces.eth1 = { network = "b", address = "10.0.1.1" }
[nodes.r2]
forward = true
gateway = "r1"
interfaces.eth0 = { network = "b", address = "10.0.1.2" }
interfaces.eth1 = { network = "c", address = "10.0.2.1" }
[nodes.s]
gateway = "r2"
interfaces.eth0 = { network = "c", address = "10.0.2.4" }
[services.web]
vip = "10.9.9.9"
port = 80
director = "lb"
servers = [{ node = "s", port = PORT }]
method = "METHOD"
"#;

fn far(method: &str, port: &str) -> String {
    FAR.replace("METHOD", method).replace("PORT", port)
}

#[test]
fn tunnels_reach_servers_some_hops_away() {
    let lab = lab(&far("tun", "80"));
    let [service] = lab.services() else {
        panic!("one service")
    };
    assert_eq!(service.method(), Method::Tun);
    assert_eq!(service.accept(), Accept::Loopback);
    let server = &service.servers()[0];
    assert_eq!(server.address(), ip("10.0.2.4"));
    assert_eq!((server.via().as_str(), server.port()), ("eth0", 80));
    assert_eq!(server.interface().as_str(), "eth0");
}

#[test]
fn nat_maps_ports_and_needs_the_way_back() {
    let told = |text: &str| -> Vec<String> {
        let (lab, d) = check(Path::new("test.toml"), text);
        assert_eq!(lab.is_some(), !d.has_errors());
        d.iter().map(|d| d.message().to_owned()).collect()
    };
    let (lab, _) = check(Path::new("test.toml"), &far("nat", "8080"));
    let lab = lab.expect("warnings only");
    assert_eq!(lab.services()[0].accept(), Accept::None);
    assert_eq!(lab.services()[0].servers()[0].port(), 8080);
    assert_eq!(
        told(&far("nat", "8080")),
        ["answers of server `s` do not come back through director `lb`"]
    );
    // By the routers' gateways the answers reach the director.
    let back = far("nat", "8080").replace(
        "[nodes.r1]\nforward = true\ngateway = \"r2\"",
        "[nodes.r1]\nforward = true\ngateway = \"lb\"",
    );
    // But then the director's own gateway leads in a circle.
    assert_eq!(
        told(&back),
        ["director `lb` has no IPv4 route to server `s`"]
    );
    assert_eq!(
        told(&far("dr", "80")),
        ["server `s` shares no IPv4 network with director `lb`"]
    );
}

#[test]
fn captures_have_settings_of_their_own() {
    let text = far("tun", "80")
        + "[capture]\nmerge = false\nbuffer = \"1MiB\"\nfilter = \"tcp\"\nrotate = { every = \"60s\" }\n\
           [capture.on.\"lb:eth0\"]\nsnaplen = 128\nfilter = \"\"\nrotate = { size = \"2MiB\", keep = 3 }\n";
    let lab = lab(&text);
    let capture = lab.capture();
    let (all, own) = (capture.on("s", "eth0"), capture.on("lb", "eth0"));
    assert_eq!(all, capture.settings());
    assert!(!capture.merge());
    assert_eq!((all.snaplen(), all.buffer()), (262_144, Some(1 << 20)));
    assert_eq!(all.filter().map(String::as_str), Some("tcp"));
    let rotate = all.rotate().expect("a rotation");
    assert_eq!(rotate.every(), Some(std::time::Duration::from_mins(1)));
    assert_eq!((rotate.size(), rotate.keep()), (None, None));
    assert_eq!((own.snaplen(), own.buffer()), (128, Some(1 << 20)));
    assert_eq!(own.filter(), None);
    let rotate = own.rotate().expect("a rotation");
    assert_eq!((rotate.size(), rotate.every()), (Some(2 << 20), None));
    assert_eq!(rotate.keep(), Some(3));
}

#[test]
fn a_service_has_all_its_keys() {
    let text = far("tun", "80").replace(
        "method = ",
        "scheduler = \"mh\"\nscheduler_flags = [\"mh-port\", \"mh-fallback\", \"mh-port\"]\n\
         persistent = \"5m\"\npersistent_mask = 24\nprotocol = \"udp\"\none_packet = true\n\
         check = { http = \"http://VIP/x\", every = \"5s\", fall = 1 }\non_fail = \"remove\"\nmethod = ",
    );
    let lab = lab(&text);
    let service = &lab.services()[0];
    assert_eq!(service.scheduler(), Scheduler::Mh);
    let flags: Vec<&str> = service
        .scheduler_flags()
        .iter()
        .map(|f| f.as_str())
        .collect();
    assert_eq!(flags, ["mh-port", "mh-fallback"]);
    let persistent = service.persistent().expect("persistent");
    assert_eq!(
        (persistent.timeout().as_secs(), persistent.prefix()),
        (300, 24)
    );
    assert!(service.one_packet());
    let check = service.check().expect("a check");
    assert_eq!((check.every().as_secs(), check.timeout().as_secs()), (5, 1));
    assert_eq!((check.rise(), check.fall()), (2, 1));
    assert_eq!(service.on_fail().as_str(), "remove");
}
