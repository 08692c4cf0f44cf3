//! pcap files (draft-ietf-opsawg-pcap): microseconds and nanoseconds, both byte orders, and the
//! "modified" variant.

use super::{
    Direction, Interface, MOST_FRAME, NoteKind,
    input::Input,
    options::Endian,
    reader::{Record, State, Step},
};

/// Bytes of the header that a file begins with.
pub(super) const FILE_HEADER: usize = 24;

/// How a file's records are to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pcap {
    endian: Endian,
    /// Nanoseconds of one unit of the fraction of a second.
    unit: u64,
    /// Whether records have the eight bytes more of Kuznetzov's modified libpcap: the index of
    /// the interface, the protocol, and the packet type of packet(7).
    modified: bool,
    lengths: Lengths,
}

/// Which of its two lengths a record has first. libpcap swapped them before version 2.3, and some
/// of its users afterwards (`sf-pcap.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    Captured,
    Wire,
    Smaller,
}

impl Pcap {
    /// By the first four bytes of a file, if they are those of a pcap file.
    pub(super) fn of_magic(magic: [u8; 4]) -> Option<Self> {
        let (endian, unit, modified) = match magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => (Endian::Big, 1000, false),
            [0xd4, 0xc3, 0xb2, 0xa1] => (Endian::Little, 1000, false),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Endian::Big, 1, false),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Endian::Little, 1, false),
            [0xa1, 0xb2, 0xcd, 0x34] => (Endian::Big, 1000, true),
            [0x34, 0xcd, 0xb2, 0xa1] => (Endian::Little, 1000, true),
            _ => return None,
        };
        Some(Self {
            endian,
            unit,
            modified,
            lengths: Lengths::Captured,
        })
    }

    /// Takes the rest of the file's header. The error is what is wrong with it, in words.
    pub(super) fn header(&mut self, header: &[u8]) -> Result<Interface, String> {
        let (major, minor) = (self.endian.u16(&header[4..]), self.endian.u16(&header[6..]));
        if major != 2 {
            return Err(format!("its version is {major}.{minor}, not 2.4"));
        }
        self.lengths = match minor {
            0..=2 => Lengths::Wire,
            3 => Lengths::Smaller,
            _ => Lengths::Captured,
        };
        // Link type and, above it, what is known of the frame check sequence: P says that its
        // length is given, in units of two bytes.
        let network = self.endian.u32(&header[20..]);
        let fcs = (network >> 28) as u8 * 2;
        Ok(Interface {
            link_type: network & 0xffff,
            snaplen: self.endian.u32(&header[16..]),
            fcs: (network & 0x0400_0000 != 0).then_some(fcs),
            ..Interface::default()
        })
    }

    /// The next record.
    pub(super) fn step(&self, input: &mut Input, state: &mut State) -> std::io::Result<Step> {
        let header = if self.modified { 24 } else { 16 };
        if !input.fill(header)? {
            if input.seen().is_empty() {
                state.ended(input);
            } else {
                state.cut(input, "a frame's header", header as u64);
            }
            return Ok(Step::End);
        }
        let seen = input.seen();
        let field = |at: usize| self.endian.u32(&seen[at..]);
        let time_ns = u64::from(field(0)) * 1_000_000_000 + u64::from(field(4)) * self.unit;
        let (first, second) = (field(8), field(12));
        let (captured, wire_len) = match self.lengths {
            Lengths::Captured => (first, second),
            Lengths::Wire => (second, first),
            Lengths::Smaller => (first.min(second), first.max(second)),
        };
        // Of a file that was converted to this variant the index is 0 and the type means nothing.
        let direction = (self.modified && field(16) != 0).then(|| match seen[22] {
            PACKET_OUTGOING => Direction::Out,
            _ => Direction::In,
        });
        if captured > MOST_FRAME {
            let text = format!(
                "the next frame claims to have {captured} bytes, more than a frame can have \
                 ({MOST_FRAME})"
            );
            state.stop(NoteKind::Damaged, input.offset(), &text);
            return Ok(Step::End);
        }
        let length = header + captured as usize;
        if !input.fill(length)? {
            state.cut(input, "a frame", length as u64);
            return Ok(Step::End);
        }
        Ok(Step::Frame(Record {
            interface: 0,
            time_ns,
            data: header..length,
            length,
            wire_len,
            direction,
        }))
    }
}

/// The frame was sent by this machine (packet(7)).
const PACKET_OUTGOING: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: [u8; 2], network: u32) -> Vec<u8> {
        let mut bytes = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, version[0], 0, version[1]];
        bytes.extend([0; 8]);
        bytes.extend(65_535u32.to_be_bytes());
        bytes.extend(network.to_be_bytes());
        bytes
    }

    #[test]
    fn the_link_type_leaves_room_for_the_check_sequence() {
        let mut pcap = Pcap::of_magic([0xa1, 0xb2, 0xc3, 0xd4]).unwrap();
        let plain = pcap.header(&header([2, 4], 276)).unwrap();
        assert_eq!(
            (plain.link_type, plain.snaplen, plain.fcs),
            (276, 65_535, None)
        );
        let with = pcap.header(&header([2, 4], 0x2400_0001)).unwrap();
        assert_eq!((with.link_type, with.fcs), (1, Some(4)));
        let without = pcap.header(&header([2, 4], 0x2000_0001)).unwrap();
        assert_eq!(without.fcs, None);
    }

    #[test]
    fn old_versions_have_their_lengths_swapped() {
        let mut pcap = Pcap::of_magic([0xa1, 0xb2, 0xc3, 0xd4]).unwrap();
        for (minor, lengths) in [
            (2, Lengths::Wire),
            (3, Lengths::Smaller),
            (4, Lengths::Captured),
        ] {
            pcap.header(&header([2, minor], 1)).unwrap();
            assert_eq!(pcap.lengths, lengths);
        }
        assert_eq!(
            pcap.header(&header([3, 0], 1)).unwrap_err(),
            "its version is 3.0, not 2.4"
        );
    }
}
