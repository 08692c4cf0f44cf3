//! Files that are cut off, damaged, or made to do harm.

use std::{fs, io::Cursor};

use nslab::capture::savefile::{NoteKind, Reader};

use crate::build::{
    MICRO, Order, block, interface, old_packet, options, packet, pcap, section, simple,
};
use crate::counting::peak;
use crate::samples::{every_block, frame, gzip, samples, two_frames};
use crate::tshark::theirs;

const LITTLE: Order = Order::Little;

/// Frames of a file, and what is said of it.
type Said = (Vec<Vec<u8>>, Vec<(NoteKind, String)>);

/// Reads a file; the error where it is none.
fn read(bytes: &[u8]) -> Result<Said, String> {
    let reader = Reader::from_read("x", Cursor::new(bytes.to_vec()));
    let mut reader = reader.map_err(|error| error.to_string())?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().expect("memory cannot fail") {
        frames.push(frame.captured.to_vec());
    }
    let notes = reader.notes().into_iter();
    Ok((frames, notes.map(|note| (note.kind, note.text)).collect()))
}

#[test]
fn what_is_whole_before_a_cut_is_read_and_the_cut_is_told() {
    for (name, whole) in samples() {
        let (all, said) = read(&whole).expect("a sample");
        for length in 0..whole.len() {
            let Ok((frames, notes)) = read(&whole[..length]) else {
                continue;
            };
            assert!(
                frames.len() <= all.len() && frames == all[..frames.len()],
                "{name} {length}"
            );
            // Between records nobody can see that something is missing, unless it is compressed.
            let cut = notes.iter().find(|(kind, _)| *kind == NoteKind::Truncated);
            let silent = cut.is_none();
            if silent {
                assert!(frames.len() < all.len() || notes == said || !name.ends_with("gz"));
                let (again, _) = read(&[&whole[..length], &whole[length..]].concat()).unwrap();
                assert_eq!(again, all, "{name} {length}: cut between records");
            }
            if name.ends_with("gz") {
                assert!(!silent, "{name} {length}: {notes:?}");
            }
        }
    }
}

#[test]
fn a_cut_is_told_with_its_place_and_what_is_missing() {
    let pcap = two_frames(LITTLE, MICRO);
    let cut = |length: usize| read(&pcap[..length]).map(|(frames, notes)| (frames.len(), notes));
    let told = |frames, text: &str| Ok((frames, vec![(NoteKind::Truncated, text.to_owned())]));
    assert_eq!(
        cut(23),
        Err(
            "x ends after 23 bytes, within its header, which has 24: there are no frames in it"
                .to_owned()
        )
    );
    assert_eq!(cut(24), Ok((0, vec![])));
    assert_eq!(
        cut(34),
        told(
            0,
            "the file ends within a frame's header that begins at byte 24: 6 of its 16 bytes are \
             missing; no frame before it could be read"
        )
    );
    assert_eq!(cut(60), Ok((1, vec![])));
    assert_eq!(
        cut(90),
        told(
            1,
            "the file ends within a frame that begins at byte 60: 7 of its 37 bytes are missing; \
             the frame before it was read"
        )
    );
    let blocks = every_block(LITTLE);
    let (_, notes) = read(&blocks[..blocks.len() - 1]).unwrap();
    let last = &notes.last().expect("a note").1;
    assert!(
        last.starts_with("the file ends within an interface statistics block that begins at byte ")
            && last.ends_with("1 of its 52 bytes are missing; the 3 frames before it were read"),
        "{last}"
    );
    let zipped = gzip(&pcap);
    let (_, notes) = read(&zipped[..zipped.len() - 1]).unwrap();
    assert_eq!(
        notes,
        [(
            NoteKind::Truncated,
            "the compressed data are cut off; the 2 frames before it were read".to_owned()
        )]
    );
}

