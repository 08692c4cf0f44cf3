//! Every verdict on captures made frame by frame: how methods are told apart.

mod text;
mod traps;

use super::*;
use crate::trace::packet::{ACK, PSH, SYN};
use crate::trace::testlab::{DIRECTOR, Kind, ROUTER2, SERVER, Segment, TestLab, VIP, topology};

fn question() -> Question {
    Question {
        vip: Some(VIP.parse().unwrap()),
        port: Some(8080),
        ..Question::default()
    }
}

fn foreign(lab: &TestLab) -> ServiceProof {
    let mut proof = of_files(&lab.sources(), &question()).unwrap();
    proof.services.remove(0)
}

fn of_the_lab(lab: &TestLab, method: &str) -> ServiceProof {
    let topology = topology(method);
    let mut proof = of_lab(&topology, &lab.of_lab(), &Question::default()).unwrap();
    proof.services.remove(0)
}

/// Two connections, one at each realserver.
fn two(kind: Kind) -> TestLab {
    let mut lab = TestLab::new();
    lab.claim(DIRECTOR);
    lab.connection(40_001, 0, kind);
    lab.connection(40_002, 1, kind);
    lab
}

fn verdict_of(proof: &ServiceProof, id: VerdictId) -> (Outcome, &str) {
    let found = proof.verdicts.iter().find(|v| v.id == id);
    let found = found.unwrap_or_else(|| panic!("no verdict {id:?}"));
    (found.outcome, &found.answer)
}

fn outcomes(proof: &ServiceProof) -> Vec<(VerdictId, Outcome)> {
    proof.verdicts.iter().map(|v| (v.id, v.outcome)).collect()
}

fn cells(proof: &ServiceProof) -> Vec<(&str, u64, u64)> {
    let rows = proof.matrix.iter();
    rows.map(|r| (r.point.as_str(), r.to_vip, r.from_vip))
        .collect()
}

const DIRECT: &str = "Direct Routing: lb passed on each of the clients' 8 frames (in and out: 16) \
                      and saw none from the VIP: the realservers answered the clients themselves.";

#[test]
fn direct_routing_is_proven_of_a_lab() {
    let proof = of_the_lab(&two(Kind::Direct), "dr");
    assert_eq!(proof.conclusion, DIRECT);
    assert_eq!(proof.outcome, Outcome::Pass);
    assert!(
        proof.verdicts.iter().all(|v| v.outcome == Outcome::Pass),
        "{proof:#?}"
    );
    assert_eq!(
        cells(&proof),
        [
            ("client:eth1", 8, 6),
            ("lb:eth1", 16, 0),
            ("router:eth1", 8, 6),
            ("router:eth2", 8, 6),
            ("server1:eth1", 4, 3),
            ("server2:eth1", 4, 3),
        ]
    );
    let answer = |id| verdict_of(&proof, id).1;
    assert_eq!(
        answer(VerdictId::PassedOn),
        "Yes: lb passed on each of 8 frames."
    );
    assert_eq!(
        answer(VerdictId::BothDirections),
        "Yes: lb saw (at lb:eth1) 16 frames to the VIP and 0 from it."
    );
    assert_eq!(
        answer(VerdictId::Changed),
        "Yes: only MAC addresses and the TTL (63 to 62), in all 8 frames compared byte by byte."
    );
    assert_eq!(
        answer(VerdictId::Answers),
        "Yes: 3 from server1 to router to client and 3 from server2 to router to client."
    );
    assert_eq!(
        answer(VerdictId::Served),
        "Yes, 2 connections: server1 1, server2 1."
    );
    assert_eq!(
        answer(VerdictId::Distribution),
        "Yes, 2 connections: server1 1, server2 1, strictly in turn."
    );
    assert_eq!(answer(VerdictId::Arrived), "Yes: 6 frames arrived.");
    assert_eq!(answer(VerdictId::Arp), "Only the director, lb.");
    let flow = &proof.flows[1];
    assert_eq!(flow.server.as_deref(), Some("server2"));
    assert_eq!(flow.director_ttl, Some((63, 62)));
    assert_eq!(flow.request.as_deref(), Some("GET /thredds HTTP/1.1"));
    assert_eq!(flow.status.as_deref(), Some("HTTP/1.1 200 OK"));
    let roles: Vec<_> = proof.matrix.iter().map(|r| r.role.unwrap()).collect();
    let [c, d, r, s] = [Role::Client, Role::Director, Role::Router, Role::Realserver];
    assert_eq!(roles, [c, d, r, r, s, s]);
}

