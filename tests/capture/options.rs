//! What each interface can have for itself: filter, rotation; and captures that stop and start.

use std::{fs, path::Path, process::Command};

use nslab::capture::{Captures, Options, Request, Rotation, State};

use crate::lab::{Lab, ROOMY, Tmpfs, all_closed, run, tcpdump, until};

/// The pcap files in a folder, by name.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder");
    let mut names: Vec<_> = entries
        .map(|entry| {
            let name = entry.expect("an entry").file_name();
            name.into_string().expect("text")
        })
        .filter(|name| name.contains(".pcap"))
        .collect();
    names.sort();
    names
}

/// Requests for pair 0 where the left end has options of its own.
fn with_left(lab: &Lab, options: Options) -> Vec<Request> {
    let mut requests = lab.requests(0);
    requests[0].options = options;
    requests
}

#[test]
fn a_filter_is_one_interfaces_own_and_keeps_its_ring_for_what_it_wants() {
    let lab = Lab::new(1);
    let filter = Some("udp and greater 500".to_owned());
    let options = Options {
        filter,
        // Ten frames: what the filter keeps out must not take a place.
        buffer: Some(32 << 10),
        ..ROOMY
    };
    let captures = Captures::start(with_left(&lab, options), None).expect("captures");
    lab.up(0);
    lab.send(0, 200, 100);
    lab.send(0, 3, 1000);
    let stats = captures.stop();
    assert_eq!((stats[0].packets, stats[0].lost()), (3, 0));
    assert_eq!((stats[1].packets, stats[1].lost()), (203, 0));
    let lines = tcpdump(&stats[0].file);
    assert_eq!(lines.len(), 3);
    for line in lines {
        assert!(line.ends_with("UDP, length 1000"), "{line}");
    }
}

#[test]
fn a_filter_that_libpcap_refuses_is_told_and_leaves_nothing() {
    let lab = Lab::new(1);
    let options = Options {
        filter: Some("tcp prot 80".into()),
        ..ROOMY
    };
    let error = Captures::start(with_left(&lab, options), None).expect_err("refused");
    let text = error.to_string();
    let begins = "capture on left:a0: the filter `tcp prot 80` is not one of pcap-filter(7): ";
    assert!(text.starts_with(begins), "{text}");
    assert!(text.contains("syntax error"), "{text}");
    assert_eq!(files(lab.dir.path()), [""; 0]);
    all_closed(&lab);
}

#[test]
fn rotation_keeps_within_its_bound_and_each_file_is_whole_at_any_time() {
    let lab = Lab::new(1);
    // Four records of 16 + 242 bytes a file.
    let size = 24 + 4 * 258;
    let options = Options {
        rotate: Some(Rotation {
            size: Some(size),
            every: None,
            keep: Some(3),
        }),
        ..ROOMY
    };
    let captures = Captures::start(with_left(&lab, options), None).expect("captures");
    lab.up(0);
    for round in 1..=10 {
        lab.send(0, 5, 200);
        until(&captures, |stats| {
            stats.iter().all(|of| of.packets == 5 * round)
        });
        for name in files(lab.dir.path()) {
            let file = lab.dir.path().join(name);
            tcpdump(&file);
            let length = fs::metadata(&file).expect("the file").len();
            assert!(length <= size || file.ends_with("right_b0.pcap"));
        }
    }
    let stats = captures.stop();
    // 50 frames are twelve full files and two frames.
    let names = [
        "left_a0.10.pcap",
        "left_a0.11.pcap",
        "left_a0.12.pcap",
        "left_a0.pcap",
        "right_b0.pcap",
    ];
    assert_eq!(files(lab.dir.path()), names);
    let counts = names.map(|name| tcpdump(&lab.dir.path().join(name)).len());
    assert_eq!(counts, [4, 4, 4, 2, 50]);
    assert_eq!(
        (stats[0].packets, stats[0].deleted, stats[0].rotated),
        (50, 36, 3)
    );
    assert_eq!(
        (stats[1].packets, stats[1].deleted, stats[1].rotated),
        (50, 0, 0)
    );
    // Another run does not mix with this one.
    lab.start(0, &ROOMY).stop();
    assert_eq!(files(lab.dir.path()), ["left_a0.pcap", "right_b0.pcap"]);
}

#[test]
fn under_a_flood_rotated_files_hold_each_frame_once_and_in_order() {
    let lab = Lab::new(1);
    let options = Options {
        buffer: Some(16 << 20),
        rotate: Some(Rotation {
            size: Some(100_000),
            every: None,
            keep: None,
        }),
        ..ROOMY
    };
    let captures = Captures::start(with_left(&lab, options), None).expect("captures");
    lab.up(0);
    lab.send(0, 20_000, 400);
    let stats = captures.stop();
    let of = &stats[0];
    assert_eq!(of.packets + of.lost(), 20_000, "{of:?}");
    let mut all: Vec<_> = (1..=of.rotated)
        .map(|n| lab.dir.path().join(format!("left_a0.{n}.pcap")))
        .collect();
    all.push(of.file.clone());
    let joined = lab.dir.path().join("joined");
    // Concatenated in their order, not merged by time.
    let merged = Command::new("mergecap")
        .args(["-a", "-F", "nsecpcap", "-w"])
        .arg(&joined)
        .args(&all)
        .status()
        .expect("mergecap");
    assert!(merged.success());
    let info = run(&format!("capinfos -c -o -M {}", joined.display()));
    let count = format!("Number of packets:   {}\n", of.packets);
    assert!(info.contains(&count), "{of:?}: {info}");
    assert!(info.contains("Strict time order:   True"), "{info}");
    assert_eq!(of.deleted, 0);
}

