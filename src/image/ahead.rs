//! Decoding ahead of what uses it: a reader's work on a thread of its own, handed over in blocks.
//!
//! Unpacking a layer is a chain: read, hash, inflate, hash, write. Its two halves take about the
//! same time, so two processors halve it. Blocks are few and go back when they are empty, which
//! bounds the memory ([`MEMORY`]) and keeps them in the processors' caches.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes of a block.
const BLOCK: usize = 128 * 1024;
/// Blocks that are full and not yet used, at most.
const DEPTH: usize = 14;
/// Bytes of all blocks of one reader: those on the way, one that is filled, one that is used.
pub(super) const MEMORY: usize = (DEPTH + 2) * BLOCK;

const _: () = assert!(MEMORY == 2 << 20);

/// What is handed over: a block and how much of it is filled, nothing at the end, or an error at
/// exactly the place of the stream where it happened.
type Item = io::Result<(Box<[u8]>, usize)>;

/// The two ends of a way for blocks.
pub(super) fn ends() -> (Producer, Ahead) {
    let (full, filled) = sync_channel(DEPTH);
    let (back, empty) = channel();
    let ahead = Ahead {
        filled,
        back,
        block: Box::default(),
        at: 0,
        end: 0,
        over: false,
    };
    (Producer { full, empty }, ahead)
}

/// The end that fills blocks.
pub(super) struct Producer {
    full: SyncSender<Item>,
    empty: Receiver<Box<[u8]>>,
}

impl Producer {
    /// Hands over all that `source` gives, until its end, its first error, or until the other end
    /// is dropped.
    pub(super) fn run(self, mut source: impl Read) {
        loop {
            let mut block = self
                .empty
                .try_recv()
                .unwrap_or_else(|_| vec![0; BLOCK].into_boxed_slice());
            let (length, error) = fill(&mut source, &mut block);
            let over = length < BLOCK;
            if length > 0 && self.full.send(Ok((block, length))).is_err() {
                return;
            }
            if over {
                let last = error.map_or_else(|| Ok((Box::default(), 0)), Err);
                // Nobody may be left to hear of it.
                let _ = self.full.send(last);
                return;
            }
        }
    }
}

/// Reads until the block is full, the source ends or fails.
fn fill(source: &mut impl Read, block: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut length = 0;
    while length < block.len() {
        match source.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (length, Some(e)),
        }
    }
    (length, None)
}

/// The end that reads; dropping it ends the other one's work with the block that it is at.
pub(super) struct Ahead {
    filled: Receiver<Item>,
    back: Sender<Box<[u8]>>,
    block: Box<[u8]>,
    at: usize,
    end: usize,
    over: bool,
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end && !self.over && !buf.is_empty() {
            let used = std::mem::take(&mut self.block);
            if !used.is_empty() {
                // The other end may have ended already.
                let _ = self.back.send(used);
            }
            self.at = 0;
            self.end = 0;
            // It says when it ends: without a word it panicked, and this is no end of the stream.
            let gone = |_| Err(io::Error::other("the thread that decodes it is gone"));
            match self.filled.recv().unwrap_or_else(gone) {
                Ok((block, length)) => {
                    self.over = length == 0;
                    self.block = block;
                    self.end = length;
                }
                Err(e) => {
                    self.over = true;
                    return Err(e);
                }
            }
        }
        let mut left = &self.block[self.at..self.end];
        let n = left.read(buf)?;
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Gives `left` bytes, then fails if it is told to.
    struct Source<'a> {
        left: usize,
        fails: bool,
        given: &'a AtomicU64,
    }

    impl Read for Source<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fails {
                return Err(io::Error::other("damaged"));
            }
            // Odd pieces, so that blocks do not end where reads do.
            let n = buf.len().min(self.left).min(9973);
            for byte in &mut buf[..n] {
                *byte = (self.given.fetch_add(1, Ordering::Relaxed) % 251) as u8;
            }
            self.left -= n;
            Ok(n)
        }
    }

    fn through(left: usize, fails: bool) -> (Vec<u8>, io::Result<usize>) {
        let given = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (producer, mut ahead) = ends();
            let source = Source {
                left,
                fails,
                given: &given,
            };
            scope.spawn(move || producer.run(source));
            let mut all = Vec::new();
            let done = ahead.read_to_end(&mut all);
            (all, done)
        })
    }

    #[test]
    fn everything_arrives_in_order_and_an_error_at_its_place() {
        for left in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 40 * BLOCK + 7] {
            let want: Vec<u8> = (0..left).map(|i| (i % 251) as u8).collect();
            let (all, done) = through(left, false);
            assert_eq!(done.expect("no error"), left);
            assert!(all == want, "{left} bytes");
            let (all, done) = through(left, true);
            assert_eq!(done.expect_err("an error").to_string(), "damaged");
            assert!(all == want, "{left} bytes before the error");
        }
    }

    #[test]
    fn a_producer_waits_when_it_is_ahead_and_ends_when_nobody_reads() {
        let given = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (producer, mut ahead) = ends();
            let source = Source {
                left: usize::MAX,
                fails: false,
                given: &given,
            };
            let thread = scope.spawn(move || producer.run(source));
            let mut byte = [0];
            ahead.read_exact(&mut byte).expect("a byte");
            // It has all the time that it wants, and still takes no more memory than that.
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(given.load(Ordering::Relaxed) <= MEMORY as u64);
            drop(ahead);
            thread.join().expect("it ends");
        });
        assert!(given.load(Ordering::Relaxed) <= MEMORY as u64 + BLOCK as u64);
    }

    #[test]
    fn a_producer_that_panics_is_no_end_of_the_stream() {
        let (producer, mut ahead) = ends();
        drop(producer);
        assert!(ahead.read(&mut [0]).is_err());
        assert_eq!(ahead.read(&mut [0]).expect("over"), 0);
    }
}
