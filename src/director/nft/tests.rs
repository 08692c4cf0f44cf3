use super::*;
use crate::director::Persistence;
use crate::lab::{Method, SchedulerFlag};

pub(in crate::director) fn service(scheduler: &str, weights: &[u32]) -> ServiceSpec {
    let servers = weights.iter().enumerate().map(|(n, weight)| ServerSpec {
        name: format!("server{}", n + 1),
        address: format!("172.28.128.{}", n + 4).parse().unwrap(),
        mac: [2, 0, 0, 0, 0, n as u8 + 4],
        via: "eth1".into(),
        weight: *weight,
        port: 8080,
        upper: 0,
        lower: 0,
    });
    ServiceSpec {
        name: "thredds".into(),
        vip: "172.28.128.3".parse().unwrap(),
        port: 8080,
        protocol: 6,
        method: Method::Dr,
        scheduler: scheduler.into(),
        scheduler_flags: vec![],
        persistent: None,
        one_packet: false,
        devices: vec![Device {
            name: "eth1".into(),
            mac: [2, 0, 0, 0, 0, 3],
        }],
        servers: servers.collect(),
    }
}

fn text(services: &[ServiceSpec]) -> String {
    NftEngine::default().program(services).unwrap().to_string()
}

fn refusal(service: &ServiceSpec) -> String {
    let error = NftEngine::default().supports(service).unwrap_err();
    assert_eq!(
        NftEngine::default().program(std::slice::from_ref(service)),
        Err(error.clone())
    );
    error.to_string()
}

#[test]
fn the_flagships_director() {
    assert_eq!(
        text(&[service("rr", &[1, 1])]),
        r#"table netdev nslab {
	counter to_thredds_server1 {
	}

	counter to_thredds_server2 {
	}

	counter first_thredds_server1 {
	}

	counter first_thredds_server2 {
	}

	map conns_thredds {
		type ipv4_addr . inet_service : mark
		size 65536
		flags dynamic,timeout
		timeout 15m
	}

	map closing_thredds {
		type ipv4_addr . inet_service : mark
		size 65536
		flags dynamic,timeout
		timeout 2m
	}

	map slots_thredds {
		type mark : mark
		elements = { 0x00000000 : 0x00000000, 0x00000001 : 0x00000001 }
	}

	map servers_thredds {
		type mark : verdict
		elements = { 0x00000000 : goto to_thredds_server1, 0x00000001 : goto to_thredds_server2 }
	}

	map firsts_thredds {
		type mark : verdict
		elements = { 0x00000000 : goto first_thredds_server1, 0x00000001 : goto first_thredds_server2 }
	}

	chain to_thredds_server1 {
		counter name "to_thredds_server1" meta mark set 0x00000000 ether saddr set 02:00:00:00:00:03 ether daddr set 02:00:00:00:00:04 fwd to "eth1" comment "172.28.128.4"
	}

	chain first_thredds_server1 {
		counter name "first_thredds_server1" goto to_thredds_server1
	}

	chain to_thredds_server2 {
		counter name "to_thredds_server2" meta mark set 0x00000000 ether saddr set 02:00:00:00:00:03 ether daddr set 02:00:00:00:00:05 fwd to "eth1" comment "172.28.128.5"
	}

	chain first_thredds_server2 {
		counter name "first_thredds_server2" goto to_thredds_server2
	}

	chain new_thredds {
		delete @closing_thredds { ip saddr . tcp sport : meta mark }
		meta mark set numgen inc mod 2
		meta mark set meta mark map @slots_thredds
		update @conns_thredds { ip saddr . tcp sport timeout 1m : meta mark } meta mark vmap @firsts_thredds
		counter drop comment "too many connections"
	}

	chain known_thredds {
		tcp flags & rst != 0x0 update @closing_thredds { ip saddr . tcp sport timeout 10s : meta mark } delete @conns_thredds { ip saddr . tcp sport : meta mark } meta mark vmap @servers_thredds
		tcp flags & fin != 0x0 update @closing_thredds { ip saddr . tcp sport timeout 2m : meta mark } delete @conns_thredds { ip saddr . tcp sport : meta mark } meta mark vmap @servers_thredds
		tcp flags & syn == 0x0 update @conns_thredds { ip saddr . tcp sport timeout 15m : meta mark }
		meta mark vmap @servers_thredds
	}

	chain svc_thredds {
		meta mark set ip saddr . tcp sport map @conns_thredds goto known_thredds
		tcp flags & (fin | syn | rst | ack) == syn goto new_thredds
		meta mark set ip saddr . tcp sport map @closing_thredds update @closing_thredds { ip saddr . tcp sport timeout 2m : meta mark } meta mark vmap @servers_thredds comment "what follows the client's FIN"
	}

	chain in_eth1 {
		type filter hook ingress device "eth1" priority filter; policy accept;
		ether type ip meta pkttype host ip daddr 172.28.128.3 ip frag-off & 0x3fff == 0x0 tcp dport 8080 goto svc_thredds
	}
}
"#
    );
}

#[test]
fn weights_make_slots_and_source_hash_makes_a_hash() {
    let wrr = text(&[service("wrr", &[3, 1, 0])]);
    assert!(wrr.contains("meta mark set numgen inc mod 4\n"), "{wrr}");
    assert!(wrr.contains(
        "elements = { 0x00000000 : 0x00000000, 0x00000001 : 0x00000000, 0x00000002 : 0x00000001, \
         0x00000003 : 0x00000000 }\n"
    ));
    // A server that takes nothing new keeps what it has.
    assert!(wrr.contains("0x00000002 : goto to_thredds_server3"));

    let sh = text(&[service("sh", &[1, 2])]);
    assert!(
        sh.contains("meta mark set jhash ip saddr mod 3 seed 0x6e736c62\n"),
        "{sh}"
    );

    let rr = text(&[service("rr", &[100, 0, 3])]);
    assert!(rr.contains("meta mark set numgen inc mod 2\n"), "{rr}");
    assert!(rr.contains("elements = { 0x00000000 : 0x00000000, 0x00000001 : 0x00000002 }\n"));
}

