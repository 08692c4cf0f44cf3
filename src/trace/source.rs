//! The capture files that a trace reads, and the interfaces that they are of.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::packet::{Packet, dissect};
use super::proof::FileRead;
use crate::capture::savefile::{self, Direction, Reader};
use crate::lab::Mac;

/// A capture file as it was when the trace began: what a running lab appends later is left out, so
/// that all files end at the same moment.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    /// `node:interface` where a lab's folder tells.
    point: Option<String>,
    len: Option<u64>,
}

impl Source {
    /// A capture file.
    pub fn new(path: &Path) -> Self {
        let regular = std::fs::metadata(path)
            .ok()
            .filter(std::fs::Metadata::is_file);
        Self {
            path: path.to_owned(),
            point: None,
            len: regular.map(|m| m.len()),
        }
    }

    /// The capture of a lab's interface.
    pub fn of(path: &Path, node: &str, interface: &str) -> Self {
        Self {
            point: Some(format!("{node}:{interface}")),
            ..Self::new(path)
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self) -> Result<Reader, savefile::Error> {
        let name = self.path.display().to_string();
        let file = File::open(&self.path).map_err(|source| savefile::Error::Io {
            op: "open",
            name: name.clone(),
            source,
        })?;
        match self.len {
            Some(len) => Reader::from_read(&name, file.take(len)),
            None => Reader::from_read(&name, file),
        }
    }

    /// What its `n`th interface is called, of `several` or not.
    fn name(&self, n: usize, name: Option<&str>, several: bool) -> String {
        if let Some(point) = &self.point {
            return point.clone();
        }
        let stem = self
            .path
            .file_stem()
            .map_or_else(|| "?".to_owned(), |s| s.to_string_lossy().into_owned());
        match (name, several) {
            // `node:if`, as `capture merge` writes it, says all.
            (Some(name), _) if name.contains(':') => name.to_owned(),
            (_, false) => stem,
            (Some(name), true) => format!("{stem}:{name}"),
            (None, true) => format!("{stem}:{n}"),
        }
    }
}

/// A place where frames were seen: an interface in a file. Rotated files of one interface are one
/// point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Point {
    /// `node:interface`, or what the file is called.
    pub name: String,
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// MAC address of the interface, where topology, file or traffic tell.
    pub mac: Option<Mac>,
    /// Frames in the files, of whatever kind.
    pub frames: u64,
    /// How many of them were cut by the snapshot length.
    pub cut: u64,
    /// Time of the first and of the last frame, nanoseconds since 1970.
    pub span: Option<(i64, i64)>,
}

/// A frame with its place.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    /// Index into the sources.
    pub source: usize,
    /// Index into the points.
    pub point: usize,
    /// Its number in its file, from 1.
    pub number: u64,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// Whether the interface's machine sent it, where the capture tells.
    pub sent: Option<bool>,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// The same, taken apart.
    pub packet: Packet,
}

/// The points of a set of files, as they become known.
#[derive(Debug, Default)]
pub(crate) struct Points {
    list: Vec<Point>,
    /// For each source its interfaces: the point and the name that the file gives it.
    of: Vec<Vec<(usize, Option<String>)>>,
}

impl Points {
    /// Reads one file, at most `most` frames of it, and shows each frame; `n` is the source's
    /// number among all.
    pub(crate) fn read(
        &mut self,
        n: usize,
        source: &Source,
        most: u64,
        mut show: impl FnMut(&Sight<'_>),
    ) -> Result<FileRead, savefile::Error> {
        let mut reader = source.open()?;
        if self.of.len() <= n {
            self.of.resize(n + 1, Vec::new());
        }
        let mut links: Vec<u32> = Vec::new();
        let mut number = 0;
        while number < most {
            let Some(frame) = reader.next_frame()? else {
                break;
            };
            number += 1;
            let (interface, time) = (frame.interface, frame.time_ns);
            let (sent, wire) = (frame.direction.map(|d| d == Direction::Out), frame.wire_len);
            let kept;
            let bytes = if interface < links.len() {
                frame.captured
            } else {
                // The first frame of an interface: it borrows from the reader, which is asked.
                kept = frame.captured.to_vec();
                links = reader.interfaces().iter().map(|i| i.link_type).collect();
                self.learn(n, source, reader.interfaces());
                &kept
            };
            let (Some(link), Some((point, _))) = (links.get(interface), self.of[n].get(interface))
            else {
                continue;
            };
            let packet = dissect(*link, bytes, wire);
            show(&Sight {
                source: n,
                point: *point,
                number,
                time: i64::try_from(time).unwrap_or(i64::MAX),
                sent: sent.or(packet.link.sent),
                bytes,
                packet,
            });
        }
        // An interface without any frame is a place where nothing passed, which says something.
        self.learn(n, source, reader.interfaces());
        Ok(FileRead {
            path: source.path.clone(),
            frames: number,
            notes: reader.notes().into_iter().map(|n| n.text).collect(),
        })
    }

    fn learn(&mut self, n: usize, source: &Source, interfaces: &[savefile::Interface]) {
        for interface in interfaces.iter().skip(self.of[n].len()) {
            let known = |p: &Point| source.point.as_ref() == Some(&p.name);
            let point = self.list.iter().position(known).unwrap_or(self.list.len());
            if point == self.list.len() {
                self.list.push(Point {
                    name: source.point.clone().unwrap_or_default(),
                    files: Vec::new(),
                    mac: interface.mac.map(Mac::from),
                    frames: 0,
                    cut: 0,
                    span: None,
                });
            }
            if !self.list[point].files.contains(&source.path) {
                self.list[point].files.push(source.path.clone());
            }
            self.of[n].push((point, interface.name.clone()));
        }
    }

    /// Names the points, which needs all files to be read: only then it is known whether a file
    /// has several. Two of one name get numbers.
    pub(crate) fn finish(mut self, sources: &[Source]) -> (Vec<Point>, Self) {
        for (source, interfaces) in sources.iter().zip(&self.of) {
            for (n, (point, name)) in interfaces.iter().enumerate() {
                let name = source.name(n, name.as_deref(), interfaces.len() > 1);
                self.list[*point].name = name;
            }
        }
        for n in 1..self.list.len() {
            let name = self.list[n].name.clone();
            let twice = self.list[..n].iter().filter(|p| p.name == name).count();
            if twice > 0 {
                self.list[n].name = format!("{name}({})", twice + 1);
            }
        }
        (self.list.clone(), self)
    }
}
