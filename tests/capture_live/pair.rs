//! A lab of two nodes in which only what a test sends crosses.

use std::path::Path;

use crate::common::{Bench, tool, until};

/// Two nodes that know each other's MAC addresses, so that only what a test sends crosses.
fn pair(name: &str, capture: &str) -> String {
    format!(
        r#"name = "{name}"
[networks.lan]
subnet = "10.84.0.0/24"
[nodes.a]
interfaces.eth0 = {{ network = "lan", address = "10.84.0.1" }}
[nodes.b]
interfaces.eth0 = {{ network = "lan", address = "10.84.0.2" }}
[capture]
{capture}
"#
    )
}

/// Sends so many UDP datagrams of so many bytes from a to b's discard port, where nobody listens
/// and nothing answers.
pub fn send(bench: &Bench, lab: &str, datagrams: u32, bytes: u32) {
    send_all(bench, lab, &format!("[{bytes}] * {datagrams}"));
}

/// The same for datagrams of these lengths, a list in Python.
pub fn send_all(bench: &Bench, lab: &str, lengths: &str) {
    let script = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         for n in {lengths}: s.sendto(bytes(n), ('10.84.0.2', 9))\n"
    );
    let net = format!("--net={}", bench.ns(lab, "a").display());
    tool("nsenter", &[&net, "python3", "-c", &script]);
}

/// A lab of `pair` that is up and silent.
pub fn up(bench: &Bench, name: &str, capture: &str) {
    bench.up(&bench.lab(&pair(name, capture)));
    for (node, other, address) in [("a", "b", "10.84.0.2"), ("b", "a", "10.84.0.1")] {
        let links = bench.outside(name, other, "ip -j link show eth0");
        let links: serde_json::Value = serde_json::from_str(&links).unwrap();
        let mac = links[0]["address"].as_str().unwrap();
        bench.outside(
            name,
            node,
            &format!("ip neigh replace {address} lladdr {mac} nud permanent dev eth0"),
        );
    }
    // Nothing answers a datagram that nobody wants.
    bench.outside(name, "b", "nft add table ip quiet");
    bench.outside(
        name,
        "b",
        "nft add chain ip quiet in { type filter hook input priority 0 ; policy drop ; }",
    );
}

pub fn stats(bench: &Bench, interface: &str) -> serde_json::Value {
    let all = bench.json("capture --json");
    let of = |of: &&serde_json::Value| {
        format!(
            "{}:{}",
            of["node"].as_str().unwrap(),
            of["interface"].as_str().unwrap()
        ) == interface
    };
    all.as_array().unwrap().iter().find(of).unwrap().clone()
}

/// Waits until an interface's capture has seen so many frames, recorded or not.
pub fn seen(bench: &Bench, interface: &str, frames: u64) -> serde_json::Value {
    until(&format!("{interface} has seen {frames} frames"), || {
        let of = stats(bench, interface);
        let number = |key: &str| of[key].as_u64().unwrap();
        number("packets") + number("dropped") + number("unwritten") >= frames
    });
    stats(bench, interface)
}

pub fn packets(file: &Path) -> u64 {
    let info = tool(
        "capinfos",
        &["-c", "-M", "-T", "-r", file.to_str().unwrap()],
    );
    info.split_whitespace().last().unwrap().parse().unwrap()
}
