//! A reader that tells how far it is.

use std::io::{self, Read};

use super::Progress;

/// Reports each megabyte.
pub(super) struct Meter<'a> {
    what: &'static str,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl<'a> Meter<'a> {
    /// For `total` bytes; `what` they are: `layer`, `archive`.
    pub(super) fn new(
        what: &'static str,
        total: u64,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        Self {
            what,
            done: 0,
            total,
            progress,
        }
    }

    /// So many bytes are done.
    pub(super) fn at(&mut self, done: u64) {
        let before = std::mem::replace(&mut self.done, done) >> 20;
        if done >> 20 != before {
            (self.progress)(Progress::Bytes {
                what: self.what,
                done,
                total: Some(self.total),
            });
        }
    }
}

/// Reports what is read of `inner`.
pub(super) struct Counted<'a, R> {
    inner: R,
    meter: Meter<'a>,
}

impl<'a, R: Read> Counted<'a, R> {
    /// Counts what is read of `inner`.
    pub(super) fn new(inner: R, meter: Meter<'a>) -> Self {
        Self { inner, meter }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.meter.at(self.meter.done + n as u64);
        Ok(n)
    }
}
