//! What Wireshark's tools say of a file, and what our reader says of it, in one form.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use nslab::capture::savefile::{Direction, Reader};

/// One frame, as either of them sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub interface: String,
    /// Seconds since 1970 with nine digits of fraction; nothing if the file does not tell.
    pub time: String,
    pub wire: u32,
    pub direction: Option<Direction>,
    pub data: Vec<u8>,
}

/// Runs a tool that has to be there and to succeed.
pub fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} cannot be run ({e}); scripts/test installs it"));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{program} {args:?}: {out}{err}");
    out.into_owned()
}

/// Fields of every frame of a file, as tshark sees them, a line each; it has to read the file to
/// its end. `options` go before.
pub fn fields(file: &Path, options: &[&str], fields: &[&str]) -> Vec<String> {
    let mut args = options.to_vec();
    args.extend(["-r", file.to_str().unwrap(), "-T", "fields"]);
    for field in fields {
        args.extend(["-e", field]);
    }
    tool("tshark", &args).lines().map(str::to_owned).collect()
}

/// Every frame of a file, as tshark sees it.
pub fn theirs(file: &Path) -> Vec<Seen> {
    let of = [
        "frame.interface_id",
        "frame.time_epoch",
        "frame.len",
        "frame.packet_flags_direction",
        "frame.cap_len",
    ];
    let lines = fields(file, &["-n"], &of);
    let raw = tool(
        "tshark",
        &[
            "-n",
            "-r",
            file.to_str().unwrap(),
            "-T",
            "jsonraw",
            "-j",
            "frame",
        ],
    );
    let raw: serde_json::Value = serde_json::from_str(&raw).expect("tshark's JSON");
    let raw = raw.as_array().expect("frames");
    assert_eq!(lines.len(), raw.len());
    let frames = lines.iter().zip(raw);
    frames
        .map(|(line, raw)| {
            let mut cells = line.split('\t');
            let mut next = || cells.next().expect("a cell").to_owned();
            let (interface, time, wire, direction) = (next(), next(), next(), next());
            let hex = raw["_source"]["layers"]["frame_raw"][0].as_str();
            let data = bytes(hex.unwrap_or(""));
            assert_eq!(next().parse(), Ok(data.len()), "{line}");
            Seen {
                interface: if interface.is_empty() {
                    "0".to_owned()
                } else {
                    interface
                },
                time,
                wire: wire.parse().expect("a length"),
                direction: match direction.as_str() {
                    "" | "0x00000000" | "0" => None,
                    "0x00000001" | "1" => Some(Direction::In),
                    "0x00000002" | "2" => Some(Direction::Out),
                    other => panic!("direction {other}"),
                },
                data,
            }
        })
        .collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// Every frame of a file, as our reader sees it, and its notes.
pub fn ours(file: &Path) -> (Vec<Seen>, Vec<String>) {
    let mut reader = Reader::open(file).expect("a capture file");
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().expect("to read on") {
        frames.push(Seen {
            interface: frame.interface.to_string(),
            time: epoch(frame.time_ns),
            wire: frame.wire_len,
            direction: frame.direction,
            data: frame.captured.to_vec(),
        });
    }
    let notes = reader.notes().into_iter().map(|note| note.text).collect();
    (frames, notes)
}

/// Nanoseconds as tshark writes them.
pub fn epoch(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}
