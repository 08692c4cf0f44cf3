//! The files: where they are made, what is in the way, and what they do when the disk is full.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
};

use nslab::capture::{Captures, Gap, Request, State, Stats};

use crate::lab::{Lab, ROOMY, Tmpfs, all_closed, tcpdump, until};

#[test]
fn planted_links_are_replaced_and_never_followed() {
    let lab = Lab::new(1);
    let precious = lab.dir.path().join("precious");
    fs::write(&precious, "keep").expect("a file");
    symlink(&precious, lab.dir.path().join("left_a0.pcap")).expect("a link");
    fs::hard_link(&precious, lab.dir.path().join("right_b0.pcap")).expect("a link");
    let captures = Captures::start(lab.requests(0), Some((1234, 4321))).expect("captures");
    lab.up(0);
    lab.send(0, 3, 100);
    for of in captures.stop() {
        assert!(of.file.symlink_metadata().expect("the file").is_file());
        assert_eq!(tcpdump(&of.file).len(), 3);
    }
    assert_eq!(fs::read_to_string(&precious).expect("the file"), "keep");
    assert_eq!(fs::metadata(&precious).expect("the file").uid(), 0);
}

#[test]
fn files_of_a_former_run_are_replaced_and_others_left_alone() {
    let lab = Lab::new(1);
    fs::write(lab.dir.path().join("left_a0.pcap"), vec![1; 4096]).expect("a file");
    fs::write(lab.dir.path().join("notes.pcap"), "mine").expect("a file");
    lab.start(0, &ROOMY).stop();
    assert_eq!(
        fs::metadata(lab.dir.path().join("left_a0.pcap"))
            .expect("the file")
            .len(),
        24
    );
    assert_eq!(
        fs::read(lab.dir.path().join("notes.pcap")).expect("the file"),
        b"mine"
    );
}

#[test]
fn a_folder_that_became_a_link_is_refused_and_nothing_stays_open() {
    let lab = Lab::new(1);
    let elsewhere = lab.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    let link = lab.dir.path().join("dsr");
    symlink(&elsewhere, &link).expect("a link");
    let mut requests = lab.requests(0);
    let first = requests[0].file.clone();
    requests[1].file = link.join("right_b0.pcap");
    let error = Captures::start(requests, None).expect_err("refused");
    let says = format!(
        "capture directory {} is a symbolic link, which is not followed; remove it or name the \
         directory it points to",
        link.display()
    );
    assert_eq!(error.to_string(), says);
    assert_eq!(fs::read_dir(&elsewhere).expect("the folder").count(), 0);
    assert!(!first.exists(), "the file made before the failure is gone");
    all_closed(&lab);
}

#[test]
fn all_or_nothing() {
    let lab = Lab::new(1);
    let refused = |change: fn(&mut Vec<Request>)| {
        let mut requests = lab.requests(0);
        change(&mut requests);
        let error = Captures::start(requests, None).expect_err("refused");
        let mut left = fs::read_dir(lab.dir.path()).expect("the folder");
        assert!(left.all(|entry| entry.expect("an entry").file_name() == "batch"));
        all_closed(&lab);
        error.to_string()
    };
    assert_eq!(
        refused(|requests| requests[1].interface = "eth9".into()),
        "capture on right:eth9: the node's network namespace has no such interface"
    );
    assert_eq!(
        refused(|requests| requests[0].interface = "any".into()),
        "capture on left:any: libpcap takes the name `any` for all interfaces at once; give the \
         interface another name"
    );
    let same = refused(|requests| requests[1].file = requests[0].file.clone());
    let file = lab.dir.path().join("left_a0.pcap");
    let says = format!(
        "capture on right:b0: {} is already the file of another interface",
        file.display()
    );
    assert_eq!(same, says);
    // And without such a thing it works, and leaves no socket when merely dropped.
    drop(lab.start(0, &ROOMY));
    all_closed(&lab);
}

#[test]
fn a_full_disk_is_said_and_counted_and_the_file_stays_readable() {
    let lab = Lab::new(1);
    let small = lab.dir.path().join("small");
    let _tmpfs = Tmpfs::new(&small, "64k");
    let mut requests = lab.requests(0);
    requests[0].file = small.join("left_a0.pcap");
    let captures = Captures::start(requests, None).expect("captures");
    lab.up(0);
    lab.send(0, 300, 1000);
    let stats = until(&captures, |stats| {
        stats.iter().all(|of| of.packets + of.lost() == 300)
    });
    // 64 KiB hold 61 records of 16 + 1042 bytes after the file's header.
    assert_eq!(
        (stats[0].packets, stats[0].unwritten, stats[0].bytes),
        (61, 239, 61 * 1042)
    );
    assert_eq!(
        stats[0].error.as_deref(),
        Some("239 frames could not be written: No space left on device (os error 28)")
    );
    assert_eq!((stats[1].packets, &stats[1].error), (300, &None));
    assert_eq!(tcpdump(&stats[0].file).len(), 61);
    let stats = captures.stop();
    assert_eq!(
        (stats[0].packets, stats[0].dropped, stats[0].unwritten),
        (61, 0, 239)
    );
    assert_eq!(tcpdump(&stats[0].file).len(), 61);
}

#[test]
fn statistics_survive_json() {
    let stats = Stats {
        node: "client".into(),
        interface: "eth1".into(),
        state: State::Stopped,
        packets: 1,
        bytes: 60,
        dropped: 0,
        unwritten: 0,
        deleted: 0,
        rotated: 0,
        gaps: vec![Gap {
            from_ns: 1,
            to_ns: None,
        }],
        file: "exchange/dsr/client_eth1.pcap".into(),
        error: None,
    };
    let text = serde_json::to_string(&stats).expect("JSON");
    assert_eq!(
        text,
        r#"{"node":"client","interface":"eth1","state":"stopped","packets":1,"bytes":60,"dropped":0,"unwritten":0,"deleted":0,"rotated":0,"gaps":[{"from_ns":1,"to_ns":null}],"file":"exchange/dsr/client_eth1.pcap","error":null}"#
    );
    assert_eq!(serde_json::from_str::<Stats>(&text).expect("back"), stats);
}
