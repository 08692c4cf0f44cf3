//! What goes wrong, or seems to, with kernel IPVS: the ARP trap, shown by packets, and servers that
//! are drained. Takes a kernel with IPVS: `scripts/with-ipvs`.

mod common;

use std::fmt::Write;
use std::path::Path;

use common::caller::{Call, Caller, server, shares};
use common::tape::{SYN, packets};
use common::{Bench, needs_ipvs, until};

/// Whoever says that it has the VIP.
const CLAIMS: &str = "arp[6:2] == 2 and arp[14:4] == 0xac1c8364";

/// Asks once, over a new connection; the server that answered, with 200.
fn curl(bench: &Bench) -> String {
    let answer = bench.ok("exec client curl -sS --max-time 60 -w %{http_code} VIP:8080");
    let (name, code) = answer.split_once('\n').unwrap();
    assert_eq!(code, "200");
    name.to_owned()
}

/// Whom the router believes to have the VIP; makes it ask again until that is, or is not, the
/// director. All who have the address answer, and it believes the first.
fn router_believes(bench: &Bench, director: bool) -> String {
    let mac = |node| {
        let link = bench.outside("broken-arp", node, "ip -j link show dev eth1");
        let link: serde_json::Value = serde_json::from_str(&link).unwrap();
        link[0]["address"].as_str().unwrap().to_owned()
    };
    let lb = mac("lb");
    let mut believed = String::new();
    until("the router believes whom it should", || {
        bench.outside("broken-arp", "router", "ip neigh flush dev eth2");
        curl(bench);
        let known = bench.outside("broken-arp", "router", "ip -j neigh show 172.28.131.100");
        let known: serde_json::Value = serde_json::from_str(&known).unwrap();
        known[0]["lladdr"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut believed);
        !believed.is_empty() && (believed == lb) == director
    });
    ["lb", "server1", "server2"]
        .into_iter()
        .find(|node| mac(node) == believed)
        .unwrap_or_else(|| panic!("nobody is {believed}"))
        .to_owned()
}

#[test]
fn with_arp_wrong_the_director_is_bypassed_and_http_says_200() {
    needs_ipvs();
    let bench = Bench::new();
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/broken-arp.toml");
    bench.up(&lab);
    let ps = bench.ok("ps");
    assert!(ps.contains(" ipvs "), "{ps}");

    let server = router_believes(&bench, false);
    let here = |interface: &str, filter: &str| {
        packets(&bench.capture_file("broken-arp", interface), filter)
    };
    let before = ["client:eth1", "lb:eth1"].map(|i| here(i, SYN));
    for _ in 0..6 {
        assert_eq!(curl(&bench), server, "no balancing");
    }
    bench.ok("down");
    let after = ["client:eth1", "lb:eth1"].map(|i| here(i, SYN));
    assert_eq!(after[0] - before[0], 6, "six connections of the client");
    assert_eq!(after[1] - before[1], 0, "none of them passed the director");
    // How it came about: the router asked for the VIP, and others than the director answered too.
    for liar in ["server1:eth1", "server2:eth1", "lb:eth1"] {
        assert!(here(liar, CLAIMS) > 0, "{liar} did not answer for the VIP");
    }
}

/// The same lab without the two lines that break it.
#[test]
fn with_arp_right_the_director_has_every_connection() {
    needs_ipvs();
    let bench = Bench::new();
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs/broken-arp.toml");
    let lab = std::fs::read_to_string(lab).unwrap();
    let sound: Vec<_> = lab.lines().filter(|l| !l.starts_with("sysctls")).collect();
    assert_eq!(sound.len() + 2, lab.lines().count());
    bench.up(&bench.lab(&sound.join("\n")));
    let mut names = Vec::new();
    for _ in 0..6 {
        bench.outside("broken-arp", "router", "ip neigh flush dev eth2");
        names.push(curl(&bench));
    }
    bench.ok("down");
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    let here = |interface: &str, filter: &str| {
        packets(&bench.capture_file("broken-arp", interface), filter)
    };
    assert_eq!(here("client:eth1", SYN), 6);
    assert_eq!(here("lb:eth1", SYN), 12);
    assert_eq!(
        here("server1:eth1", CLAIMS) + here("server2:eth1", CLAIMS),
        0
    );
}

fn draining() -> String {
    let mut lab = String::from(
        "name = \"drain\"\n\
         capture.interfaces = \"off\"\n\
         networks.lan.subnet = \"10.9.1.0/24\"\n\
         [nodes.lb]\n\
         interfaces.eth1 = { network = \"lan\", address = \"10.9.1.3\" }\n\
         [nodes.client]\n\
         interfaces.eth1 = { network = \"lan\", address = \"10.9.1.10\" }\n",
    );
    for (name, address) in [("a", 4), ("b", 5)] {
        writeln!(
            lab,
            "[nodes.{name}]\n\
             interfaces.eth1 = {{ network = \"lan\", address = \"10.9.1.{address}\" }}\n\
             {}",
            server(&[8080])
        )
        .unwrap();
    }
    lab + "[services.who]\nvip = \"10.9.1.3\"\nport = 8080\ndirector = \"lb\"\nengine = \"ipvs\"\n\
           servers = [\"a\", \"b\"]\n"
}

#[test]
fn weight_0_keeps_what_is_open_and_sends_what_is_new_elsewhere() {
    needs_ipvs();
    let bench = Bench::new();
    bench.up(&bench.lab(&draining()));
    let mut caller = Caller::new(&bench, "client");
    let call = Call::to("10.9.1.3", 8080);
    let open: Vec<_> = (0..10).map(|_| caller.tcp(call).unwrap()).collect();
    let weigh = |weight: u32| {
        bench.ok(&format!("service weight a {weight}"));
        let table = bench.outside("drain", "lb", "ipvsadm --save -n");
        assert!(
            table.contains(&format!("-r 10.9.1.4:8080 -g -w {weight}\n")),
            "{table}"
        );
    };
    weigh(0);
    let new = caller.hold(20, call);
    assert!(new.iter().all(|name| name == "b"), "{new:?}");
    for (number, name) in &open {
        assert_eq!(caller.again(*number).unwrap(), *name, "connection {number}");
    }
    weigh(1);
    let again = caller.hold(10, call);
    assert_eq!(shares(&again)["a"], 5, "{again:?}");
}
