//! One capture that is being written, and the files that it rotates to.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::capture::{
    file::{FILE_HEADER, FRAME_HEADER, MAGIC_NANOSECONDS},
    options::{DEFAULT_SNAPLEN, rotated_name, split_rotated},
};

/// How much is read at once, in bytes; more where a frame is larger.
const CHUNK: usize = 128 << 10;

/// Which frames are wanted of what is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// All that the files still hold.
    Oldest,
    /// Those that passed at this time or later, in nanoseconds since 1970.
    At(u64),
}

/// A frame of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When it passed, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Its bytes on the wire.
    pub wire_len: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    current: PathBuf,
    start: Start,
    reading: Option<Reading>,
    /// Files that were deleted before they could be read, since last asked.
    missed: u32,
}

/// The file that is being read.
#[derive(Debug)]
struct Reading {
    file: File,
    /// The number that it has or will have.
    number: u32,
    link: u32,
    snaplen: u32,
    /// Where `buffer[used..]` is in the file. Always the beginning of a record: what is torn there
    /// may be cut off and written anew.
    at: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Tail {
    pub(super) fn new(current: &Path, start: Start) -> Self {
        Self {
            current: current.into(),
            start,
            reading: None,
            missed: 0,
        }
    }

    /// The link type and the snapshot length, once the file could be opened.
    pub(super) fn kind(&self) -> Option<(u32, u32)> {
        let reading = self.reading.as_ref()?;
        Some((reading.link, reading.snaplen))
    }

    /// How many files were deleted before they could be read, since this was last asked.
    pub(super) fn missed(&mut self) -> u32 {
        std::mem::take(&mut self.missed)
    }

    /// The frame that is next, whole; none if there is none so far.
    pub(super) fn peek(&mut self) -> io::Result<Option<Frame<'_>>> {
        loop {
            if self.reading.is_none() && !self.begin()? {
                return Ok(None);
            }
            let Some(reading) = &mut self.reading else {
                return Ok(None);
            };
            if reading.fill()? {
                let wanted = match self.start {
                    Start::Oldest => true,
                    Start::At(from) => reading.frame().is_some_and(|frame| frame.time_ns >= from),
                };
                if wanted {
                    return Ok(self.reading.as_ref().and_then(Reading::frame));
                }
                reading.advance();
                continue;
            }
            // Looked at first: what was written before the file was full is in it now.
            let over = fs::metadata(&self.current).map_or(true, |there| {
                reading
                    .file
                    .metadata()
                    .is_ok_and(|ours| differ(&there, &ours))
            });
            if !over || reading.fill()? {
                if over {
                    continue;
                }
                return Ok(None);
            }
            if !self.next()? {
                return Ok(None);
            }
        }
    }

