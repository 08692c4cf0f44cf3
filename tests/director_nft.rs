//! The nft engine on the running kernel, in namespaces made and looked at from outside with `ip`,
//! `nft`, `tcpdump` and `curl`. Needs root and these tools; fails without them.

#[path = "director_nft/lab.rs"]
mod lab;
#[path = "director_nft/live.rs"]
mod live;
#[path = "director_nft/packet.rs"]
mod packet;
#[path = "director_nft/recorder.rs"]
mod recorder;
#[path = "director_nft/ruleset.rs"]
mod ruleset;

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::{CLIENT, LB_MAC, Lab, PORT, ROUTER_MAC, VIP, ask, close, service, wait_for};
use nslab::director::{Engine, NftEngine, Program, ServiceSpec, TABLE, Timeouts};
use nslab::kernel::nft::{self, Family, Ruleset};
use packet::{ACK, CWR, ECN, FIN, Packet, RST, SYN, tcp, udp};
use recorder::servers_of;

fn program(services: &[ServiceSpec]) -> Ruleset {
    ruleset(NftEngine::default(), services)
}

fn ruleset(engine: NftEngine, services: &[ServiceSpec]) -> Ruleset {
    match engine.program(services).unwrap() {
        Program::Nft(ruleset) => ruleset,
        Program::Ipvs(table) => panic!("{table:?}"),
    }
}

/// The packets, sent from the client; the servers to which the director passed them.
fn pass(lab: &Lab, packets: &[Packet]) -> Vec<usize> {
    let bytes: Vec<_> = packets.iter().map(Packet::bytes).collect();
    servers_of(&lab.record(|| lab.inject(&bytes)))
}

