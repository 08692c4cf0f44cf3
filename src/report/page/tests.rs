//! The page of made-up captures; `tests/report.rs` has real ones, in a real browser.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::trace::proof::{Crossing, End, Passage, Sequence};
use crate::trace::proof::{
    Evidence, FileRead, Flow, Known, Machine, MatrixRow, Method, Role, Share, Verdict, VerdictId,
};

/// What a file of a foreign capture may be called.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'&\u{202e}\u{1}";

fn topology() -> Topology {
    let text = include_str!("../../../labs/dsr.toml");
    let lab = crate::lab::load("labs/dsr.toml".as_ref(), text).unwrap();
    Topology::new(&lab, &BTreeMap::new())
}

/// A machine by `node:interface` of the flagship.
fn end(topology: &Topology, point: &str) -> End {
    let (node, interface) = point.split_once(':').unwrap();
    let node = topology.node(node).unwrap();
    let port = node
        .interfaces
        .iter()
        .find(|i| i.name == interface)
        .unwrap();
    End {
        machine: node.name.clone(),
        mac: Some(port.mac),
    }
}

/// Where requests and answers pass.
fn ways(server: &str) -> [Vec<(String, String)>; 2] {
    let way = |from: &str, into: &str| (from.to_owned(), into.to_owned());
    let server = format!("{server}:eth1");
    [
        vec![
            way("client:eth1", "router:eth1"),
            way("router:eth2", "lb:eth1"),
            way("lb:eth1", &server),
        ],
        vec![
            way(&server, "router:eth2"),
            way("router:eth1", "client:eth1"),
        ],
    ]
}

fn evidence(point: &str, frame: u64, time_ns: i64, what: &str) -> Evidence {
    Evidence {
        point: point.to_owned(),
        file: PathBuf::from(format!("exchange/dsr/{}.pcap", point.replace(':', "_"))),
        frame,
        time_ns,
        what: what.to_owned(),
    }
}

fn sequence(topology: &Topology, flow: usize, server: &str, start: i64) -> Sequence {
    let packets = [
        (true, "SYN"),
        (false, "SYN+ACK"),
        (true, "ACK"),
        (true, "ACK+PSH, 92 bytes: GET /thredds HTTP/1.1"),
        (false, "ACK+PSH, 121 bytes: HTTP/1.1 302"),
        (true, "ACK"),
        (true, "FIN+ACK"),
        (false, "FIN+ACK"),
        (true, "ACK"),
    ];
    let mut time = start;
    let mut crossings = Vec::new();
    for (packet, (to_vip, what)) in packets.into_iter().enumerate() {
        for (leg, (from, into)) in ways(server)[usize::from(!to_vip)].iter().enumerate() {
            crossings.push(Crossing {
                packet,
                to_vip,
                from: end(topology, from),
                into: end(topology, into),
                ttl: 64 - leg.min(1) as u8,
                what: what.to_owned(),
                evidence: evidence(from, crossings.len() as u64 + 3, time, what),
            });
            time += 21_300;
        }
    }
    Sequence {
        flow,
        crossings,
        left_out: 0,
    }
}

/// What these sequences add up to.
fn drawing(sequences: Vec<Sequence>) -> Drawing {
    let mut passages: Vec<Passage> = Vec::new();
    for s in &sequences {
        for (n, c) in s.crossings.iter().enumerate() {
            let first = s
                .crossings
                .iter()
                .position(|o| o.packet == c.packet)
                .unwrap();
            let same =
                |p: &&mut Passage| p.to_vip == c.to_vip && p.from == c.from && p.into == c.into;
            if let Some(p) = passages.iter_mut().find(same) {
                p.frames += 1;
                if !p.flows.contains(&s.flow) {
                    p.flows.push(s.flow);
                }
            } else {
                passages.push(Passage {
                    to_vip: c.to_vip,
                    from: c.from.clone(),
                    into: c.into.clone(),
                    leg: n - first,
                    frames: 1,
                    flows: vec![s.flow],
                });
            }
        }
    }
    Drawing {
        passages,
        sequences,
    }
}

fn row(point: &str, role: Option<Role>, to_vip: u64, from_vip: u64) -> MatrixRow {
    MatrixRow {
        point: point.to_owned(),
        role,
        to_vip,
        from_vip,
        wrapped: 0,
        to_real: 0,
        from_real: 0,
    }
}

