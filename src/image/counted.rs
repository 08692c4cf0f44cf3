//! A reader that tells how far it is.

use std::io::{self, Read};

use super::Progress;

/// Reports each megabyte.
pub(super) struct Counted<'a, R> {
    inner: R,
    what: &'static str,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a, R: Read> Counted<'a, R> {
    /// Counts what is read of `inner`, of `total` bytes; `what` they are: `layer`, `archive`.
    pub(super) fn new(
        inner: R,
        what: &'static str,
        total: u64,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        Self {
            inner,
            what,
            done: 0,
            total,
            progress,
        }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        let before = self.done >> 20;
        self.done += n as u64;
        if self.done >> 20 != before {
            (self.progress)(Progress::Bytes {
                what: self.what,
                done: self.done,
                total: Some(self.total),
            });
        }
        Ok(n)
    }
}