#[test]
fn the_packets_that_show_it_are_named() {
    let proof = of_the_lab(&two(Kind::Direct), "dr");
    let changed = proof
        .verdicts
        .iter()
        .find(|v| v.id == VerdictId::Changed)
        .unwrap();
    let shown: Vec<_> = changed
        .evidence
        .iter()
        .map(|e| (e.point.as_str(), e.frame))
        .collect();
    assert_eq!(shown[..2], [("lb:eth1", 1), ("lb:eth1", 2)]);
    assert_eq!(
        changed.evidence[1].what,
        "192.168.10.168:40001 > 172.28.128.3:8080 SYN len 0 ttl 62, lb to server1"
    );
    assert!(changed.evidence[0].file.ends_with("lb_eth1.pcap"));
    assert!(changed.evidence[0].time_ns > 1_600_000_000_000_000_000);
}

#[test]
fn direct_routing_is_found_in_captures_of_any_origin() {
    for (ttl, said) in [(1, "and the TTL (63 to 62)"), (0, "(the TTL stayed at 63)")] {
        let mut lab = TestLab::new();
        lab.director_ttl = ttl;
        lab.claim(DIRECTOR);
        lab.connection(40_001, 0, Kind::Direct);
        lab.connection(40_002, 1, Kind::Direct);
        let proof = foreign(&lab);
        assert_eq!(proof.conclusion, DIRECT.replace("lb", "lb_eth1"));
        assert_eq!(
            (proof.method, proof.outcome),
            (Method::Direct, Outcome::Pass)
        );
        let director = proof.director.as_ref().unwrap();
        assert_eq!(
            (director.name.as_str(), director.known),
            ("lb_eth1", Known::Inferred)
        );
        assert!(verdict_of(&proof, VerdictId::Changed).1.contains(said));
        let servers: Vec<_> = proof
            .flows
            .iter()
            .map(|f| f.server.as_deref().unwrap())
            .collect();
        assert_eq!(servers, ["server1_eth1", "server2_eth1"]);
    }
}

#[test]
fn nat_is_told_from_direct_routing() {
    let said = "NAT: director saw both directions. lb sent the clients' requests on to the \
                realservers' own addresses and put the VIP back into their answers (16 request and \
                12 answer frames, in and out).";
    let proof = of_the_lab(&two(Kind::Nat), "nat");
    assert_eq!(
        (proof.conclusion.as_str(), proof.outcome),
        (said, Outcome::Pass)
    );
    assert_eq!(
        verdict_of(&proof, VerdictId::Changed),
        (
            Outcome::Pass,
            "Yes: it rewrote 172.28.128.3:8080 to 172.28.128.4:8080 and rewrote \
             172.28.128.3:8080 to 172.28.128.5:8080, and changed the TTL (63 to 62); \
             identification, sequence numbers, flags and lengths are the same, in all 8 frames."
        )
    );
    let lb = &proof.matrix[1];
    assert_eq!(
        (lb.to_vip, lb.from_vip, lb.to_real, lb.from_real),
        (8, 6, 8, 6)
    );

    // What is NAT is not Direct Routing.
    let proof = of_the_lab(&two(Kind::Nat), "dr");
    assert_eq!(proof.outcome, Outcome::Fail);
    assert_eq!(
        verdict_of(&proof, VerdictId::Method),
        (Outcome::Fail, "No, it is NAT.")
    );
    let both = verdict_of(&proof, VerdictId::BothDirections);
    assert_eq!(
        both,
        (
            Outcome::Fail,
            "No: lb had part in 6 frames from the VIP, too."
        )
    );
    assert_eq!(
        proof.flows[0].remark.as_deref(),
        Some("not the declared method")
    );

    // Nor without a lab, where sequence numbers alone tell which packets are the same.
    let proof = foreign(&two(Kind::Nat));
    assert_eq!(
        (proof.method, proof.outcome),
        (Method::Nat, Outcome::Pass),
        "{proof:#?}"
    );
    let servers: Vec<_> = proof
        .flows
        .iter()
        .map(|f| f.server.as_deref().unwrap())
        .collect();
    assert_eq!(servers, ["172.28.128.4", "172.28.128.5"]);
}

#[test]
fn tunnels_are_looked_into() {
    use crate::trace::packet::Tunnel;
    let said = "Tunnel: lb wrapped the clients' 8 frames in IPIP and saw none from the VIP: the \
                realservers unwrapped them and answered the clients themselves.";
    let proof = of_the_lab(&two(Kind::Tunnel), "tun");
    assert_eq!(
        (proof.conclusion.as_str(), proof.outcome),
        (said, Outcome::Pass)
    );
    assert_eq!(
        verdict_of(&proof, VerdictId::Changed).1,
        "Yes: it wrapped them in IPIP (172.28.128.3 > 172.28.128.4) and wrapped them in IPIP \
         (172.28.128.3 > 172.28.128.5); the packet inside is the same but for the TTL (63 to 62), in \
         all 8 frames compared byte by byte."
    );
    assert_eq!(proof.matrix[1].wrapped, 8);
    let foreign = foreign(&two(Kind::Tunnel));
    assert_eq!(foreign.method, Method::Tunnel(Tunnel::Ipip));
    assert_eq!(foreign.outcome, Outcome::Pass, "{foreign:#?}");
    let served = foreign.flows.iter().map(|f| f.server.as_deref().unwrap());
    assert_eq!(served.collect::<Vec<_>>(), ["server1_eth1", "server2_eth1"]);
    let proof = of_the_lab(&two(Kind::Tunnel), "dr");
    assert_eq!(
        verdict_of(&proof, VerdictId::Method).1,
        "No, it is tunnelling (IPIP)."
    );
}

