//! pcapng files (draft-ietf-opsawg-pcapng): blocks, and the three kinds of them that are frames.

use std::io;

use super::{
    Direction, Error, MOST_BLOCK, MOST_FRAME, NoteKind,
    input::Input,
    options::{Endian, Options, padded},
    reader::{Record, State, Step, header_missing},
    sections,
    time::Clock,
};

/// Block types. The numbers are the draft's; the Packet Block is that of older drafts.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const NAME_RESOLUTION: u32 = 4;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Bytes that a block has at least: type, length, and the length again.
const LEAST_BLOCK: usize = 12;
/// Bytes of a Section Header Block without options.
const LEAST_SECTION_HEADER: usize = 28;
/// Of a block, before its body: type and length.
const BLOCK_HEADER: usize = 8;

/// Where in a pcapng file its reader is.
#[derive(Debug)]
pub(super) struct Pcapng {
    endian: Endian,
    /// Number of the section's first interface among those of the file.
    base: usize,
    /// Of all interfaces of the file.
    clocks: Vec<Clock>,
}

impl Pcapng {
    /// The first four bytes of a file, the same in both byte orders.
    pub(super) const MAGIC: [u8; 4] = SECTION_HEADER.to_be_bytes();

    /// Reads the Section Header Block that a file begins with.
    pub(super) fn begin(input: &mut Input, state: &mut State, name: &str) -> Result<Self, Error> {
        let mut this = Self {
            endian: Endian::Little,
            base: 0,
            clocks: Vec::new(),
        };
        let damaged = |why| Error::Damaged {
            name: name.to_owned(),
            why,
        };
        let failed = |error| Error::io("read", name, error);
        if !input.fill(LEAST_SECTION_HEADER).map_err(failed)? {
            return Err(header_missing(name, input, LEAST_SECTION_HEADER));
        }
        this.endian = byte_order(input.seen()).map_err(damaged)?;
        let length = this.length(input.seen(), SECTION_HEADER).map_err(damaged)?;
        if !input.fill(length).map_err(failed)? {
            return Err(header_missing(name, input, length));
        }
        let body = this.body(input.seen(), length).map_err(damaged)?;
        sections::header(this.endian, body, state).map_err(damaged)?;
        input.consume(length);
        Ok(this)
    }

    /// The next block.
    pub(super) fn step(&mut self, input: &mut Input, state: &mut State) -> io::Result<Step> {
        if !input.fill(LEAST_BLOCK)? {
            if input.seen().is_empty() {
                state.ended(input);
            } else {
                state.cut(input, "a block", LEAST_BLOCK as u64);
            }
            return Ok(Step::End);
        }
        let at = input.offset();
        let mut give_up = |why: &str| {
            state.stop(NoteKind::Damaged, at, why);
            Ok(Step::End)
        };
        let section = input.seen()[..4] == Self::MAGIC;
        if section {
            match byte_order(input.seen()) {
                Ok(endian) => self.endian = endian,
                Err(why) => return give_up(&why),
            }
        }
        let kind = self.endian.u32(input.seen());
        let length = match self.length(input.seen(), kind) {
            Ok(length) => length,
            Err(why) => return give_up(&why),
        };
        if what(kind).is_none() || length > MOST_BLOCK as usize {
            return self.pass(input, state, kind, length);
        }
        if !input.fill(length)? {
            state.cut(input, what(kind).unwrap_or("a block"), length as u64);
            return Ok(Step::End);
        }
        let body = match self.body(input.seen(), length) {
            Ok(body) => body,
            Err(why) => return give_up(&why),
        };
        let read = match kind {
            SECTION_HEADER => {
                self.base = state.interfaces.len();
                sections::header(self.endian, body, state)
            }
            INTERFACE_DESCRIPTION => {
                sections::interface(self.endian, body, state).map(|clock| self.clocks.push(clock))
            }
            _ => {
                let step = self.inside(kind, length, body, at, state);
                if matches!(step, Step::Passed) {
                    input.consume(length);
                }
                return Ok(step);
            }
        };
        match read {
            Ok(()) => {
                input.consume(length);
                Ok(Step::Passed)
            }
            // Without it, what follows would be taken for something that it is not.
            Err(why) => {
                state.stop(NoteKind::Damaged, at, &why);
                Ok(Step::End)
            }
        }
    }

