//! A capture file as a stream of frames, whatever its format.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    ops::Range,
    path::Path,
};

use super::{
    About, Direction, Error, Frame, Interface, Note, NoteKind,
    input::{CHUNK, Input, Over},
    options::Budget,
    pcap::{self, Pcap},
    pcapng::Pcapng,
};

/// More notes than this a file does not get; further ones are counted.
const MOST_NOTES: usize = 32;

/// A capture file, read from beginning to end.
#[derive(Debug)]
pub struct Reader {
    name: String,
    input: Input,
    format: Format,
    state: State,
    /// Bytes that the frame given last takes in the window.
    pending: usize,
    over: bool,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// What reading has come to know.
#[derive(Debug)]
pub(super) struct State {
    pub(super) interfaces: Vec<Interface>,
    pub(super) about: About,
    pub(super) names: Vec<(IpAddr, String)>,
    pub(super) budget: Budget,
    pub(super) frames: u64,
    pub(super) last_ns: u64,
    /// Whether it was noted that there are frames without a time.
    pub(super) untimed: bool,
    notes: Vec<Note>,
    unsaid: u64,
}

/// What a step came to.
#[derive(Debug)]
pub(super) enum Step {
    Frame(Record),
    /// Something else than a frame, which is consumed.
    Passed,
    End,
}

/// A frame in the input's window.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) interface: usize,
    pub(super) time_ns: u64,
    /// Its bytes in the window.
    pub(super) data: Range<usize>,
    /// What all of it takes in the window.
    pub(super) length: usize,
    pub(super) wire_len: u32,
    pub(super) direction: Option<Direction>,
}

impl Reader {
    /// Opens a file and reads its header. gzip'ed ones are unpacked on the way.
    ///
    /// # Errors
    /// The file cannot be opened, or is no capture file that can be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Error::io("open", &name, error))?;
        Self::from_read(&name, file)
    }

    /// The same of any stream; `name` is for messages. It need not be buffered.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn from_read(name: &str, stream: impl Read + Send + 'static) -> Result<Self, Error> {
        Self::with_buffer(name, Box::new(stream), CHUNK)
    }

    /// The same with another size of buffer, for one of many files.
    pub(super) fn with_buffer(
        name: &str,
        stream: Box<dyn Read + Send>,
        buffer: usize,
    ) -> Result<Self, Error> {
        let mut input = Input::new(stream, buffer);
        let mut magic = first_four(&mut input, name)?;
        if magic[..2] == [0x1f, 0x8b] {
            input = input.decode(|stream| {
                let buffered = io::BufReader::with_capacity(buffer, stream);
                Box::new(flate2::bufread::MultiGzDecoder::new(buffered))
            });
            magic = first_four(&mut input, name)?;
        }
        let mut state = State::new();
        let format = if magic == Pcapng::MAGIC {
            Format::Pcapng(Pcapng::begin(&mut input, &mut state, name)?)
        } else if let Some(mut pcap) = Pcap::of_magic(magic) {
            let need = pcap::FILE_HEADER;
            let whole = input.fill(need).map_err(|e| Error::io("read", name, e))?;
            if !whole {
                return Err(header_missing(name, &input, need));
            }
            let interface = pcap.header(input.seen()).map_err(|why| Error::Damaged {
                name: name.to_owned(),
                why,
            })?;
            state.interfaces.push(interface);
            input.consume(need);
            Format::Pcap(pcap)
        } else {
            return Err(foreign(name, magic));
        };
        Ok(Self {
            name: name.to_owned(),
            input,
            format,
            state,
            pending: 0,
            over: false,
        })
    }

    /// The next frame; `None` at the end, whether it is the file's own or one that a note tells.
    ///
    /// # Errors
    /// The system could not read on.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Error> {
        self.input.consume(std::mem::take(&mut self.pending));
        if self.over {
            return Ok(None);
        }
        let record = loop {
            let step = match &mut self.format {
                Format::Pcap(pcap) => pcap.step(&mut self.input, &mut self.state),
                Format::Pcapng(pcapng) => pcapng.step(&mut self.input, &mut self.state),
            };
            match step {
                Ok(Step::Frame(record)) => break record,
                Ok(Step::Passed) => {}
                Ok(Step::End) => {
                    self.over = true;
                    return Ok(None);
                }
                Err(error) => {
                    self.over = true;
                    return Err(Error::io("read", &self.name, error));
                }
            }
        };
        self.pending = record.length;
        self.state.frames += 1;
        self.state.last_ns = record.time_ns;
        Ok(Some(Frame {
            interface: record.interface,
            time_ns: record.time_ns,
            captured: &self.input.seen()[record.data],
            wire_len: record.wire_len,
            direction: record.direction,
        }))
    }

    /// The interfaces that the file has described so far: those of all frames given are among them.
    /// A pcap file has exactly one; a pcapng file may describe more at any place.
    pub fn interfaces(&self) -> &[Interface] {
        &self.state.interfaces
    }

    /// Names of addresses, from Name Resolution Blocks read so far.
    pub fn names(&self) -> &[(IpAddr, String)] {
        &self.state.names
    }

    /// What the file's first section says of itself; nothing for pcap.
    pub fn about(&self) -> &About {
        &self.state.about
    }

    /// Frames given so far.
    pub fn frames(&self) -> u64 {
        self.state.frames
    }

    /// What there is to say about the file so far. Complete after the last frame.
    pub fn notes(&self) -> Vec<Note> {
        let mut notes = self.state.notes.clone();
        if self.state.unsaid > 0 {
            notes.push(Note {
                kind: NoteKind::Damaged,
                offset: self.input.offset(),
                text: format!(
                    "{} further notes of this kind are not listed",
                    self.state.unsaid
                ),
            });
        }
        notes
    }

    /// The name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl State {
    fn new() -> Self {
        Self {
            interfaces: Vec::new(),
            about: About::default(),
            names: Vec::new(),
            budget: Budget::new(),
            frames: 0,
            last_ns: 0,
            untimed: false,
            notes: Vec::new(),
            unsaid: 0,
        }
    }

    /// Notes something.
    pub(super) fn note(&mut self, kind: NoteKind, offset: u64, text: String) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(Note { kind, offset, text });
        } else {
            self.unsaid += 1;
        }
    }

    /// Notes what ended the reading before the file's end.
    pub(super) fn stop(&mut self, kind: NoteKind, offset: u64, what: &str) {
        let text = format!(
            "at byte {offset}: {what}; {}, and nothing after it can be",
            self.before()
        );
        self.note(kind, offset, text);
    }

    /// Notes that the file ends within `what`, which begins where the window does.
    pub(super) fn cut(&mut self, input: &Input, what: &str, need: u64) {
        self.cut_after(input, what, need, input.seen().len() as u64, input.offset());
    }

    /// The same of something that was passed over in part.
    pub(super) fn cut_after(&mut self, input: &Input, what: &str, need: u64, have: u64, at: u64) {
        let missing = need.saturating_sub(have);
        let text = format!(
            "{} within {what} that begins at byte {at}: {missing} of its {need} bytes are \
             missing; {}",
            ends(input),
            self.before()
        );
        self.note(kind(input), at, text);
    }

    /// Notes an end between records, if it is not the file's own.
    pub(super) fn ended(&mut self, input: &Input) {
        if input.over() != Some(&Over::End) {
            let text = format!("{}; {}", ends(input), self.before());
            self.note(kind(input), input.offset(), text);
        }
    }

    fn before(&self) -> String {
        match self.frames {
            0 => "no frame before it could be read".to_owned(),
            1 => "the frame before it was read".to_owned(),
            n => format!("the {n} frames before it were read"),
        }
    }
}

