use std::{
    os::unix::fs::{MetadataExt, symlink},
    time::Duration,
};

use pcap::PacketHeader;

use super::*;

const PLAIN: Kind = Kind {
    owner: None,
    link: Linktype::ETHERNET,
    snaplen: 4096,
    rotation: Rotation {
        size: None,
        every: None,
        keep: None,
    },
};

fn batch(frames: &[&[u8]]) -> Vec<u8> {
    let mut batch = Vec::new();
    for data in frames {
        let ts = libc::timeval {
            tv_sec: 1,
            tv_usec: 999_999_999,
        };
        let length = data.len() as u32;
        let header = PacketHeader {
            ts,
            caplen: length,
            len: length + 100,
        };
        record(&mut batch, &Packet::new(&header, data));
    }
    batch
}

#[test]
fn a_file_reads_back_in_libpcap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let mut recording = Recording::create(&mut Folders::default(), &path, PLAIN).unwrap();
    recording.append(&batch(&[&[7; 60], &[9; 1514]])).unwrap();
    let mut read = pcap::Capture::from_file_with_precision(&path, pcap::Precision::Nano).unwrap();
    assert_eq!(read.get_datalink(), Linktype::ETHERNET);
    let first = read.next_packet().unwrap();
    assert_eq!(
        (first.header.ts.tv_sec, first.header.ts.tv_usec),
        (1, 999_999_999)
    );
    assert_eq!(
        (first.header.caplen, first.header.len, first.data),
        (60, 160, &[7u8; 60][..])
    );
    assert_eq!(read.next_packet().unwrap().data, [9; 1514]);
    assert_eq!(read.next_packet().unwrap_err(), pcap::Error::NoMorePackets);
}

#[test]
fn half_a_record_counts_for_nothing() {
    let batch = batch(&[&[1; 10], &[2; 20]]);
    assert_eq!(whole_records(&batch), (2, 230, 62));
    assert_eq!(whole_records(&batch[..61]), (1, 110, 26));
    assert_eq!(whole_records(&batch[..30]), (1, 110, 26));
    assert_eq!(whole_records(&batch[..25]), (0, 0, 0));
    assert_eq!(whole_records(&[]), (0, 0, 0));
}

#[test]
fn raw_ip_has_its_number_in_files() {
    assert_eq!(header(Linktype(12), 1)[20..], 101u32.to_ne_bytes());
    assert_eq!(header(Linktype(1), 1)[20..], 1u32.to_ne_bytes());
    assert_eq!(header(Linktype(113), 1)[20..], 113u32.to_ne_bytes());
}

#[test]
fn what_has_the_name_is_replaced_and_links_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("precious");
    std::fs::write(&target, "keep").unwrap();
    std::fs::create_dir(dir.path().join("lab")).unwrap();
    let path = dir.path().join("lab/x.pcap");
    symlink(&target, &path).unwrap();
    Recording::create(&mut Folders::default(), &path, PLAIN).unwrap();
    assert!(path.symlink_metadata().unwrap().is_file());
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&target, &path).unwrap();
    Recording::create(&mut Folders::default(), &path, PLAIN).unwrap();
    assert_eq!(path.metadata().unwrap().size(), FILE_HEADER);
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o644);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "keep");
}

/// Frames of 84 bytes in a record of 100, `count` of them, one a second from `from`.
fn seconds(from: u32, count: u32) -> Vec<u8> {
    let mut batch = Vec::new();
    for n in from..from + count {
        let ts = libc::timeval {
            tv_sec: n.into(),
            tv_usec: 0,
        };
        let header = PacketHeader {
            ts,
            caplen: 84,
            len: 84,
        };
        record(&mut batch, &Packet::new(&header, &[n as u8; 84]));
    }
    batch
}

/// The seconds of the frames in a file, as libpcap reads it.
fn read(path: &Path) -> Vec<i64> {
    let mut file = pcap::Capture::from_file(path).unwrap();
    let mut all = Vec::new();
    while let Ok(packet) = file.next_packet() {
        all.push(packet.header.ts.tv_sec);
    }
    all
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn rotating(rotation: Rotation) -> Kind {
    Kind { rotation, ..PLAIN }
}

#[test]
fn a_file_that_is_full_gets_a_number_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let kind = rotating(Rotation {
        size: Some(24 + 300),
        every: None,
        keep: Some(2),
    });
    let mut recording = Recording::create(&mut Folders::default(), &path, kind).unwrap();
    // One batch goes into as many files as it takes, and no file is larger than it may be.
    recording.append(&seconds(0, 4)).unwrap();
    assert_eq!(names(dir.path()), ["a_b.1.pcap", "a_b.pcap"]);
    assert_eq!(read(&dir.path().join("a_b.1.pcap")), [0, 1, 2]);
    assert_eq!(read(&path), [3]);
    recording.append(&seconds(4, 10)).unwrap();
    assert_eq!(names(dir.path()), ["a_b.3.pcap", "a_b.4.pcap", "a_b.pcap"]);
    assert_eq!(read(&dir.path().join("a_b.3.pcap")), [6, 7, 8]);
    assert_eq!(read(&dir.path().join("a_b.4.pcap")), [9, 10, 11]);
    assert_eq!(read(&path), [12, 13]);
    assert_eq!((recording.rotated(), recording.deleted()), (2, 6));
}

