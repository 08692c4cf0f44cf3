//! One buffer over a stream, which grows only with what has really come.

use std::io::{self, Read};

/// Bytes that are asked of the stream at once, if nothing else is wished.
pub(super) const CHUNK: usize = 256 << 10;

/// A stream with a window on what comes next.
pub(super) struct Input {
    stream: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// The window: what was read and not consumed.
    start: usize,
    end: usize,
    /// Position in the stream of the window's start.
    offset: u64,
    chunk: usize,
    over: Option<Over>,
}

/// Why nothing more comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over {
    /// The stream ended.
    End,
    /// The compressed stream ended before it was complete.
    CutCompressed,
    /// The compressed stream is damaged, in its decoder's words.
    BadCompressed(String),
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("offset", &self.offset)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl Input {
    /// A window on `stream` that reads `chunk` bytes at once.
    pub(super) fn new(stream: Box<dyn Read + Send>, chunk: usize) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            offset: 0,
            chunk: chunk.max(64),
            over: None,
        }
    }

    /// Puts a decoder between this stream and the window, which must not have been moved yet.
    pub(super) fn decode(
        self,
        decoder: impl FnOnce(Box<dyn Read + Send>) -> Box<dyn Read + Send>,
    ) -> Self {
        let seen = io::Cursor::new(self.buffer[self.start..self.end].to_vec());
        Self::new(decoder(Box::new(seen.chain(self.stream))), self.chunk)
    }

    /// Position in the stream of what [`Input::seen`] begins with.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What was read and not consumed.
    pub(super) fn seen(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Why nothing more comes, when that is so.
    pub(super) fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }

    /// Reads until `wanted` bytes can be seen, or all that there are; says whether they can.
    pub(super) fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        while self.end - self.start < wanted {
            if self.over.is_some() {
                return Ok(false);
            }
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.end == self.buffer.len() {
                // By the chunk or by half, so that a length that is merely claimed costs nothing.
                let grown = self.buffer.len() + self.chunk.max(self.buffer.len() / 2);
                self.buffer.reserve_exact(grown - self.buffer.len());
                self.buffer.resize(grown, 0);
            }
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.over = Some(Over::End),
                Ok(n) => self.end += n,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::UnexpectedEof => self.over = Some(Over::CutCompressed),
                    // flate2's answers to what is not gzip.
                    io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                        self.over = Some(Over::BadCompressed(error.to_string()));
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(true)
    }

    /// Moves on by what can be seen, at most.
    pub(super) fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.end - self.start);
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Moves on by any length, without keeping what is passed over; gives how much of it was not
    /// there.
    pub(super) fn skip(&mut self, mut bytes: u64) -> io::Result<u64> {
        while bytes > 0 {
            if self.start == self.end && !self.fill(1)? {
                break;
            }
            let step = bytes.min((self.end - self.start) as u64);
            self.consume(step as usize);
            bytes -= step;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_costs_no_more_than_what_came() {
        let mut input = Input::new(Box::new(&[7u8; 1000][..]), 64);
        assert!(!input.fill(usize::MAX).unwrap());
        assert_eq!(input.seen(), [7; 1000]);
        assert!(
            input.buffer.capacity() < 2000,
            "{}",
            input.buffer.capacity()
        );
        assert_eq!(input.over(), Some(&Over::End));
    }

    #[test]
    fn the_window_moves_over_the_stream() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut input = Input::new(Box::new(io::Cursor::new(bytes)), 64);
        assert!(input.fill(10).unwrap());
        input.consume(3);
        assert_eq!((input.offset(), input.seen()[0]), (3, 3));
        assert_eq!(input.skip(200).unwrap(), 0);
        assert!(input.fill(4).unwrap());
        assert_eq!(
            (input.offset(), &input.seen()[..4]),
            (203, &[203, 204, 205, 206][..])
        );
        assert_eq!(input.skip(100).unwrap(), 47);
        assert_eq!(input.offset(), 256);
    }
}
