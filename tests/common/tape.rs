//! Captures as tcpdump reads them: fifty times as fast as tshark where system calls are slow, in the
//! kernel of `scripts/with-ipvs`.

use std::path::Path;

use super::tool;

/// SYNs of IPv4 that open connections.
pub const SYN: &str = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn";

/// The frames of a capture that match a pcap-filter(7), from the first byte of the Ethernet header.
pub fn bytes(file: &Path, filter: &str) -> Vec<Vec<u8>> {
    let read = tool("tcpdump", &["-nr", file.to_str().unwrap(), "-xx", filter]);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for line in read.lines() {
        // A line of text for each frame, then its bytes: "\t0x0010:  4500 003c".
        let Some(line) = line.strip_prefix("\t0x") else {
            frames.push(Vec::new());
            continue;
        };
        let (_, digits) = line.split_once(':').unwrap();
        let digits: Vec<u8> = digits.bytes().filter(|b| *b != b' ').collect();
        let frame = frames.last_mut().unwrap();
        for pair in digits.chunks(2) {
            let pair = std::str::from_utf8(pair).unwrap();
            frame.push(u8::from_str_radix(pair, 16).unwrap());
        }
    }
    frames
}

/// How many frames match.
pub fn packets(file: &Path, filter: &str) -> usize {
    bytes(file, filter).len()
}
