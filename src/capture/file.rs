//! The pcap files: never ending in half a record, and followed by others where they rotate.
//!
//! The format is that of draft-ietf-opsawg-pcap (pcap-savefile(5)), in this machine's byte order,
//! with nanoseconds. It is written here rather than by libpcap's `pcap_dump`, which ignores errors
//! and writes through a 4 KiB stdio buffer.
//!
//! The current file always has the name that was asked for. When it is full, that name is given to
//! a new file in one step, after the full one got a second name with a number: whoever looks finds
//! a whole file under the name at any time, and no frame under no name.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::Path,
    sync::Arc,
};

use pcap::{Linktype, Packet};
use rustix::{
    fs::{AtFlags, FileType},
    io::Errno,
};

use super::{
    Error, Rotation,
    folder::{self, Folders},
    rotated_name,
};

/// Bytes of the header that starts a file.
pub(super) const FILE_HEADER: u64 = 24;
/// Bytes of the header that starts each frame.
pub(super) const FRAME_HEADER: usize = 16;
/// `pcap` with nanoseconds.
pub(super) const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// What a capture's files are like, all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// The user and group who shall own them; root's own when none.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) link: Linktype,
    /// As the header tells it.
    pub(super) snaplen: u32,
    pub(super) rotation: Rotation,
}

/// A pcap file that grows, and its full predecessors.
#[derive(Debug)]
pub(super) struct Recording {
    file: File,
    dir: Arc<OwnedFd>,
    name: OsString,
    kind: Kind,
    /// Where the last whole record ends.
    end: u64,
    /// Of the current file: frames, and the time of the first in nanoseconds since 1970. Only kept
    /// where files rotate.
    frames: u64,
    first_ns: Option<u64>,
    /// The full files: number, frames.
    full: VecDeque<(u32, u64)>,
    /// The number that the current file will have.
    next: u32,
    /// Frames that went with deleted files.
    deleted: u64,
}

/// What of a batch of records got into the file before writing failed.
#[derive(Debug)]
pub(super) struct Partial {
    /// Frames that are in the file.
    pub(super) frames: u64,
    /// Their bytes on the wire.
    pub(super) bytes: u64,
    /// Why the rest is not.
    pub(super) error: io::Error,
}

impl Recording {
    /// Makes the file with its header in it, in place of whatever has its name, and removes full
    /// files that a former run left.
    pub(super) fn create(folders: &mut Folders, path: &Path, kind: Kind) -> Result<Self, Error> {
        let failed = |what, source| Error::File {
            what,
            path: path.into(),
            source,
        };
        let name = path
            .file_name()
            .ok_or_else(|| failed("make", Errno::ISDIR.into()))?;
        let dir = folders.clear(path)?;
        let file = begin(&dir, name, kind).map_err(|(what, source)| failed(what, source))?;
        Ok(Self {
            file,
            dir,
            name: name.into(),
            kind,
            end: FILE_HEADER,
            frames: 0,
            first_ns: None,
            full: VecDeque::new(),
            next: 1,
            deleted: 0,
        })
    }

