//! Kernel IPVS by our netlink and by ipvsadm(8), each read by the other, in a namespace of each
//! test's own. Takes a kernel with IPVS: `scripts/with-ipvs cargo test --test ipvs_netlink`.

#[path = "common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use common::{tool, until};
use nix::sched::{CloneFlags, unshare};
use nslab::kernel::ipvs::{
    DestinationConf, Error, Forwarding, Ipvs, Netmask, ServiceConf, ServiceFlags, ServiceKey,
    Table, Timeouts, Transport, Tunnel, TunnelChecksum,
};
use nslab::kernel::netns;

/// Moves the calling thread into a network namespace of its own, with its loopback up.
fn namespace() -> Ipvs {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace, which takes root");
    tool("ip", &["link", "set", "lo", "up"]);
    Ipvs::open().unwrap_or_else(|e| panic!("{e}: run it through scripts/with-ipvs"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(transport: Transport, address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address {
        transport,
        address: ip(address),
        port,
    }
}

fn tcp(address: &str) -> ServiceKey {
    key(Transport::Tcp, address, 8080)
}

fn to(address: &str, forwarding: Forwarding) -> DestinationConf {
    DestinationConf::new(ip(address), 8080, forwarding)
}

fn ipvsadm(args: &str) -> String {
    tool("ipvsadm", &args.split(' ').collect::<Vec<_>>())
}

/// `ipvsadm --save -n`, its lines sorted: the kernel lists services by hash.
fn saved() -> Vec<String> {
    let mut lines: Vec<_> = ipvsadm("--save -n").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn restore(rules: &str) {
    let mut child = Command::new("ipvsadm")
        .arg("-R")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(rules.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "{rules}");
}

/// A server of [`everything`] with thresholds, which `ipvsadm --save` leaves out.
const RULE: &str = "-a -t 10.0.0.100:8080 -r 10.0.0.11:8080 -g -w 3";

/// A table with one of everything, and what `ipvsadm --save -n` makes of it, sorted.
fn everything() -> (Table, Vec<&'static str>) {
    use Forwarding::{DirectRoute, Masquerade, Tunnel as Tun};
    let flags = |mut service: ServiceConf, flags| {
        service.flags |= flags;
        service
    };
    let new = ServiceConf::new;
    let table = vec![
        (
            new(tcp("10.0.0.100"), "wrr").persistent(300, Netmask::of_prefix(false, 24).unwrap()),
            vec![
                DestinationConf {
                    upper: 100,
                    lower: 50,
                    ..to("10.0.0.11", DirectRoute).weighted(3)
                },
                DestinationConf::new(ip("10.0.0.12"), 80, Masquerade),
                to("10.0.0.13", Tun).weighted(0),
                DestinationConf {
                    tunnel: Tunnel::Gue { port: 6080 },
                    checksum: TunnelChecksum::Remote,
                    ..to("10.0.0.14", Tun)
                },
                DestinationConf {
                    tunnel: Tunnel::Gre,
                    checksum: TunnelChecksum::Full,
                    ..to("10.0.0.15", Tun)
                },
                to("fd00::16", Tun),
            ],
        ),
        (
            flags(
                new(tcp("fd00::100"), "mh"),
                ServiceFlags::of_scheduler("mh-port").unwrap(),
            ),
            vec![to("10.0.0.11", Tun), to("fd00::11", DirectRoute)],
        ),
        (
            flags(
                new(key(Transport::Udp, "10.0.0.100", 53), "rr"),
                ServiceFlags::ONE_PACKET,
            ),
            vec![DestinationConf::new(ip("10.0.0.11"), 53, DirectRoute)],
        ),
        (new(key(Transport::Sctp, "10.0.0.100", 5060), "lc"), vec![]),
        (
            flags(
                new(
                    ServiceKey::Fwmark {
                        mark: 7,
                        ipv6: false,
                    },
                    "sh",
                ),
                ServiceFlags::SCHED_1 | ServiceFlags::SCHED_2,
            ),
            vec![DestinationConf::new(ip("10.0.0.11"), 0, DirectRoute)],
        ),
        (
            new(
                ServiceKey::Fwmark {
                    mark: 7,
                    ipv6: true,
                },
                "dh",
            )
            .persistent(60, Netmask::of_prefix(true, 64).unwrap()),
            vec![DestinationConf::new(ip("fd00::11"), 0, DirectRoute)],
        ),
    ];
    let saved = vec![
        "-A --sctp-service 10.0.0.100:5060 -s lc",
        "-A -f 7 -6 -s dh -p 60 -M 64",
        "-A -f 7 -s sh -b sh-fallback,sh-port",
        "-A -t 10.0.0.100:8080 -s wrr -p 300 -M 255.255.255.0",
        "-A -t [fd00::100]:8080 -s mh -b mh-port",
        "-A -u 10.0.0.100:53 -s rr -o",
        "-a -f 7 -6 -r [fd00::11]:0 -g -w 1",
        "-a -f 7 -r 10.0.0.11:0 -g -w 1",
        RULE,
        "-a -t 10.0.0.100:8080 -r 10.0.0.12:80 -m -w 1",
        "-a -t 10.0.0.100:8080 -r 10.0.0.13:8080 -i -w 0 --tun-type ipip",
        "-a -t 10.0.0.100:8080 -r 10.0.0.14:8080 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum",
        "-a -t 10.0.0.100:8080 -r 10.0.0.15:8080 -i -w 1 --tun-type gre --tun-csum",
        "-a -t 10.0.0.100:8080 -r [fd00::16]:8080 -i -w 1 --tun-type ipip",
        "-a -t [fd00::100]:8080 -r 10.0.0.11:8080 -i -w 1 --tun-type ipip",
        "-a -t [fd00::100]:8080 -r [fd00::11]:8080 -g -w 1",
        "-a -u 10.0.0.100:53 -r 10.0.0.11:53 -g -w 1",
    ];
    (table, saved)
}

fn sorted(mut table: Table) -> Table {
    table.sort_by_key(|(service, _)| service.key);
    table
}

#[test]
fn ipvsadm_reads_what_we_write() {
    let mut ipvs = namespace();
    let (table, expected) = everything();
    ipvs.apply(&table).unwrap();
    assert_eq!(saved(), expected);
    assert_eq!(sorted(ipvs.table().unwrap()), sorted(table));
    let thresholds = ipvsadm("-L -n --thresholds -t 10.0.0.100:8080");
    let line = thresholds.lines().find(|l| l.contains("10.0.0.11"));
    let numbers: Vec<_> = line.unwrap().split_whitespace().skip(2).collect();
    assert_eq!(numbers[..2], ["100", "50"]);
    let head = ipvsadm("-L -n");
    assert_eq!(
        head.lines().next().unwrap(),
        ipvs.info().unwrap().to_string()
    );
    let lines: Vec<_> = head
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "TCP 10.0.0.100:8080 wrr persistent 300 mask 255.255.255.0",
        "-> 10.0.0.11:8080 Route 3 0 0",
        "-> 10.0.0.12:80 Masq 1 0 0",
        "-> 10.0.0.13:8080 Tunnel 0 0 0",
        "TCP [fd00::100]:8080 mh (mh-port)",
        "UDP 10.0.0.100:53 rr ops",
        "SCTP 10.0.0.100:5060 lc",
        "FWM 7 sh (sh-fallback,sh-port)",
        "FWM 7 IPv6 dh persistent 60 mask 64",
    ] {
        assert!(
            lines.iter().any(|l| l == line),
            "{line:?} is not in {lines:#?}"
        );
    }
}

#[test]
fn we_read_what_ipvsadm_writes_and_can_write_it_again() {
    let mut ipvs = namespace();
    let (expected, rules) = everything();
    // Services before their servers, as the letters sort; with the thresholds that are not saved.
    let thresholds = format!("{RULE} -x 100 -y 50");
    restore(&rules.join("\n").replace(RULE, &thresholds));
    let table = ipvs.table().unwrap();
    assert_eq!(sorted(table.clone()), sorted(expected));
    ipvs.flush().unwrap();
    assert_eq!(saved(), Vec::<String>::new());
    assert_eq!(ipvs.services().unwrap(), []);
    ipvs.apply(&table).unwrap();
    assert_eq!(saved(), rules);
}

/// Every scheduler that ipvsadm's manual, or the kernel since, has.
const SCHEDULERS: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos",
];

#[test]
fn every_scheduler() {
    let mut ipvs = namespace();
    for (n, scheduler) in (1..).zip(SCHEDULERS) {
        assert_eq!(
            ipvs.has_scheduler(scheduler).unwrap(),
            Some(true),
            "{scheduler}"
        );
        let key = key(Transport::Tcp, "10.0.0.100", n);
        let service = ServiceConf::new(key, scheduler);
        ipvs.add_service(&service).unwrap();
        assert_eq!(ipvs.service(&key).unwrap().conf, service);
    }
    let mut expected: Vec<_> = (1..)
        .zip(SCHEDULERS)
        .map(|(n, scheduler)| format!("-A -t 10.0.0.100:{n} -s {scheduler}"))
        .collect();
    expected.sort();
    assert_eq!(saved(), expected);
}

#[test]
fn changes_and_deletions() {
    let mut ipvs = namespace();
    restore(
        "-A -t 10.0.0.100:8080 -s rr\n\
         -a -t 10.0.0.100:8080 -r 10.0.0.11:8080 -g -w 1\n\
         -a -t 10.0.0.100:8080 -r 10.0.0.12:8080 -g -w 1\n\
         -A -t 10.0.0.101:8080 -s rr\n",
    );
    let service = ServiceConf::new(tcp("10.0.0.100"), "sh");
    let with_port = ServiceConf {
        flags: ServiceFlags::SCHED_2,
        ..service.clone()
    };
    let line = |n: usize| saved()[n].clone();
    ipvs.edit_service(&with_port).unwrap();
    assert_eq!(line(0), "-A -t 10.0.0.100:8080 -s sh -b sh-port");
    // A flag that is not named is cleared.
    ipvs.edit_service(&service).unwrap();
    assert_eq!(line(0), "-A -t 10.0.0.100:8080 -s sh");
    let drained = to("10.0.0.11", Forwarding::DirectRoute).weighted(0);
    ipvs.edit_destination(&service.key, &drained).unwrap();
    assert_eq!(line(2), "-a -t 10.0.0.100:8080 -r 10.0.0.11:8080 -g -w 0");
    ipvs.delete_destination(&service.key, ip("10.0.0.12"), 8080)
        .unwrap();
    assert_eq!(saved().len(), 3);
    ipvs.delete_service(&service.key).unwrap();
    assert_eq!(saved(), ["-A -t 10.0.0.101:8080 -s rr"]);
}

#[test]
fn timeouts_are_those_that_ipvsadm_shows() {
    let mut ipvs = namespace();
    let timeouts = Timeouts {
        tcp: 100,
        tcp_fin: 20,
        udp: 30,
    };
    ipvs.set_timeouts(timeouts).unwrap();
    assert_eq!(
        ipvsadm("-L --timeout").trim(),
        "Timeout (tcp tcpfin udp): 100 20 30"
    );
    let only_udp = Timeouts {
        udp: 31,
        ..Timeouts::default()
    };
    ipvs.set_timeouts(only_udp).unwrap();
    ipvsadm("--set 101 0 0");
    let expected = Timeouts {
        tcp: 101,
        tcp_fin: 20,
        udp: 31,
    };
    assert_eq!(ipvs.timeouts().unwrap(), expected);
}

#[test]
fn connections_are_counted_and_counters_zeroed() {
    let mut ipvs = namespace();
    tool("ip", &["address", "add", "10.0.0.100/32", "dev", "lo"]);
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let service = key(Transport::Tcp, "10.0.0.100", 80);
    let destination = DestinationConf::new(ip("127.0.0.1"), port, Forwarding::Masquerade);
    ipvs.apply(&vec![(ServiceConf::new(service, "rr"), vec![destination])])
        .unwrap();

    let echo = std::thread::spawn(move || {
        for _ in 0..5 {
            let (mut connection, _) = server.accept().unwrap();
            let mut said = Vec::new();
            connection.read_to_end(&mut said).unwrap();
            connection.write_all(&said).unwrap();
        }
    });
    for _ in 0..5 {
        let mut connection = TcpStream::connect("10.0.0.100:80").unwrap();
        connection.write_all(b"hello").unwrap();
        connection.shutdown(std::net::Shutdown::Write).unwrap();
        let mut heard = String::new();
        connection.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
    }
    echo.join().unwrap();

    let seen = &ipvs.destinations(&service).unwrap()[0];
    assert_eq!(seen.active + seen.inactive, 5, "{seen:?}");
    // The kernel adds up what its processors counted every two seconds.
    until("the counters are renewed", || {
        ipvs.service(&service).unwrap().stats.connections == 5
    });
    let stats = ipvs.service(&service).unwrap().stats;
    let there = ipvs.destinations(&service).unwrap()[0].stats;
    assert_eq!(there.connections, 5);
    // SYN, ACK, data and FIN at least; 5 bytes each way above what headers take.
    assert!(
        stats.packets_in >= 20 && stats.packets_out >= 15,
        "{stats:?}"
    );
    assert!(stats.bytes_in > 40 * stats.packets_in, "{stats:?}");
    let shown = ipvsadm("-L -n --stats --exact -t 10.0.0.100:80");
    let numbers: Vec<_> = shown
        .lines()
        .find(|l| l.starts_with("TCP"))
        .unwrap()
        .split_whitespace()
        .skip(2)
        .map(|n| n.parse::<u64>().unwrap())
        .collect();
    let ours = [
        stats.connections,
        stats.packets_in,
        stats.packets_out,
        stats.bytes_in,
        stats.bytes_out,
    ];
    assert_eq!(numbers, ours);

    ipvs.zero(Some(&service)).unwrap();
    assert_eq!(ipvs.service(&service).unwrap().stats.connections, 0);
    let destination = &ipvs.destinations(&service).unwrap()[0];
    assert_eq!(destination.stats.packets_in, 0);
    // Connections are not counters: they go on.
    assert_eq!(destination.active + destination.inactive, 5);
    ipvs.zero(None).unwrap();
}

#[test]
fn long_lists_come_whole() {
    let mut ipvs = namespace();
    let service = ServiceConf::new(tcp("10.0.0.100"), "rr");
    let destinations: Vec<_> = (0..300_u16)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            to(&format!("10.1.{high}.{low}"), Forwarding::DirectRoute).weighted(n.into())
        })
        .collect();
    let mut table = vec![(service, destinations)];
    table.extend((0..200).map(|n| {
        let key = key(Transport::Udp, "10.0.0.100", n + 1);
        (ServiceConf::new(key, "rr"), vec![])
    }));
    ipvs.apply(&table).unwrap();
    assert_eq!(sorted(ipvs.table().unwrap()), sorted(table));
}

