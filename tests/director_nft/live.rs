//! Changes of a running director, judged by packets: what is established goes on.

use nslab::director::live::{Error, Live, NftLive, ServerState};
use nslab::director::{NftEngine, ServerSpec, ServiceSpec};

use super::lab::{Lab, ask, close, service};
use super::packet::{ACK, FIN, SYN, tcp, udp};
use super::{pass, program};

/// A director that runs in `lb` with these services.
fn direct(lab: &Lab, services: &[ServiceSpec]) -> NftLive {
    lab.direct(&program(services));
    // While an address is being resolved, packets can overtake each other.
    lab.record(|| ());
    NftLive::new(NftEngine::default(), services).unwrap()
}

fn on(lab: &Lab, job: impl FnOnce() -> Result<(), Error> + Send) {
    lab.within("lb", job).unwrap();
}

fn servers(lab: &Lab, live: &mut NftLive) -> Vec<ServerState> {
    let mut table = lab.within("lb", || live.table()).unwrap();
    table.remove(0).servers
}

fn listing(lab: &Lab) -> String {
    lab.exec("lb", &["nft", "-s", "list", "table", "netdev", "nslab"], "")
}

/// The listing without live connections: their lifetimes run.
fn without_connections(lab: &Lab) -> String {
    let mut text = listing(lab);
    while let Some(at) = text.find("\t\telements = { 192.") {
        let end = text[at..].find('}').unwrap();
        text.replace_range(at..=at + end, "");
    }
    let lines: Vec<_> = text.lines().filter(|l| !l.is_empty()).collect();
    lines.join("\n")
}

#[test]
fn weight_0_keeps_connections_and_takes_no_new_ones_until_it_is_back() {
    let mut lab = Lab::new(2);
    lab.serve();
    let web = service("rr", &[1, 1]);
    let mut live = direct(&lab, std::slice::from_ref(&web));
    let mut streams = [lab.connect(), lab.connect()];
    let first: Vec<_> = streams.iter_mut().map(ask).collect();
    assert_ne!(first[0], first[1]);

    let drained = web.servers[first[0]].clone();
    on(&lab, || live.set_weight("web", &drained, 0));
    for _ in 0..4 {
        let mut stream = lab.connect();
        assert_eq!(
            ask(&mut stream),
            first[1],
            "the drained server got a new one"
        );
        close(stream);
    }
    assert_eq!(ask(&mut streams[0]), first[0], "the old connection moved");
    let now = servers(&lab, &mut live);
    let (left, other) = (&now[first[0]], &now[first[1]]);
    assert_eq!((left.weight, left.active, left.inactive), (0, 1, 0));
    assert_eq!((other.weight, other.active, other.inactive), (1, 1, 4));
    assert_eq!(left.counters.connections, 1);
    assert_eq!(other.counters.connections, 5);
    assert!(left.counters.packets_in >= 4 && left.counters.bytes_in > 100);

    on(&lab, || live.set_weight("web", &drained, 1));
    let mut again: Vec<_> = (0..2).map(|_| ask(&mut lab.connect())).collect();
    again.sort_unstable();
    assert_eq!(again, [0, 1]);
    assert_eq!(ask(&mut streams[0]), first[0]);
    // What the changes left is what the same services make from the beginning.
    let changed = without_connections(&lab);
    lab.direct(&program(&[web]));
    assert_eq!(changed, without_connections(&lab));
}

#[test]
fn a_server_that_is_removed_keeps_its_number_and_gets_its_connections_back() {
    let lab = Lab::new(3);
    let web = service("rr", &[1, 1, 1]);
    let mut live = direct(&lab, std::slice::from_ref(&web));
    let syns: Vec<_> = (1..=3).map(|port| tcp(port, SYN)).collect();
    assert_eq!(pass(&lab, &syns), [0, 1, 2]);
    assert_eq!(
        pass(&lab, &[tcp(1, ACK), tcp(2, ACK), tcp(3, ACK)]),
        [0, 1, 2]
    );

    on(&lab, || live.remove_server("web", &web.servers[1]));
    // Dropped, not left to the director's stack, and nobody else's connections moved.
    assert_eq!(pass(&lab, &[tcp(1, ACK), tcp(2, ACK), tcp(3, ACK)]), [0, 2]);
    assert_eq!(
        pass(&lab, &[tcp(4, SYN), tcp(5, SYN), tcp(6, SYN)]),
        [0, 2, 0]
    );
    let names = |live: &mut NftLive| -> Vec<String> {
        servers(&lab, live).into_iter().map(|s| s.name).collect()
    };
    assert_eq!(names(&mut live), ["server0", "server2"]);
    assert!(
        !listing(&lab).contains("to_web_server1"),
        "{}",
        listing(&lab)
    );
    assert!(
        listing(&lab).contains("0x00000001 : drop"),
        "{}",
        listing(&lab)
    );
    let text = |e: Error| e.to_string();
    let gone = lab.within("lb", || live.remove_server("web", &web.servers[1]));
    assert_eq!(text(gone.unwrap_err()), "service web has no server server1");
    let there = lab.within("lb", || live.add_server("web", &web.servers[2]));
    assert_eq!(
        text(there.unwrap_err()),
        "service web has server server2 already"
    );
    let other = lab.within("lb", || live.set_weight("mail", &web.servers[2], 1));
    assert_eq!(text(other.unwrap_err()), "the director has no service mail");

    on(&lab, || live.add_server("web", &web.servers[1]));
    assert_eq!(
        pass(&lab, &[tcp(1, ACK), tcp(2, ACK), tcp(3, ACK)]),
        [0, 1, 2]
    );
    assert_eq!(names(&mut live), ["server0", "server1", "server2"]);
    assert_eq!(pass(&lab, &[tcp(2, FIN | ACK)]), [1]);
    let one = &servers(&lab, &mut live)[1];
    assert_eq!((one.active, one.inactive), (0, 1));
}