/// `nft -j list map`'s elements: client port, server number, seconds to live.
fn entries(lab: &Lab, map: &str) -> Vec<(u64, u64, u64)> {
    let text = lab.exec(
        "lb",
        &["nft", "-j", "list", "map", "netdev", TABLE, map],
        "",
    );
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let found = json["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|o| o.get("map"));
    let Some(elements) = found.unwrap()["elem"].as_array() else {
        return vec![];
    };
    let mut entries: Vec<_> = elements
        .iter()
        .map(|e| {
            let key = &e[0]["elem"];
            let port = key["val"]["concat"][1].as_u64().unwrap();
            (
                port,
                e[1].as_u64().unwrap(),
                key["expires"].as_u64().unwrap(),
            )
        })
        .collect();
    entries.sort_unstable();
    entries
}

#[test]
fn round_robin_by_direct_routing_with_curl() {
    let mut lab = Lab::new(2);
    lab.serve();
    lab.direct(&program(&[service("rr", &[1, 1])]));

    let routes = lab.ip("lb", "route");
    assert!(
        !routes.contains("default") && !routes.contains("192.168"),
        "{routes}"
    );

    let url = format!("http://{VIP}:{PORT}/");
    let mut answers = vec![];
    let frames = lab.record(|| {
        for _ in 0..12 {
            answers.push(lab.exec("client", &["curl", "-sS", "-m", "60", &url], ""));
        }
        // curl has gone, its kernel still answers the server's FIN.
        let open = |line: &str| !line.starts_with("TIME-WAIT");
        for _ in 0..1000 {
            if !lab.exec("client", &["ss", "-Htan"], "").lines().any(open) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("connections stay open");
    });
    assert_eq!(
        answers,
        ["0", "1", "0", "1", "0", "1", "0", "1", "0", "1", "0", "1"]
    );

    // The director never speaks for the VIP, and sees nothing of what the servers answer.
    assert!(!frames.iter().any(|f| f.is_from(VIP)), "{frames:?}");
    // Each frame of the client comes in from the router and goes out to a server, and but for the
    // MAC addresses not one byte changes: not the TTL, not ip.id, no checksum.
    assert!(
        frames.iter().all(|f| f.is_from(CLIENT) && f.is_to(VIP)),
        "{frames:?}"
    );
    let (came, went): (Vec<_>, Vec<_>) = frames.iter().partition(|f| f.source() == ROUTER_MAC);
    assert!(came.len() >= 12 * 5, "{} frames", came.len());
    assert!(came.iter().all(|f| f.target() == LB_MAC));
    assert_eq!(
        came.iter().map(|f| f.body()).collect::<Vec<_>>(),
        went.iter().map(|f| f.body()).collect::<Vec<_>>()
    );
    assert!(went.iter().all(|f| f.server().is_some()));

    // What the counters say is what the recording says.
    let counters = lab
        .within("lb", || nft::counters(Family::Netdev, TABLE))
        .unwrap();
    let (firsts, ways): (Vec<_>, Vec<_>) =
        counters.iter().partition(|c| c.name.starts_with("first_"));
    let names: Vec<_> = firsts
        .iter()
        .map(|c| (c.name.as_str(), c.packets))
        .collect();
    assert_eq!(names, [("first_web_server0", 6), ("first_web_server1", 6)]);
    assert_eq!(ways.len(), 2);
    for (n, counter) in ways.iter().enumerate() {
        let sent: Vec<_> = went.iter().filter(|f| f.server() == Some(n)).collect();
        assert_eq!(counter.name, format!("to_web_server{n}"));
        assert_eq!(counter.packets, sent.len() as u64);
        let bytes: usize = sent.iter().map(|f| f.0.len() - 14).sum();
        assert_eq!(counter.bytes, bytes as u64);
    }

    ruleset::is_one_table_without_conntrack(&lab);
}

#[test]
fn weights_are_exact_and_a_connection_keeps_its_server() {
    let mut lab = Lab::new(3);
    lab.serve();
    lab.direct(&program(&[service("wrr", &[3, 1, 0])]));

    let mut first = lab.connect();
    let mine = ask(&mut first);
    let mut answers = vec![0; 3];
    answers[mine] += 1;
    for _ in 1..40 {
        let mut connection = lab.connect();
        answers[ask(&mut connection)] += 1;
        close(connection);
        // The first one is asked again all the while.
        assert_eq!(ask(&mut first), mine);
    }
    assert_eq!(answers, [30, 10, 0]);
    close(first);
    // All have ended; what is left waits in `closing`.
    assert_eq!(entries(&lab, "conns_web"), []);
    assert_eq!(entries(&lab, "closing_web").len(), 40);
}

#[test]
fn source_hash_sends_a_source_to_one_server() {
    let mut lab = Lab::new(3);
    lab.serve();
    lab.direct(&program(&[service("sh", &[1, 1, 1])]));
    let mut seen = [0; 3];
    for host in 0..24_u8 {
        let source = Ipv4Addr::new(192, 168, 10, 100 + host);
        lab.ip("client", &format!("addr add {source}/32 dev eth1"));
        let mut servers: Vec<_> = (0..4)
            .map(|n| {
                let mut connection = lab.connect_from(source, 30_000 + n);
                let server = ask(&mut connection);
                close(connection);
                server
            })
            .collect();
        servers.dedup();
        assert_eq!(servers.len(), 1, "{source} went to {servers:?}");
        seen[servers[0]] += 1;
    }
    assert!(seen.iter().all(|n| *n > 0), "24 sources went to {seen:?}");
}

/// Without servers' redirect nobody answers, so that the packets are ours alone.
#[test]
fn tcp_connections_begin_stay_and_end() {
    let lab = Lab::new(2);
    lab.direct(&program(&[service("rr", &[1, 1])]));

    // A SYN that is sent again stays with its server; the next connection has the other.
    assert_eq!(
        pass(
            &lab,
            &[
                tcp(5000, SYN),
                tcp(5000, SYN),
                tcp(5001, SYN),
                tcp(5000, SYN)
            ]
        ),
        [0, 0, 1, 0]
    );
    // It lives a minute until its second packet, a quarter of an hour then.
    let lives = entries(&lab, "conns_web");
    assert!(
        lives.len() == 2 && lives.iter().all(|e| e.2 <= 60),
        "{lives:?}"
    );
    assert_eq!(pass(&lab, &[tcp(5000, ACK)]), [0]);
    let [five, other] = entries(&lab, "conns_web")[..] else {
        panic!()
    };
    assert!(five.0 == 5000 && five.1 == 0 && five.2 > 800, "{five:?}");
    assert!(
        other.0 == 5001 && other.1 == 1 && other.2 <= 60,
        "{other:?}"
    );

    // After its FIN the last acknowledgements, and a FIN sent again, still reach their server.
    let tail = [
        tcp(5000, FIN | ACK),
        tcp(5000, ACK),
        tcp(5000, FIN | ACK),
        tcp(5000, ACK),
    ];
    assert_eq!(pass(&lab, &tail), [0, 0, 0, 0]);
    assert_eq!(
        entries(&lab, "conns_web")
            .iter()
            .map(|e| e.0)
            .collect::<Vec<_>>(),
        [5001]
    );
    let closing = entries(&lab, "closing_web");
    assert!(
        closing[..] == [(5000, 0, closing[0].2)] && closing[0].2 > 60,
        "{closing:?}"
    );

    // The port used again is scheduled anew: someone else's turn came in between.
    assert_eq!(
        pass(&lab, &[tcp(5002, SYN), tcp(5000, SYN), tcp(5000, ACK)]),
        [0, 1, 1]
    );
    assert_eq!(entries(&lab, "closing_web"), []);
    // Its own end then goes to its own server.
    assert_eq!(pass(&lab, &[tcp(5000, RST), tcp(5000, ACK)]), [1, 1]);
    assert_eq!(
        entries(&lab, "closing_web")
            .iter()
            .map(|e| e.1)
            .collect::<Vec<_>>(),
        [1]
    );

    // With ECN a SYN is a SYN; one with other flags begins nothing.
    assert_eq!(pass(&lab, &[tcp(5003, SYN | ECN | CWR)]), [0]);
    let strays = [ACK, SYN | ACK, SYN | FIN, SYN | RST, RST, FIN, 0].map(|flags| tcp(5009, flags));
    assert_eq!(pass(&lab, &strays), [] as [usize; 0]);
    assert!(!entries(&lab, "conns_web").iter().any(|e| e.0 == 5009));
    assert_eq!(pass(&lab, &[tcp(5004, SYN)]), [1]);
}

#[test]
fn a_connection_that_says_nothing_is_forgotten() {
    let lab = Lab::new(2);
    let timeouts = Timeouts {
        syn: Duration::from_millis(100),
        ..Timeouts::default()
    };
    lab.direct(&ruleset(NftEngine { timeouts }, &[service("rr", &[1, 1])]));
    assert_eq!(pass(&lab, &[tcp(5000, SYN)]), [0]);
    wait_for("the end of a connection", || {
        entries(&lab, "conns_web").is_empty()
    });
    assert_eq!(pass(&lab, &[tcp(5000, ACK), tcp(5000, SYN)]), [1]);
}

#[test]
fn packets_keep_every_byte_but_the_mac_addresses() {
    let lab = Lab::new(2);
    lab.direct(&program(&[service("rr", &[1, 1])]));
    // Record route with room for one address is three bytes and four; the last byte ends the list.
    let options = Packet {
        options: vec![1, 1, 1, 1, 1, 1, 1, 0],
        ..tcp(5000, SYN)
    };
    let last_breath = Packet {
        ttl: 2,
        id: 0xbeef,
        ..tcp(5001, SYN)
    };
    let packets = [options.bytes(), last_breath.bytes()];
    let frames = lab.record(|| lab.inject(&packets));
    let [came0, went0, came1, went1] = &frames[..] else {
        panic!("{frames:?}")
    };
    for (came, went, server) in [(came0, went0, 0), (came1, went1, 1)] {
        assert_eq!(came.source(), ROUTER_MAC);
        assert_eq!(came.target(), LB_MAC);
        assert_eq!(went.server(), Some(server));
        assert_eq!(came.body(), went.body());
    }
    // The router has taken one from the TTL, the director none.
    assert_eq!(went1.0[22], 1);
    assert_eq!(went0.0[14], 0x47);
}

#[test]
fn what_is_not_for_the_service_is_left_alone() {
    let lab = Lab::new(2);
    lab.direct(&program(&[service("rr", &[1, 1])]));

    // Fragments: the first with ports, and a later one whose bytes look like our ports.
    let fragments = [
        Packet {
            fragment: 0x2000,
            ..tcp(5000, SYN)
        },
        Packet {
            fragment: 0x0001,
            ..tcp(5000, SYN)
        },
        Packet {
            fragment: 0x2001,
            ..tcp(5000, SYN)
        },
    ];
    // Another port, and our port of another protocol.
    let mut other = tcp(5000, SYN);
    other.payload[3] ^= 1;
    let mut packets = fragments.to_vec();
    packets.extend([other, udp(5000, PORT, b"x")]);
    assert_eq!(pass(&lab, &packets), [] as [usize; 0]);

    // Frames with a VLAN tag, to another machine's MAC address, and broadcast.
    let syn = tcp(5000, SYN).bytes();
    let frame =
        |target: [u8; 6], tag: &[u8]| [&target, &ROUTER_MAC, tag, &[8, 0], syn.as_slice()].concat();
    let flood = |frames: &[Vec<u8>]| {
        servers_of(&lab.record(|| {
            lab.within("router", || {
                for frame in frames {
                    packet_socket("eth2", frame);
                }
            });
        }))
    };
    let away = [
        frame(LB_MAC, &[0x81, 0, 0, 5]),
        frame(LB_MAC, &[0x81, 0, 0, 0]),
        frame([2, 0, 0, 0, 9, 9], &[]),
        frame([0xff; 6], &[]),
    ];
    assert_eq!(flood(&away), [] as [usize; 0]);
    assert_eq!(entries(&lab, "conns_web"), []);
    // The same frame to the director itself is taken.
    assert_eq!(flood(&[frame(LB_MAC, &[])]), [0]);
}

/// Sends a frame as it is.
fn packet_socket(device: &str, frame: &[u8]) {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};
    use std::os::fd::AsRawFd;
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let index = nix::net::if_::if_nametoindex(device).unwrap();
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0x0800_u16.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is a live sockaddr_ll, and its size is what is passed.
    let bound = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        )
    };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    assert_eq!(
        send(fd.as_raw_fd(), frame, MsgFlags::empty()),
        Ok(frame.len())
    );
}

