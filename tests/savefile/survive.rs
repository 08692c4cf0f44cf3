//! What has to hold for any bytes that are taken for a capture file. The fuzz target runs this too.

use std::io::Cursor;

use nslab::capture::savefile::{About, MOST_FRAME, PcapngWriter, Reader, Series, Timeline};

/// Reads the bytes, merges them with themselves, writes that and reads it again. Panics where
/// something does not hold.
pub fn survive(bytes: &[u8]) {
    let Some(frames) = read(bytes) else { return };
    let series = |stem: &str| Series {
        known: None,
        stem: stem.to_owned(),
        files: vec![(stem.to_owned(), Box::new(Cursor::new(bytes.to_vec())))],
    };
    let mut timeline = Timeline::new(vec![series("a"), series("b")]);
    let mut writer = PcapngWriter::new(Vec::new(), &About::default());
    let (mut described, mut merged, mut last, mut back) = (0, 0, 0, 0);
    while timeline.advance() {
        for interface in &timeline.interfaces()[described..] {
            writer.interface(interface).expect("memory");
            described += 1;
        }
        let frame = timeline.frame().expect("one was announced");
        back += u64::from(frame.time_ns < last);
        last = frame.time_ns;
        writer.frame(&frame).expect("memory");
        merged += 1;
    }
    assert_eq!(merged, 2 * frames);
    // Files this small are read ahead as a whole, so that all of it comes in order.
    assert!(
        back == 0 || bytes.len() > 4096,
        "{back} frames out of order"
    );
    let (written, length) = writer.finish().expect("memory");
    assert_eq!(written.len() as u64, length);
    assert_eq!(read(&written), Some(merged), "what was written reads back");
}

/// Reads the bytes; how many frames there are, if it is a capture file.
fn read(bytes: &[u8]) -> Option<u64> {
    let mut reader = Reader::from_read("x", Cursor::new(bytes.to_vec())).ok()?;
    let mut interfaces = 0;
    while let Some(frame) = reader.next_frame().expect("memory cannot fail") {
        assert!(frame.captured.len() <= MOST_FRAME as usize);
        interfaces = interfaces.max(frame.interface + 1);
    }
    assert!(interfaces <= reader.interfaces().len());
    assert!(reader.notes().len() <= 33);
    assert_eq!(
        reader.next_frame().expect("memory cannot fail"),
        None,
        "an end is final"
    );
    Some(reader.frames())
}
