use super::testframes::{TcpSpec, arp, ether, ip, mac, spec, tcp, udp};
use super::*;

const GET: &[u8] = b"GET /thredds HTTP/1.1\r\nHost: VIP:8080\r\n\r\n";

fn request() -> Vec<u8> {
    tcp(
        spec("192.168.10.168", "172.28.128.3", 64, 4711),
        TcpSpec {
            ports: (41234, 8080),
            seq: 1000,
            ack: 2000,
            flags: PSH | ACK,
            data: GET,
        },
    )
}

fn line(frame: &[u8]) -> String {
    dissect(LINK_ETHERNET, frame, frame.len() as u32).to_string()
}

#[test]
fn a_request_in_one_line() {
    let frame = ether(mac(1), mac(2), &[], &request());
    assert_eq!(
        line(&frame),
        "192.168.10.168:41234 > 172.28.128.3:8080 TCP ACK+PSH seq 1000 ack 2000 win 64240 len 41 \
         ttl 64 id 4711 \"GET /thredds HTTP/1.1\""
    );
    let packet = dissect(LINK_ETHERNET, &frame, frame.len() as u32);
    assert_eq!(
        format!("{packet:#}").split(" 192").next().unwrap(),
        "02:00:00:00:00:01 > 02:00:00:00:00:02"
    );
    assert_eq!(packet.ip().unwrap().checksum, Some(true));
}

#[test]
fn padding_is_no_payload() {
    let syn = TcpSpec {
        ports: (1, 2),
        seq: 7,
        ack: 0,
        flags: SYN,
        data: b"",
    };
    let frame = ether(
        mac(1),
        mac(2),
        &[],
        &tcp(spec("10.0.0.1", "10.0.0.2", 64, 0), syn),
    );
    assert_eq!(frame.len(), 60);
    assert_eq!(
        line(&frame),
        "10.0.0.1:1 > 10.0.0.2:2 TCP SYN seq 7 win 64240 len 0 ttl 64 id 0"
    );
}

#[test]
fn vlan_tags_are_looked_through() {
    let frame = ether(
        mac(1),
        mac(2),
        &[100, 0x2007],
        &udp(spec("10.0.0.1", "10.0.0.2", 9, 5), (5, 6), b"abc"),
    );
    assert_eq!(
        line(&frame),
        "vlan 100 vlan 7 10.0.0.1:5 > 10.0.0.2:6 UDP len 3 ttl 9 id 5"
    );
}

#[test]
fn arp_says_who_is_where() {
    let nobody = Mac::from([0; 6]);
    assert_eq!(
        line(&arp(1, (mac(2), "172.28.128.2"), (nobody, "172.28.128.3"))),
        "ARP who has 172.28.128.3? tell 172.28.128.2"
    );
    assert_eq!(
        line(&arp(2, (mac(3), "172.28.128.3"), (mac(2), "172.28.128.2"))),
        "ARP 172.28.128.3 is at 02:00:00:00:00:03"
    );
    assert_eq!(
        line(&arp(1, (mac(3), "10.0.0.3"), (nobody, "10.0.0.3"))),
        "ARP 10.0.0.3 announces itself at 02:00:00:00:00:03"
    );
}

