//! The traps: captures that lack something, connections that are not as they should be.

use super::*;

#[test]
fn what_is_missing_is_said_and_not_guessed() {
    let mut lab = two(Kind::Direct);
    lab.without(&["lb_eth1"]);
    for proof in [of_the_lab(&lab, "dr"), foreign(&lab)] {
        assert_eq!(
            (proof.method, proof.outcome),
            (Method::Direct, Outcome::Inconclusive)
        );
        let (outcome, answer) = verdict_of(&proof, VerdictId::BothDirections);
        assert_eq!(outcome, Outcome::Inconclusive);
        let said = "was not captured; of 6 answer frames that others saw, none came from it or went \
                    to it.";
        assert!(answer.ends_with(said), "{answer}");
        assert!(
            !proof.verdicts.iter().any(|v| v.outcome == Outcome::Fail),
            "{proof:#?}"
        );
    }
    // Only the two ends of the director's own cable: answers cannot be seen, and are not missed.
    let mut lab = two(Kind::Direct);
    lab.without(&[
        "client_eth1",
        "router_eth1",
        "router_eth2",
        "server1_eth1",
        "server2_eth1",
    ]);
    for proof in [of_the_lab(&lab, "dr"), foreign(&lab)] {
        assert_eq!(proof.outcome, Outcome::Inconclusive);
        assert!(
            !proof.verdicts.iter().any(|v| v.outcome == Outcome::Fail),
            "{proof:#?}"
        );
    }
    // Only the client: nothing is known of the way.
    let mut lab = two(Kind::Direct);
    lab.without(&[
        "lb_eth1",
        "router_eth1",
        "router_eth2",
        "server1_eth1",
        "server2_eth1",
    ]);
    for proof in [of_the_lab(&lab, "dr"), foreign(&lab)] {
        assert_eq!(
            (proof.method, proof.outcome),
            (Method::Unknown, Outcome::Inconclusive)
        );
        assert!(
            !proof.verdicts.iter().any(|v| v.outcome == Outcome::Fail),
            "{proof:#?}"
        );
    }
}

#[test]
fn truncated_and_cut_captures_give_what_is_whole() {
    let mut lab = two(Kind::Direct);
    let file = lab.file("client_eth1");
    file.truncate(file.len() - 7);
    let proof = of_files(&lab.sources(), &question()).unwrap();
    assert_eq!(proof.services[0].method, Method::Direct);
    let notes = &proof
        .files
        .iter()
        .find(|f| f.path.ends_with("client_eth1.pcap"))
        .unwrap()
        .notes;
    assert!(notes[0].contains("the file ends within"), "{notes:?}");

    let mut lab = TestLab::new();
    lab.snaplen = 60;
    lab.claim(DIRECTOR);
    lab.connection(40_001, 0, Kind::Direct);
    lab.connection(40_002, 1, Kind::Direct);
    let proof = foreign(&lab);
    assert_eq!(
        (proof.method, proof.outcome),
        (Method::Direct, Outcome::Pass)
    );
    assert_eq!(
        verdict_of(&proof, VerdictId::Changed).1,
        "Yes: only MAC addresses and the TTL (63 to 62), in all 8 frames compared byte by byte, of \
         2 only the bytes that were captured."
    );
    assert!(
        proof.notes[0].contains("cut by the snapshot length"),
        "{:?}",
        proof.notes
    );

    // A file that is none is left out, and said.
    let mut lab = two(Kind::Direct);
    *lab.file("router_eth1") = b"not a capture".to_vec();
    let proof = of_files(&lab.sources(), &question()).unwrap();
    assert_eq!(proof.outcome, Outcome::Pass);
    assert!(
        proof.files[2].notes[0].starts_with("left out: "),
        "{:?}",
        proof.files[2]
    );
}

#[test]
fn vlan_tags_and_wrong_clocks_change_nothing() {
    let mut lab = TestLab::new();
    lab.vlans = vec![42];
    lab.skew.insert("lb_eth1".into(), -3_000_000_000);
    lab.skew.insert("server2_eth1".into(), 60_000_000_000);
    lab.claim(DIRECTOR);
    lab.connection(40_001, 0, Kind::Direct);
    lab.connection(40_002, 1, Kind::Direct);
    for proof in [of_the_lab(&lab, "dr"), foreign(&lab)] {
        assert_eq!(
            (proof.method, proof.outcome),
            (Method::Direct, Outcome::Pass),
            "{proof:#?}"
        );
    }
}

