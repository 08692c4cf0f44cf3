//! Zstandard (RFC 8878) as layers have it: several frames, with skippable ones between them (an
//! index for lazy readers, in `zstd:chunked`).

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// Magic numbers of skippable frames are 0x184D2A50 to 0x184D2A5F (RFC 8878, 3.1.2).
const SKIPPABLE: u32 = 0x184d_2a50;
const SKIPPABLE_MASK: u32 = 0xffff_fff0;

/// Reads what all frames hold, one after the other. A frame's window is at most 100 MiB, ruzstd's
/// bound, so a hostile header cannot claim memory.
pub(super) struct Frames<R: Read>(State<R>);

enum State<R: Read> {
    Between(R),
    Inside(Box<StreamingDecoder<Prefixed<R>, FrameDecoder>>),
    /// After an error, or for a moment in between.
    Over,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        Self(State::Between(source))
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.0, State::Over) {
                State::Over => return Ok(0),
                State::Between(mut source) => {
                    if source.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    // The decoder takes the source with it when it fails, so what is to be skipped
                    // is recognised here.
                    let mut magic = [0; 4];
                    source.read_exact(&mut magic)?;
                    self.0 = if u32::from_le_bytes(magic) & SKIPPABLE_MASK == SKIPPABLE {
                        let mut length = [0; 4];
                        source.read_exact(&mut length)?;
                        skip(&mut source, u32::from_le_bytes(length).into())?;
                        State::Between(source)
                    } else {
                        let whole = Prefixed {
                            prefix: magic,
                            at: 0,
                            source,
                        };
                        let frame = StreamingDecoder::new(whole)
                            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                        State::Inside(Box::new(frame))
                    };
                }
                State::Inside(mut frame) => match frame.read(buf)? {
                    0 => self.0 = State::Between(frame.into_inner().source),
                    n => {
                        self.0 = State::Inside(frame);
                        return Ok(n);
                    }
                },
            }
        }
    }
}

/// A source of which the first bytes have been looked at.
struct Prefixed<R> {
    prefix: [u8; 4],
    at: usize,
    source: R,
}

impl<R: Read> Read for Prefixed<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut left = &self.prefix[self.at..];
        if left.is_empty() {
            return self.source.read(buf);
        }
        let n = left.read(buf)?;
        self.at += n;
        Ok(n)
    }
}

fn skip(source: &mut impl Read, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut source.take(length), &mut io::sink())?;
    if skipped < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | zstd -c`.
    const HELLO: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x29, 0x00, 0x00, b'h', b'e', b'l', b'l', b'o', 0xa3,
        0x6d, 0x9f, 0x88,
    ];

    fn read(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        Frames::new(bytes).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn frames_follow_each_other_and_some_are_skipped() {
        assert_eq!(read(HELLO).unwrap(), "hello");
        let skipped = [
            &0x184d_2a53_u32.to_le_bytes()[..],
            &3_u32.to_le_bytes(),
            b"xyz",
        ]
        .concat();
        let all = [HELLO, &skipped, HELLO, &skipped].concat();
        assert_eq!(read(&all).unwrap(), "hellohello");
        assert_eq!(read(b"").unwrap(), "");
    }

    #[test]
    fn what_is_cut_or_no_zstd_is_an_error() {
        for end in 1..HELLO.len() {
            assert!(read(&HELLO[..end]).is_err(), "{end} bytes");
        }
        assert!(read(b"no zstd at all").is_err());
        let skipped = [
            &0x184d_2a50_u32.to_le_bytes()[..],
            &9_u32.to_le_bytes(),
            b"xyz",
        ]
        .concat();
        assert!(read(&skipped).is_err());
    }
}
