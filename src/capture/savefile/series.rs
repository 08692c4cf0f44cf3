//! One file of a timeline, or several that follow each other, read ahead far enough to put frames
//! right that are out of their order.

use std::{
    collections::{HashMap, VecDeque},
    io::Read,
    net::IpAddr,
};

use super::{Counts, Direction, Error, Interface, Note, NoteKind, Reader};

/// One source of a [`super::Timeline`]: a capture file, or the files of one capture that was
/// rotated, oldest first.
pub struct Series {
    /// What its interfaces are called, where it is known: of a lab, `node:interface`. Else the
    /// name is made from `stem` and what the file says.
    pub known: Option<Interface>,
    /// The name of the file without folder and ending.
    pub stem: String,
    /// The files: a name for messages, and what is in them.
    pub files: Vec<(String, Box<dyn Read + Send>)>,
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series")
            .field("stem", &self.stem)
            .finish_non_exhaustive()
    }
}

/// Something about one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNote {
    /// The file.
    pub file: String,
    /// What about it.
    pub note: Note,
}

/// A step back of a clock that two processors, which put frames into one ring at the same time,
/// cannot explain: 10 ms.
const STEP: u64 = 10_000_000;

/// A series while it is read.
#[derive(Debug)]
pub(super) struct Source {
    names: Names,
    waiting: VecDeque<(String, Waiting)>,
    reader: Option<Reader>,
    /// Interfaces of the present file: their numbers in the timeline.
    map: Vec<usize>,
    /// Bytes of the frames of `records`, and room for the next such.
    bytes: Vec<u8>,
    spare: Vec<u8>,
    records: Vec<Kept>,
    /// The frame whose turn is next, and the one that needs more to be read first.
    at: usize,
    until: usize,
    ahead: usize,
    buffer: usize,
    /// The latest time so far, and what was given out last.
    newest: u64,
    given: u64,
    back: Back,
}

/// What the interfaces of a series are called.
#[derive(Debug)]
struct Names {
    known: Option<Interface>,
    stem: String,
    /// Numbers in the timeline by name and link type: one interface in all files of the series.
    numbers: HashMap<(Option<String>, u32), usize>,
}

/// What all sources of a timeline tell together.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) interfaces: Vec<Interface>,
    /// How often a name was wished for.
    uses: HashMap<String, usize>,
    pub(super) names: Vec<(IpAddr, String)>,
    pub(super) notes: Vec<FileNote>,
    pub(super) left_out: Vec<Error>,
}

/// A file that is not opened yet.
struct Waiting(Box<dyn Read + Send>);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

/// Steps back in time.
#[derive(Debug, Default)]
struct Back {
    /// Steps that are too large for chance: the first such frame's number, and the largest step.
    first: Option<u64>,
    most: u64,
    /// Frames that came too late to be put into their place.
    late: u64,
}

/// A frame that was read ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) time_ns: u64,
    start: usize,
    length: usize,
    pub(super) wire_len: u32,
    pub(super) interface: usize,
    pub(super) direction: Option<Direction>,
}

impl Source {
    /// `ahead` is how many bytes of frames are read ahead, `buffer` the readers' own.
    pub(super) fn new(series: Series, ahead: usize, buffer: usize) -> Self {
        let waiting = series.files.into_iter();
        Self {
            names: Names {
                known: series.known,
                stem: series.stem,
                numbers: HashMap::new(),
            },
            waiting: waiting.map(|(name, file)| (name, Waiting(file))).collect(),
            reader: None,
            map: Vec::new(),
            bytes: Vec::new(),
            spare: Vec::new(),
            records: Vec::new(),
            at: 0,
            until: 0,
            ahead,
            buffer,
            newest: 0,
            given: 0,
            back: Back::default(),
        }
    }

    /// The frame whose turn it is, if there is one before the next [`Source::fill`].
    pub(super) fn head(&self) -> Option<&Kept> {
        (self.at < self.until).then(|| &self.records[self.at])
    }

    /// Bytes of a frame that [`Source::head`] gave.
    pub(super) fn bytes(&self, kept: &Kept) -> &[u8] {
        &self.bytes[kept.start..kept.start + kept.length]
    }

    /// Goes on to the next frame.
    pub(super) fn advance(&mut self) {
        if let Some(kept) = self.records.get(self.at) {
            self.given = self.given.max(kept.time_ns);
        }
        self.at += 1;
    }