#[test]
fn an_arp_leak_is_seen_although_http_answers() {
    let mut lab = TestLab::new();
    lab.claim(DIRECTOR);
    lab.claim(SERVER);
    lab.connection(40_001, 0, Kind::Leak);
    lab.connection(40_002, 0, Kind::Leak);
    let proof = of_the_lab(&lab, "dr");
    assert_eq!(
        proof.conclusion,
        "Director bypassed (ARP leak): HTTP answered though lb saw no frame of it; server1 said by \
         ARP to have the VIP."
    );
    assert_eq!(
        (proof.method, proof.outcome),
        (Method::Bypassed, Outcome::Fail)
    );
    assert_eq!(
        verdict_of(&proof, VerdictId::Method).1,
        "No, it is no balancing at all: packets bypass lb."
    );
    assert_eq!(
        verdict_of(&proof, VerdictId::PassedOn),
        (
            Outcome::Fail,
            "No: 8 of 8 frames reached a realserver without passing lb."
        )
    );
    let (outcome, answer) = verdict_of(&proof, VerdictId::Arp);
    assert_eq!(outcome, Outcome::Fail);
    assert!(answer.starts_with("server1 said to have the VIP, as well as the director, lb:"));
    assert_eq!(
        proof.flows[0].remark.as_deref(),
        Some("bypassed the director")
    );

    // Without a lab: two machines claim the address, and one answers.
    let proof = foreign(&lab);
    assert_eq!(
        (proof.method, proof.outcome),
        (Method::Bypassed, Outcome::Fail)
    );
    assert!(
        proof
            .conclusion
            .starts_with("Director bypassed (ARP leak): HTTP answered though")
    );
    // With one claim there is nothing that tells it from a machine that has the address.
    let mut lab = TestLab::new();
    lab.claim(SERVER);
    lab.connection(40_001, 0, Kind::Leak);
    let proof = foreign(&lab);
    assert_eq!(
        (proof.method, proof.outcome),
        (Method::Unbalanced, Outcome::Inconclusive)
    );
    // Unless the user knows the director.
    let told = Question {
        director: vec!["lb_eth1".into()],
        ..question()
    };
    let proof = &of_files(&lab.sources(), &told).unwrap().services[0];
    assert_eq!(
        (proof.method, proof.outcome),
        (Method::Bypassed, Outcome::Fail)
    );
}

#[test]
fn answers_that_pass_the_director_are_no_direct_routing() {
    for lab in [two(Kind::Routed)] {
        for proof in [of_the_lab(&lab, "dr"), foreign(&lab)] {
            assert_eq!(
                (proof.method, proof.outcome),
                (Method::Routed, Outcome::Fail)
            );
            assert_eq!(
                verdict_of(&proof, VerdictId::BothDirections).0,
                Outcome::Fail
            );
            let answers = verdict_of(&proof, VerdictId::Answers);
            assert_eq!(
                answers,
                (
                    Outcome::Fail,
                    "No: 6 of 6 answer frames passed the director."
                )
            );
        }
    }
    let proof = of_the_lab(&two(Kind::Local), "dr");
    assert_eq!(
        (proof.method, proof.outcome),
        (Method::Local, Outcome::Fail)
    );
    assert!(
        proof
            .conclusion
            .starts_with("No realserver: lb answered the clients itself")
    );
}

#[test]
fn connections_that_go_different_ways_are_told_apart() {
    let mut lab = TestLab::new();
    lab.connection(40_001, 0, Kind::Direct);
    lab.connection(40_002, 1, Kind::Leak);
    let proof = of_the_lab(&lab, "dr");
    assert_eq!(
        (proof.method, proof.outcome),
        (Method::Mixed, Outcome::Fail)
    );
    assert_eq!(
        proof.conclusion,
        "Not all connections go the same way: 1 connection: Direct Routing; 1 connection: no \
         balancing at all: packets bypass lb."
    );
}

#[test]
fn a_byte_changed_by_the_director_is_found() {
    let mut lab = two(Kind::Direct);
    // In the last frame that left the director, the last byte of the packet is a flag of TCP's
    // urgent pointer: not the checksum, not padding.
    let file = lab.file("lb_eth1");
    let at = file.len() - 60 + 14 + 20 + 19;
    file[at] ^= 1;
    let proof = of_the_lab(&lab, "dr");
    let (outcome, answer) = verdict_of(&proof, VerdictId::Changed);
    assert_eq!(outcome, Outcome::Fail);
    assert_eq!(
        answer,
        "No: of 8 frames, 1 left with other bytes changed as well."
    );
    assert_eq!(proof.outcome, Outcome::Fail);
}
