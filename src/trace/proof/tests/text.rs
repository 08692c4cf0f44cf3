//! What people and CI servers read, to the letter. Times of day begin at 12:26:40, the clock of the
//! made frames.

use super::*;
use crate::trace::explain;

fn printed(lab: &TestLab, method: &str) -> (String, String) {
    let topology = topology(method);
    let proof = of_lab(&topology, &lab.of_lab(), &Question::default()).unwrap();
    (
        crate::report::proof(&proof),
        crate::report::proof_junit(&proof),
    )
}

fn leak() -> TestLab {
    let mut lab = TestLab::new();
    lab.claim(DIRECTOR);
    lab.claim(SERVER);
    lab.connection(40_001, 0, Kind::Leak);
    lab
}

#[test]
fn a_proof_as_it_is_printed() {
    let (text, _) = printed(&two(Kind::Direct), "dr");
    assert_eq!(text, include_str!("direct.txt"));
    let (text, _) = printed(&two(Kind::Nat), "nat");
    assert_eq!(text, include_str!("nat.txt"));
}

#[test]
fn a_refutation_as_it_is_printed_and_as_junit() {
    let (text, xml) = printed(&leak(), "dr");
    assert_eq!(text, include_str!("leak.txt"));
    assert_eq!(xml, include_str!("leak.xml"));
}

#[test]
fn an_explanation_as_it_is_printed() {
    let said = |lab: &TestLab, method: &str| {
        let topology = topology(method);
        let found = explain("client", Some("VIP"), Some(&topology), &lab.of_lab()).unwrap();
        crate::report::explanation(&found)
    };
    assert_eq!(
        said(&two(Kind::Direct), "dr"),
        include_str!("explained.txt")
    );
    assert_eq!(
        said(&two(Kind::Nat), "nat"),
        include_str!("explained-nat.txt")
    );
    assert_eq!(
        said(&two(Kind::Tunnel), "tun"),
        include_str!("explained-tun.txt")
    );
}

#[test]
fn what_cannot_be_explained_says_what_to_do() {
    let lab = two(Kind::Direct);
    let topology = topology("dr");
    let asked = |from: &str, to| {
        explain(from, to, Some(&topology), &lab.of_lab())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        asked("clint", Some("VIP")),
        "lab dsr has nothing called clint; it has client, router, lb, server1, server2, thredds and \
         VIP"
    );
    assert_eq!(
        asked("router", Some("server1")),
        "no packet between router and server1 was captured; send some while the lab is up, as in \
         `sudo nslab exec router curl -sS server1:8080`, then ask again"
    );
    let foreign = explain("client", Some("VIP"), None, &lab.sources()).unwrap_err();
    assert_eq!(
        foreign.to_string(),
        "\"client\" is no address; captures without a lab know no names: give addresses, as \
         192.168.10.168 or 172.28.128.3:8080"
    );
    // A client's end alone is a flow.
    let found = explain("192.168.10.168:40001", None, Some(&topology), &lab.of_lab()).unwrap();
    assert_eq!((found.client.port(), found.of), (40_001, 1));
    assert_eq!(found.there.last().unwrap().node, "server1");
}
