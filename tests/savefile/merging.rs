//! Many files into one: order, names, rotation, clocks that go back.

use std::{collections::BTreeMap, fs, io::Cursor, path::Path};

use nslab::capture::savefile::{Direction, Reader, Series, Timeline};
use nslab::merge;
use nslab::trace::Topology;

use crate::build::{NANO, Order, interface, packet, pcap, record, section};
use crate::samples::frame;
use crate::tshark::{fields, ours, theirs, tool};

const LITTLE: Order = Order::Little;
const SECOND: u64 = 1_000_000_000;

/// A pcap file of frames of these times and lengths.
fn file(frames: &[(u64, usize)]) -> Vec<u8> {
    let mut bytes = pcap(LITTLE, NANO, 262_144, 1);
    for (time, length) in frames {
        let time = ((time / SECOND) as u32, (time % SECOND) as u32);
        bytes.extend(record(LITTLE, time, *length as u32, &[], &frame(*length)));
    }
    bytes
}

fn series(stem: &str, files: &[Vec<u8>]) -> Series {
    let named = files.iter().enumerate();
    Series {
        known: None,
        stem: stem.to_owned(),
        files: named
            .map(|(n, bytes)| {
                (
                    format!("{stem}.{n}"),
                    Box::new(Cursor::new(bytes.clone())) as _,
                )
            })
            .collect(),
    }
}

/// Times and lengths of the frames, with their interfaces' names, and what is said.
fn run(all: Vec<Series>) -> (Vec<(String, u64, u32)>, Vec<String>) {
    let mut timeline = Timeline::new(all);
    let mut frames = Vec::new();
    while timeline.advance() {
        let frame = timeline.frame().unwrap();
        let (interface, time, length) = (frame.interface, frame.time_ns, frame.wire_len);
        let name = timeline.interfaces()[interface].name.clone().unwrap();
        frames.push((name, time, length));
    }
    let left_out = timeline.left_out().iter().map(ToString::to_string);
    let notes = timeline.notes().iter();
    let notes = notes.map(|note| format!("{}: {}", note.file, note.note.text));
    (frames, left_out.chain(notes).collect())
}

#[test]
fn equal_times_keep_their_order() {
    let (frames, notes) = run(vec![
        series("b", &[file(&[(5, 60), (5, 61), (9, 62)])]),
        series("a", &[file(&[(5, 63), (7, 64), (9, 65)])]),
    ]);
    let lengths: Vec<_> = frames.iter().map(|(_, _, length)| *length).collect();
    assert_eq!(lengths, [60, 61, 63, 64, 62, 65]);
    assert_eq!(frames[2].0, "a");
    assert_eq!(notes, [""; 0]);
}

#[test]
fn rotated_files_are_one_interface() {
    let (frames, notes) = run(vec![
        series(
            "a",
            &[file(&[(1, 60), (4, 61)]), file(&[]), file(&[(6, 62)])],
        ),
        series("b", &[file(&[(5, 63)])]),
    ]);
    let names: Vec<_> = frames.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["a", "a", "b", "a"]);
    assert_eq!(notes, [""; 0]);
}

#[test]
fn frames_of_two_processors_are_put_in_order() {
    // 3 frames a microsecond, each third of them 5 microseconds too late in the file.
    let mut times: Vec<u64> = (0..30_000u64).map(|n| 50_000 + n * 333).collect();
    for n in (2..times.len()).step_by(3) {
        times[n] -= 5_000;
    }
    let frames: Vec<_> = times.iter().map(|time| (*time, 60)).collect();
    let (merged, notes) = run(vec![series("a", &[file(&frames)])]);
    let seen: Vec<_> = merged.iter().map(|(_, time, _)| *time).collect();
    times.sort_unstable();
    assert_eq!(seen, times);
    assert_eq!(notes, [""; 0]);
}

#[test]
fn a_clock_that_is_set_back_is_told() {
    let mut frames: Vec<_> = (0..20_000u64)
        .map(|n| (100 * SECOND + n * 1000, 60))
        .collect();
    frames.extend((0..20_000u64).map(|n| (95 * SECOND + n * 1000, 60)));
    let (merged, notes) = run(vec![series("a", &[file(&frames)])]);
    assert_eq!(merged.len(), 40_000);
    assert_eq!(
        notes[0],
        "a.0: its clock goes back at frame 20001, by 5.019 s at most; frames near there may not be \
         in the order in which they passed"
    );
    assert!(
        notes[1].starts_with("a.0: ")
            && notes[1].ends_with(
                " of its frames come so much later than their time that they could not be put into \
                 order"
            ),
        "{notes:?}"
    );
}

