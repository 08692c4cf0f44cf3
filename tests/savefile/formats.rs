//! Every format and variant: we read what tshark reads.

use std::fs;

use nslab::capture::savefile::{Direction, Reader};

use crate::build::{
    self, BOTH, MICRO, MODIFIED, NANO, Order, block, interface, old_packet, packet, pcap, record,
    section, simple,
};
use crate::samples::{frame, names, v6};
use crate::tshark::{ours, theirs, tool};

#[test]
fn every_pcap_variant_in_both_byte_orders() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcap");
    for order in BOTH {
        for magic in [MICRO, NANO, MODIFIED] {
            let extra: &[u8] = if magic == MODIFIED { &[0; 8] } else { &[] };
            let mut bytes = pcap(order, magic, 1000, 1);
            for (n, length) in [(0, 60), (1, 1000), (2, 61)] {
                let time = (1_700_000_000 + n, 999_000 + n);
                bytes.extend(record(
                    order,
                    time,
                    length + 500,
                    extra,
                    &frame(length as usize),
                ));
            }
            fs::write(&file, bytes).unwrap();
            let (frames, notes) = ours(&file);
            assert_eq!(notes, [""; 0]);
            assert_eq!(frames.len(), 3);
            assert_eq!(frames, theirs(&file), "{order:?} {magic:#x}");
        }
    }
}

#[test]
fn the_modified_variant_knows_the_direction() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcap");
    for order in BOTH {
        let mut bytes = pcap(order, MODIFIED, 1000, 1);
        // Packet types of packet(7): for this host, broadcast, outgoing.
        for kind in [0, 1, 4] {
            let extra = [&order.u32(3)[..], &order.u16(0x800), &[kind, 0]].concat();
            bytes.extend(record(order, (1, 0), 60, &extra, &frame(60)));
        }
        fs::write(&file, bytes).unwrap();
        let (frames, _) = ours(&file);
        let directions: Vec<_> = frames.iter().map(|frame| frame.direction).collect();
        let says = [Direction::In, Direction::In, Direction::Out].map(Some);
        assert_eq!(directions, says);
    }
}

#[test]
fn every_kind_of_block_in_both_byte_orders() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcapng");
    for order in BOTH {
        let nano: &[(u16, &[u8])] = &[(2, b"lb:eth1"), (9, &[9])];
        // 2^-20 s, and one hour later.
        let binary: &[(u16, &[u8])] = &[(9, &[0x94]), (14, &order.u64(3600))];
        let bytes = [
            section(order, &[(1, b"a comment"), (4, b"by hand")]),
            interface(order, 1, 0, nano),
            interface(order, 1, 0, &[]),
            block(order, 0x4000_0002, &[]),
            packet(
                order,
                0,
                1_700_000_000_123_456_789,
                60,
                &frame(60),
                &[(2, &order.u32(1))],
            ),
            packet(
                order,
                1,
                1_700_000_000_123_456,
                99,
                &frame(61),
                &[(2, &order.u32(2))],
            ),
            interface(order, 1, 0, binary),
            packet(
                order,
                2,
                1_700_000_000 << 20 | 1 << 19,
                62,
                &frame(62),
                &[(1, b"hm")],
            ),
            old_packet(order, 1, 0xffff, 1_700_000_001_000_001, 63, &frame(63)),
            block(order, 0x4000_0001, &[9; 100]),
            packet(order, 0, 1_700_000_002_000_000_001, 64, &frame(64), &[]),
        ];
        fs::write(&file, bytes.concat()).unwrap();
        let (frames, notes) = ours(&file);
        assert_eq!(notes, [""; 0]);
        assert_eq!(frames.len(), 5);
        assert_eq!(frames, theirs(&file), "{order:?}");
        assert_eq!(frames[2].time, "1700003600.500000000");
    }
}

#[test]
fn frames_without_a_time_get_one_and_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcapng");
    for order in BOTH {
        let bytes = [
            section(order, &[]),
            interface(order, 1, 70, &[]),
            packet(order, 0, 5_000_000, 60, &frame(60), &[]),
            simple(order, 60, &frame(60)),
            // The snapshot length, not the block, says how much of it there is.
            simple(order, 90, &frame(70)),
        ];
        fs::write(&file, bytes.concat()).unwrap();
        let (frames, notes) = ours(&file);
        let mut others = theirs(&file);
        for untimed in &mut others[1..] {
            assert_eq!(untimed.time, "");
            untimed.time = "5.000000000".to_owned();
        }
        assert_eq!(frames, others);
        let says = "at byte 148 begin frames without a time (Simple Packet Blocks); they get that \
                    of the frame before";
        assert_eq!(notes, [says]);
    }
}