#[test]
fn it_stays_in_the_namespace_that_it_was_opened_in() {
    let mut here = namespace();
    let there = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        netns::current().unwrap()
    });
    let there = there.join().unwrap();
    let mut ipvs = netns::run_in(&there, Ipvs::open).unwrap().unwrap();
    ipvs.add_service(&ServiceConf::new(tcp("10.0.0.100"), "rr"))
        .unwrap();
    assert_eq!(ipvs.services().unwrap().len(), 1);
    assert_eq!(here.services().unwrap(), []);
    assert_eq!(saved(), Vec::<String>::new());
    let outside = netns::run_in(&there, saved).unwrap();
    assert_eq!(outside, ["-A -t 10.0.0.100:8080 -s rr"]);
}

#[test]
fn refusals_say_what_is_wrong() {
    let mut ipvs = namespace();
    let service = ServiceConf::new(tcp("10.0.0.100"), "rr");
    let server = to("10.0.0.11", Forwarding::DirectRoute);
    ipvs.apply(&vec![(service.clone(), vec![server])]).unwrap();
    let before = saved();

    let other = tcp("10.0.0.101");
    let engine = |scheduler: &str| ServiceConf {
        persistence_engine: Some("nobody".into()),
        ..ServiceConf::new(other, scheduler).persistent(60, Netmask::host(false))
    };
    let package = "on Ubuntu the module is in package linux-modules-extra-$(uname -r)";
    let said = |done: Result<(), Error>| done.unwrap_err().to_string();
    assert_eq!(
        said(ipvs.add_service(&service)),
        "cannot add service TCP 10.0.0.100:8080: it exists already"
    );
    assert_eq!(
        said(ipvs.add_service(&ServiceConf::new(other, "nobody"))),
        format!(
            "cannot add service TCP 10.0.0.101:8080: this kernel has no scheduler \"nobody\", \
             which is module ip_vs_nobody (CONFIG_IP_VS_NOBODY): load it with \
             `modprobe ip_vs_nobody`; {package}"
        )
    );
    assert_eq!(
        said(ipvs.add_service(&engine("rr"))),
        format!(
            "cannot add service TCP 10.0.0.101:8080: this kernel has no persistence engine \
             \"nobody\", which is module ip_vs_pe_nobody (CONFIG_IP_VS_PE_NOBODY): load it with \
             `modprobe ip_vs_pe_nobody`; {package}"
        )
    );
    // Of two things that the kernel lacks, it names none: we find out.
    let error = ipvs.add_service(&engine("none-such")).unwrap_err();
    assert!(
        matches!(&error, Error::Scheduler { name, .. } if name == "none-such"),
        "{error}"
    );
    assert_eq!(ipvs.has_scheduler("nobody").unwrap(), Some(false));
    assert_eq!(ipvs.has_persistence_engine("nobody").unwrap(), Some(false));
    assert_eq!(
        said(ipvs.add_destination(&service.key, &server)),
        "cannot add destination 10.0.0.11:8080 of service TCP 10.0.0.100:8080: it exists already"
    );
    assert_eq!(
        said(ipvs.add_destination(&other, &server)),
        "cannot add destination 10.0.0.11:8080 of service TCP 10.0.0.101:8080: there is no such \
         service"
    );
    assert_eq!(
        said(ipvs.delete_destination(&service.key, ip("10.0.0.12"), 8080)),
        "cannot delete destination 10.0.0.12:8080 of service TCP 10.0.0.100:8080: there is no \
         such destination"
    );
    assert_eq!(
        said(ipvs.delete_service(&other)),
        "cannot delete service TCP 10.0.0.101:8080: there is no such service"
    );
    assert_eq!(
        said(ipvs.destinations(&other).map(drop)),
        "cannot look at service TCP 10.0.0.101:8080: there is no such service"
    );
    let heavy = to("10.0.0.12", Forwarding::DirectRoute).weighted(1 << 31);
    assert_eq!(
        said(ipvs.add_destination(&service.key, &heavy)),
        "cannot add destination 10.0.0.12:8080 of service TCP 10.0.0.100:8080: Numerical result \
         out of range (os error 34) (weights go up to 2147483647, and the lower threshold is at \
         most the upper one)"
    );
    let mixed = to("fd00::11", Forwarding::DirectRoute);
    let mixed = said(ipvs.add_destination(&service.key, &mixed));
    assert!(
        mixed.contains("one of the other address family takes a tunnel"),
        "{mixed}"
    );
    assert_eq!(saved(), before);
}

