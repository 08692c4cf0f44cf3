//! What is read: a kernel's answers, and answers that no kernel gives.

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN,
};

use super::recorded::{self, framed, unhex};
use super::{ip, key, mark, tcp, tcp6};
use crate::kernel::answers::Answer;
use crate::kernel::ipvs::attributes::{Attributes, nest, u32 as number};
use crate::kernel::ipvs::error::About;
use crate::kernel::ipvs::socket::Collected;
use crate::kernel::ipvs::table::{read_destination, read_service};
use crate::kernel::ipvs::{
    Destination, DestinationConf, Error, Forwarding, Info, Netmask, Service, ServiceConf,
    ServiceFlags, Stats, Timeouts, Transport, Tunnel, TunnelChecksum,
};

const LIST: &str = "ipvsadm -L -n --nosort";

/// Attributes of the messages that a command received.
fn received(command: &str) -> Vec<Vec<u8>> {
    let messages = recorded::of(command).received;
    messages
        .into_iter()
        .map(|m| m.bytes[4..].to_vec())
        .collect()
}

#[test]
fn the_kernels_list_is_what_was_made() {
    let answers = received(LIST);
    let services: Vec<Service> = answers.iter().flat_map(|b| read_service(b)).collect();
    let flags = |mut conf: ServiceConf, flags| {
        conf.flags |= flags;
        conf
    };
    let new = ServiceConf::new;
    let expected = [
        flags(
            new(tcp6(), "mh").persistent(60, Netmask::V6(64)),
            ServiceFlags::SCHED_1 | ServiceFlags::SCHED_2,
        ),
        new(tcp(), "wrr"),
        flags(
            new(key(Transport::Tcp, "10.0.0.101", 80), "sh"),
            ServiceFlags::SCHED_1,
        ),
        new(key(Transport::Sctp, "10.0.0.100", 5060), "lc"),
        flags(
            new(key(Transport::Udp, "10.0.0.100", 53), "wlc"),
            ServiceFlags::ONE_PACKET,
        ),
        flags(new(mark(true), "sh"), ServiceFlags::SCHED_2),
        new(mark(false), "wrr").persistent(300, Netmask::of_prefix(false, 24).unwrap()),
    ];
    assert_eq!(
        services.iter().map(|s| &s.conf).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
    assert!(services.iter().all(|s| s.stats == Stats::default()));

    let destinations: Vec<Destination> = answers
        .iter()
        .flat_map(|b| read_destination(b, false))
        .collect();
    let to = |address: &str, port, forwarding| DestinationConf::new(ip(address), port, forwarding);
    let tunnel = |address: &str, tunnel, checksum| DestinationConf {
        tunnel,
        checksum,
        ..to(address, 8080, Forwarding::Tunnel)
    };
    let gue = Tunnel::Gue { port: 6080 };
    let expected = [
        // Of the IPv6 service, the last one added first.
        to("10.0.0.11", 8080, Forwarding::Tunnel),
        to("fd00::11", 8080, Forwarding::DirectRoute).weighted(2),
        // Of the IPv4 one.
        to("fd00::11", 8080, Forwarding::Tunnel),
        tunnel("10.0.0.16", gue, TunnelChecksum::Remote),
        tunnel("10.0.0.15", Tunnel::Gre, TunnelChecksum::Full),
        tunnel("10.0.0.14", gue, TunnelChecksum::Off),
        to("10.0.0.13", 8080, Forwarding::Tunnel).weighted(0),
        to("10.0.0.11", 8080, Forwarding::DirectRoute).weighted(0),
        to("10.0.0.11", 5060, Forwarding::Masquerade),
        to("fd00::11", 0, Forwarding::DirectRoute),
        to("10.0.0.11", 0, Forwarding::DirectRoute),
    ];
    let confs: Vec<_> = destinations.iter().map(|d| d.conf).collect();
    assert_eq!(confs, expected);
    assert_eq!(services.len() + destinations.len(), answers.len());
}

#[test]
fn version_and_timeouts() {
    // From an answer to IPVS_CMD_GET_INFO, which ipvsadm asks each time.
    let info = Info::read(&unhex("08000100010201000800020000100000")).unwrap();
    assert_eq!(
        info.to_string(),
        "IP Virtual Server version 1.2.1 (size=4096)"
    );
    let answer = &received("ipvsadm -L -n --timeout")[0];
    let expected = Timeouts {
        tcp: 900,
        tcp_fin: 120,
        udp: 300,
    };
    assert_eq!(Timeouts::read(answer).unwrap(), expected);
    // A kernel without UDP.
    let tcp_only = Timeouts { udp: 0, ..expected };
    assert_eq!(Timeouts::read(&answer[..16]).unwrap(), tcp_only);
}

/// A nest of counters: each has its attribute's number, and `more`.
fn counters(kind: u16, more: u64, wide: bool) -> DefaultNla {
    let all: Vec<_> = (1..=10_u16)
        .map(|n| {
            let value = more + u64::from(n);
            // Bytes have 64 bits in both.
            if wide || n == 4 || n == 5 {
                DefaultNla::new(n, value.to_ne_bytes().to_vec())
            } else {
                number(n, u32::try_from(value).unwrap())
            }
        })
        .collect();
    nest(kind, &all)
}

fn emitted(all: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; all.buffer_len()];
    all.emit(&mut bytes);
    bytes
}