    /// Reads ahead, and tells `told` of each interface and each peculiarity that it meets.
    pub(super) fn fill(&mut self, told: &mut Told) {
        self.keep_the_rest();
        let mut sorted = true;
        let mut last = self.records.last().map_or(0, |kept| kept.time_ns);
        let over = loop {
            if self.bytes.len() >= self.ahead {
                break false;
            }
            let Some(reader) = &mut self.reader else {
                let Some((name, Waiting(stream))) = self.waiting.pop_front() else {
                    break true;
                };
                match Reader::with_buffer(&name, stream, self.buffer) {
                    Ok(reader) => self.reader = Some(reader),
                    Err(error) => told.left_out.push(error),
                }
                continue;
            };
            let frame = match reader.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.close(told);
                    continue;
                }
                Err(error) => {
                    told.left_out.push(error);
                    self.close(told);
                    continue;
                }
            };
            let kept = Kept {
                time_ns: frame.time_ns,
                start: self.bytes.len(),
                length: frame.captured.len(),
                wire_len: frame.wire_len,
                interface: frame.interface,
                direction: frame.direction,
            };
            self.bytes.extend_from_slice(frame.captured);
            sorted &= kept.time_ns >= last;
            last = kept.time_ns;
            self.back
                .see(kept.time_ns, self.newest, self.given, reader.frames());
            self.newest = self.newest.max(kept.time_ns);
            if kept.interface >= self.map.len() {
                self.names.add(&mut self.map, reader.interfaces(), told);
            }
            let interface = self.map[kept.interface];
            self.records.push(Kept { interface, ..kept });
        };
        if !sorted {
            // Stable: what bears the same time stays in its order.
            self.records.sort_by_key(|kept| kept.time_ns);
        }
        // The rest waits for what may yet come before it.
        let wait = if over { 0 } else { self.records.len() / 4 };
        self.until = self.records.len() - wait;
    }

    /// Ends the present file.
    fn close(&mut self, told: &mut Told) {
        let Some(reader) = self.reader.take() else {
            return;
        };
        // An interface without any frame is one all the same.
        self.names.add(&mut self.map, reader.interfaces(), told);
        for (interface, number) in reader.interfaces().iter().zip(self.map.drain(..)) {
            // Statistics come at a file's end.
            if interface.counts != Counts::default() {
                told.interfaces[number].counts = interface.counts;
            }
        }
        told.names.extend_from_slice(reader.names());
        let notes = reader.notes().into_iter().chain(self.back.notes());
        told.notes.extend(notes.map(|note| FileNote {
            file: reader.name().to_owned(),
            note,
        }));
    }

    /// Drops the frames that were given out and moves the others to the front.
    fn keep_the_rest(&mut self) {
        std::mem::swap(&mut self.bytes, &mut self.spare);
        self.bytes.clear();
        self.records.drain(..self.at.min(self.records.len()));
        (self.at, self.until) = (0, 0);
        for kept in &mut self.records {
            let from = kept.start..kept.start + kept.length;
            kept.start = self.bytes.len();
            self.bytes.extend_from_slice(&self.spare[from]);
        }
    }
}

impl Names {
    /// Numbers of the interfaces of a file, from the first that `map` does not have.
    fn add(&mut self, map: &mut Vec<usize>, interfaces: &[Interface], told: &mut Told) {
        for (n, interface) in interfaces.iter().enumerate().skip(map.len()) {
            let described = self.describe(n, interface);
            let key = (described.name.clone(), described.link_type);
            let number = *self
                .numbers
                .entry(key)
                .or_insert_with(|| told.register(described));
            map.push(number);
        }
    }

    /// The `n`th interface of a file with its name in the timeline.
    fn describe(&self, n: usize, interface: &Interface) -> Interface {
        if let Some(known) = &self.known {
            return Interface {
                link_type: interface.link_type,
                snaplen: interface.snaplen,
                fcs: interface.fcs,
                ..known.clone()
            };
        }
        let name = match (&interface.name, n) {
            // `node:if`, as nslab itself writes it, says all.
            (Some(name), _) if name.contains(':') => name.clone(),
            (Some(name), _) => format!("{}:{name}", self.stem),
            (None, 0) => self.stem.clone(),
            (None, n) => format!("{}:{n}", self.stem),
        };
        Interface {
            name: Some(name),
            ..interface.clone()
        }
    }
}

impl Told {
    /// Gives an interface its number, and a name that no other has.
    fn register(&mut self, mut interface: Interface) -> usize {
        let name = interface.name.take().unwrap_or_default();
        let uses = self.uses.entry(name.clone()).or_insert(0);
        *uses += 1;
        interface.name = Some(match *uses {
            1 => name,
            n => format!("{name}({n})"),
        });
        self.interfaces.push(interface);
        self.interfaces.len() - 1
    }
}

impl Back {
    /// What was wrong with a file's clock; begins anew for the next.
    fn notes(&mut self) -> Vec<Note> {
        let back = std::mem::take(self);
        let clock = back.first.map(|first| {
            format!(
                "its clock goes back at frame {first}, by {} at most; frames near there may not be \
                 in the order in which they passed",
                seconds(back.most)
            )
        });
        let late = (back.late > 0).then(|| {
            format!(
                "{} of its frames come so much later than their time that they could not be put \
                 into order",
                back.late
            )
        });
        let texts = clock.into_iter().chain(late);
        let note = |text| Note {
            kind: NoteKind::Time,
            offset: 0,
            text,
        };
        texts.map(note).collect()
    }

    /// Frame `number` of its file bears `time`; `newest` is the latest before it, `given` the
    /// latest that was given out.
    fn see(&mut self, time: u64, newest: u64, given: u64, number: u64) {
        let step = newest.saturating_sub(time);
        if step >= STEP {
            self.first.get_or_insert(number);
            self.most = self.most.max(step);
        }
        self.late += u64::from(time < given);
    }
}

/// A length of time for people.
fn seconds(ns: u64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000)
}