fn flow(id: usize, server: &str) -> Flow {
    Flow {
        id,
        client: format!("192.168.10.168:{}", 50540 + id).parse().unwrap(),
        vip: "172.28.128.3:8080".parse().unwrap(),
        protocol: "tcp".to_owned(),
        span: (0, 1),
        opened: true,
        server: Some(server.to_owned()),
        method: Method::Direct,
        request: Some("GET /thredds HTTP/1.1".to_owned()),
        status: Some("HTTP/1.1 302".to_owned()),
        director_ttl: Some((63, 63)),
        retransmissions: 0,
        matrix: vec![row("client:eth1", Some(Role::Client), 6, 3)],
        outcome: Outcome::Pass,
        remark: None,
    }
}

fn proof(flows: Vec<Flow>) -> Proof {
    let matrix = vec![
        row("client:eth1", Some(Role::Client), 12, 6),
        row("lb:eth1", Some(Role::Director), 24, 0),
        row("router:eth1", Some(Role::Router), 12, 6),
        row("router:eth2", Some(Role::Router), 12, 6),
        row("server1:eth1", Some(Role::Realserver), 6, 3),
        row("server2:eth1", Some(Role::Realserver), 6, 3),
    ];
    Proof {
        lab: Some("dsr".to_owned()),
        outcome: Outcome::Pass,
        services: vec![ServiceProof {
            name: Some("thredds".to_owned()),
            vip: "172.28.128.3".parse().unwrap(),
            port: Some(8080),
            protocol: Some("tcp".to_owned()),
            declared: Some("dr".to_owned()),
            method: Method::Direct,
            conclusion: "Direct Routing: realservers answer the client themselves.".to_owned(),
            outcome: Outcome::Pass,
            director: Some(Machine {
                name: "lb".to_owned(),
                points: vec!["lb:eth1".to_owned()],
                known: Known::Lab,
            }),
            matrix,
            flows,
            shares: ["server1", "server2"]
                .map(|server| Share {
                    server: server.to_owned(),
                    weight: Some(1),
                    connections: 1,
                })
                .to_vec(),
            verdicts: vec![Verdict {
                id: VerdictId::BothDirections,
                question: "Did the director see both directions?".to_owned(),
                outcome: Outcome::Pass,
                answer: "No: 24 frames to the VIP, not one from it.".to_owned(),
                evidence: vec![evidence("lb:eth1", 3, 5, "SYN")],
            }],
            notes: Vec::new(),
            drawing: None,
        }],
        files: vec![FileRead {
            path: "exchange/dsr/lb_eth1.pcap".into(),
            frames: 30,
            notes: Vec::new(),
        }],
        notes: vec!["lab dsr is still up".to_owned()],
    }
}

fn flagship() -> (Proof, Topology) {
    let topology = topology();
    let drawing = drawing(vec![
        sequence(&topology, 1, "server2", 1_000),
        sequence(&topology, 2, "server1", 90_000_000),
    ]);
    let mut proof = proof(vec![flow(1, "server2"), flow(2, "server1")]);
    proof.services[0].drawing = Some(drawing);
    (proof, topology)
}

fn page(proof: &Proof, topology: Option<&Topology>) -> String {
    html(&Report {
        proof,
        topology,
        flow: None,
    })
}

fn steps(html: &str) -> Vec<String> {
    html.lines()
        .filter_map(|l| l.trim().strip_prefix("<li value=\""))
        .map(|l| l.replace("\">", " ").replace("</li>", ""))
        .collect()
}

#[test]
fn steps_are_numbered_there_and_back() {
    let (proof, topology) = flagship();
    let html = page(&proof, Some(&topology));
    assert_eq!(
        steps(&html),
        [
            "1 request from client (eth1) to router (eth1): 12 frames",
            "2 request from router (eth2) to lb (eth1): 12 frames",
            "3 request from lb (eth1) to server1 (eth1): 6 frames",
            "3 request from lb (eth1) to server2 (eth1): 6 frames",
            "4 answer from server1 (eth1) to router (eth2): 3 frames",
            "4 answer from server2 (eth1) to router (eth2): 3 frames",
            "5 answer from router (eth1) to client (eth1): 6 frames",
        ]
    );
    assert_eq!(
        html.matches("class=\"hop request\" data-flows=\"1 2\"")
            .count(),
        2
    );
    assert_eq!(
        html.matches("class=\"hop answer\" data-flows=\"1\"")
            .count(),
        1
    );
}