#[test]
fn a_frame_larger_than_a_file_may_be_is_alone_in_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let kind = rotating(Rotation {
        size: Some(1),
        ..Rotation::default()
    });
    let mut recording = Recording::create(&mut Folders::default(), &path, kind).unwrap();
    recording.append(&seconds(0, 3)).unwrap();
    assert_eq!(names(dir.path()), ["a_b.1.pcap", "a_b.2.pcap", "a_b.pcap"]);
    assert_eq!(read(&path), [2]);
}

#[test]
fn time_rotates_by_the_frames_own_clock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let kind = rotating(Rotation {
        every: Some(Duration::from_secs(10)),
        ..Rotation::default()
    });
    let mut recording = Recording::create(&mut Folders::default(), &path, kind).unwrap();
    recording.append(&seconds(100, 8)).unwrap();
    // The clock was set back: the file's time has not passed.
    recording.append(&seconds(50, 1)).unwrap();
    recording.append(&seconds(108, 4)).unwrap();
    recording.append(&seconds(500, 1)).unwrap();
    assert_eq!(
        read(&dir.path().join("a_b.1.pcap")),
        [100, 101, 102, 103, 104, 105, 106, 107, 50, 108, 109]
    );
    assert_eq!(read(&dir.path().join("a_b.2.pcap")), [110, 111]);
    assert_eq!(read(&path), [500]);
}

#[test]
fn a_former_runs_full_files_go_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "a_b.1.pcap",
        "a_b.17.pcap",
        "a_b.x.pcap",
        "a_bc.1.pcap",
        "a_b.1.txt",
    ] {
        std::fs::write(dir.path().join(name), "old").unwrap();
    }
    let path = dir.path().join("a_b.pcap");
    Recording::create(&mut Folders::default(), &path, PLAIN).unwrap();
    assert_eq!(
        names(dir.path()),
        ["a_b.1.txt", "a_b.pcap", "a_b.x.pcap", "a_bc.1.pcap"]
    );
}

#[test]
fn after_a_pause_the_same_file_goes_on_unless_somebody_touched_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let mut recording = Recording::create(&mut Folders::default(), &path, PLAIN).unwrap();
    recording.append(&seconds(0, 1)).unwrap();
    recording.resume().unwrap();
    recording.append(&seconds(1, 1)).unwrap();
    assert_eq!(names(dir.path()), ["a_b.pcap"]);
    assert_eq!(read(&path), [0, 1]);
    // Moved away.
    let mine = dir.path().join("mine.pcap");
    std::fs::rename(&path, &mine).unwrap();
    recording.resume().unwrap();
    recording.append(&seconds(2, 1)).unwrap();
    assert_eq!((read(&mine), read(&path)), (vec![0, 1], vec![2]));
    // Cut: a record after the hole would be no record.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(30)
        .unwrap();
    recording.resume().unwrap();
    recording.append(&seconds(3, 1)).unwrap();
    assert_eq!(read(&path), [3]);
    assert_eq!(
        path.with_file_name("a_b.1.pcap").metadata().unwrap().len(),
        30
    );
    // Replaced by a link: it is kept, and not followed.
    std::fs::remove_file(&path).unwrap();
    symlink(&mine, &path).unwrap();
    recording.resume().unwrap();
    recording.append(&seconds(4, 1)).unwrap();
    assert_eq!((read(&mine), read(&path)), (vec![0, 1], vec![4]));
    assert_eq!(
        std::fs::read_link(path.with_file_name("a_b.2.pcap")).unwrap(),
        mine
    );
    assert_eq!(
        names(dir.path()),
        ["a_b.1.pcap", "a_b.2.pcap", "a_b.pcap", "mine.pcap"]
    );
}

#[test]
fn where_rotation_fails_the_file_stays_as_it_is_and_the_next_attempt_can_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let kind = rotating(Rotation {
        size: Some(24 + 200),
        ..Rotation::default()
    });
    let mut recording = Recording::create(&mut Folders::default(), &path, kind).unwrap();
    // Nothing can be made under the name that the new file has at first.
    let blocked = dir.path().join(".a_b.pcap.new");
    std::fs::create_dir(&blocked).unwrap();
    let partial = recording.append(&seconds(0, 5)).unwrap_err();
    assert_eq!((partial.frames, partial.bytes), (2, 168));
    assert_eq!(
        partial.error.to_string(),
        "replace .a_b.pcap.new: Is a directory (os error 21)"
    );
    assert_eq!(read(&path), [0, 1]);
    std::fs::remove_dir(&blocked).unwrap();
    recording.append(&seconds(5, 1)).unwrap();
    assert_eq!(read(&dir.path().join("a_b.1.pcap")), [0, 1]);
    assert_eq!(read(&path), [5]);
}