    /// Goes past the frame that [`Tail::peek`] gave.
    pub(super) fn advance(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.advance();
        }
    }

    /// Opens the first file; false if there is none so far.
    fn begin(&mut self) -> io::Result<bool> {
        let mut numbers = self.numbers()?;
        numbers.sort_unstable();
        let oldest = match self.start {
            Start::Oldest => numbers.first().copied(),
            Start::At(_) => None,
        };
        let next = numbers.last().map_or(1, |last| last + 1);
        self.reading = match oldest {
            Some(n) => self.open(Some(n), n)?,
            None => self.open(None, next)?,
        };
        Ok(self.reading.is_some())
    }

    /// Goes on to the file after this one, which is full; false if there is none so far.
    fn next(&mut self) -> io::Result<bool> {
        let Some(reading) = &self.reading else {
            return Ok(false);
        };
        let ours = reading.file.metadata()?;
        let full = |n| fs::metadata(self.full(n)).ok();
        let mut number = reading.number;
        if full(number).is_none_or(|there| differ(&there, &ours)) {
            // Not under the number that it should have: somebody moved files about.
            let mut all = self.numbers()?.into_iter();
            let own = all.find(|n| full(*n).is_some_and(|there| !differ(&there, &ours)));
            number = own.unwrap_or(number);
        }
        // Opened before the numbers are looked at: if the next number is not taken then, this one
        // had not been full when it was opened.
        let Some(current) = self.open(None, number + 1)? else {
            return Ok(false);
        };
        if let Some(next) = self.open(Some(number + 1), number + 1)? {
            self.reading = Some(next);
            return Ok(true);
        }
        let later = self.numbers()?.into_iter().filter(|n| *n > number).min();
        let found = match later {
            Some(n) => self.open(Some(n), n)?,
            None => Some(current),
        };
        if let (Some(found), Some(n)) = (&found, later) {
            self.missed += n - number - 1;
            debug_assert_eq!(found.number, n);
        }
        // A file that was deleted between looking and opening: again, at the next call.
        match found {
            Some(found) => {
                self.reading = Some(found);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn full(&self, n: u32) -> PathBuf {
        self.current.with_file_name(rotated_name(&self.current, n))
    }

    /// The numbers of the full files.
    fn numbers(&self) -> io::Result<Vec<u32>> {
        let folder = match self.current.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut numbers = Vec::new();
        for entry in fs::read_dir(folder)? {
            if let Some((current, n)) = split_rotated(Path::new(&entry?.file_name()))
                && Some(current.as_os_str()) == self.current.file_name()
            {
                numbers.push(n);
            }
        }
        Ok(numbers)
    }

    /// Opens the full file of this number, or the current one, which will have `number`; none if it
    /// is not there.
    fn open(&self, full: Option<u32>, number: u32) -> io::Result<Option<Reading>> {
        let path = full.map_or_else(|| self.current.clone(), |n| self.full(n));
        match File::open(&path) {
            Ok(file) => Reading::begin(file, number)
                .map(Some)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let text = format!("open {}: {error}", path.display());
                Err(io::Error::new(error.kind(), text))
            }
        }
    }
}

impl Reading {
    fn begin(file: File, number: u32) -> io::Result<Self> {
        let mut header = [0; FILE_HEADER as usize];
        file.read_exact_at(&mut header, 0)?;
        if field(&header, 0) != Some(MAGIC_NANOSECONDS) {
            return Err(io::Error::other("not a capture file that nslab writes"));
        }
        Ok(Self {
            file,
            number,
            link: field(&header, 20).unwrap_or_default(),
            snaplen: field(&header, 16).unwrap_or_default(),
            at: FILE_HEADER,
            buffer: Vec::new(),
            used: 0,
        })
    }

    /// Length of the record that the buffer has next, header and all, if the header is there.
    fn length(&self) -> Option<usize> {
        let captured = field(&self.buffer[self.used..], 8)?;
        Some(FRAME_HEADER + captured as usize)
    }

    /// Sees to it that the buffer has a whole record; false if the file has none.
    fn fill(&mut self) -> io::Result<bool> {
        if self.has_whole() {
            return Ok(true);
        }
        let mut most = CHUNK;
        loop {
            // Anew from the record's beginning: see `at`.
            self.used = 0;
            self.read(most)?;
            let needed = self.length().unwrap_or_default();
            if needed > FRAME_HEADER + DEFAULT_SNAPLEN as usize {
                return Err(io::Error::other("a record that nslab does not write"));
            }
            if needed > most {
                most = needed;
                continue;
            }
            if self.has_whole() {
                return Ok(true);
            }
            // Nobody knows for how long there will be none, and a thousand may wait.
            self.buffer = Vec::new();
            return Ok(false);
        }
    }

    fn has_whole(&self) -> bool {
        let length = self.length();
        length.is_some_and(|length| length <= self.buffer.len() - self.used)
    }

    /// Reads what the file has from `at` on into the buffer, but at most so many bytes.
    fn read(&mut self, most: usize) -> io::Result<()> {
        let there = self.file.metadata()?.len().saturating_sub(self.at);
        let size = usize::try_from(there).map_or(most, |there| there.min(most));
        self.buffer.resize(size, 0);
        let mut got = 0;
        while got < size {
            match self
                .file
                .read_at(&mut self.buffer[got..], self.at + got as u64)
            {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(got);
        Ok(())
    }

    fn frame(&self) -> Option<Frame<'_>> {
        let record = self.buffer.get(self.used..self.used + self.length()?)?;
        let seconds = u64::from(field(record, 0)?);
        Some(Frame {
            time_ns: seconds * 1_000_000_000 + u64::from(field(record, 4)?),
            wire_len: field(record, 12)?,
            data: &record[FRAME_HEADER..],
        })
    }

    fn advance(&mut self) {
        if let Some(length) = self.length() {
            self.used += length;
            self.at += length as u64;
        }
    }
}

/// Whether two names mean different files.
fn differ(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) != (other.dev(), other.ino())
}

/// A number of the header, in this machine's byte order, which is what nslab writes in.
fn field(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(four))
}