#[test]
fn a_full_disk_with_rotation_keeps_every_file_whole_and_within_the_bound() {
    let lab = Lab::new(1);
    let small = lab.dir.path().join("small");
    let _tmpfs = Tmpfs::new(&small, "80k");
    // Records of 16 + 1042 bytes, 15 a file: the disk is full with the fifth file, long before there
    // are eight full ones of which the oldest would go.
    let mut requests = lab.requests(0);
    requests[0].file = small.join("left_a0.pcap");
    requests[0].options.rotate = Some(Rotation {
        size: Some(16 << 10),
        every: None,
        keep: Some(8),
    });
    let captures = Captures::start(requests, None).expect("captures");
    lab.up(0);
    lab.send(0, 300, 1000);
    let stats = until(&captures, |stats| {
        stats.iter().all(|of| of.packets + of.lost() == 300)
    });
    let of = &stats[0];
    assert!(of.unwritten > 0 && of.dropped == 0, "{of:?}");
    let error = of.error.clone().expect("it is said");
    let says = format!("{} frames could not be written: ", of.unwritten);
    assert!(error.starts_with(&says), "{error}");
    assert!(error.contains("No space left on device"), "{error}");
    let count = |folder: &Path| -> usize {
        let names = files(folder).into_iter();
        names.map(|name| tcpdump(&folder.join(name)).len()).sum()
    };
    assert_eq!(count(&small) as u64, of.packets);
    // With room again it goes on, and what is told stays told.
    let freed = small.join("left_a0.1.pcap");
    let gone = tcpdump(&freed).len() as u64;
    fs::remove_file(&freed).expect("removed");
    lab.send(0, 10, 1000);
    let stats = until(&captures, |stats| {
        stats.iter().all(|of| of.packets + of.lost() == 310)
    });
    assert_eq!(stats[0].packets, of.packets + 10, "{stats:?}");
    assert_eq!(stats[0].unwritten, of.unwritten);
    assert_eq!(count(&small) as u64, stats[0].packets - gone);
}

#[test]
fn stopped_and_started_the_file_goes_on_and_the_gap_is_told() {
    let lab = Lab::new(1);
    let captures = lab.start(0, &ROOMY);
    lab.up(0);
    let left = captures.position("left", "a0").expect("it is captured");
    assert_eq!(captures.position("left", "b0"), None);
    lab.send(0, 5, 100);
    // Without waiting: what the kernel holds belongs to the time before.
    assert_eq!(captures.pause(&[left]).expect("stopped"), [left]);
    assert_eq!(captures.pause(&[left]).expect("as good"), [0; 0]);
    lab.send(0, 7, 200);
    let stats = until(&captures, |stats| stats[1].packets == 12);
    assert_eq!((stats[0].packets, stats[0].state), (5, State::Stopped));
    assert_eq!(stats[0].gaps.len(), 1);
    assert_eq!(stats[0].gaps[0].to_ns, None);
    assert_eq!(captures.resume(&[left]).expect("started"), [left]);
    assert_eq!(captures.resume(&[left]).expect("as good"), [0; 0]);
    lab.send(0, 3, 300);
    let stats = captures.stop();
    assert_eq!((stats[0].packets, stats[0].state), (8, State::Running));
    assert_eq!((stats[1].packets, stats[1].gaps.len()), (15, 0));
    let lengths: Vec<_> = tcpdump(&stats[0].file)
        .iter()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
        .collect();
    assert_eq!(lengths, [100, 100, 100, 100, 100, 300, 300, 300]);
    let gap = stats[0].gaps[0];
    let frames = run(&format!(
        "tshark -r {} -T fields -e frame.time_epoch",
        stats[1].file.display()
    ));
    let nanos = |line: &str| line.replace('.', "").parse::<u64>().expect("a time");
    let missed = frames.lines().skip(5).take(7).map(nanos);
    let to = gap.to_ns.expect("it goes on");
    assert!(missed.into_iter().all(|at| gap.from_ns < at && at < to));
    assert_eq!(files(lab.dir.path()), ["left_a0.pcap", "right_b0.pcap"]);
    all_closed(&lab);
}

#[test]
fn an_interface_that_was_not_captured_can_be_added() {
    let lab = Lab::new(2);
    let captures = Captures::start(Vec::new(), None).expect("none");
    captures.add(lab.requests(0)).expect("two");
    lab.up(0);
    lab.send(0, 2, 100);
    let mut wrong = lab.requests(1);
    wrong[1].interface = "eth9".into();
    captures.add(wrong).expect_err("there is no eth9");
    assert_eq!(captures.stats().len(), 2);
    captures.add(lab.requests(1)).expect("four");
    lab.up(1);
    lab.send(1, 4, 100);
    let same = captures.add(lab.requests(0)).expect_err("twice");
    let file = lab.dir.path().join("left_a0.pcap");
    let says = format!(
        "capture on left:a0: {} is already the file of another interface",
        file.display()
    );
    assert_eq!(same.to_string(), says);
    let counts: Vec<_> = captures.stop().iter().map(|of| of.packets).collect();
    assert_eq!(counts, [2, 2, 4, 4]);
    all_closed(&lab);
}

#[test]
fn when_all_is_closed_nothing_starts_again() {
    let lab = Lab::new(1);
    let captures = lab.start(0, &ROOMY);
    captures.close();
    let says = "the captures have ended; the lab is going down";
    for refused in [captures.pause(&[0]), captures.resume(&[0])] {
        assert_eq!(refused.expect_err("refused").to_string(), says);
    }
    all_closed(&lab);
}
