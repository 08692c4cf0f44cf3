//! The writer of pcapng (draft-ietf-opsawg-pcapng): one section, nanoseconds, this machine's byte
//! order.

use std::{
    io::{self, Write},
    net::IpAddr,
};

use super::{About, Counts, Direction, Frame, Interface};

/// Bytes that are gathered before they are written.
const GATHER: usize = 256 << 10;
/// The longest value that an option can have, in whole 32-bit words less one for a language byte.
const LONGEST: usize = 65_528;

/// Writes a pcapng file, block by block: interfaces before their frames, the rest in any order.
#[derive(Debug)]
pub struct PcapngWriter<W: Write> {
    out: W,
    gathered: Vec<u8>,
    interfaces: usize,
    written: u64,
}

impl<W: Write> PcapngWriter<W> {
    /// Begins a file with a Section Header Block.
    pub fn new(out: W, about: &About) -> Self {
        let mut this = Self {
            out,
            gathered: Vec::with_capacity(GATHER + (GATHER >> 2)),
            interfaces: 0,
            written: 0,
        };
        let at = this.begin(0x0a0d_0d0a);
        this.u32(0x1a2b_3c4d);
        this.u16(1);
        this.u16(0);
        // The section's length is not known before its end.
        this.gathered.extend([0xff; 8]);
        for comment in &about.comments {
            this.text(1, &[], comment);
        }
        for (code, text) in [
            (2, &about.hardware),
            (3, &about.os),
            (4, &about.application),
        ] {
            if let Some(text) = text {
                this.text(code, &[], text);
            }
        }
        this.end(at);
        this
    }