fn kind(input: &Input) -> NoteKind {
    match input.over() {
        Some(Over::BadCompressed(_)) => NoteKind::Damaged,
        _ => NoteKind::Truncated,
    }
}

fn ends(input: &Input) -> String {
    match input.over() {
        Some(Over::CutCompressed) => "the compressed data are cut off".to_owned(),
        Some(Over::BadCompressed(why)) => format!("the compressed data are damaged ({why})"),
        _ => "the file ends".to_owned(),
    }
}

fn first_four(input: &mut Input, name: &str) -> Result<[u8; 4], Error> {
    let whole = input
        .fill(4)
        .map_err(|error| Error::io("read", name, error))?;
    match input.seen().first_chunk() {
        Some(magic) if whole => Ok(*magic),
        _ => Err(header_missing(name, input, pcap::FILE_HEADER)),
    }
}

/// The stream ended within the header that has to be there.
pub(super) fn header_missing(name: &str, input: &Input, need: usize) -> Error {
    let have = input.seen().len();
    if let Some(Over::BadCompressed(why)) = input.over() {
        return Error::Damaged {
            name: name.to_owned(),
            why: format!("its compressed data cannot be unpacked ({why})"),
        };
    }
    if have == 0 && input.over() == Some(&Over::End) {
        return Error::NotACapture {
            name: name.to_owned(),
            why: "it is empty".to_owned(),
        };
    }
    Error::Header {
        name: name.to_owned(),
        have,
        need,
    }
}

/// What begins like this is nothing that is read here; says what it is where that is known.
fn foreign(name: &str, magic: [u8; 4]) -> Error {
    const UNPACK: &str = "unpack it first";
    const CONVERT: &str = "`editcap -F pcapng FILE NEW` of Wireshark converts it";
    let (what, hint) = match magic {
        [0x28, 0xb5, 0x2f, 0xfd] => ("compressed with zstd", UNPACK),
        [0x04, 0x22, 0x4d, 0x18] => ("compressed with lz4", UNPACK),
        [0xfd, b'7', b'z', b'X'] => ("compressed with xz", UNPACK),
        [b'B', b'Z', b'h', _] => ("compressed with bzip2", UNPACK),
        [b'P', b'K', 3, 4] => ("a zip archive", UNPACK),
        [0x1f, 0x8b, ..] => ("compressed with gzip twice", UNPACK),
        [b's', b'n', b'o', b'o'] => ("a snoop file (RFC 1761)", CONVERT),
        [0xac | 0xab, 0x01, 0x00, 0x1c] | [0x1c, 0x00, 0x01, 0xac | 0xab] => {
            ("a capture file of IXIA's kind", CONVERT)
        }
        [a, b, c, d] => {
            return Error::NotACapture {
                name: name.to_owned(),
                why: format!(
                    "it begins with the bytes {a:02x} {b:02x} {c:02x} {d:02x}, which neither pcap \
                     nor pcapng does"
                ),
            };
        }
    };
    Error::Unsupported {
        name: name.to_owned(),
        what: what.to_owned(),
        hint,
    }
}