#[test]
fn tshark_sees_the_same_frames_before_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cut.pcapng");
    let whole = [
        section(LITTLE, &[]),
        interface(LITTLE, 1, 0, &[]),
        packet(LITTLE, 0, 1_000_000, 60, &frame(60), &[]),
        packet(LITTLE, 0, 2_000_000, 60, &frame(60), &[]),
    ]
    .concat();
    fs::write(&file, &whole[..whole.len() - 40]).unwrap();
    // tshark ends with an error then, and prints what it could read: let it read only that.
    let (frames, notes) = read(&whole[..whole.len() - 40]).unwrap();
    assert_eq!((frames.len(), notes.len()), (1, 1));
    let complaint = std::process::Command::new("tshark")
        .args([
            "-n",
            "-r",
            file.to_str().unwrap(),
            "-T",
            "fields",
            "-e",
            "frame.len",
        ])
        .output()
        .expect("tshark");
    assert!(!complaint.status.success());
    assert_eq!(String::from_utf8_lossy(&complaint.stdout), "60\n");
    fs::write(&file, &whole[..whole.len() - 92]).unwrap();
    assert_eq!(theirs(&file).len(), frames.len());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn hostile_files_are_told_and_cost_nothing() {
    let start = || [section(LITTLE, &[]), interface(LITTLE, 1, 0, &[])].concat();
    let whole = packet(LITTLE, 0, 1_000_000, 60, &frame(60), &[]);
    let with = |bytes: &[u8]| [&start()[..], bytes, &whole].concat();
    let length = |at: usize, claim: u32, mut bytes: Vec<u8>| {
        bytes[at..at + 4].copy_from_slice(&claim.to_le_bytes());
        bytes
    };
    let record = |captured: u32| {
        let mut bytes = pcap(LITTLE, MICRO, 65_535, 1);
        bytes.extend([0; 8]);
        bytes.extend(captured.to_le_bytes());
        bytes.extend(captured.to_le_bytes());
        bytes.extend([7; 100]);
        bytes
    };
    let names = |record: &[u8]| block(LITTLE, 4, record);
    // What it is, the file, frames that are read, and the beginning of what is said.
    let table: Vec<(&str, Vec<u8>, usize, &str)> = vec![
        (
            "a frame of 4 GiB",
            record(u32::MAX),
            0,
            "at byte 24: the next frame claims to have 4294967295 bytes, more than a frame can have (262144); no frame before it could be read, and nothing after it can be",
        ),
        (
            "a frame of the most that is allowed",
            record(262_144),
            0,
            "the file ends within a frame that begins at byte 24: 262044 of its 262160 bytes are missing",
        ),
        (
            "a block of nearly 4 GiB",
            with(&length(4, 0xffff_fffc, whole.clone())),
            0,
            "at byte 56: a frame's block of 4294967292 bytes is larger than the 16777216 that are read; it was left out",
        ),
        (
            "a block of the most that is read",
            with(&length(4, 16 << 20, whole.clone())),
            0,
            "the file ends within a frame's block that begins at byte 56: 16777032 of its 16777216 bytes are missing",
        ),
        (
            "an unknown block of nearly 4 GiB",
            with(&length(4, 0xffff_fffc, block(LITTLE, 99, &[0; 8]))),
            0,
            "the file ends within a block that begins at byte 56: ",
        ),
        (
            "a block without any length",
            with(&length(4, 0, whole.clone())),
            0,
            "at byte 56: a block (type 0x6) claims a length of 0 bytes; it would have to be a multiple of 4, and at least 12",
        ),
        (
            "a block of an odd length",
            with(&length(4, 93, whole.clone())),
            0,
            "at byte 56: a block (type 0x6) claims a length of 93 bytes",
        ),
        (
            "two lengths that differ",
            with(&length(88, 91, whole.clone())),
            0,
            "at byte 56: a block's length is 92 at its beginning and 91 at its end",
        ),
        (
            "a frame larger than its block",
            with(&length(20, 61 + 3, whole.clone())),
            1,
            "at byte 56: a frame's block was left out: its frame claims to have 64 bytes, and the block has room for 60",
        ),
        (
            "a frame of 4 GiB in a block",
            with(&length(20, u32::MAX, whole.clone())),
            1,
            "at byte 56: a frame's block was left out: its frame claims to have 4294967295 bytes, more than a frame can have (262144)",
        ),
        (
            "an interface that is not described",
            with(&packet(LITTLE, 7, 0, 60, &frame(60), &[])),
            1,
            "at byte 56: a frame's block was left out: it is about interface 7, and its section has described 1",
        ),
        (
            "the largest number of an interface",
            with(&packet(LITTLE, u32::MAX, 0, 60, &frame(60), &[])),
            1,
            "at byte 56: a frame's block was left out: it is about interface 4294967295, and its section has described 1",
        ),
        (
            "a simple frame larger than its block",
            with(&length(8, 61, simple(LITTLE, 60, &frame(60)))),
            1,
            "at byte 56: a frame's block was left out: its frame claims to have 61 bytes, and the block has room for 60",
        ),
        (
            "a simple frame without room",
            with(&block(LITTLE, 3, &[])),
            1,
            "at byte 56: a frame's block was left out: it has 12 bytes, too few",
        ),
        (
            "an old packet block that is too short",
            with(&block(LITTLE, 2, &[0; 16])),
            1,
            "at byte 56: a frame's block was left out: it has 28 bytes, too few",
        ),
        (
            "an interface description without room",
            [
                section(LITTLE, &[]),
                block(LITTLE, 1, &[0; 4]),
                whole.clone(),
            ]
            .concat(),
            0,
            "at byte 32: an interface description is too short",
        ),
        (
            "a frame before any interface",
            [section(LITTLE, &[]), whole.clone()].concat(),
            0,
            "at byte 32: a frame's block was left out: it is about interface 0, and its section has described 0",
        ),
        (
            "statistics of an interface that is not there",
            with(&block(LITTLE, 5, &[&[9][..], &[0; 11]].concat())),
            1,
            "at byte 56: an interface statistics block was left out: it is about interface 9",
        ),
        (
            "a name that goes beyond its block",
            with(&names(&[1, 0, 0xff, 0xff, 10, 0, 0, 1])),
            1,
            "at byte 56: a name resolution block was left out: a record goes beyond the block",
        ),
        (
            "a name without an address",
            with(&names(&[1, 0, 2, 0, 10, 0, 0, 0])),
            1,
            "at byte 56: a name resolution block was left out: a record is too short for its address",
        ),
        (
            "an option that goes beyond its block",
            with(&{
                let mut bytes = packet(LITTLE, 0, 0, 60, &frame(60), &[(2, &[1, 0, 0, 0])]);
                bytes[90] = 0xff;
                bytes
            }),
            2,
            "at byte 56: options of a frame go beyond its block",
        ),
        (
            "a second section of no byte order",
            with(&length(8, 0, section(LITTLE, &[]))),
            0,
            "at byte 56: a section's byte-order magic is 00000000, not 1a2b3c4d in either order",
        ),
        (
            "a second section of another version",
            with(&length(12, 2, section(LITTLE, &[]))),
            0,
            "at byte 56: a section's version is 2.0, not 1.0",
        ),
        (
            "a time before 1970",
            [
                section(LITTLE, &[]),
                interface(LITTLE, 1, 0, &[(14, &(-5i64).to_le_bytes())]),
                whole.clone(),
            ]
            .concat(),
            1,
            "at byte 68: a frame's time is before 1970; the nearest is taken",
        ),
        (
            "a time after the year 2554",
            with(&packet(LITTLE, 0, u64::MAX, 60, &frame(60), &[])),
            2,
            "at byte 56: a frame's time is after the year 2554; the nearest is taken",
        ),
        (
            "an old packet of an interface that is not there",
            with(&old_packet(LITTLE, 3, 0, 0, 60, &frame(60))),
            1,
            "at byte 56: a frame's block was left out: it is about interface 3",
        ),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, frames, says) in table {
        let mut found = None;
        let most = peak(|| found = Some(read(&bytes)));
        let (read, notes) = found
            .expect("it ran")
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let said = notes.iter().any(|(_, text)| text.starts_with(says));
        if read.len() != frames || !said || most >= 1 << 20 {
            wrong.push(format!(
                "{what}: {} frames, {most} bytes, {notes:?}",
                read.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_capture_file_is_told_as_what_it_is() {
    let future = {
        let mut bytes = section(LITTLE, &[]);
        bytes[12] = 2;
        bytes
    };
    let table: [(&[u8], &str); 11] = [
        (b"", "x is not a capture file: it is empty"),
        (
            b"#!/bin/sh\n",
            "x is not a capture file: it begins with the bytes 23 21 2f 62, which neither pcap nor pcapng does",
        ),
        (
            &[0x28, 0xb5, 0x2f, 0xfd, 0],
            "x is compressed with zstd, which nslab does not read; unpack it first",
        ),
        (
            b"snoop\0\0\0",
            "x is a snoop file (RFC 1761), which nslab does not read; `editcap -F pcapng FILE NEW` of Wireshark converts it",
        ),
        (
            &[0xa1, 0xb2, 0xc3],
            "x ends after 3 bytes, within its header, which has 24: there are no frames in it",
        ),
        (
            &section(LITTLE, &[])[..20],
            "x ends after 20 bytes, within its header, which has 28: there are no frames in it",
        ),
        (&gzip(b"")[..], "x is not a capture file: it is empty"),
        (
            &gzip(&gzip(b"x"))[..],
            "x is compressed with gzip twice, which nslab does not read; unpack it first",
        ),
        (
            &[0x1f, 0x8b, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
            "x is damaged at its beginning: its compressed data cannot be unpacked (",
        ),
        (
            &future,
            "x is damaged at its beginning: a section's version is 2.0, not 1.0",
        ),
        (
            &[
                0xd4, 0xc3, 0xb2, 0xa1, 9, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
            ],
            "x is damaged at its beginning: its version is 9.4, not 2.4",
        ),
    ];
    for (bytes, says) in table {
        let error = read(bytes).expect_err(says);
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn names_and_interfaces_have_a_budget() {
    // 400 000 interfaces in 8 MB: kept, they would take ten times that.
    let mut bytes = section(LITTLE, &[]);
    let one = block(LITTLE, 1, &[1, 0, 0, 0, 0, 0, 0, 0]);
    for _ in 0..400_000 {
        bytes.extend(&one);
    }
    let mut notes = Vec::new();
    let most = peak(|| notes = read(&bytes).expect("a capture file").1);
    assert!(
        notes[0]
            .1
            .contains("the file describes more interfaces than can be kept"),
        "{notes:?}"
    );
    // The copy of the file is among it.
    assert!(most < bytes.len() + (48 << 20), "{most} bytes");
    let mut bytes = section(LITTLE, &[]);
    let record = [&[1, 0, 6, 0, 10, 0, 0, 1, b'x', 0, 0, 0][..]; 100].concat();
    let one = block(LITTLE, 4, &record);
    for _ in 0..10_000 {
        bytes.extend(&one);
    }
    let most = peak(|| notes = read(&bytes).expect("a capture file").1);
    assert!(
        notes[0]
            .1
            .ends_with("the file has more names than can be kept"),
        "{notes:?}"
    );
    assert!(most < bytes.len() + (48 << 20), "{most} bytes");
    assert_eq!(notes.len(), 33, "no more than so many notes");
}

#[test]
fn options_of_a_frame_end_it_without_padding() {
    // Some writers leave the last padding out, and opt_endofopt: all of it is optional.
    let mut body = [
        &0u32.to_le_bytes()[..],
        &[0; 8],
        &4u32.to_le_bytes(),
        &4u32.to_le_bytes(),
    ]
    .concat();
    body.extend([1, 2, 3, 4]);
    body.extend(&options(LITTLE, &[(2, &[2, 0, 0, 0])])[..8]);
    let bytes = [
        section(LITTLE, &[]),
        interface(LITTLE, 1, 0, &[]),
        block(LITTLE, 6, &body),
    ];
    let (frames, notes) = read(&bytes.concat()).unwrap();
    assert_eq!((frames, notes), (vec![vec![1, 2, 3, 4]], vec![]));
}