    /// Describes an interface, and gives the number by which its frames name it.
    ///
    /// # Errors
    /// The system could not write. So with all the others.
    pub fn interface(&mut self, interface: &Interface) -> io::Result<usize> {
        let at = self.begin(1);
        self.u16(interface.link_type as u16);
        self.u16(0);
        self.u32(interface.snaplen);
        for (code, text) in [(2, &interface.name), (3, &interface.description)] {
            if let Some(text) = text {
                self.text(code, &[], text);
            }
        }
        for (address, prefix) in &interface.addresses {
            match address {
                IpAddr::V4(address) => {
                    let host = u32::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0);
                    let value = [address.octets(), (!host).to_be_bytes()].concat();
                    self.option(4, &value);
                }
                IpAddr::V6(address) => {
                    self.option(5, &[&address.octets()[..], &[*prefix]].concat());
                }
            }
        }
        if let Some(mac) = interface.mac {
            self.option(6, &mac);
        }
        // 10^-9 s.
        self.option(9, &[9]);
        if let Some(filter) = &interface.filter {
            self.text(11, &[0], filter);
        }
        if let Some(os) = &interface.os {
            self.text(12, &[], os);
        }
        if let Some(bits) = interface.fcs.and_then(|bytes| bytes.checked_mul(8)) {
            self.option(13, &[bits]);
        }
        self.end(at);
        self.interfaces += 1;
        self.pass_on()?;
        Ok(self.interfaces - 1)
    }

    /// Names addresses: a Name Resolution Block, or several.
    pub fn names(&mut self, names: &[(IpAddr, String)]) -> io::Result<()> {
        // No block should be larger than readers allow; see MOST_BLOCK.
        for names in names.chunks(4096) {
            let at = self.begin(4);
            for (address, name) in names {
                let name = cut(name);
                let (kind, octets) = match address {
                    IpAddr::V4(address) => (1, &address.octets()[..]),
                    IpAddr::V6(address) => (2, &address.octets()[..]),
                };
                self.option(kind, &[octets, name.as_bytes(), &[0]].concat());
            }
            // nrb_record_end looks like opt_endofopt; no options follow.
            self.u32(0);
            self.close(at);
            self.pass_on()?;
        }
        Ok(())
    }

    /// Writes a frame: an Enhanced Packet Block. `frame.interface` is a number that
    /// [`PcapngWriter::interface`] gave.
    pub fn frame(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        debug_assert!(
            frame.interface < self.interfaces,
            "an interface not described"
        );
        let data = frame.captured;
        let padded = data.len().next_multiple_of(4);
        let options = if frame.direction.is_some() { 12 } else { 0 };
        let total = (32 + padded + options) as u32;
        let mut head = [0; 28];
        let fields = [
            6,
            total,
            frame.interface as u32,
            (frame.time_ns >> 32) as u32,
            frame.time_ns as u32,
            data.len() as u32,
            frame.wire_len,
        ];
        for (field, value) in head.chunks_exact_mut(4).zip(fields) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
        self.gathered.extend_from_slice(&head);
        self.gathered.extend_from_slice(data);
        self.gathered
            .extend_from_slice(&[0; 3][..padded - data.len()]);
        if let Some(direction) = frame.direction {
            self.u16(2);
            self.u16(4);
            self.u32(match direction {
                Direction::In => 1,
                Direction::Out => 2,
            });
            self.u32(0);
        }
        self.u32(total);
        self.pass_on()
    }

    /// Counts of an interface: an Interface Statistics Block. `span` is when its first and its last
    /// frame passed, in nanoseconds since 1970.
    pub fn statistics(
        &mut self,
        interface: usize,
        counts: &Counts,
        span: Option<(u64, u64)>,
    ) -> io::Result<()> {
        let at = self.begin(5);
        self.u32(interface as u32);
        let (first, last) = span.unwrap_or_default();
        self.high_low(last);
        if span.is_some() {
            for (code, time) in [(2, first), (3, last)] {
                self.u16(code);
                self.u16(8);
                self.high_low(time);
            }
        }
        for (code, count) in [(4, counts.received), (5, counts.dropped)] {
            if let Some(count) = count {
                self.option(code, &count.to_ne_bytes());
            }
        }
        self.end(at);
        self.pass_on()
    }

    /// Writes what is gathered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.gathered)?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        self.out.flush()
    }

    /// Writes what is gathered, and gives back what was written to, and the file's length in bytes.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.flush()?;
        Ok((self.out, self.written))
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.gathered.len() < GATHER {
            return Ok(());
        }
        self.out.write_all(&self.gathered)?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// Begins a block; its length is filled in by [`PcapngWriter::close`].
    fn begin(&mut self, kind: u32) -> usize {
        let at = self.gathered.len();
        self.u32(kind);
        self.u32(0);
        at
    }

    /// Ends a block's options, and the block.
    fn end(&mut self, at: usize) {
        self.u32(0);
        self.close(at);
    }

    fn close(&mut self, at: usize) {
        let length = (self.gathered.len() - at + 4) as u32;
        self.u32(length);
        self.gathered[at + 4..at + 8].copy_from_slice(&length.to_ne_bytes());
    }

    fn text(&mut self, code: u16, before: &[u8], text: &str) {
        self.option(code, &[before, cut(text).as_bytes()].concat());
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.u16(code);
        self.u16(value.len() as u16);
        self.gathered.extend_from_slice(value);
        let padded = self.gathered.len() + value.len().next_multiple_of(4) - value.len();
        self.gathered.resize(padded, 0);
    }

    /// Timestamps are two numbers, the higher first in either byte order.
    fn high_low(&mut self, time: u64) {
        self.u32((time >> 32) as u32);
        self.u32(time as u32);
    }

    fn u16(&mut self, n: u16) {
        self.gathered.extend_from_slice(&n.to_ne_bytes());
    }

    fn u32(&mut self, n: u32) {
        self.gathered.extend_from_slice(&n.to_ne_bytes());
    }
}

/// A text as an option can hold it: without zeros, which would end it, and not too long.
fn cut(text: &str) -> &str {
    let text = text.split('\0').next().unwrap_or_default();
    &text[..text.floor_char_boundary(LONGEST - 32)]
}
