//! The recordings.

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_MULTIPART, NLM_F_REQUEST};

/// A message without its netlink header.
pub struct Message {
    pub flags: u16,
    /// From the generic netlink header on.
    pub bytes: Vec<u8>,
}

/// What one ipvsadm said and heard.
pub struct Recording {
    pub command: &'static str,
    pub sent: Vec<Message>,
    pub received: Vec<Message>,
}

/// All of them, in the order of the script.
pub fn all() -> Vec<Recording> {
    let mut all: Vec<Recording> = vec![];
    let lines = include_str!("../testdata/ipvsadm.txt").lines();
    for line in lines.filter(|l| !l.starts_with('#')) {
        let message = || {
            let [_, flags, bytes] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("not a message: {line}");
            };
            Message {
                flags: flags.split('|').map(flag).fold(0, |all, flag| all | flag),
                bytes: unhex(bytes),
            }
        };
        match line.as_bytes()[0] {
            b'>' => all.last_mut().unwrap().sent.push(message()),
            b'<' => all.last_mut().unwrap().received.push(message()),
            _ => all.push(Recording {
                command: line,
                sent: vec![],
                received: vec![],
            }),
        }
    }
    all
}

pub fn of(command: &str) -> Recording {
    all()
        .into_iter()
        .find(|r| r.command == command)
        .unwrap_or_else(|| panic!("no recording of {command}"))
}

fn flag(name: &str) -> u16 {
    match name {
        "NLM_F_REQUEST" => NLM_F_REQUEST,
        "NLM_F_ACK" => NLM_F_ACK,
        "NLM_F_MULTI" => NLM_F_MULTIPART,
        "0x300" => NLM_F_DUMP,
        "0" => 0,
        other => panic!("flag {other}"),
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// A message as it is in a datagram.
pub fn framed(kind: u16, flags: u16, sequence: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + rest.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(rest);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