/// Names come from files that anybody may have made.
#[test]
fn names_of_foreign_captures_stay_text() {
    let (mut proof, _) = flagship();
    let hostile = HOSTILE.to_owned();
    let service = &mut proof.services[0];
    proof.lab = None;
    service.name = Some(hostile.clone());
    service.matrix[0].point.clone_from(&hostile);
    service.shares[0].server.clone_from(&hostile);
    service.verdicts[0].answer.clone_from(&hostile);
    service.verdicts[0].evidence[0].what.clone_from(&hostile);
    service.flows[0].request = Some(hostile.clone());
    service.flows[0].server = Some(hostile.clone());
    service.notes.push(hostile.clone());
    proof.notes.push(hostile.clone());
    proof.files[0].path = PathBuf::from(&hostile);
    let Drawing {
        passages,
        sequences,
    } = service.drawing.as_mut().unwrap();
    let ends = passages.iter_mut().map(|p| &mut p.from);
    let ends = ends.chain(sequences[0].crossings.iter_mut().map(|c| &mut c.from));
    for end in ends {
        if end.machine == "lb" {
            end.machine.clone_from(&hostile);
        }
    }
    let html = page(&proof, None);
    assert!(!html.contains("<img"), "{html}");
    assert_eq!(html.matches("<script>").count(), 1);
    assert_eq!(html.matches("</script>").count(), 1);
    assert!(!html.contains(['\u{202e}', '\u{1}']));
    let shown = crate::picture::markup::escape(HOSTILE);
    assert!(html.matches(&shown).count() > 10, "{html}");
}

#[test]
fn a_foreign_capture_has_the_topology_that_its_frames_show() {
    let (proof, _) = flagship();
    let scene = path::scene_of(&proof.services[0].drawing.as_ref().unwrap().passages);
    let on = |network: usize| {
        let mut names: Vec<_> = scene
            .machines
            .iter()
            .filter(|m| m.ports.iter().any(|p| p.network == network))
            .map(|m| m.name.as_str())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(scene.networks.len(), 2);
    assert_eq!(on(0), ["client", "router"]);
    assert_eq!(on(1), ["lb", "router", "server1", "server2"]);
    assert_eq!(steps(&page(&proof, None)).len(), 7);
}

#[test]
fn a_page_has_a_bound_and_says_what_it_leaves_out() {
    let (_, topology) = flagship();
    let draw = extent(None);
    let one = sequence(&topology, 1, "server1", 0);
    let many: Vec<_> = one
        .crossings
        .iter()
        .cycle()
        .take(draw.frames)
        .cloned()
        .collect();
    let sequences = (1..=draw.flows).map(|flow| Sequence {
        flow,
        crossings: many.clone(),
        left_out: 7,
    });
    let drawing = drawing(sequences.collect());
    let mut proof = proof((1..=3000).map(|n| flow(n, "server1")).collect());
    proof.services[0].drawing = Some(drawing);
    let row = proof.services[0].matrix[0].clone();
    proof.services[0].matrix = vec![row; 3000];
    proof.services[0].verdicts[0].evidence = vec![evidence("lb:eth1", 1, 0, "SYN"); 3000];
    let html = page(&proof, Some(&topology));
    assert!(html.len() < 8 << 20, "{} bytes", html.len());
    for said in [
        "2500 more connections are not shown.",
        "2976 more diagrams are not shown.",
        "2500 more interfaces are not shown.",
        "2500 more frames are not shown.",
        "7 more frames are not shown.",
    ] {
        assert!(html.contains(said), "{said}");
    }
}

#[test]
fn a_capture_without_the_service_has_a_page_too() {
    let mut proof = proof(Vec::new());
    let service = &mut proof.services[0];
    service.outcome = Outcome::Inconclusive;
    service.verdicts.clear();
    service.shares.clear();
    let html = page(&proof, Some(&topology()));
    for said in [
        "so there is no path to draw",
        "There were no packets to judge.",
        "No realserver is known to have served a connection.",
        "There was no connection.",
        "inconclusive",
    ] {
        assert!(html.contains(said), "{said}\n{html}");
    }
}

/// Links, labels and descriptions point at ids: with several services each has its own.
#[test]
fn ids_are_unique_and_all_that_is_pointed_at_is_there() {
    let (mut proof, topology) = flagship();
    let second = proof.services[0].clone();
    proof.services.push(second);
    let html = page(&proof, Some(&topology));
    let values = |attribute: &str| -> Vec<String> {
        let begin = format!(" {attribute}=\"");
        let parts = html.split(&begin).skip(1);
        parts
            .map(|p| p.split('"').next().unwrap().to_owned())
            .collect()
    };
    let ids = values("id");
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    let mut pointers: Vec<_> = values("href");
    assert!(pointers.iter().all(|p| p.starts_with('#')), "{pointers:?}");
    for attribute in ["aria-labelledby", "aria-describedby", "for"] {
        pointers.extend(values(attribute));
    }
    for pointer in pointers {
        let id = pointer.trim_start_matches('#').to_owned();
        assert!(ids.contains(&id), "{id} is nowhere");
    }
    assert_eq!(html.matches("<h2").count(), 3, "two services and the files");
}