#[test]
fn without_a_server_that_takes_connections_they_are_dropped() {
    for scheduler in ["rr", "wrr", "sh"] {
        for weights in [&[0_u32, 0] as &[_], &[]] {
            let text = text(&[service(scheduler, weights)]);
            assert!(
                text.contains(
                    "\tchain new_thredds {\n\
                     \t\tdelete @closing_thredds { ip saddr . tcp sport : meta mark }\n\
                     \t\tcounter drop comment \"no server takes new connections\"\n\t}\n"
                ),
                "{text}"
            );
        }
    }
}

#[test]
fn udp_has_one_chain_and_no_closing() {
    let mut dns = service("rr", &[1, 1]);
    (dns.name, dns.protocol, dns.port) = ("dns".into(), 17, 53);
    let text = text(&[dns]);
    assert!(text.contains(
        "\tchain svc_dns {\n\
         \t\tmeta mark set ip saddr . udp sport map @conns_dns update @conns_dns { ip saddr . udp \
         sport timeout 5m : meta mark } meta mark vmap @servers_dns\n\
         \t\tmeta mark set numgen inc mod 2\n\
         \t\tmeta mark set meta mark map @slots_dns\n\
         \t\tupdate @conns_dns { ip saddr . udp sport timeout 5m : meta mark } meta mark vmap \
         @firsts_dns\n\
         \t\tcounter drop comment \"too many connections\"\n\t}\n"
    ));
    assert!(!text.contains("closing"));
    assert!(
        text.contains(
            "ip daddr 172.28.128.3 ip frag-off & 0x3fff == 0x0 udp dport 53 goto svc_dns\n"
        )
    );
}

#[test]
fn each_device_has_one_base_chain_with_the_services_that_use_it() {
    let one = service("rr", &[1]);
    let mut two = service("rr", &[1]);
    (two.name, two.port) = ("files".into(), 21);
    two.devices.push(Device {
        name: "eth2".into(),
        mac: [2, 0, 0, 0, 1, 3],
    });
    two.servers[0].via = "eth2".into();
    let text = text(&[one, two]);
    let chains: Vec<_> = text
        .split("\tchain ")
        .filter(|c| c.starts_with("in_"))
        .collect();
    assert_eq!(chains.len(), 2);
    assert!(chains[0].contains("device \"eth1\"") && chains[1].contains("device \"eth2\""));
    assert_eq!(chains[0].matches("goto ").count(), 2);
    assert_eq!(chains[1].matches("goto ").count(), 1);
    assert!(text.contains(
        "ether saddr set 02:00:00:00:01:03 ether daddr set 02:00:00:00:00:04 fwd to \"eth2\""
    ));
}

#[test]
fn what_it_cannot_do_is_named() {
    assert_eq!(
        refusal(&service("lc", &[1, 1])),
        "service \"thredds\" asks for scheduler \"lc\", which engine \"nft\" does not have (it has \
         rr, wrr and sh)"
    );
    assert!(refusal(&service("lc", &[])).contains("\"lc\""));
    let mut sctp = service("rr", &[1]);
    sctp.protocol = 132;
    assert_eq!(
        refusal(&sctp),
        "service \"thredds\" is of IP protocol 132; engine \"nft\" balances tcp (6) and udp (17) \
         only"
    );
    let mut more = service("rr", &[1]);
    more.persistent = Some(Persistence {
        timeout_s: 300,
        prefix: 32,
    });
    assert_eq!(
        refusal(&more),
        "service \"thredds\" asks for persistence, which engine \"nft\" does not have"
    );
    let asks = |change: &dyn Fn(&mut ServiceSpec)| {
        let mut more = service("rr", &[1]);
        change(&mut more);
        let refusal = refusal(&more);
        let what = refusal.split("asks for ").nth(1).expect("a feature");
        what.split(", which").next().expect("a feature").to_owned()
    };
    assert_eq!(asks(&|s| s.method = Method::Nat), "method \"nat\"");
    assert_eq!(asks(&|s| s.method = Method::Tun), "method \"tun\"");
    assert_eq!(asks(&|s| s.one_packet = true), "one-packet scheduling");
    assert_eq!(asks(&|s| s.servers[0].upper = 9), "connection thresholds");
    assert_eq!(
        asks(&|s| s.scheduler_flags = vec![SchedulerFlag::ShPort]),
        "scheduler flags"
    );
    let mut six = service("rr", &[1]);
    six.vip = "fd00::3".parse().unwrap();
    assert_eq!(
        refusal(&six),
        "service \"thredds\" has the IPv6 VIP fd00::3; engine \"nft\" balances IPv4 only"
    );
    assert_eq!(
        refusal(&service("wrr", &[65_536, 1])),
        "the weights of service \"thredds\" add up to 65537, reduced by their greatest common \
         divisor; engine \"nft\" takes up to 65536: round the weights"
    );
    let mut away = service("rr", &[1, 1]);
    away.servers[1].via = "eth7".into();
    assert_eq!(
        refusal(&away),
        "service \"thredds\" reaches realserver \"server2\" by \"eth7\", which is none of the \
         director's interfaces"
    );
    let mut twin = service("sh", &[1]);
    twin.name = "twin".into();
    assert_eq!(
        NftEngine::default()
            .program(&[service("rr", &[1]), twin])
            .unwrap_err()
            .to_string(),
        "services \"thredds\" and \"twin\" have the same VIP, protocol and port"
    );
}
