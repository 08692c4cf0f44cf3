//! What each of the kernel's schedulers makes of 100 connections, against what ipvsadm(8) and the
//! kernel's own sources (net/netfilter/ipvs/ip_vs_*.c) say that it does. One lab, one service for
//! each. Takes a kernel with IPVS: `scripts/with-ipvs`.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use common::caller::{Call, Caller, server, shares};
use common::{Bench, needs_ipvs};

const VIP: &str = "10.9.0.100";
/// (port, further keys of the service, weights of servers a, b and c).
const SERVICES: [(u16, &str, [u32; 3]); 20] = [
    (8001, "scheduler = 'rr'", [1, 1, 1]),
    (8002, "scheduler = 'wrr'", [5, 3, 2]),
    (8003, "scheduler = 'lc'", [1, 1, 1]),
    (8004, "scheduler = 'wlc'", [5, 3, 2]),
    (8005, "scheduler = 'sed'", [5, 3, 2]),
    (8006, "scheduler = 'nq'", [5, 3, 2]),
    (8007, "scheduler = 'fo'", [1, 3, 2]),
    (8008, "scheduler = 'ovf'", [59, 29, 20]),
    (8009, "scheduler = 'dh'", [1, 1, 1]),
    (8010, "scheduler = 'sh'", [1, 1, 1]),
    (
        8011,
        "scheduler = 'sh'\nscheduler_flags = ['sh-port']",
        [1, 1, 1],
    ),
    (8012, "scheduler = 'mh'", [1, 1, 1]),
    (
        8013,
        "scheduler = 'mh'\nscheduler_flags = ['mh-port']\nprotocol = 'udp'\none_packet = true",
        [1, 1, 1],
    ),
    (8014, "scheduler = 'lblc'", [10, 10, 10]),
    (8015, "scheduler = 'lblcr'", [10, 10, 10]),
    (8016, "scheduler = 'twos'", [1, 1, 1]),
    (8017, "scheduler = 'rr'\npersistent = '300s'", [1, 1, 1]),
    (8018, "scheduler = 'rr'\nprotocol = 'udp'", [1, 1, 1]),
    (8019, "scheduler = 'rr'", [1, 1, 1]),
    (
        8020,
        "scheduler = 'mh'\nscheduler_flags = ['mh-port', 'mh-fallback']\nprotocol = 'udp'\n\
         one_packet = true",
        [1, 1, 1],
    ),
];
/// On this one server a takes no more than so many connections.
const BOUNDED: (u16, u32) = (8019, 4);

fn lab() -> String {
    let mut lab = String::from(
        "name = \"schedulers\"\n\
         capture.interfaces = \"off\"\n\
         networks.lan.subnet = \"10.9.0.0/24\"\n\
         [nodes.lb]\n\
         interfaces.eth1 = { network = \"lan\", address = \"10.9.0.3\", aliases = [\"10.9.0.100\"] }\n\
         [nodes.client]\n\
         interfaces.eth1 = { network = \"lan\", address = \"10.9.0.10\", aliases = [",
    );
    for n in 0..SOURCES {
        write!(lab, "\"{}\", ", source(n)).unwrap();
    }
    lab.push_str("] }\n");
    let ports: Vec<_> = SERVICES.iter().map(|(port, ..)| *port).collect();
    for (n, name) in ["a", "b", "c"].iter().enumerate() {
        writeln!(lab, "[nodes.{name}]").unwrap();
        let address = 20 + n;
        writeln!(
            lab,
            "interfaces.eth1 = {{ network = \"lan\", address = \"10.9.0.{address}\" }}"
        )
        .unwrap();
        lab.push_str(&server(&ports));
    }
    for (port, keys, weights) in SERVICES {
        let bound = if port == BOUNDED.0 {
            format!(", upper = {}", BOUNDED.1)
        } else {
            String::new()
        };
        let servers: Vec<_> = ["a", "b", "c"]
            .iter()
            .zip(weights)
            .map(|(name, weight)| match weight {
                1 if *name == "a" && !bound.is_empty() => format!("{{ node = \"a\"{bound} }}"),
                1 => format!("\"{name}\""),
                _ => format!("{{ node = \"{name}\", weight = {weight} }}"),
            })
            .collect();
        writeln!(
            lab,
            "[services.on{port}]\nvip = \"{VIP}\"\nport = {port}\ndirector = \"lb\"\n{keys}\n\
             engine = \"ipvs\"\nservers = [{}]",
            servers.join(", ")
        )
        .unwrap();
    }
    lab
}

/// Further addresses of the client.
const SOURCES: u8 = 16;
fn source(n: u8) -> String {
    format!("10.9.0.{}", 30 + n)
}

/// The lab, up, and its client.
struct Schedulers {
    bench: Bench,
    caller: Caller,
}

impl Schedulers {
    fn up() -> Self {
        needs_ipvs();
        let bench = Bench::new();
        let file = bench.lab(&lab());
        bench.up(&file);
        let caller = Caller::new(&bench, "client");
        Self { bench, caller }
    }