#[test]
fn counters_of_64_bits_are_taken_before_those_of_32() {
    let read = |all: &[DefaultNla]| {
        let bytes = emitted(all);
        let attributes = Attributes::read("a test", &bytes).unwrap();
        Stats::read(&attributes, 12, 10)
    };
    let expected = |more: u64| Stats {
        connections: more + 1,
        packets_in: more + 2,
        packets_out: more + 3,
        bytes_in: more + 4,
        bytes_out: more + 5,
        cps: more + 6,
        pps_in: more + 7,
        pps_out: more + 8,
        bps_in: more + 9,
        bps_out: more + 10,
    };
    let (narrow, wide) = (counters(10, 0, false), counters(12, 1 << 40, true));
    let both = read(&[narrow.clone(), wide]).unwrap();
    assert_eq!(both, expected(1 << 40));
    assert_eq!(read(&[narrow]).unwrap(), expected(0));
    assert_eq!(read(&[]).unwrap_err().to_string(), "there are no counters");
    let odd = nest(12, &[DefaultNla::new(1, vec![1, 2, 3])]);
    assert_eq!(
        read(&[odd]).unwrap_err().to_string(),
        "attribute 1 of the 64-bit counters has 3 bytes"
    );
}

const DUMP_INTR: u16 = 0x10;

#[test]
fn a_list_comes_in_pieces_and_ends_with_done() {
    let part = |sequence, body: u8| framed(20, NLM_F_MULTIPART, sequence, &[1, 1, 0, 0, body]);
    let mut collected = Collected::new(5);
    // The second is of an earlier request.
    let datagram = [part(5, 1), part(4, 2), part(5, 3)].concat();
    assert_eq!(collected.take(&datagram).unwrap(), None);
    let done = framed(NLMSG_DONE, NLM_F_MULTIPART, 5, &[0; 4]);
    let end = collected.take(&[part(5, 4), done].concat()).unwrap();
    assert_eq!(end.unwrap().errno, 0);
    assert_eq!(collected.found, [[1], [3], [4]]);
    assert!(!collected.torn);
}

#[test]
fn a_list_of_two_moments_is_torn() {
    for (kind, flags) in [(20, DUMP_INTR), (NLMSG_OVERRUN, 0), (NLMSG_DONE, DUMP_INTR)] {
        let mut collected = Collected::new(5);
        collected.take(&framed(kind, flags, 5, &[0; 4])).unwrap();
        assert!(collected.torn, "{kind} {flags}");
    }
}

#[test]
fn a_refusal_comes_with_the_kernels_words() {
    // struct nlmsgerr, capped, then NLMSGERR_ATTR_MSG.
    let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
    payload.extend([0; 16]);
    payload.extend(emitted(&[DefaultNla::new(1, b"no such thing\0".to_vec())]));
    let answer = Collected::new(5)
        .take(&framed(NLMSG_ERROR, 0x300, 5, &payload))
        .unwrap();
    let expected = Answer {
        sequence: 5,
        errno: libc::EINVAL,
        detail: Some("no such thing".into()),
    };
    assert_eq!(answer, Some(expected));
}