#[test]
fn retransmissions_are_packets_of_their_own() {
    let mut lab = TestLab::new();
    lab.claim(DIRECTOR);
    for packet in lab.talk(40_001) {
        // The request is lost behind the router once, the answer once on its way to the client.
        if packet.tcp.3.starts_with(b"GET") {
            let client = &["client_eth1", "router_eth1"];
            lab.segment(client, 1, 2, &packet.bytes(VIP, 64));
        }
        if packet.tcp.3.starts_with(b"HTTP") {
            lab.start(&packet, 0, Kind::Direct);
        }
        let again = lab.packet(packet.to, packet.port, packet.tcp);
        lab.send(&again, 0, Kind::Direct);
    }
    let proof = of_the_lab(&lab, "dr");
    assert_eq!(proof.flows[0].retransmissions, 2);
    assert_eq!(
        verdict_of(&proof, VerdictId::Arrived),
        (
            Outcome::Pass,
            "Yes: 3 frames arrived; 1 frame did not, and what they carried was sent again or was \
             nothing."
        )
    );
    assert_eq!(proof.outcome, Outcome::Pass, "{proof:#?}");
}

#[test]
fn an_answer_that_is_lost_for_good_is_missed() {
    let mut lab = two(Kind::Direct);
    for packet in lab.talk(40_003) {
        if packet.tcp.3.starts_with(b"HTTP") {
            lab.start(&packet, 0, Kind::Direct);
        } else {
            lab.send(&packet, 0, Kind::Direct);
        }
    }
    let proof = of_the_lab(&lab, "dr");
    assert_eq!(
        verdict_of(&proof, VerdictId::Arrived),
        (
            Outcome::Fail,
            "No: 1 frame that left a realserver did not arrive."
        )
    );
    // And a client that nobody answers.
    let mut lab = two(Kind::Direct);
    let packet = lab.packet(true, 40_009, Segment(SYN, 5, 0, b""));
    lab.send(&packet, 0, Kind::Direct);
    let proof = of_the_lab(&lab, "dr");
    assert_eq!(
        verdict_of(&proof, VerdictId::Arrived),
        (
            Outcome::Fail,
            "No: 1 connection had no answer at all, as that of 192.168.10.168:40009."
        )
    );
}

#[test]
fn frames_that_the_director_keeps_are_counted() {
    let mut lab = two(Kind::Direct);
    let stray = lab.packet(true, 40_002, Segment(PSH | ACK, 77_000, 5, b"lost"));
    lab.start(&stray, 1, Kind::Direct);
    let proof = of_the_lab(&lab, "dr");
    assert_eq!(
        verdict_of(&proof, VerdictId::PassedOn),
        (
            Outcome::Fail,
            "No: lb received 9 frames and passed on 8; 1 it did not."
        )
    );
}

#[test]
fn a_connection_torn_between_realservers_is_found() {
    let mut lab = TestLab::new();
    for (n, packet) in lab.talk(40_001).into_iter().enumerate() {
        lab.send(&packet, usize::from(n == 3), Kind::Direct);
    }
    let proof = of_the_lab(&lab, "dr");
    assert_eq!(
        verdict_of(&proof, VerdictId::Served),
        (
            Outcome::Fail,
            "No: 1 connection had frames at several, as that of 192.168.10.168:40001 at server1 and \
             server2."
        )
    );
}

#[test]
fn a_port_used_again_is_another_connection() {
    let mut lab = TestLab::new();
    lab.claim(DIRECTOR);
    lab.connection(40_001, 0, Kind::Direct);
    for mut packet in lab.talk(40_001) {
        // Another initial sequence number, far away.
        if packet.to {
            packet.tcp.1 = packet.tcp.1.wrapping_add(1 << 30);
        } else {
            packet.tcp.2 = packet.tcp.2.wrapping_add(1 << 30);
        }
        lab.send(&packet, 1, Kind::Direct);
    }
    let proof = of_the_lab(&lab, "dr");
    let servers: Vec<_> = proof
        .flows
        .iter()
        .map(|f| f.server.as_deref().unwrap())
        .collect();
    assert_eq!(servers, ["server1", "server2"]);
    assert_eq!(proof.outcome, Outcome::Pass, "{proof:#?}");
}