#[test]
fn what_is_no_capture_is_left_out_and_the_rest_merged() {
    let cut = file(&[(3, 60), (4, 70)]);
    let (frames, notes) = run(vec![
        series("a", &[b"not a capture".to_vec()]),
        series("b", &[cut[..cut.len() - 9].to_vec(), file(&[(5, 61)])]),
    ]);
    assert_eq!(frames, [("b".to_owned(), 3, 60), ("b".to_owned(), 5, 61)]);
    assert_eq!(
        notes,
        [
            "a.0 is not a capture file: it begins with the bytes 6e 6f 74 20, which neither pcap \
             nor pcapng does",
            "b.0: the file ends within a frame that begins at byte 100: 9 of its 86 bytes are \
             missing; the frame before it was read",
        ]
    );
}

#[test]
fn an_interface_that_comes_late_is_described_before_its_frame() {
    let bytes = [
        section(LITTLE, &[]),
        interface(LITTLE, 1, 0, &[(2, b"eth0"), (9, &[9])]),
        packet(LITTLE, 0, 1, 60, &frame(60), &[]),
        interface(LITTLE, 1, 0, &[(2, b"lb:eth1"), (9, &[9])]),
        packet(LITTLE, 1, 2, 60, &frame(60), &[]),
        section(LITTLE, &[]),
        // The same interface again, in another section.
        interface(LITTLE, 1, 0, &[(2, b"eth0"), (9, &[9])]),
        packet(LITTLE, 0, 3, 60, &frame(60), &[]),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pcapng");
    fs::write(&path, bytes.concat()).unwrap();
    let sources = merge::files(&[path.clone(), path]).unwrap();
    let mut written = Vec::new();
    let merged = merge::write(sources, &mut written).unwrap();
    assert_eq!((merged.frames, merged.interfaces), (6, 4));
    let mut reader = Reader::from_read("x", Cursor::new(written)).unwrap();
    while reader.next_frame().unwrap().is_some() {}
    assert_eq!(reader.notes(), []);
    let names: Vec<_> = reader
        .interfaces()
        .iter()
        .map(|i| i.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["x:eth0", "lb:eth1", "x:eth0(2)", "lb:eth1(2)"]);
}

/// A lab of two nodes.
const LAB: &str = r#"
name = "duo"
[networks.lan]
subnet = "10.1.0.0/24"
[nodes.a]
interfaces.eth0 = { network = "lan", address = "10.1.0.1" }
[nodes.lb]
forward = true
interfaces.eth0 = { network = "lan", address = "10.1.0.2" }
[services.web]
vip = "10.1.0.2"
port = 80
director = "lb"
scheduler = "rr"
method = "dr"
accept = "redirect"
servers = ["a"]
"#;

/// What `up` writes about it.
fn topology() -> Topology {
    let lab = nslab::lab::load(Path::new("duo.toml"), LAB).expect("a lab");
    Topology::new(&lab, &BTreeMap::default())
}

/// An Ethernet frame with a UDP packet from one of its nodes to the other.
fn udp(topology: &Topology, from: usize, to: usize) -> Vec<u8> {
    let mac = |node: usize| topology.nodes[node].interfaces[0].mac.octets();
    let address = |node: usize| [10, 1, 0, node as u8 + 1];
    let mut frame = [mac(to), mac(from)].concat();
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
    frame.extend([address(from), address(to)].concat());
    frame.extend([0x30, 0x39, 0, 80, 0, 8, 0, 0]);
    frame
}

fn capture(path: &Path, frames: &[(u32, Vec<u8>)]) {
    let mut bytes = pcap(LITTLE, NANO, 262_144, 1);
    for (fraction, data) in frames {
        let time = (1_700_000_000, *fraction);
        bytes.extend(record(LITTLE, time, data.len() as u32, &[], data));
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_labs_folder_becomes_a_file_that_shows_names_and_directions() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let topology = topology();
    fs::write(path("lab.json"), topology.to_json()).unwrap();
    let (there, back) = (udp(&topology, 0, 1), udp(&topology, 1, 0));
    capture(&path("a_eth0.1.pcap"), &[(10, there.clone())]);
    capture(&path("a_eth0.2.pcap"), &[(20, there.clone())]);
    capture(&path("a_eth0.pcap"), &[(40, back.clone())]);
    capture(
        &path("lb_eth0.pcap"),
        &[(11, there.clone()), (21, there), (39, back)],
    );
    capture(&path("old_eth7.pcap"), &[]);
    let sources = merge::lab(dir.path(), None).unwrap();
    let out = path("out.pcapng");
    let merged = merge::write(sources, fs::File::create(&out).unwrap()).unwrap();
    assert_eq!((merged.frames, merged.interfaces), (6, 2));
    let says = format!(
        "{} is of no interface that this lab has captured; it was left out",
        path("old_eth7.pcap").display()
    );
    assert_eq!(merged.notes, [says]);
    assert_eq!(merged.bytes, fs::metadata(&out).unwrap().len());
    let lines = fields(
        &out,
        &["-N", "n"],
        &[
            "frame.interface_name",
            "frame.interface_description",
            "frame.packet_flags_direction",
            "frame.time_epoch",
            "_ws.col.Source",
            "_ws.col.Destination",
        ],
    );
    let a = "a:eth0\teth0 of a in network lan; realserver of web";
    let lb = "lb:eth0\teth0 of lb in network lan; forwards; director of web";
    let line =
        |of, way, time, ends| format!("{of}\t0x0000000{way}\t1700000000.0000000{time}\t{ends}");
    assert_eq!(
        lines,
        [
            line(a, 2, 10, "a\tVIP"),
            line(lb, 1, 11, "a\tVIP"),
            line(a, 2, 20, "a\tVIP"),
            line(lb, 1, 21, "a\tVIP"),
            line(lb, 2, 39, "VIP\ta"),
            line(a, 1, 40, "VIP\ta"),
        ]
    );
    let info = tool("capinfos", &[out.to_str().unwrap()]);
    for says in [
        "Strict time order:   True",
        "Capture comment:     lab duo",
        concat!("Capture application: nslab ", env!("CARGO_PKG_VERSION")),
        "Number of interfaces in file: 2",
        "Name = lb:eth0",
        "Number of stat entries = 1",
        "Time precision = nanoseconds (9)",
    ] {
        assert!(info.contains(says), "{says}: {info}");
    }
    // What tshark does not show.
    let mut reader = Reader::open(&out).unwrap();
    while reader.next_frame().unwrap().is_some() {}
    let lb = &reader.interfaces()[1];
    let mac = topology.nodes[1].interfaces[0].mac.octets();
    assert_eq!(lb.mac, Some(mac));
    let addresses: Vec<_> = lb
        .addresses
        .iter()
        .map(|(a, p)| format!("{a}/{p}"))
        .collect();
    assert_eq!(addresses, ["10.1.0.2/24"]);
    // editcap takes it apart and puts it together again without a word.
    let again = path("again.pcapng");
    tool("editcap", &[out.to_str().unwrap(), again.to_str().unwrap()]);
    assert_eq!(ours(&again).0, ours(&out).0);
}

#[test]
fn without_a_lab_names_come_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    capture(&path("a_eth0.1.pcap"), &[(1, frame(60))]);
    capture(&path("a_eth0.pcap"), &[(3, frame(60))]);
    // An interface of its own: `a_vlan.pcap` is not there.
    capture(&path("a_vlan.100.pcap"), &[(2, frame(60))]);
    let mut written = Vec::new();
    let merged = merge::write(merge::lab(dir.path(), None).unwrap(), &mut written).unwrap();
    assert_eq!(
        (merged.frames, merged.interfaces, merged.notes),
        (3, 2, vec![])
    );
    let mut reader = Reader::from_read("x", Cursor::new(written)).unwrap();
    let mut seen = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        seen.push((frame.interface, frame.direction));
    }
    assert_eq!(seen, [(0, None), (1, None), (0, None)]);
    let names: Vec<_> = reader
        .interfaces()
        .iter()
        .map(|i| i.name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["a:eth0", "a:vlan.100"]);
    let empty = tempfile::tempdir().unwrap();
    let error = merge::lab(empty.path(), None).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("there are no captures in {}", empty.path().display())
    );
}