    /// The servers of 100 connections, all of them open at the end.
    fn held(&mut self, port: u16) -> Vec<String> {
        let names = self.caller.hold(100, Call::to(VIP, port));
        self.caller.reset();
        names
    }

    fn one_by_one(&mut self, count: usize, port: u16) -> Vec<String> {
        self.caller.one_by_one(count, Call::to(VIP, port))
    }

    /// Changes a server's weight behind nslab's back.
    fn weigh(&self, transport: char, port: u16, server: &str, weight: u32) {
        let address = match server {
            "a" => "10.9.0.20",
            "b" => "10.9.0.21",
            _ => "10.9.0.22",
        };
        self.bench.outside(
            "schedulers",
            "lb",
            &format!("ipvsadm -e -{transport} {VIP}:{port} -r {address}:{port} -g -w {weight}"),
        );
    }
}

fn abc(a: usize, b: usize, c: usize) -> BTreeMap<&'static str, usize> {
    BTreeMap::from([("a", a), ("b", b), ("c", c)])
}

/// The one name in a list of nothing else.
fn only(names: &[String]) -> String {
    let shares = shares(names);
    assert_eq!(shares.len(), 1, "{shares:?}");
    names[0].clone()
}

#[test]
fn each_scheduler_distributes_as_documented() {
    let mut lab = Schedulers::up();
    in_turn(&mut lab);
    by_connections(&mut lab);
    by_weight_alone(&mut lab);
    by_hash(&mut lab);
    a_server_leaves_the_maglev_table(&mut lab);
    by_locality(&mut lab);
    what_a_service_asks_for_besides(&mut lab);
}

/// rr: one after the other. wrr: by weight, exactly, in each round.
fn in_turn(lab: &mut Schedulers) {
    let names = lab.one_by_one(100, 8001);
    let first: BTreeSet<_> = names[..3].iter().collect();
    assert_eq!(first.len(), 3, "{names:?}");
    assert!(
        names.iter().zip(&names[3..]).all(|(n, m)| n == m),
        "{names:?}"
    );

    let names = lab.one_by_one(100, 8002);
    assert_eq!(shares(&names), abc(50, 30, 20));
    for round in names.chunks(10) {
        assert_eq!(shares(round), abc(5, 3, 2), "{names:?}");
    }

    // UDP: each of a client's ports is a connection, so no port may come twice.
    let call = |n: u16| Call {
        source_port: 20_000 + n,
        ..Call::to(VIP, 8018)
    };
    let names: Vec<_> = (0..99).map(|n| lab.caller.udp(call(n)).unwrap()).collect();
    assert_eq!(shares(&names), abc(33, 33, 33));
}

/// lc, wlc, sed, nq, twos: by the connections that are open.
fn by_connections(lab: &mut Schedulers) {
    let names = lab.held(8003);
    for (name, share) in shares(&names) {
        assert!(
            (33..=34).contains(&share),
            "lc: {share} connections at {name}"
        );
    }
    // (active * 256 + inactive) / weight, and (active + 1) / weight: both come out even when the
    // number of connections is a multiple of the weights' sum.
    assert_eq!(shares(&lab.held(8004)), abc(50, 30, 20), "wlc");
    let names = lab.held(8005);
    assert_eq!(shares(&names), abc(50, 30, 20), "sed");
    // (0+1)/5, then (0+1)/3 before (1+1)/5, then (1+1)/5 before (0+1)/2: c idles.
    assert_eq!(names[..3], ["a", "b", "a"], "sed");
    // The same but for idle servers, which come first.
    let names = lab.held(8006);
    assert_eq!(shares(&names), abc(50, 30, 20), "nq");
    assert_eq!(shares(&names[..3]), abc(1, 1, 1), "nq");
    // The less loaded of two picked at random: nobody is left out. (Any server is among the two
    // with probability 5/9 at least.)
    let names = lab.held(8016);
    let shares = shares(&names);
    assert!(
        shares.len() == 3 && shares.values().all(|n| *n >= 15),
        "twos: {shares:?}"
    );
}

/// fo, ovf: the heaviest server alone, while it is there or until it is full.
fn by_weight_alone(lab: &mut Schedulers) {
    assert_eq!(only(&lab.one_by_one(100, 8007)), "b", "fo");
    lab.weigh('t', 8007, "b", 0);
    assert_eq!(only(&lab.one_by_one(20, 8007)), "c", "fo without b");
    lab.weigh('t', 8007, "b", 3);
    assert_eq!(only(&lab.one_by_one(20, 8007)), "b", "fo with b again");
    // Passed over when there are more connections than its weight says: one more than it fits.
    let names = lab.held(8008);
    assert_eq!(only(&names[..60]), "a", "ovf");
    assert_eq!(only(&names[60..90]), "b", "ovf");
    assert_eq!(only(&names[90..]), "c", "ovf");
}