    /// Appends whole records, in as many files as it takes. When a file cannot take them all, it
    /// keeps as many as it took whole and is cut there, so that it stays readable.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<(), Partial> {
        let mut done = 0;
        while done < records.len() {
            let fits = self.fits(&records[done..]);
            let result = if fits == 0 {
                self.rotate()
            } else {
                let (whole, result) = self.write(&records[done..done + fits]);
                done += whole;
                result
            };
            if let Err(error) = result {
                let (frames, bytes, _) = whole_records(&records[..done]);
                return Err(Partial {
                    frames,
                    bytes,
                    error,
                });
            }
        }
        Ok(())
    }

    /// How many bytes of these records, all whole, the current file may still take. Zero only
    /// where it has a frame.
    fn fits(&self, records: &[u8]) -> usize {
        let Rotation { size, every, .. } = self.kind.rotation;
        if size.is_none() && every.is_none() {
            return records.len();
        }
        let mut first = self.first_ns;
        let mut length = 0;
        for record in Records(records) {
            let end = self.end + (length + record.length) as u64;
            let large = size.is_some_and(|size| end > size);
            let late = every.zip(first).is_some_and(|(every, first)| {
                u128::from(record.time_ns.saturating_sub(first)) >= every.as_nanos()
            });
            if first.is_some() && (large || late) {
                break;
            }
            first.get_or_insert(record.time_ns);
            length += record.length;
        }
        length
    }

    /// Writes whole records to the current file; how many bytes of whole records it took, and what
    /// went wrong then.
    fn write(&mut self, records: &[u8]) -> (usize, io::Result<()>) {
        let mut done = 0;
        let result = loop {
            if done == records.len() {
                break Ok(());
            }
            match self.file.write_at(&records[done..], self.end + done as u64) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let rotates = self.kind.rotation != Rotation::default();
        let whole = match result {
            Ok(()) if !rotates => done,
            _ => {
                let (frames, _, whole) = whole_records(&records[..done]);
                self.frames += frames;
                if self.first_ns.is_none() {
                    self.first_ns = Records(&records[..whole]).next().map(|r| r.time_ns);
                }
                whole
            }
        };
        self.end += whole as u64;
        if whole < done {
            // Should even this fail, the next record overwrites the torn one.
            let _ = self.file.set_len(self.end);
        }
        (whole, result)
    }

    /// Makes the current file a full one, deletes the oldest that are too many, and begins another.
    fn rotate(&mut self) -> io::Result<()> {
        let says = |what: &str, name: &OsStr, source: io::Error| {
            let name = name.display();
            io::Error::new(source.kind(), format!("{what} {name}: {source}"))
        };
        // First of all: the room that this makes may be what the new file needs.
        let keep = self
            .kind
            .rotation
            .keep
            .map_or(usize::MAX, |keep| keep.max(1) as usize);
        while self.full.len() >= keep
            && let Some(&(n, frames)) = self.full.front()
        {
            let name = rotated_name(self.name.as_ref(), n);
            folder::remove(&self.dir, &name)
                .map_err(|errno| says("delete", &name, errno.into()))?;
            self.full.pop_front();
            self.deleted += frames;
        }
        let mut fresh = OsString::from(".");
        fresh.push(&self.name);
        fresh.push(".new");
        let file = begin(&self.dir, &fresh, self.kind)
            .map_err(|(what, source)| says(what, &fresh, source))?;
        let placed = self.number().and_then(|()| {
            rustix::fs::renameat(&self.dir, &fresh, &self.dir, &self.name)
                .map_err(|errno| says("replace", &self.name, errno.into()))
        });
        if let Err(error) = placed {
            let _ = folder::remove(&self.dir, &fresh);
            return Err(error);
        }
        self.file = file;
        self.end = FILE_HEADER;
        self.frames = 0;
        self.first_ns = None;
        Ok(())
    }

    /// Gives what has the current file's name a second one, with a number.
    fn number(&mut self) -> io::Result<()> {
        loop {
            let full = rotated_name(self.name.as_ref(), self.next);
            let (dir, name) = (&self.dir, &self.name);
            let linked = match rustix::fs::linkat(dir, name, dir, &full, AtFlags::empty()) {
                // FAT and shared folders have no hard links; the name is free for a moment there.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV | Errno::MLINK) => {
                    rustix::fs::renameat(dir, name, dir, &full)
                }
                other => other,
            };
            match linked {
                Ok(()) => {
                    self.full.push_back((self.next, self.frames));
                    self.next += 1;
                    return Ok(());
                }
                // Somebody took the current file away; there is nothing to keep.
                Err(Errno::NOENT) => return Ok(()),
                Err(Errno::EXIST) if self.next < u32::MAX => self.next += 1,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Goes on after a pause: with the same file, or with another if somebody moved, replaced or
    /// changed it meanwhile. What is under its name is kept under a number then.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        let found = rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let ours = self.file.metadata()?;
        let same = found.is_ok_and(|found| {
            FileType::from_raw_mode(found.st_mode).is_file()
                && (found.st_dev, found.st_ino) == (ours.dev(), ours.ino())
                && ours.len() == self.end
        });
        if same { Ok(()) } else { self.rotate() }
    }

    /// Frames that went with full files that were too many.
    pub(super) fn deleted(&self) -> u64 {
        self.deleted
    }

    /// How many full files there are.
    pub(super) fn rotated(&self) -> u32 {
        self.full.len() as u32
    }

    /// Removes the current file.
    pub(super) fn remove(&self) {
        // Best effort while another error is being reported.
        let _ = folder::remove(&self.dir, &self.name);
    }
}

/// Makes a file that has its header. An error comes with what could not be done to the file, and
/// leaves none.
fn begin(dir: &OwnedFd, name: &OsStr, kind: Kind) -> Result<File, (&'static str, io::Error)> {
    let file = folder::create(dir, name, kind.owner)?;
    if let Err(error) = file.write_all_at(&header(kind.link, kind.snaplen), 0) {
        let _ = folder::remove(dir, name);
        return Err(("write", error));
    }
    Ok(file)
}

/// The header of a file.
fn header(link: Linktype, snaplen: u32) -> [u8; FILE_HEADER as usize] {
    // Of the types that interfaces on Linux have, only raw IP has another number in files than in
    // libpcap (pcap-linktype(7)).
    let link = match link.0 {
        12 | 14 => 101,
        other => other.cast_unsigned(),
    };
    let mut header = [0; FILE_HEADER as usize];
    header[0..4].copy_from_slice(&MAGIC_NANOSECONDS.to_ne_bytes());
    header[4..6].copy_from_slice(&2u16.to_ne_bytes());
    header[6..8].copy_from_slice(&4u16.to_ne_bytes());
    header[16..20].copy_from_slice(&snaplen.to_ne_bytes());
    header[20..24].copy_from_slice(&link.to_ne_bytes());
    header
}

/// Appends one frame, as a record, to a batch.
pub(super) fn record(batch: &mut Vec<u8>, packet: &Packet) {
    // 32 unsigned bits of seconds are what the format has, until 2106; with nanosecond precision
    // libpcap puts nanoseconds where the microseconds' name is.
    let fields = [
        packet.header.ts.tv_sec.cast_unsigned() as u32,
        packet.header.ts.tv_usec.cast_unsigned() as u32,
        packet.header.caplen,
        packet.header.len,
    ];
    let mut header = [0; FRAME_HEADER];
    for (bytes, field) in header.chunks_exact_mut(4).zip(fields) {
        bytes.copy_from_slice(&field.to_ne_bytes());
    }
    batch.extend_from_slice(&header);
    batch.extend_from_slice(packet.data);
}

/// A record of a batch.
struct Record {
    /// Its bytes, header and all.
    length: usize,
    /// The frame's bytes on the wire.
    wire: u32,
    /// When it passed, in nanoseconds since 1970.
    time_ns: u64,
}

/// The whole records that a batch begins with.
struct Records<'a>(&'a [u8]);

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let field = |at: usize| {
            let bytes = self.0.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(bytes))
        };
        let length = FRAME_HEADER + field(8)? as usize;
        let record = Record {
            length,
            wire: field(12)?,
            time_ns: u64::from(field(0)?) * 1_000_000_000 + u64::from(field(4)?),
        };
        self.0 = self.0.get(length..)?;
        Some(record)
    }
}

/// How many whole records a batch begins with: frames, their bytes on the wire, and the length of
/// these records in the batch.
fn whole_records(batch: &[u8]) -> (u64, u64, usize) {
    Records(batch).fold((0, 0, 0), |(frames, bytes, whole), record| {
        (
            frames + 1,
            bytes + u64::from(record.wire),
            whole + record.length,
        )
    })
}

#[cfg(test)]
mod tests;