#[test]
fn udp_flows_and_two_services_at_once() {
    let lab = Lab::new(3);
    let mut dns = service("rr", &[1, 1, 1]);
    (dns.name, dns.protocol, dns.port) = ("dns".into(), 17, 53);
    lab.direct(&program(&[service("rr", &[1, 1]), dns]));
    let ask = |port| udp(port, 53, b"question");
    let packets = [
        ask(7000),
        ask(7000),
        ask(7001),
        tcp(7000, SYN),
        ask(7002),
        tcp(7001, SYN),
        ask(7000),
    ];
    assert_eq!(pass(&lab, &packets), [0, 0, 1, 0, 2, 1, 0]);
    let lives = entries(&lab, "conns_dns");
    assert!(
        lives.len() == 3 && lives.iter().all(|e| e.2 > 200 && e.2 <= 300),
        "{lives:?}"
    );
}

#[test]
fn without_a_server_a_client_gets_no_answer() {
    let lab = Lab::new(1);
    lab.direct(&program(&[service("rr", &[0])]));
    // Nothing listens on the director: had the SYN gone to its own stack, that would have tried to
    // answer with RST (it has no route, so give it one).
    lab.ip("lb", "route add default via 172.28.128.2");
    let syn = [tcp(5000, SYN).bytes()];
    let frames = lab.record(|| lab.inject(&syn));
    assert_eq!(frames.len(), 1, "{frames:?}");
    // Without the rules it does.
    assert!(
        lab.within("lb", || nft::delete_table(Family::Netdev, TABLE))
            .unwrap()
    );
    let frames = lab.record(|| lab.inject(&syn));
    assert!(frames.iter().any(|f| f.is_from(VIP)), "{frames:?}");
}

#[test]
fn servers_behind_another_device_are_reached_by_it() {
    let lab = Lab::new(2);
    // Else eth2 would answer ARP for the VIP as well, being on the same network.
    lab.exec(
        "lb",
        &["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"],
        "",
    );
    let mac = [2, 0, 0, 0, 7, 7];
    lab.plug("lb", "eth2", mac, "172.28.129.3/24");
    let mut service = service("rr", &[1, 1]);
    service.devices.push(nslab::director::Device {
        name: "eth2".into(),
        mac,
    });
    service.servers[1].via = "eth2".into();
    lab.direct(&program(&[service]));
    let sent = || {
        let text = lab.ip("lb", "-j -s link show eth2");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    };
    let before = sent();
    assert_eq!(
        pass(&lab, &[tcp(5000, SYN), tcp(5001, SYN), tcp(5002, SYN)]),
        [0, 0]
    );
    assert_eq!(sent() - before, 1);
}
