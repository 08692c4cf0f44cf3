//! What is sent: byte for byte what ipvsadm sends, but where a comment says otherwise.

use std::collections::BTreeSet;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NlasIterator};

use super::recorded::{self, framed};
use super::{ip, key, mark, tcp, tcp6};
use crate::kernel::ipvs::requests as r;
use crate::kernel::ipvs::socket::Request;
use crate::kernel::ipvs::{
    DestinationConf, Forwarding, Netmask, ServiceConf, ServiceFlags, Timeouts, Transport, Tunnel,
    TunnelChecksum,
};

/// The family's number in these tests.
const FAMILY: u16 = 20;

/// A message's attributes, those in nests as `1.6`, each with its value.
fn flat(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![];
    for outer in NlasIterator::new(bytes) {
        let outer = outer.unwrap();
        if !outer.nested_flag() {
            all.push((outer.kind().to_string(), outer.value().to_vec()));
            continue;
        }
        for inner in NlasIterator::new(outer.value()) {
            let inner = inner.unwrap();
            let path = format!("{}.{}", outer.kind(), inner.kind());
            all.push((path, inner.value().to_vec()));
        }
    }
    all
}

fn ours(request: Request, flags: u16) -> Vec<u8> {
    request.bytes(FAMILY, 7, flags)
}

