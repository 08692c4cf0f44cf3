use std::{fs::OpenOptions, io::Write as _, path::Path, time::Duration};

use pcap::{Linktype, Packet, PacketHeader};

use super::*;
use crate::capture::{
    Rotation,
    file::{Kind, Recording, record},
    folder::Folders,
};

const SECOND: u64 = 1_000_000_000;
const WINDOW: Duration = Duration::from_millis(100);

fn recording(path: &Path, rotation: Rotation) -> Recording {
    let kind = Kind {
        owner: None,
        link: Linktype::ETHERNET,
        snaplen: 2000,
        rotation,
    };
    Recording::create(&mut Folders::default(), path, kind).unwrap()
}

/// Records of frames that passed at these times, of so many bytes each.
fn frames(times_ns: impl IntoIterator<Item = u64>, length: usize) -> Vec<u8> {
    let mut batch = Vec::new();
    for time in times_ns {
        let header = PacketHeader {
            ts: libc::timeval {
                tv_sec: i64::try_from(time / SECOND).unwrap(),
                tv_usec: i64::try_from(time % SECOND).unwrap(),
            },
            caplen: length as u32,
            len: 1500,
        };
        record(&mut batch, &Packet::new(&header, &vec![time as u8; length]));
    }
    batch
}

/// Everything that can be had now: (capture, time).
fn take(follow: &mut Follow, now_ns: u64, all: bool) -> Vec<(usize, u64)> {
    let mut taken = Vec::new();
    follow.refresh(now_ns).unwrap();
    while let Step::Frame(n) = follow.step(all) {
        let frame = follow.frame(n).unwrap().unwrap();
        assert_eq!(frame.wire_len, 1500);
        assert!(frame.data.iter().all(|byte| *byte == frame.time_ns as u8));
        taken.push((n, frame.time_ns));
        follow.advance(n, now_ns).unwrap();
    }
    taken
}

fn one(path: &Path, start: Start) -> Follow {
    Follow::new([path], start, WINDOW)
}

/// The times of one capture's frames.
fn times(follow: &mut Follow) -> Vec<u64> {
    let taken = take(follow, u64::MAX, false).into_iter();
    taken.map(|(_, time)| time).collect()
}

#[test]
fn frames_come_as_they_are_written_and_torn_ones_when_they_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let mut follow = one(&path, Start::Oldest);
    assert_eq!(times(&mut follow), [0; 0], "there is no file yet");
    let mut recording = recording(&path, Rotation::default());
    assert_eq!(times(&mut follow), [0; 0]);
    assert_eq!(follow.kind(0), Some((1, 2000)));
    recording.append(&frames([1, 2], 60)).unwrap();
    assert_eq!(times(&mut follow), [1, 2]);
    // Half a record, as where the disk is full; then it is cut off and another is in its place.
    let torn = frames([9], 100);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&torn[..70]).unwrap();
    assert_eq!(times(&mut follow), [0; 0]);
    file.set_len(24 + 2 * 76).unwrap();
    recording.append(&frames([3], 60)).unwrap();
    assert_eq!(times(&mut follow), [3]);
    // Far more than is read at once, and frames larger than that.
    recording.append(&frames(4..4000, 60)).unwrap();
    recording.append(&frames([4000], 250_000)).unwrap();
    recording.append(&frames([4001], 60)).unwrap();
    assert_eq!(times(&mut follow), (4..=4001).collect::<Vec<_>>());
}

