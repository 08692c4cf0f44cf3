//! Random captures: what we write tshark reads, and what others write we read as tshark does.

use std::fs::{self, File};

use nslab::capture::savefile::{About, Direction, Frame, Interface, PcapngWriter};
use proptest::{
    collection::vec, option, prelude::any, prop_assert_eq, proptest, sample::select,
    strategy::Strategy, test_runner::Config,
};

use crate::build::{
    BOTH, MICRO, MODIFIED, NANO, Order, interface, old_packet, packet, pcap, record, section,
};
use crate::samples::{frame as ethernet, gzip};
use crate::tshark::{Seen, epoch, ours, theirs, tool};

/// Few captures of many frames: what takes time is tshark's start.
fn config() -> Config {
    Config {
        failure_persistence: None,
        ..Config::with_cases(5)
    }
}

/// A frame of a random capture.
#[derive(Debug, Clone)]
struct Random {
    interface: usize,
    /// Nanoseconds; until 2106, where pcap ends.
    time_ns: u64,
    data: Vec<u8>,
    more: u32,
    direction: Option<Direction>,
}

fn random() -> impl Strategy<Value = Random> {
    let direction = option::of(select(&[Direction::In, Direction::Out][..]));
    let time = (0..=u64::from(u32::MAX), 0..1_000_000_000u64);
    let data = vec(any::<u8>(), 0..200);
    (0..3usize, time, data, 0..2000u32, direction).prop_map(
        |(interface, (seconds, fraction), mut data, more, direction)| {
            // An Ethernet header of no protocol that tshark would go into.
            data.splice(0..0, ethernet(14));
            Random {
                interface,
                time_ns: seconds * 1_000_000_000 + fraction,
                data,
                more: if more < 1000 { 0 } else { more },
                direction,
            }
        },
    )
}

impl Random {
    fn wire(&self) -> u32 {
        self.data.len() as u32 + self.more
    }

    fn seen(&self) -> Seen {
        Seen {
            interface: self.interface.to_string(),
            time: epoch(self.time_ns),
            wire: self.wire(),
            direction: self.direction,
            data: self.data.clone(),
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_we_write_reads_back_and_in_tshark(frames in vec(random(), 1..150)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let mut writer = PcapngWriter::new(File::create(&path).unwrap(), &About::default());
        for name in ["a:eth0", "b:eth0", "c:eth0"] {
            let described = Interface {
                name: Some(name.to_owned()),
                link_type: 1,
                ..Interface::default()
            };
            writer.interface(&described).unwrap();
        }
        for frame in &frames {
            let written = Frame {
                interface: frame.interface,
                time_ns: frame.time_ns,
                captured: &frame.data,
                wire_len: frame.wire(),
                direction: frame.direction,
            };
            writer.frame(&written).unwrap();
        }
        let (_, length) = writer.finish().unwrap();
        prop_assert_eq!(fs::metadata(&path).unwrap().len(), length);
        let wanted: Vec<_> = frames.iter().map(Random::seen).collect();
        prop_assert_eq!(ours(&path), (wanted.clone(), vec![]));
        prop_assert_eq!(theirs(&path), wanted);
    }

    #[test]
    fn what_others_write_as_pcapng_reads_as_in_tshark(
        frames in vec((random(), any::<bool>()), 1..150),
        order in select(&BOTH[..]),
        // Decimal and binary; beyond these tshark's arithmetic overflows, not ours.
        resolutions in vec(select(&[0u8, 3, 6, 7, 9, 0x80, 0x8a, 0x94, 0x9e][..]), 3),
        offset in -1_000_000..1_000_000i64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let mut bytes = section(order, &[]);
        for resolution in &resolutions {
            let offset = order.u64(offset.cast_unsigned());
            bytes.extend(interface(order, 1, 0, &[(9, &[*resolution]), (14, &offset)]));
        }
        for (frame, old) in &frames {
            let resolution = resolutions[frame.interface];
            let seconds = frame.time_ns / 1_000_000_000 + 1_000_000;
            let fraction = frame.time_ns % 1_000_000_000;
            let exponent = u32::from(resolution & 0x7f);
            let per_second = if resolution < 0x80 { 10u64.pow(exponent) } else { 1 << exponent };
            let ticks = seconds * per_second + fraction % per_second;
            let flags = match frame.direction {
                None => order.u32(0),
                Some(Direction::In) => order.u32(1),
                Some(Direction::Out) => order.u32(2),
            };
            let number = frame.interface as u32;
            bytes.extend(if *old {
                old_packet(order, number as u16, 0xffff, ticks, frame.wire(), &frame.data)
            } else {
                packet(order, number, ticks, frame.wire(), &frame.data, &[(2, &flags)])
            });
        }
        fs::write(&path, &bytes).unwrap();
        let (seen, notes) = ours(&path);
        prop_assert_eq!(notes, [""; 0]);
        prop_assert_eq!(seen.len(), frames.len());
        prop_assert_eq!(seen, theirs(&path));
    }

    #[test]
    fn what_editcap_makes_of_a_pcap_reads_as_in_tshark(
        frames in vec(random(), 1..150),
        order in select(&BOTH[..]),
        magic in select(&[MICRO, NANO, MODIFIED][..]),
        format in select(&["pcap", "nsecpcap", "modpcap", "pcapng"][..]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut bytes = pcap(order, magic, 262_144, 1);
        let extra: &[u8] = if magic == MODIFIED { &[0; 8] } else { &[] };
        for frame in &frames {
            let fraction = frame.time_ns % 1_000_000_000;
            let fraction = if magic == NANO { fraction } else { fraction / 1000 };
            let time = ((frame.time_ns / 1_000_000_000) as u32, fraction as u32);
            bytes.extend(record(order, time, frame.wire(), extra, &frame.data));
        }
        let (first, second) = (path("first.pcap"), path("second"));
        fs::write(&first, &bytes).unwrap();
        let (seen, notes) = ours(&first);
        prop_assert_eq!(notes, [""; 0]);
        prop_assert_eq!(&seen, &theirs(&first));
        tool("editcap", &["-F", format, first.to_str().unwrap(), second.to_str().unwrap()]);
        let (converted, notes) = ours(&second);
        prop_assert_eq!(notes, [""; 0]);
        prop_assert_eq!(&converted, &theirs(&second));
        let zipped = path("third.gz");
        fs::write(&zipped, gzip(&fs::read(&second).unwrap())).unwrap();
        prop_assert_eq!(ours(&zipped).0, converted);
        // The format may have lost nanoseconds, but nothing else.
        prop_assert_eq!(seen.len(), frames.len());
    }
}

/// Big endian is tested on a machine that is not: the builder's own promise.
#[test]
fn the_builder_knows_both_byte_orders() {
    assert_eq!(Order::Big.u32(0x0102_0304), [1, 2, 3, 4]);
    assert_eq!(Order::Little.u16(0x0102), [2, 1]);
}