#[test]
fn ipv6_through_its_extension_headers() {
    let at = spec("fd00::1", "fd00::2", 64, 0);
    let segment = tcp(
        at,
        TcpSpec {
            ports: (1, 80),
            seq: 1,
            ack: 0,
            flags: SYN,
            data: b"",
        },
    )[40..]
        .to_vec();
    // Hop-by-hop options, then destination options of 16 bytes, then TCP.
    let mut payload = vec![60, 0, 1, 4, 0, 0, 0, 0];
    payload.extend([6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    payload.extend(segment);
    let frame = ether(mac(1), mac(2), &[], &ip(at, 0, &payload));
    assert_eq!(
        line(&frame),
        "[fd00::1]:1 > [fd00::2]:80 TCP SYN seq 1 win 64240 len 0 ttl 64"
    );
}

#[test]
fn fragments_of_both_families() {
    let mut first = udp(spec("10.0.0.1", "10.0.0.2", 64, 99), (5, 6), &[7; 100]);
    first[6] = 0x20;
    assert_eq!(
        dissect(101, &first, 128).to_string(),
        "10.0.0.1:5 > 10.0.0.2:6 UDP len 100 ttl 64 id 99 at 0, more follow (bad IP checksum)"
    );
    first[6..8].copy_from_slice(&[0, 185]);
    let rest = dissect(101, &first, 128);
    assert_eq!(
        rest.to_string(),
        "10.0.0.1 > 10.0.0.2 fragment ttl 64 id 99 at 1480, the last (bad IP checksum)"
    );
    assert_eq!(rest.ip().unwrap().payload, Payload::Fragment);

    let mut payload = vec![17, 0, 0x05, 0xc9, 0, 0, 1, 0];
    payload.extend([0; 16]);
    let six = ip(spec("fd00::1", "fd00::2", 64, 0), 44, &payload);
    assert_eq!(
        dissect(101, &six, six.len() as u32).to_string(),
        "fd00::1 > fd00::2 fragment ttl 64 id 256 at 1480, more follow"
    );
}

#[test]
fn tunnels_show_the_packet_inside() {
    let inside = "192.168.10.168:41234 > 172.28.128.3:8080 TCP ACK+PSH seq 1000 ack 2000 win 64240 \
                  len 41 ttl 64 id 4711 \"GET /thredds HTTP/1.1\"";
    let outer = spec("172.28.128.3", "172.28.128.4", 63, 5);
    let ipip = ip(outer, 4, &request());
    assert_eq!(
        dissect(101, &ipip, ipip.len() as u32).to_string(),
        format!("172.28.128.3 > 172.28.128.4 IPIP ttl 63 id 5 {{ {inside} }}")
    );
    // GRE with a checksum, as IPVS can make it.
    let gre = ip(
        outer,
        47,
        &[&[0x80, 0, 8, 0, 1, 2, 0, 0][..], &request()].concat(),
    );
    assert_eq!(
        dissect(101, &gre, gre.len() as u32).to_string(),
        format!("172.28.128.3 > 172.28.128.4 GRE ttl 63 id 5 {{ {inside} }}")
    );
    let gue = udp(
        outer,
        (40000, 6080),
        &[&[0, 4, 0, 0][..], &request()].concat(),
    );
    let fou = udp(outer, (40000, 6080), &request());
    for packet in [gue, fou] {
        assert_eq!(
            dissect(101, &packet, packet.len() as u32).to_string(),
            format!("172.28.128.3 > 172.28.128.4 GUE ttl 63 id 5 {{ {inside} }}")
        );
    }
    // A UDP payload that only looks a little like a packet is none.
    let mut spoilt = request();
    spoilt[8] = 1;
    let plain = udp(outer, (40000, 6080), &spoilt);
    assert!(
        dissect(101, &plain, plain.len() as u32)
            .to_string()
            .contains("UDP len")
    );
}

#[test]
fn icmp_quotes_ports_from_eight_bytes() {
    let mut message = vec![3, 4, 0, 0, 0, 0, 0x05, 0xdc];
    message.extend(&request()[..28]);
    let packet = ip(spec("172.28.128.2", "192.168.10.168", 64, 1), 1, &message);
    assert_eq!(
        dissect(101, &packet, packet.len() as u32).to_string(),
        "172.28.128.2 > 192.168.10.168 ICMP fragmentation needed about 192.168.10.168:41234 > \
         172.28.128.3:8080 ttl 64 id 1"
    );
    let echo = ip(
        spec("10.0.0.1", "10.0.0.2", 64, 1),
        1,
        &[8, 0, 0, 0, 0, 7, 0, 2],
    );
    assert_eq!(
        dissect(101, &echo, 28).to_string(),
        "10.0.0.1 > 10.0.0.2 ICMP echo request id 7 seq 2 ttl 64 id 1"
    );
}

#[test]
fn a_cut_frame_gives_what_is_there() {
    let frame = ether(mac(1), mac(2), &[], &request());
    let cut = |n: usize| dissect(LINK_ETHERNET, &frame[..n], frame.len() as u32).to_string();
    assert_eq!(
        cut(68),
        "192.168.10.168:41234 > 172.28.128.3:8080 TCP ACK+PSH seq 1000 ack 2000 win 64240 len 41 \
         ttl 64 id 4711 \"GET /thredds H\" (cut: 68 of 95 bytes)"
    );
    assert_eq!(
        cut(54),
        "192.168.10.168:41234 > 172.28.128.3:8080 TCP ACK+PSH seq 1000 ack 2000 win 64240 len 41 \
         ttl 64 id 4711 (cut: 54 of 95 bytes)"
    );
    assert_eq!(
        cut(40),
        "192.168.10.168:41234 > 172.28.128.3:8080 TCP header not captured ttl 64 id 4711 (cut: 40 \
         of 95 bytes)"
    );
    assert_eq!(cut(30), "IP header not captured (cut: 30 of 95 bytes)");
    assert_eq!(cut(13), "link header not captured (cut: 13 of 95 bytes)");
}

#[test]
fn link_types_lead_to_the_same_packet() {
    let (wanted, packet) = (line(&ether(mac(1), mac(2), &[], &request())), request());
    let with = |link: u32, head: &[u8]| {
        let frame = [head, &packet].concat();
        dissect(link, &frame, frame.len() as u32)
    };
    assert_eq!(with(101, &[]).to_string(), wanted);
    assert_eq!(with(228, &[]).to_string(), wanted);
    assert_eq!(with(0, &[2, 0, 0, 0]).to_string(), wanted);
    assert_eq!(with(108, &[0, 0, 0, 2]).to_string(), wanted);
    let sll = [0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0];
    let cooked = with(113, &sll);
    assert_eq!(cooked.to_string(), wanted);
    assert_eq!(
        (cooked.link.sent, cooked.link.src),
        (Some(true), Some(mac(1)))
    );
    let sll2 = [8, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
    let cooked = with(276, &sll2);
    assert_eq!(cooked.to_string(), wanted);
    assert_eq!(
        (cooked.link.sent, cooked.link.src),
        (Some(false), Some(mac(1)))
    );
    assert_eq!(with(147, &[]).to_string(), "not IP");
}

/// Every prefix of good frames, and good frames with bytes turned, never panic, and what is shown
/// stays one line.
#[test]
fn whatever_the_bytes_are() {
    let outer = spec("172.28.128.3", "172.28.128.4", 63, 5);
    let at6 = spec("fd00::1", "fd00::2", 64, 0);
    let packets = [
        request(),
        ip(
            outer,
            4,
            &ip(
                outer,
                47,
                &[&[0xb0, 0, 8, 0][..], &[0; 12], &request()].concat(),
            ),
        ),
        udp(
            outer,
            (1, 6080),
            &[&[2, 4, 0, 0][..], &[0; 8], &request()].concat(),
        ),
        ip(
            outer,
            1,
            &[&[3, 4, 0, 0, 0, 0, 0, 0][..], &request()].concat(),
        ),
        ip(
            at6,
            0,
            &[
                &[44, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 9][..],
                &[0; 20],
            ]
            .concat(),
        ),
    ];
    // A small generator with a fixed seed (Numerical Recipes' constants): every run is the same.
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    let links = [0, 1, 12, 101, 108, 113, 228, 229, 276, 9999];
    for packet in packets {
        let frame = ether(mac(1), mac(2), &[5], &packet);
        for n in 0..frame.len() {
            for link in links {
                let _ = dissect(link, &frame[..n], frame.len() as u32).to_string();
            }
        }
        for _ in 0..20_000 {
            let mut spoilt = frame.clone();
            for _ in 0..=random() % 4 {
                let at = random() % spoilt.len();
                spoilt[at] = random() as u8;
            }
            spoilt.truncate(random() % (frame.len() + 1));
            let link = links[random() % links.len()];
            let shown = dissect(link, &spoilt, random() as u32 % 2000).to_string();
            assert!(!shown.contains('\n'), "{shown:?}");
        }
    }
}
