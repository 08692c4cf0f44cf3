//! Health checks under a kernel with IPVS: by Direct Routing, NAT and through tunnels. Takes
//! `scripts/with-ipvs`.

#[path = "health/bench.rs"]
mod bench;
mod common;

use bench::{Networks, PLAIN, PORT, Recipe};

const VIP: &str = "10.85.1.3";

const IPV6: Networks = Networks {
    outside: "fd00:85::",
    servers: "fd00:85:1::",
    length: 64,
};

const DR: Recipe = Recipe {
    service: "engine = \"ipvs\"\n\
              check = { http = \"http://VIP:8080/\", every = \"500ms\", timeout = \"2s\" }",
    ..PLAIN
};

/// `ipvsadm --save -n` lines of a server.
fn saved(lab: &bench::Lab, server: &str) -> Vec<String> {
    let rules = lab.outside("lb", "ipvsadm --save -n");
    let own = rules
        .lines()
        .filter(|l| l.contains(&format!("-r {server}:")));
    own.map(str::to_owned).collect()
}

#[test]
fn a_killed_server_is_out_and_back_with_direct_routing() {
    let mut lab = DR.up();
    lab.kill_and_restart();
    // What the director has is what ipvsadm shows.
    let rule = |weight| {
        vec![format!(
            "-a -t {VIP}:{PORT} -r 10.85.1.4:8080 -g -w {weight}"
        )]
    };
    assert_eq!(saved(&lab, "10.85.1.4"), rule(1));
    lab.kill("server1");
    lab.event("server-died");
    assert_eq!(saved(&lab, "10.85.1.4"), rule(0));
}

#[test]
fn a_killed_server_is_out_and_back_with_direct_routing_over_ipv6() {
    let mut lab = Recipe {
        listen: "::",
        director: "address = \"fd00:85:1::3\"",
        networks: &IPV6,
        ..DR
    }
    .up();
    lab.kill_and_restart();
    let rule = |weight| {
        vec![format!(
            "-a -t [fd00:85:1::3]:{PORT} -r [fd00:85:1::4]:8080 -g -w {weight}"
        )]
    };
    assert_eq!(saved(&lab, "[fd00:85:1::4]"), rule(1));
    lab.kill("server1");
    let died = lab.event("server-died");
    assert_eq!(
        died["why"],
        "no connection to [fd00:85:1::3]:8080: Connection refused"
    );
    assert_eq!(saved(&lab, "[fd00:85:1::4]"), rule(0));
}

#[test]
fn a_killed_server_is_out_and_back_with_nat() {
    let mut lab = Recipe {
        service: "engine = \"ipvs\"\nmethod = \"nat\"\non_fail = \"remove\"\n\
                  check = { tcp = true, every = \"500ms\", timeout = \"2s\" }",
        through_director: true,
        ..DR
    }
    .up();
    assert_eq!(saved(&lab, "10.85.1.4").len(), 1);
    lab.kill("server1");
    let died = lab.event("server-died");
    assert_eq!(
        died["why"],
        "no connection to 10.85.1.4:8080: Connection refused"
    );
    assert_eq!(saved(&lab, "10.85.1.4"), [""; 0]);
    assert_eq!(lab.ask().unwrap(), "server2");
    assert_eq!(lab.ask().unwrap(), "server2");
    lab.start("server1");
    lab.event("server-revived");
    assert_eq!(saved(&lab, "10.85.1.4").len(), 1);
}

#[test]
fn a_tunnels_end_without_the_vip_is_dead() {
    let mut lab = Recipe {
        service: "engine = \"ipvs\"\nmethod = \"tun\"\n\
                  check = { http = \"http://VIP:8080/\", every = \"500ms\", timeout = \"2s\" }",
        director: "address = \"10.85.1.9\", aliases = [\"10.85.1.3\"]",
        ..DR
    }
    .up();
    let answers = [lab.ask().unwrap(), lab.ask().unwrap()];
    assert_ne!(answers[0], answers[1]);
    let address = lab.outside("server1", "ip -o -4 address show to 10.85.1.3");
    let device = address.split_whitespace().nth(1).unwrap().to_owned();
    lab.outside(
        "server1",
        &format!("ip address del 10.85.1.3/32 dev {device}"),
    );
    let died = lab.event("server-died");
    assert_eq!(died["server"], "server1");
    assert_eq!(died["why"], "10.85.1.3 is on no interface of the server");
    assert_eq!(lab.ask().unwrap(), "server2");
    lab.outside(
        "server1",
        &format!("ip address add 10.85.1.3/32 dev {device}"),
    );
    assert_eq!(lab.event("server-revived")["server"], "server1");
}