    /// A block on which no other depends: if it is damaged, it is left out and told.
    fn inside(&self, kind: u32, length: usize, body: &[u8], at: u64, state: &mut State) -> Step {
        let read = match kind {
            NAME_RESOLUTION => sections::names(self.endian, body, state).map(|()| None),
            INTERFACE_STATISTICS => {
                sections::statistics(self.endian, body, self.base, state).map(|()| None)
            }
            SIMPLE_PACKET => self.simple_packet(body, length, at, state).map(Some),
            _ => self.packet(kind, body, length, at, state).map(Some),
        };
        match read {
            Ok(Some(record)) => Step::Frame(record),
            Ok(None) => Step::Passed,
            Err(why) => {
                let name = what(kind).unwrap_or("a block");
                let text = format!("at byte {at}: {name} was left out: {why}");
                state.note(NoteKind::Damaged, at, text);
                Step::Passed
            }
        }
    }

    /// An Enhanced Packet Block, or the Packet Block of older files.
    fn packet(
        &self,
        kind: u32,
        body: &[u8],
        length: usize,
        at: u64,
        state: &mut State,
    ) -> Result<Record, String> {
        const FIXED: usize = 20;
        if body.len() < FIXED {
            return Err(format!("it has {length} bytes, too few"));
        }
        // The Packet Block has the interface in 16 bits, and drops in the others.
        let interface = match kind {
            PACKET => u32::from(self.endian.u16(body)),
            _ => self.endian.u32(body),
        };
        let interface = self.interface(interface, state)?;
        let ticks = self.endian.high_low(&body[4..]);
        let captured = self.endian.u32(&body[12..]);
        let end = FIXED + frame_length(captured, body.len() - FIXED)?;
        // Options after the padding, if there are any.
        let mut options = Options::new(self.endian, body.get(padded(end)..).unwrap_or_default());
        let mut direction = None;
        for (code, value) in &mut options {
            if let (EPB_FLAGS, [_, _, _, _]) = (code, value) {
                direction = match self.endian.u32(value) & 3 {
                    1 => Some(Direction::In),
                    2 => Some(Direction::Out),
                    _ => None,
                };
            }
        }
        if options.broken() {
            let text = format!("at byte {at}: options of a frame go beyond its block");
            state.note(NoteKind::Damaged, at, text);
        }
        let since = self.clocks[interface].nanoseconds(ticks);
        let time_ns = u64::try_from(since).unwrap_or_else(|_| {
            let (which, nearest) = match since {
                ..0 => ("before 1970", 0),
                _ => ("after the year 2554", u64::MAX),
            };
            let text = format!("at byte {at}: a frame's time is {which}; the nearest is taken");
            state.note(NoteKind::Time, at, text);
            nearest
        });
        Ok(Record {
            interface,
            time_ns,
            data: BLOCK_HEADER + FIXED..BLOCK_HEADER + end,
            length,
            wire_len: self.endian.u32(&body[16..]),
            direction,
        })
    }

    /// A Simple Packet Block: always the section's first interface, and no time.
    fn simple_packet(
        &self,
        body: &[u8],
        length: usize,
        at: u64,
        state: &mut State,
    ) -> Result<Record, String> {
        const FIXED: usize = 4;
        if body.len() < FIXED {
            return Err(format!("it has {length} bytes, too few"));
        }
        let interface = self.interface(0, state)?;
        let wire_len = self.endian.u32(body);
        let captured = match state.interfaces[interface].snaplen {
            0 => wire_len,
            snaplen => wire_len.min(snaplen),
        };
        let end = FIXED + frame_length(captured, body.len() - FIXED)?;
        if !std::mem::replace(&mut state.untimed, true) {
            let text = format!(
                "at byte {at} begin frames without a time (Simple Packet Blocks); they get that of \
                 the frame before"
            );
            state.note(NoteKind::Time, at, text);
        }
        Ok(Record {
            interface,
            time_ns: state.last_ns,
            data: BLOCK_HEADER + FIXED..BLOCK_HEADER + end,
            length,
            wire_len,
            direction: None,
        })
    }