#[test]
fn a_rotating_capture_is_one_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let rotation = Rotation {
        size: Some(24 + 3 * 76),
        every: None,
        keep: Some(4),
    };
    let mut recording = recording(&path, rotation);
    recording.append(&frames(0..8, 60)).unwrap();
    let mut follow = one(&path, Start::Oldest);
    let mut late = one(&path, Start::At(5));
    assert_eq!(times(&mut follow), (0..8).collect::<Vec<_>>());
    // What is wanted from a time on is looked for in the current file only.
    assert_eq!(times(&mut late), [6, 7]);
    // Up to `keep` files between two looks are no loss, full or not.
    for from in [8, 20, 21, 22, 30] {
        let to = from + if from == 8 { 12 } else { 1 };
        let batch: Vec<_> = (from..to).collect();
        recording.append(&frames(batch.clone(), 60)).unwrap();
        assert_eq!(times(&mut follow), batch);
        assert_eq!(times(&mut late), batch);
    }
    assert_eq!((follow.missed(0), late.missed(0)), (0, 0));
}

#[test]
fn a_slow_follower_misses_deleted_files_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let rotation = Rotation {
        size: Some(24 + 2 * 76),
        every: None,
        keep: Some(2),
    };
    let mut recording = recording(&path, rotation);
    let mut follow = one(&path, Start::Oldest);
    recording.append(&frames([0], 60)).unwrap();
    assert_eq!(times(&mut follow), [0]);
    // Files of two frames: 0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10. The first is open, so it can still be
    // read; the second and the third are gone.
    recording.append(&frames(1..11, 60)).unwrap();
    assert_eq!(times(&mut follow), [1, 6, 7, 8, 9, 10]);
    assert_eq!(follow.missed(0), 2);
    assert_eq!(follow.missed(0), 0);
}

#[test]
fn a_file_that_was_taken_away_is_no_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a_b.pcap");
    let mut recording = recording(&path, Rotation::default());
    let mut follow = one(&path, Start::Oldest);
    recording.append(&frames([1], 60)).unwrap();
    assert_eq!(times(&mut follow), [1]);
    std::fs::rename(&path, dir.path().join("mine.pcap")).unwrap();
    recording.append(&frames([2], 60)).unwrap();
    assert_eq!(times(&mut follow), [2]);
    recording.resume().unwrap();
    recording.append(&frames([3], 60)).unwrap();
    assert_eq!(times(&mut follow), [3]);
}

#[test]
fn several_are_merged_by_time_within_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a_b.pcap", "c_d.pcap"].map(|name| dir.path().join(name));
    let [mut one, mut two] =
        [&paths[0], &paths[1]].map(|path| recording(path, Rotation::default()));
    let mut follow = Follow::new(paths.iter().map(AsRef::as_ref), Start::Oldest, WINDOW);
    let ms = |n: u64| SECOND + n * 1_000_000;
    one.append(&frames([ms(1), ms(4), ms(200)], 60)).unwrap();
    two.append(&frames([ms(2), ms(3)], 60)).unwrap();
    // At 90 ms nothing is known for sure, at 103 ms all up to 3 ms, later the rest.
    assert_eq!(
        take(&mut follow, ms(90), false),
        [(0, ms(1)), (1, ms(2)), (1, ms(3))]
    );
    assert_eq!(take(&mut follow, ms(103), false), []);
    assert_eq!(take(&mut follow, ms(104), false), [(0, ms(4))]);
    two.append(&frames([ms(150)], 60)).unwrap();
    assert_eq!(take(&mut follow, ms(220), false), [(1, ms(150))]);
    assert_eq!(follow.late(), 0);
    assert_eq!(take(&mut follow, ms(400), false), [(0, ms(200))]);
    // Longer under way than the window: late, and counted.
    two.append(&frames([ms(180)], 60)).unwrap();
    assert_eq!(take(&mut follow, ms(420), false), [(1, ms(180))]);
    assert_eq!(follow.late(), 1);
    // At the end all there is.
    one.append(&frames([ms(421)], 60)).unwrap();
    assert_eq!(take(&mut follow, ms(421), false), []);
    assert_eq!(take(&mut follow, ms(421), true), [(0, ms(421))]);
    // The clock was set back by an hour.
    one.append(&frames([ms(3_600_000)], 60)).unwrap();
    assert_eq!(take(&mut follow, ms(422), false), [(0, ms(3_600_000))]);
}
