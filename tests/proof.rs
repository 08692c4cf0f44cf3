//! `nslab proof` and `nslab explain` on real labs and on captures that come from elsewhere.

mod common;

use std::os::unix::fs::MetadataExt;

use common::Bench;

const TWO: &str = r#"name = "two"
[networks.n]
subnet = "10.77.0.0/24"
[nodes.a]
interfaces.eth0 = { network = "n", address = "10.77.0.1" }
[nodes.b]
interfaces.eth0 = { network = "n", address = "10.77.0.2" }
"#;

#[test]
fn up_leaves_the_shape_of_the_lab_beside_its_captures() {
    let bench = Bench::new();
    let lab = bench.lab(TWO);
    let status = bench
        .nslab()
        .env("SUDO_UID", "1234")
        .env("SUDO_GID", "1235")
        .args(["up", lab.to_str().unwrap()])
        .status()
        .unwrap();
    assert!(status.success());
    bench.ok("down");
    let path = bench.path("exchange/two/lab.json");
    let meta = path.metadata().unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1234, 1235, 0o644)
    );
    let topology = nslab::trace::Topology::read(&path).unwrap();
    assert_eq!(topology.lab, "two");
    let b = topology.node("b").unwrap();
    assert_eq!(
        b.interfaces[0].addresses,
        ["10.77.0.2".parse::<std::net::IpAddr>().unwrap()]
    );
}