    /// Number among the file's interfaces of one of the section's.
    fn interface(&self, number: u32, state: &State) -> Result<usize, String> {
        sections::find(number, self.base, state)
    }

    /// Passes over a block that is of no use, or larger than what is read.
    fn pass(
        &self,
        input: &mut Input,
        state: &mut State,
        kind: u32,
        length: usize,
    ) -> io::Result<Step> {
        let at = input.offset();
        let name = what(kind);
        if let Some(name) = name {
            let why =
                format!("{name} of {length} bytes is larger than the {MOST_BLOCK} that are read");
            if matches!(kind, SECTION_HEADER | INTERFACE_DESCRIPTION) {
                state.stop(NoteKind::Damaged, at, &why);
                return Ok(Step::End);
            }
            let text = format!("at byte {at}: {why}; it was left out");
            state.note(NoteKind::Damaged, at, text);
        }
        let missing = input.skip(length as u64 - 4)?;
        if missing > 0 || !input.fill(4)? {
            let have = input.offset() + input.seen().len() as u64 - at;
            state.cut_after(input, name.unwrap_or("a block"), length as u64, have, at);
            return Ok(Step::End);
        }
        let again = self.endian.u32(input.seen());
        if again as usize != length {
            state.stop(NoteKind::Damaged, at, &two_lengths(length, again));
            return Ok(Step::End);
        }
        input.consume(4);
        Ok(Step::Passed)
    }

    /// The length of the block at the beginning of `seen`.
    fn length(&self, seen: &[u8], kind: u32) -> Result<usize, String> {
        let length = self.endian.u32(&seen[4..]);
        let least = match kind {
            SECTION_HEADER => LEAST_SECTION_HEADER,
            _ => LEAST_BLOCK,
        };
        if (length as usize) < least || !length.is_multiple_of(4) {
            return Err(format!(
                "a block (type {kind:#x}) claims a length of {length} bytes; it would have to be a \
                 multiple of 4, and at least {least}"
            ));
        }
        Ok(length as usize)
    }

    /// The body of a block that can be seen as a whole.
    fn body<'a>(&self, seen: &'a [u8], length: usize) -> Result<&'a [u8], String> {
        let again = self.endian.u32(&seen[length - 4..]);
        if again as usize != length {
            return Err(two_lengths(length, again));
        }
        Ok(&seen[BLOCK_HEADER..length - 4])
    }
}

/// `epb_flags` and `pack_flags`; the two lowest bits are the direction.
const EPB_FLAGS: u16 = 2;

/// Checks what a frame claims to have against its block.
fn frame_length(captured: u32, room: usize) -> Result<usize, String> {
    if captured > MOST_FRAME {
        Err(format!(
            "its frame claims to have {captured} bytes, more than a frame can have ({MOST_FRAME})"
        ))
    } else if captured as usize > room {
        Err(format!(
            "its frame claims to have {captured} bytes, and the block has room for {room}"
        ))
    } else {
        Ok(captured as usize)
    }
}

fn two_lengths(length: usize, again: u32) -> String {
    format!("a block's length is {length} at its beginning and {again} at its end")
}

/// Reads the byte order from the beginning of a Section Header Block.
fn byte_order(seen: &[u8]) -> Result<Endian, String> {
    match seen[8..12] {
        [0x1a, 0x2b, 0x3c, 0x4d] => Ok(Endian::Big),
        [0x4d, 0x3c, 0x2b, 0x1a] => Ok(Endian::Little),
        ref other => Err(format!(
            "a section's byte-order magic is {:02x}{:02x}{:02x}{:02x}, not 1a2b3c4d in either order",
            other[0], other[1], other[2], other[3]
        )),
    }
}

/// A block that is read, in words.
fn what(kind: u32) -> Option<&'static str> {
    Some(match kind {
        SECTION_HEADER => "a section header",
        INTERFACE_DESCRIPTION => "an interface description",
        PACKET | SIMPLE_PACKET | ENHANCED_PACKET => "a frame's block",
        NAME_RESOLUTION => "a name resolution block",
        INTERFACE_STATISTICS => "an interface statistics block",
        _ => return None,
    })
}
