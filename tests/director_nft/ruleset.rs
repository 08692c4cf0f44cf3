//! What the kernel holds after `apply`, against nft(8); errors; what there is of IPVS.

use std::path::Path;

use nslab::director::{TABLE, realserver_redirect};
use nslab::kernel::nft::{self, Family};

use super::lab::{Lab, PORT, VIP, service};
use super::program;

/// What nft makes of our text is what we make of our data: the same listing, the same bytecode.
#[test]
fn the_text_and_the_netlink_messages_are_one_ruleset() {
    let lab = Lab::new(0);
    let mut dns = service("sh", &[1, 5]);
    (dns.name, dns.protocol, dns.port) = ("dns".into(), 17, 53);
    let mut drained = service("wrr", &[0, 0]);
    (drained.name, drained.port) = ("drained".into(), 1);
    let web = service("wrr", &[3, 2]);
    let director = program(&[web, dns, drained]);
    let six = "fd00::3".parse().unwrap();
    let server = realserver_redirect(&[(VIP.into(), 6, PORT), (VIP.into(), 17, 53), (six, 6, 80)]);
    for ruleset in [director, server] {
        let text = ruleset.to_string();
        lab.exec("lb", &["nft", "-c", "-f", "-"], &text);
        assert_eq!(lab.exec("lb", &["nft", "list", "ruleset"], ""), "");

        let show = || {
            let listing = lab.exec("lb", &["nft", "-s", "list", "ruleset"], "");
            let code = lab.exec(
                "lb",
                &["nft", "-s", "--debug=netlink", "list", "ruleset"],
                "",
            );
            (listing, without_chance(&code))
        };
        lab.exec("lb", &["nft", "-f", "-"], &text);
        let theirs = show();
        lab.exec("lb", &["nft", "flush", "ruleset"], "");
        lab.within("lb", || nft::apply(&ruleset)).unwrap();
        let ours = show();
        assert_eq!(ours.0, theirs.0);
        assert_eq!(ours.1, theirs.1);
        // And the listing is our text, but for spellings of nft's own.
        assert_eq!(words(&ours.0), words(&text));
        lab.exec("lb", &["nft", "flush", "ruleset"], "");
    }
}