#[test]
fn sections_have_interfaces_and_byte_orders_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.pcapng");
    let bytes = [
        section(Order::Little, &[]),
        interface(Order::Little, 1, 0, &[(2, b"first")]),
        packet(Order::Little, 0, 1_000_000, 60, &frame(60), &[]),
        section(Order::Big, &[]),
        interface(Order::Big, 1, 0, &[(2, b"second"), (9, &[9])]),
        packet(Order::Big, 0, 2_000_000_002, 60, &frame(60), &[]),
    ];
    fs::write(&file, bytes.concat()).unwrap();
    let mut reader = Reader::open(&file).unwrap();
    let mut seen = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        seen.push((frame.interface, frame.time_ns));
    }
    assert_eq!(seen, [(0, 1_000_000_000), (1, 2_000_000_002)]);
    let names: Vec<_> = reader
        .interfaces()
        .iter()
        .map(|i| i.name.as_deref())
        .collect();
    assert_eq!(names, [Some("first"), Some("second")]);
    let times: Vec<_> = theirs(&file).into_iter().map(|frame| frame.time).collect();
    assert_eq!(times, ["1.000000000", "2.000000002"]);
}

#[test]
fn what_editcap_converts_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut bytes = pcap(Order::Little, MICRO, 262_144, 1);
    for n in 0..50u32 {
        let time = (1_700_000_000 + n / 7, n * 1000);
        bytes.extend(record(
            Order::Little,
            time,
            60 + n,
            &[],
            &frame(60 + n as usize),
        ));
    }
    let first = path("first.pcap");
    fs::write(&first, bytes).unwrap();
    let (frames, _) = ours(&first);
    assert_eq!(frames.len(), 50);
    for format in ["pcap", "nsecpcap", "modpcap", "pcapng"] {
        let converted = path(format);
        let names = [first.to_str().unwrap(), converted.to_str().unwrap()];
        tool("editcap", &["-F", format, names[0], names[1]]);
        assert_eq!(ours(&converted), (frames.clone(), vec![]), "{format}");
        let zipped = path("zipped.gz");
        let gzip = tool(
            "sh",
            &[
                "-c",
                &format!("gzip -c {} > {}", names[1], zipped.display()),
            ],
        );
        assert_eq!(gzip, "");
        assert_eq!(ours(&zipped), (frames.clone(), vec![]), "{format}, gzip");
    }
}

#[test]
fn what_an_interface_is_described_by() {
    let order = Order::Big;
    let v6 = v6();
    let isb = |drop: u64| {
        let opts = build::options(order, &[(4, &order.u64(10)), (5, &order.u64(drop))]);
        block(order, 5, &[&order.u32(0)[..], &[0; 8], &opts].concat())
    };
    let bytes = [
        section(
            order,
            &[(1, b"lab dsr"), (2, b"x86"), (3, b"Linux"), (4, b"nslab")],
        ),
        interface(
            order,
            1,
            96,
            &[
                (2, b"lb:eth1"),
                (3, b"of the director"),
                (4, &[10, 0, 0, 1, 255, 255, 255, 0]),
                (5, &v6),
                (6, &[2, 0, 0, 0, 0, 9]),
                (11, b"\0tcp port 80"),
                (12, b"Linux 6"),
                (13, &[32]),
            ],
        ),
        block(order, 4, &names(order)),
        isb(1),
        isb(3),
    ];
    let mut reader = Reader::from_read("x", std::io::Cursor::new(bytes.concat())).unwrap();
    assert_eq!(reader.next_frame().unwrap(), None);
    assert!(reader.notes().is_empty(), "{:?}", reader.notes());
    let described = &reader.interfaces()[0];
    assert_eq!(described.name.as_deref(), Some("lb:eth1"));
    assert_eq!(described.description.as_deref(), Some("of the director"));
    assert_eq!((described.link_type, described.snaplen), (1, 96));
    assert_eq!(described.mac, Some([2, 0, 0, 0, 0, 9]));
    let addresses: Vec<_> = described
        .addresses
        .iter()
        .map(|(address, prefix)| format!("{address}/{prefix}"))
        .collect();
    assert_eq!(addresses, ["10.0.0.1/24", "2001:db8::7/64"]);
    assert_eq!(described.filter.as_deref(), Some("tcp port 80"));
    assert_eq!(described.os.as_deref(), Some("Linux 6"));
    assert_eq!(described.fcs, Some(4));
    assert_eq!(
        (described.counts.received, described.counts.dropped),
        (Some(10), Some(3))
    );
    let named: Vec<_> = reader
        .names()
        .iter()
        .map(|(a, n)| format!("{a} {n}"))
        .collect();
    assert_eq!(named, ["10.0.0.1 lb", "10.0.0.1 VIP", "2001:db8::7 s1"]);
    let about = reader.about();
    assert_eq!(about.comments, ["lab dsr"]);
    assert_eq!(about.hardware.as_deref(), Some("x86"));
    assert_eq!(about.os.as_deref(), Some("Linux"));
    assert_eq!(about.application.as_deref(), Some("nslab"));
}