/// Every answer on record, cut at every length and with every byte wrong in several ways, goes
/// through all that reads answers. What comes of it does not matter, as long as it comes.
#[test]
fn wrong_answers_are_errors_and_never_panics() {
    let (mut read, mut refused) = (0, 0);
    let mut feed = |datagram: &[u8]| {
        let mut collected = Collected::new(5);
        let mut good = collected.take(datagram).is_ok();
        for body in &collected.found {
            good &= read_service(body).is_ok()
                | read_destination(body, true).is_ok()
                | Info::read(body).is_ok()
                | Timeouts::read(body).is_ok();
        }
        *(if good { &mut read } else { &mut refused }) += 1;
    };
    let messages: Vec<_> = recorded::all()
        .into_iter()
        .flat_map(|r| r.received)
        .collect();
    assert!(messages.len() > 15);
    for message in &messages {
        let whole = framed(20, message.flags, 5, &message.bytes);
        for length in 0..=whole.len() {
            feed(&whole[..length]);
        }
        for at in 0..whole.len() {
            for wrong in [0, 1, 3, 4, 5, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = wrong;
                feed(&bytes);
            }
            // A message that is too short for its attributes, but says so.
            let short = &message.bytes[..at.min(message.bytes.len())];
            feed(&framed(20, message.flags, 5, short));
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} not");
}

#[test]
fn refusals_in_words() {
    let service = |scheduler, engine| About::Service { scheduler, engine };
    let table = [
        (
            libc::ENOENT,
            service("twos", None),
            "cannot do it: this kernel has no scheduler \"twos\", which is module ip_vs_twos \
             (CONFIG_IP_VS_TWOS): load it with `modprobe ip_vs_twos`; on Ubuntu the module is in \
             package linux-modules-extra-$(uname -r)",
        ),
        (
            libc::ENOENT,
            service("rr", Some("sip")),
            "cannot do it: this kernel has no persistence engine \"sip\", which is module \
             ip_vs_pe_sip (CONFIG_IP_VS_PE_SIP): load it with `modprobe ip_vs_pe_sip`; on Ubuntu \
             the module is in package linux-modules-extra-$(uname -r)",
        ),
        (
            libc::ENOENT,
            About::Destination,
            "cannot do it: there is no such destination",
        ),
        (
            libc::ESRCH,
            About::Destination,
            "cannot do it: there is no such service",
        ),
        (
            libc::EEXIST,
            About::Table,
            "cannot do it: it exists already",
        ),
        (
            libc::EPERM,
            About::Table,
            "cannot do it: Operation not permitted (IPVS takes CAP_NET_ADMIN in the initial user \
             namespace: run it with sudo)",
        ),
        (
            libc::ERANGE,
            About::Destination,
            "cannot do it: Numerical result out of range (os error 34) (weights go up to \
             2147483647, and the lower threshold is at most the upper one)",
        ),
        (
            libc::EINVAL,
            About::Destination,
            "cannot do it: Invalid argument (os error 22) (a destination has to be a unicast \
             address to the director, which takes an interface that is up and has an address; one \
             of the other address family takes a tunnel; a GUE tunnel takes a port)",
        ),
        (
            libc::ENOMEM,
            About::Table,
            "cannot do it: Cannot allocate memory (os error 12)",
        ),
    ];
    for (errno, about, expected) in table {
        let error = Error::refused("do it".into(), errno, None, about);
        assert_eq!(error.to_string(), expected);
    }
    let detail = Some("not today".to_owned());
    assert_eq!(
        Error::refused("do it".into(), libc::EBUSY, detail, About::Table).to_string(),
        "cannot do it: Device or resource busy (os error 16), not today"
    );
    assert_eq!(
        Error::NotInKernel.to_string(),
        "this kernel has no IPVS (CONFIG_IP_VS, module ip_vs): load it with `modprobe ip_vs`; on \
         Ubuntu the module is in package linux-modules-extra-$(uname -r)"
    );
}