#[test]
fn a_table_goes_in_whole_or_not_at_all() {
    let mut ipvs = namespace();
    restore("-A -t 10.0.0.101:8080 -s wlc\n-a -t 10.0.0.101:8080 -r 10.0.0.11:8080 -g -w 1\n");
    let before = saved();
    let server = to("10.0.0.11", Forwarding::DirectRoute);
    let good = (ServiceConf::new(tcp("10.0.0.100"), "rr"), vec![server]);
    for (bad, expected) in [
        (
            (ServiceConf::new(tcp("10.0.0.101"), "rr"), vec![server]),
            "cannot add service TCP 10.0.0.101:8080: it exists already",
        ),
        (
            (
                ServiceConf::new(tcp("10.0.0.102"), "rr"),
                vec![server, server],
            ),
            "cannot add destination 10.0.0.11:8080 of service TCP 10.0.0.102:8080: it exists \
             already",
        ),
    ] {
        let table = vec![good.clone(), bad];
        assert_eq!(ipvs.apply(&table).unwrap_err().to_string(), expected);
        assert_eq!(saved(), before);
    }
}

#[test]
fn without_privilege_it_is_refused_in_words() {
    let mut ipvs = namespace();
    // Capabilities are a thread's; the socket was opened with them.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            caps::clear(None, caps::CapSet::Effective).unwrap();
            let error = ipvs.flush().unwrap_err();
            assert_eq!(
                error.to_string(),
                "cannot delete all services: Operation not permitted (IPVS takes CAP_NET_ADMIN in \
                 the initial user namespace: run it with sudo)"
            );
        });
    });
    ipvs.flush().unwrap();
}