#[test]
fn rr_that_does_not_alternate_is_refuted_unless_checks_may_have_had_a_hand_in_it() {
    let mut lab = two(Kind::Direct);
    lab.connection(40_003, 1, Kind::Direct);
    let proof = of_the_lab(&lab, "dr");
    assert_eq!(
        verdict_of(&proof, VerdictId::Distribution),
        (
            Outcome::Fail,
            "No, 3 connections: server1 1, server2 2; of connections 2 to 3 server1 got 0 instead \
             of 1."
        )
    );
    let mut checked = topology("dr");
    checked.services[0].checked = true;
    let proof = of_lab(&checked, &lab.of_lab(), &Question::default()).unwrap();
    let distribution = verdict_of(&proof.services[0], VerdictId::Distribution);
    assert_eq!(
        distribution,
        (
            Outcome::Inconclusive,
            "3 connections: server1 1, server2 2, but health checks may have changed weights."
        )
    );
    let mut drained = topology("dr");
    drained.services[0].changed = Some("the weight of server1 was changed from 1 to 0".into());
    let drained = of_lab(&drained, &lab.of_lab(), &Question::default()).unwrap();
    assert_eq!(
        verdict_of(&drained.services[0], VerdictId::Distribution).1,
        "3 connections: server1 1, server2 2, but the weight of server1 was changed from 1 to 0."
    );
    assert_eq!(
        proof.outcome,
        Outcome::Pass,
        "a share that may be explained refutes nothing"
    );
}

#[test]
fn nothing_captured_proves_nothing() {
    let lab = TestLab::new();
    for proof in [of_the_lab(&lab, "dr"), foreign(&lab)] {
        assert_eq!(
            (proof.method, proof.outcome),
            (Method::Nothing, Outcome::Inconclusive)
        );
        assert_eq!(
            proof.conclusion,
            "There are no packets of the service in the captures."
        );
    }
}

#[test]
fn noise_does_not_count() {
    use crate::trace::packet::testframes::{ether, mac, spec, udp};
    let mut lab = two(Kind::Direct);
    let before = outcomes(&foreign(&lab));
    let ntp = udp(spec(VIP, "172.28.128.1", 64, 9), (123, 123), &[0; 48]);
    let mdns = udp(
        spec("172.28.128.4", "224.0.0.251", 1, 9),
        (5353, 5353),
        b"mdns",
    );
    for packet in [ntp, mdns] {
        let frame = ether(mac(DIRECTOR), mac(ROUTER2), &[], &packet);
        lab.frame("lb_eth1", &frame);
        lab.frame("router_eth2", &frame);
    }
    let mut any_port = question();
    any_port.port = None;
    let proof = of_files(&lab.sources(), &any_port).unwrap();
    assert_eq!(outcomes(&proof.services[0]), before);
    assert_eq!(proof.outcome, Outcome::Pass);
}

#[test]
fn who_does_not_say_the_vip_is_told_what_there_is() {
    let lab = two(Kind::Direct);
    let asked = Question::default();
    assert_eq!(
        of_files(&lab.sources(), &asked).unwrap_err().to_string(),
        "which address is the VIP? give it with --vip; connections are opened to \
         172.28.128.3:8080 (2 connections, passed on), so perhaps --vip 172.28.128.3"
    );
    let told = Question {
        director: vec!["lb".into()],
        ..question()
    };
    assert_eq!(
        of_files(&lab.sources(), &told).unwrap_err().to_string(),
        "there is no capture called lb; there are client_eth1, lb_eth1, router_eth1, router_eth2, \
         server1_eth1 and server2_eth1"
    );
    let other = Question {
        vip: Some("10.0.0.1".parse().unwrap()),
        ..Question::default()
    };
    assert_eq!(
        of_lab(&topology("dr"), &lab.of_lab(), &other)
            .unwrap_err()
            .to_string(),
        "lab dsr has no service at 10.0.0.1; its services are at 172.28.128.3:8080"
    );
}

/// Whatever the frames are, there is an answer: captures with bytes turned, cut and repeated.
#[test]
fn garbage_is_survived() {
    let mut state = 7u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    for kind in [Kind::Direct, Kind::Nat, Kind::Tunnel, Kind::Leak] {
        for _ in 0..8 {
            let mut lab = two(kind);
            for point in ["client_eth1", "lb_eth1", "router_eth2", "server1_eth1"] {
                let file = lab.file(point);
                if file.len() == 24 {
                    continue;
                }
                for _ in 0..random() % 12 {
                    let at = 24 + random() % (file.len() - 24);
                    file[at] = random() as u8;
                }
                if random() % 4 == 0 {
                    let len = 24 + random() % (file.len() - 24);
                    file.truncate(len);
                }
            }
            let proof = of_files(&lab.sources(), &question()).unwrap();
            let text = crate::report::proof(&proof);
            assert!(text.lines().count() > 5, "{text}");
            let _ = crate::report::proof_junit(&proof);
            let topology = topology("dr");
            let _ = of_lab(&topology, &lab.of_lab(), &Question::default());
            let _ = crate::trace::explain("client", Some("VIP"), Some(&topology), &lab.of_lab());
        }
    }
}