#[test]
fn mergecap_gives_the_same_frames_in_the_same_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut names = Vec::new();
    for n in 0..5u64 {
        let frames: Vec<_> = (0..100)
            .map(|k| {
                (
                    SECOND + k * 1000 + n * 7919 % 1000,
                    60 + (n * 100 + k) as usize,
                )
            })
            .collect();
        names.push(path(&format!("{n}.pcap")));
        fs::write(&names[n as usize], file(&frames)).unwrap();
    }
    let (mine, peer) = (path("mine.pcapng"), path("theirs.pcapng"));
    let paths: Vec<_> = names.iter().map(Into::into).collect();
    let sources = merge::files(&paths).unwrap();
    merge::write(sources, fs::File::create(&mine).unwrap()).unwrap();
    let mut args = vec!["-w", &peer];
    args.extend(names.iter().map(String::as_str));
    tool("mergecap", &args);
    let of = |file: &str| -> Vec<_> {
        let frames = theirs(Path::new(file)).into_iter();
        frames
            .map(|frame| (frame.time, frame.wire, frame.data))
            .collect()
    };
    assert_eq!(of(&mine), of(&peer));
}

#[test]
fn directions_that_a_file_knows_are_kept() {
    let bytes = [
        section(LITTLE, &[]),
        interface(LITTLE, 1, 0, &[(6, &[2, 0, 0, 0, 0, 1])]),
        // By its address it would have been received.
        packet(LITTLE, 0, 1, 60, &frame(60), &[(2, &[2, 0, 0, 0])]),
        packet(LITTLE, 0, 2, 60, &frame(60), &[]),
    ];
    let mut timeline = Timeline::new(vec![series("a", &[bytes.concat()])]);
    let mut directions = Vec::new();
    while let Some(frame) = timeline.next_frame() {
        directions.push(frame.direction);
    }
    assert_eq!(directions, [Some(Direction::Out), Some(Direction::In)]);
}
