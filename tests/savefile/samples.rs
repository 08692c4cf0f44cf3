//! Small capture files of every format and with every kind of block: what the fuzzer begins with,
//! and what the tests damage.

use std::io::Write;

use crate::build::{
    BOTH, MICRO, MODIFIED, NANO, Order, block, interface, old_packet, options, packet, pcap,
    record, section, simple,
};

/// A frame of an EtherType that no dissector takes up.
pub fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend((0..=255).cycle().take(length - 14));
    frame
}

/// An IPv6 address with its prefix, as `if_IPv6addr` has it.
pub fn v6() -> Vec<u8> {
    [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7, 64]].concat()
}

/// Records of a Name Resolution Block: an IPv4 address of two names, and an IPv6 address.
pub fn names(order: Order) -> Vec<u8> {
    [
        &order.u16(1)[..],
        &order.u16(4 + 7),
        &[10, 0, 0, 1],
        b"lb\0VIP\0",
        &[0],
        &order.u16(2),
        &order.u16(16 + 3),
        &v6()[..16],
        b"s1\0",
        &[0],
        &[0; 4],
    ]
    .concat()
}

/// A pcapng file with every kind of block that is read, and some that are not.
pub fn every_block(order: Order) -> Vec<u8> {
    let v6 = v6();
    let counts = options(order, &[(4, &order.u64(10)), (5, &order.u64(3))]);
    [
        section(order, &[(1, b"a comment"), (4, b"by hand")]),
        interface(
            order,
            1,
            96,
            &[
                (2, b"lb:eth1"),
                (3, b"of the director"),
                (4, &[10, 0, 0, 1, 255, 255, 255, 0]),
                (5, &v6),
                (6, &[2, 0, 0, 0, 0, 1]),
                (9, &[9]),
                (11, b"\0tcp port 80"),
                (13, &[32]),
                (14, &order.u64(1)),
            ],
        ),
        packet(
            order,
            0,
            1_700_000_000_123_456_789,
            60,
            &frame(30),
            &[(2, &order.u32(1))],
        ),
        block(order, 4, &names(order)),
        old_packet(order, 0, 0xffff, 1_700_000_001_000_000_001, 63, &frame(33)),
        simple(order, 30, &frame(30)),
        block(order, 0x4000_0001, &[9; 9]),
        block(order, 5, &[&order.u32(0)[..], &[0; 8], &counts].concat()),
    ]
    .concat()
}

/// A pcap file with two frames.
pub fn two_frames(order: Order, magic: u32) -> Vec<u8> {
    let extra: &[u8] = if magic == MODIFIED {
        &[0, 0, 0, 1, 8, 0, 4, 0]
    } else {
        &[]
    };
    let mut bytes = pcap(order, magic, 65_535, 1);
    for n in [0, 1] {
        let time = (1_700_000_000 + n, 999_000 + n);
        bytes.extend(record(order, time, 100, extra, &frame(20 + n as usize)));
    }
    bytes
}

/// gzip'ed, as `gzip` does it.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// All of them, with names.
pub fn samples() -> Vec<(String, Vec<u8>)> {
    let mut samples = Vec::new();
    for order in BOTH {
        for (name, magic) in [("micro", MICRO), ("nano", NANO), ("modified", MODIFIED)] {
            let name = format!("{name}-{order:?}.pcap").to_lowercase();
            samples.push((name, two_frames(order, magic)));
        }
        let name = format!("blocks-{order:?}.pcapng").to_lowercase();
        samples.push((name, every_block(order)));
    }
    let sections = [every_block(Order::Little), every_block(Order::Big)].concat();
    samples.push(("sections.pcapng.gz".to_owned(), gzip(&sections)));
    samples.push((
        "nano.pcap.gz".to_owned(),
        gzip(&two_frames(Order::Big, NANO)),
    ));
    samples
}