/// dh, sh, mh: by addresses, with -port by the client's port too.
fn by_hash(lab: &mut Schedulers) {
    only(&lab.one_by_one(100, 8009));
    for (port, what) in [(8010, "sh"), (8012, "mh")] {
        only(&lab.one_by_one(100, port));
        let mut used = BTreeSet::new();
        for n in 0..SOURCES {
            let source = source(n);
            let call = Call {
                source: &source,
                ..Call::to(VIP, port)
            };
            used.insert(only(&lab.caller.one_by_one(5, call)));
        }
        assert!(used.len() > 1, "{what}: all clients at {used:?}");
    }
    let by_port = |lab: &mut Schedulers| {
        let call = |source_port| Call {
            source_port,
            ..Call::to(VIP, 8011)
        };
        (20_000..20_100)
            .map(|port| lab.caller.tcp(call(port)).unwrap().1)
            .collect::<Vec<_>>()
    };
    let names = by_port(lab);
    lab.caller.reset();
    let shares = shares(&names);
    assert!(
        shares.len() == 3 && shares.values().all(|n| *n >= 10),
        "sh-port: {shares:?}"
    );
}

/// mh: when a server leaves, hardly any client of the others moves. When it is drained and there is
/// mh-fallback, none of them moves at all, and when it is back all is as before.
fn a_server_leaves_the_maglev_table(lab: &mut Schedulers) {
    let ask = |lab: &mut Schedulers, port| {
        let call = |source_port| Call {
            source_port,
            ..Call::to(VIP, port)
        };
        (20_000..20_100)
            .map(|port| lab.caller.udp(call(port)).unwrap())
            .collect::<Vec<_>>()
    };
    let of_others = |before: &[String]| before.iter().filter(|n| *n != "b").count();
    let moved = |before: &[String], after: &[String]| {
        assert!(!after.contains(&"b".to_owned()), "{after:?}");
        let pairs = before.iter().zip(after);
        pairs.filter(|(n, m)| *n != "b" && n != m).count()
    };

    let before = ask(lab, 8013);
    let shares = shares(&before);
    assert!(
        shares.len() == 3 && shares.values().all(|n| *n >= 10),
        "mh-port: {shares:?}"
    );
    assert_eq!(ask(lab, 8013), before, "each port has its server");
    let leave = format!("ipvsadm -d -u {VIP}:8013 -r 10.9.0.21:8013");
    lab.bench.outside("schedulers", "lb", &leave);
    let without = ask(lab, 8013);
    let (moved_on, others) = (moved(&before, &without), of_others(&before));
    println!("mh: b left; of the {others} clients of the others {moved_on} moved");
    assert!(moved_on * 10 <= others, "{moved_on} of {others} moved");

    let before = ask(lab, 8020);
    lab.weigh('u', 8020, "b", 0);
    let without = ask(lab, 8020);
    assert_eq!(moved(&before, &without), 0, "{before:?}\n{without:?}");
    lab.weigh('u', 8020, "b", 1);
    assert_eq!(ask(lab, 8020), before, "b is back");
}

/// lblc, lblcr: all for one address go to one server, until it has more connections than its
/// weight and another has less than half of its own.
fn by_locality(lab: &mut Schedulers) {
    for (port, what) in [(8014, "lblc"), (8015, "lblcr")] {
        let alone = only(&lab.one_by_one(100, port));
        lab.weigh('t', port, &alone, 0);
        let next = only(&lab.one_by_one(20, port));
        assert_ne!(next, alone, "{what}");
        lab.weigh('t', port, &alone, 10);
        let names = lab.caller.hold(33, Call::to(VIP, port));
        lab.caller.reset();
        let third = ["a", "b", "c"]
            .into_iter()
            .find(|n| *n != alone && *n != next);
        // lblc moves the address from server to server. lblcr adds servers to the address's own: the
        // first two are its by now, the third joins them.
        let (one, two) = (alone.as_str(), next.as_str());
        let steps = match what {
            "lblc" => vec![shares(&names[..11])],
            _ => vec![shares(&names[..22]), shares(&names[22..])],
        };
        let expected = match what {
            "lblc" => vec![BTreeMap::from([(two, 11)])],
            _ => vec![
                BTreeMap::from([(one, 11), (two, 11)]),
                BTreeMap::from([(third.unwrap(), 11)]),
            ],
        };
        assert_eq!(steps, expected, "{what}: {names:?}");
        assert!(
            shares(&names).values().all(|n| *n == 11),
            "{what}: {names:?}"
        );
    }
}

fn what_a_service_asks_for_besides(lab: &mut Schedulers) {
    only(&lab.one_by_one(100, 8017)); // rr would not
    let names = lab.caller.hold(30, Call::to(VIP, BOUNDED.0));
    lab.caller.reset();
    assert_eq!(shares(&names), abc(4, 13, 13), "upper");
}