/// Wants the request to be, byte for byte, the one that the command sent.
fn same(command: &'static str, request: Request) -> &'static str {
    let sent = &recorded::of(command).sent;
    assert_eq!(sent.len(), 1, "{command}");
    let theirs = framed(FAMILY, sent[0].flags, 7, &sent[0].bytes);
    assert_eq!(
        ours(request, NLM_F_REQUEST | NLM_F_ACK),
        theirs,
        "{command}"
    );
    command
}

/// Wants the request to be the one that the command sent, less these attributes, which the kernel
/// does not look at.
fn same_less(command: &'static str, left_out: &[&str], request: Request) -> &'static str {
    let sent = &recorded::of(command).sent[0];
    assert_eq!(sent.flags, NLM_F_REQUEST | NLM_F_ACK, "{command}");
    let ours = ours(request, NLM_F_REQUEST | NLM_F_ACK);
    assert_eq!(ours[16..20], sent.bytes[..4], "{command}: command, version");
    let mut theirs = flat(&sent.bytes[4..]);
    theirs.retain(|(path, _)| !left_out.contains(&path.as_str()));
    assert_eq!(flat(&ours[20..]), theirs, "{command}");
    command
}

#[test]
fn services() {
    let with = |key, scheduler, change: &dyn Fn(&mut ServiceConf)| {
        let mut service = ServiceConf::new(key, scheduler);
        change(&mut service);
        service
    };
    let sh_port = ServiceFlags::of_scheduler("sh-port").unwrap();
    let sh_fallback = ServiceFlags::of_scheduler("sh-fallback").unwrap();
    let mh = ServiceFlags::of_scheduler("mh-port").unwrap()
        | ServiceFlags::of_scheduler("mh-fallback").unwrap();
    let v4 = |length| Netmask::of_prefix(false, length).unwrap();
    let all = [
        ("-A -t 10.0.0.100:8080 -s rr", with(tcp(), "rr", &|_| {})),
        (
            "-A -u 10.0.0.100:53 -s wlc -o",
            with(key(Transport::Udp, "10.0.0.100", 53), "wlc", &|s| {
                s.flags |= ServiceFlags::ONE_PACKET;
            }),
        ),
        (
            "-A --sctp-service 10.0.0.100:5060 -s lc",
            with(key(Transport::Sctp, "10.0.0.100", 5060), "lc", &|_| {}),
        ),
        (
            "-A -f 1 -s wrr -p 300 -M 255.255.255.0",
            ServiceConf::new(mark(false), "wrr").persistent(300, v4(24)),
        ),
        (
            "-A -f 1 -6 -s sh -b sh-port",
            with(mark(true), "sh", &|s| s.flags |= sh_port),
        ),
        (
            "-A -t [fd00::100]:8080 -s mh -p 60 -M 64 -b mh-port,mh-fallback",
            with(tcp6(), "mh", &|s| {
                *s = s.clone().persistent(60, Netmask::V6(64));
                s.flags |= mh;
            }),
        ),
        (
            "-A -t 10.0.0.101:80 -s sh -b sh-fallback",
            with(key(Transport::Tcp, "10.0.0.101", 80), "sh", &|s| {
                s.flags |= sh_fallback;
            }),
        ),
        (
            "-A -u 10.0.0.100:5060 -s rr -p 60 --pe sip",
            with(key(Transport::Udp, "10.0.0.100", 5060), "rr", &|s| {
                *s = s.clone().persistent(60, v4(32));
                s.persistence_engine = Some("sip".into());
            }),
        ),
        (
            "-E -t 10.0.0.100:8080 -s wrr -p 600",
            ServiceConf::new(tcp(), "wrr").persistent(600, v4(32)),
        ),
        ("-E -t 10.0.0.100:8080 -s wrr", with(tcp(), "wrr", &|_| {})),
    ];
    for (words, service) in all {
        let request = if words.starts_with("-A") {
            r::add_service(&service)
        } else {
            r::edit_service(&service)
        };
        let command = format!("ipvsadm {words}");
        same(command.leak(), request);
    }
}

/// What a command about a destination says of the service beyond its name, all of it empty.
const REST_OF_SERVICE: [&str; 4] = ["1.6", "1.7", "1.8", "1.9"];

fn to(address: &str, port: u16, forwarding: Forwarding) -> DestinationConf {
    DestinationConf::new(ip(address), port, forwarding)
}

/// Destinations in the order of the script, with their services.
fn destinations() -> Vec<(&'static str, super::ServiceKey, DestinationConf)> {
    use Forwarding::{DirectRoute, Masquerade, Tunnel as Tun};
    let sctp = key(Transport::Sctp, "10.0.0.100", 5060);
    let gue = Tunnel::Gue { port: 6080 };
    let dr = DestinationConf {
        upper: 100,
        lower: 50,
        ..to("10.0.0.11", 8080, DirectRoute).weighted(3)
    };
    let plain_gue = DestinationConf {
        tunnel: gue,
        ..to("10.0.0.14", 8080, Tun)
    };
    let gre = DestinationConf {
        tunnel: Tunnel::Gre,
        checksum: TunnelChecksum::Full,
        ..to("10.0.0.15", 8080, Tun)
    };
    let remote = DestinationConf {
        tunnel: gue,
        checksum: TunnelChecksum::Remote,
        ..to("10.0.0.16", 8080, Tun)
    };
    vec![
        (
            "-t 10.0.0.100:8080 -r 10.0.0.11 -g -w 3 -x 100 -y 50",
            tcp(),
            dr,
        ),
        (
            "-t 10.0.0.100:8080 -r 10.0.0.12:80 -m",
            tcp(),
            to("10.0.0.12", 80, Masquerade),
        ),
        (
            "-t 10.0.0.100:8080 -r 10.0.0.13 -i -w 0",
            tcp(),
            to("10.0.0.13", 8080, Tun).weighted(0),
        ),
        (
            "-t 10.0.0.100:8080 -r 10.0.0.14 -i --tun-type gue --tun-port 6080",
            tcp(),
            plain_gue,
        ),
        (
            "-t 10.0.0.100:8080 -r 10.0.0.15 -i --tun-type gre --tun-csum",
            tcp(),
            gre,
        ),
        (
            "-t 10.0.0.100:8080 -r 10.0.0.16 -i --tun-type gue --tun-port 6080 --tun-remcsum",
            tcp(),
            remote,
        ),
        (
            "-t 10.0.0.100:8080 -r fd00::11 -i",
            tcp(),
            to("fd00::11", 8080, Tun),
        ),
        (
            "-t [fd00::100]:8080 -r [fd00::11]:8080 -g -w 2",
            tcp6(),
            to("fd00::11", 8080, DirectRoute).weighted(2),
        ),
        (
            "-f 1 -r 10.0.0.11 -g",
            mark(false),
            to("10.0.0.11", 0, DirectRoute),
        ),
        (
            "-f 1 -6 -r fd00::11 -g",
            mark(true),
            to("fd00::11", 0, DirectRoute),
        ),
        (
            "--sctp-service 10.0.0.100:5060 -r 10.0.0.11:5060 -m",
            sctp,
            to("10.0.0.11", 5060, Masquerade),
        ),
    ]
}

#[test]
fn destinations_without_the_rest_of_their_service() {
    for (words, key, conf) in destinations() {
        let command = format!("ipvsadm -a {words}");
        same_less(
            command.leak(),
            &REST_OF_SERVICE,
            r::add_destination(&key, &conf),
        );
    }
    let edited = DestinationConf::new(ip("10.0.0.11"), 8080, Forwarding::DirectRoute).weighted(0);
    same_less(
        "ipvsadm -e -t 10.0.0.100:8080 -r 10.0.0.11 -g -w 0",
        &REST_OF_SERVICE,
        r::edit_destination(&tcp(), &edited),
    );
    // To delete one, its name is enough.
    let rest = ["2.3", "2.4", "2.5", "2.6", "2.13", "2.14", "2.15"];
    same_less(
        "ipvsadm -d -t 10.0.0.100:8080 -r 10.0.0.12:80",
        &[&REST_OF_SERVICE[..], &rest].concat(),
        r::delete_destination(&tcp(), ip("10.0.0.12"), 80),
    );
}

/// ipvsadm leaves bytes of another address behind an IPv4 one in an IPv6 service; ours are 0.
#[test]
fn an_ipv4_server_of_an_ipv6_service_has_zeros_behind_its_address() {
    let command = "ipvsadm -a -t [fd00::100]:8080 -r 10.0.0.11:8080 -i";
    let conf = to("10.0.0.11", 8080, Forwarding::Tunnel);
    let ours = ours(
        r::add_destination(&tcp6(), &conf),
        NLM_F_REQUEST | NLM_F_ACK,
    );
    let mut theirs = flat(&recorded::of(command).sent[0].bytes[4..]);
    theirs.retain(|(path, _)| !REST_OF_SERVICE.contains(&path.as_str()));
    let address = &mut theirs.iter_mut().find(|a| a.0 == "2.1").unwrap().1;
    assert_eq!(address[..4], [10, 0, 0, 11]);
    assert_ne!(address[4..], [0; 12], "ipvsadm has changed");
    address[4..].fill(0);
    assert_eq!(flat(&ours[20..]), theirs);
}

#[test]
fn everything_else() {
    let timeouts = Timeouts {
        tcp: 900,
        tcp_fin: 120,
        udp: 300,
    };
    same("ipvsadm --set 900 120 300", r::set_timeouts(timeouts));
    same("ipvsadm -Z", r::zero(None));
    same("ipvsadm -C", r::flush());
    let rest = &REST_OF_SERVICE;
    let zero = "ipvsadm -Z -t 10.0.0.100:8080";
    same_less(zero, rest, r::zero(Some(&tcp())));
    same_less("ipvsadm -D -f 1 -6", rest, r::delete_service(&mark(true)));
    let delete = "ipvsadm -D -t [fd00::100]:8080";
    same_less(delete, rest, r::delete_service(&tcp6()));
    // The kernel takes a question without NLM_F_ACK as well; ours always ask for it.
    let asked = &recorded::of("ipvsadm -L -n --timeout").sent[0];
    let ours = ours(r::timeouts(), NLM_F_REQUEST | NLM_F_ACK);
    assert_eq!(ours[16..], asked.bytes);
}

#[test]
fn lists_are_asked_for_as_dumps() {
    let asked = recorded::of("ipvsadm -L -n --nosort").sent;
    let services = [
        r::services(),
        r::destinations(&tcp6()),
        r::destinations(&tcp()),
        r::destinations(&key(Transport::Tcp, "10.0.0.101", 80)),
        r::destinations(&key(Transport::Sctp, "10.0.0.100", 5060)),
        r::destinations(&key(Transport::Udp, "10.0.0.100", 53)),
        r::destinations(&mark(true)),
        r::destinations(&mark(false)),
    ];
    assert_eq!(asked.len(), services.len());
    for (theirs, ours) in asked.iter().zip(services) {
        // ipvsadm asks for an acknowledgement as well, which a dump does not send.
        assert_eq!(theirs.flags, NLM_F_REQUEST | NLM_F_DUMP | NLM_F_ACK);
        let expected = framed(FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 7, &theirs.bytes);
        assert_eq!(
            super::wire::ours(ours, NLM_F_REQUEST | NLM_F_DUMP),
            expected
        );
    }
    let asked = &recorded::of("ipvsadm -L -n -f 1").sent;
    let rest = &REST_OF_SERVICE;
    same_less("ipvsadm -L -n -f 1", rest, r::service(&mark(false)));
    let ours = ours(r::destinations(&mark(false)), 0);
    assert_eq!(ours[16..], asked[1].bytes);
}

/// A recording that no test looks at proves nothing.
#[test]
fn every_recording_is_compared() {
    let source = include_str!("wire.rs");
    let missing: BTreeSet<_> = recorded::all()
        .iter()
        .map(|r| r.command)
        .filter(|command| {
            let words = command.trim_start_matches("ipvsadm ");
            let words = words.trim_start_matches("-a ");
            !source.contains(&format!("{words}\""))
        })
        .collect();
    assert_eq!(missing, BTreeSet::new());
}