#[test]
fn a_server_that_nobody_knew_joins_and_the_weights_are_exact_at_once() {
    let lab = Lab::new(3);
    let mut three = service("wrr", &[2, 1, 1]);
    let third: ServerSpec = three.servers.pop().unwrap();
    let mut dns = service("rr", &[1, 1]);
    (dns.name, dns.protocol, dns.port) = ("dns".into(), 17, 53);
    let mut live = direct(&lab, &[three, dns.clone()]);
    on(&lab, || {
        live.add_server(
            "web",
            &ServerSpec {
                weight: 5,
                ..third.clone()
            },
        )
    });
    let syns: Vec<_> = (1..=16).map(|port| tcp(port, SYN)).collect();
    let went = pass(&lab, &syns);
    let given = [0, 1, 2].map(|n| went.iter().filter(|s| **s == n).count());
    assert_eq!(given, [4, 2, 10], "{went:?}");

    // A service of one director changes, its neighbour keeps its flows.
    assert_eq!(pass(&lab, &[udp(7, 53, b"q"), udp(8, 53, b"q")]), [0, 1]);
    on(&lab, || live.set_weight("dns", &dns.servers[0], 0));
    on(&lab, || live.set_weight("web", &third, 0));
    assert_eq!(
        pass(
            &lab,
            &[
                udp(7, 53, b"q"),
                udp(8, 53, b"q"),
                udp(9, 53, b"q"),
                udp(10, 53, b"q")
            ]
        ),
        [0, 1, 1, 1]
    );
    on(&lab, || live.set_weight("dns", &dns.servers[1], 0));
    assert_eq!(
        pass(&lab, &[udp(7, 53, b"q"), udp(11, 53, b"q")]),
        [0],
        "nobody takes new ones"
    );
    let table = lab.within("lb", || live.table()).unwrap();
    let counts: Vec<_> = table[1]
        .servers
        .iter()
        .map(|s| (s.active, s.inactive))
        .collect();
    assert_eq!(
        counts,
        [(0, 1), (0, 3)],
        "UDP flows are never active, as in ip_vs"
    );
    assert_eq!(table[1].counters.connections, 4);
}

#[test]
fn a_refused_change_changes_nothing() {
    let lab = Lab::new(2);
    let web = service("wrr", &[1, 1]);
    let mut live = direct(&lab, std::slice::from_ref(&web));
    let before = listing(&lab);
    let heavy = lab.within("lb", || live.set_weight("web", &web.servers[0], 65_536));
    assert_eq!(
        heavy.unwrap_err().to_string(),
        "the weights of service \"web\" add up to 65537, reduced by their greatest common divisor; \
         engine \"nft\" takes up to 65536: round the weights"
    );
    let mut elsewhere = web.servers[0].clone();
    (elsewhere.name, elsewhere.via) = ("server9".into(), "eth7".into());
    let nowhere = lab.within("lb", || live.add_server("web", &elsewhere));
    assert_eq!(
        nowhere.unwrap_err().to_string(),
        "service \"web\" reaches realserver \"server9\" by \"eth7\", which is none of the \
         director's interfaces"
    );
    assert_eq!(listing(&lab), before);
    // Somebody else has emptied the ruleset.
    lab.exec("lb", &["nft", "flush", "ruleset"], "");
    let lost = lab.within("lb", || live.set_weight("web", &web.servers[0], 0));
    assert!(
        lost.unwrap_err()
            .to_string()
            .starts_with("the kernel refused "),
    );
}