/// Bytecode without what differs from one time to the next: the handles behind a rule's table and
/// chain, and the order in which a hash table gives its elements (the listing has them sorted).
fn without_chance(code: &str) -> Vec<String> {
    code.lines()
        .filter(|l| !l.starts_with("\telement "))
        .map(|l| {
            let expression = l.starts_with(' ');
            let words = l.split(' ').take(if expression { usize::MAX } else { 3 });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// The text with the white space of lists evened out, and without what nft 1.0 spells otherwise.
fn words(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let mut text = words.join(" ");
    for (ours, theirs) in [
        ("ether type ip ", ""),
        ("ip frag-off & 0x3fff == 0x0 ", "ip frag-off & 16383 == 0 "),
        ("tcp flags & rst != 0x0 ", "tcp flags rst "),
        ("tcp flags & fin != 0x0 ", "tcp flags fin "),
        ("tcp flags & syn == 0x0 ", "tcp flags ! syn "),
        (
            "tcp flags & (fin | syn | rst | ack) == syn ",
            "tcp flags syn / fin,syn,rst,ack ",
        ),
        ("tcp flags & rst == rst ", "tcp flags rst "),
        ("tcp flags & fin == fin ", "tcp flags fin "),
    ] {
        text = text.replace(ours, theirs);
    }
    text
}

#[test]
fn a_long_table_of_weights_goes_in() {
    let lab = Lab::new(0);
    lab.direct(&program(&[service("wrr", &[65_535, 1])]));
    let text = lab.exec(
        "lb",
        &["nft", "-j", "list", "map", "netdev", TABLE, "slots_web"],
        "",
    );
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = json["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|o| o.get("map"));
    let elements = found.unwrap()["elem"].as_array().unwrap();
    assert_eq!(elements.len(), 65_536);
    assert_eq!(elements.iter().filter(|e| e[1] == 1).count(), 1);
}

#[test]
fn all_of_a_ruleset_goes_in_or_nothing() {
    let lab = Lab::new(0);
    lab.exec("lb", &["nft", "-f", "-"], "table ip mine {\n}\n");
    let apply = |ruleset: &nft::Ruleset| lab.within("lb", || nft::apply(ruleset));
    let list = || lab.exec("lb", &["nft", "-s", "list", "ruleset"], "");

    let good = program(&[service("rr", &[1, 1])]);
    apply(&good).unwrap();
    let before = list();
    assert!(before.contains("table ip mine") && before.contains("table netdev nslab"));

    // The same again takes its place.
    apply(&good).unwrap();
    assert_eq!(list(), before);

    // One wrong rule near the end, and nothing changes.
    let mut bad = good.clone();
    bad.tables[0].chains.retain(|c| c.name != "known_web");
    assert_eq!(
        apply(&bad).unwrap_err().to_string(),
        "the kernel refused rule 1 of chain svc_web in table netdev nslab: No such file or \
         directory (os error 2)"
    );
    assert_eq!(list(), before);

    // A chain on a device that is not there.
    let mut bad = good.clone();
    let chain = bad.tables[0]
        .chains
        .iter_mut()
        .find(|c| c.hook.is_some())
        .unwrap();
    chain.hook.as_mut().unwrap().devices = vec!["eth9".into()];
    assert_eq!(
        apply(&bad).unwrap_err().to_string(),
        "chain in_eth1 in table netdev nslab needs the interface \"eth9\", which is not in this \
         network namespace"
    );
    assert_eq!(list(), before);

    // So many errors that the socket cannot hold them.
    let mut bad = good.clone();
    let missing = nft::Statement::Verdict(nft::Verdict::Goto("nowhere".into()));
    bad.tables[0].chains[0].rules = vec![nft::Rule::new([missing]); 20_000];
    assert_eq!(
        apply(&bad).unwrap_err().to_string(),
        "the kernel refused rule 1 of chain to_web_server0 in table netdev nslab: No such file or \
         directory (os error 2)"
    );
    assert_eq!(list(), before);

    assert!(
        lab.within("lb", || nft::delete_table(Family::Netdev, TABLE))
            .unwrap()
    );
    assert!(
        !lab.within("lb", || nft::delete_table(Family::Netdev, TABLE))
            .unwrap()
    );
    assert_eq!(list(), "table ip mine {\n}\n");
    assert_eq!(
        lab.within("lb", || nft::counters(Family::Netdev, TABLE))
            .unwrap(),
        []
    );
}

#[test]
fn without_the_right_the_error_says_which() {
    let lab = Lab::new(0);
    let ruleset = program(&[service("rr", &[1])]);
    let error = lab.within("lb", || {
        caps::drop(
            None,
            caps::CapSet::Effective,
            caps::Capability::CAP_NET_ADMIN,
        )
        .unwrap();
        nft::apply(&ruleset).unwrap_err().to_string()
    });
    assert!(
        error.ends_with(
            "Operation not permitted (os error 1); it takes CAP_NET_ADMIN in the network \
             namespace's user namespace"
        ),
        "{error}"
    );
}

#[test]
fn ipvs_is_found_where_it_is() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "asking loads a module where it is one: be root"
    );
    // The file is there as soon as the module is; the question loads it.
    let found = nslab::kernel::ipvs::probe().unwrap();
    assert_eq!(found, Path::new("/proc/net/ip_vs").exists());
}

/// What a director with service `web` and two servers has in the kernel.
pub fn is_one_table_without_conntrack(lab: &Lab) {
    // Conntrack, which sees one half of a connection here, is not asked.
    let json = lab.exec("lb", &["nft", "-j", "list", "ruleset"], "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let objects = json["nftables"].as_array().unwrap();
    let names = |kind: &str| -> Vec<&str> {
        objects
            .iter()
            .filter_map(|o| o[kind]["name"].as_str())
            .collect()
    };
    assert_eq!(names("table"), [TABLE]);
    assert_eq!(
        names("chain"),
        [
            "to_web_server0",
            "first_web_server0",
            "to_web_server1",
            "first_web_server1",
            "new_web",
            "known_web",
            "svc_web",
            "in_eth1"
        ]
    );
    assert_eq!(
        names("map"),
        [
            "conns_web",
            "closing_web",
            "slots_web",
            "servers_web",
            "firsts_web"
        ]
    );
    assert_eq!(
        names("counter"),
        [
            "to_web_server0",
            "to_web_server1",
            "first_web_server0",
            "first_web_server1"
        ]
    );
    let base: Vec<_> = objects
        .iter()
        .filter(|o| o["chain"]["hook"] == "ingress")
        .collect();
    assert_eq!(base.len(), 1);
    assert_eq!(base[0]["chain"]["policy"], "accept");
    // nft 1.0.6 leaves the device out of its JSON.
    let text = lab.exec(
        "lb",
        &["nft", "list", "chain", "netdev", TABLE, "in_eth1"],
        "",
    );
    assert!(
        text.contains("type filter hook ingress device \"eth1\" priority filter;"),
        "{text}"
    );
}
