//! Merging: all captures of a lab, or any capture files, into one pcapng file in the order of
//! time.
//!
//! Each interface has a block of its own, named `node:if`, with description, MAC and IP addresses;
//! nodes and virtual addresses have names, which Wireshark shows with View > Name Resolution >
//! Resolve Network Addresses, or tshark with `-N n`. What is known of the lab comes from `lab.json`,
//! which `up` wrote beside the captures; without it names come from the files'.

mod describe;
mod error;
mod files;
mod output;
mod record;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use describe::{interface, names};
pub use error::Error;
pub use files::{files, lab};
pub use output::Output;
pub use record::{forget, remember};

use crate::capture::Stats;
use crate::capture::savefile::{About, Counts, Interface, PcapngWriter, Series, Timeline};

/// What to merge, and what is known of it.
#[derive(Debug, Default)]
pub struct Sources {
    series: Vec<Series>,
    comment: String,
    names: Vec<(IpAddr, String)>,
    /// Counts of interfaces by `node:if`, as their captures ended.
    counts: Vec<(String, Counts)>,
    /// What was left out, in words.
    notes: Vec<String>,
}

/// What a merge came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The file; none for standard output.
    pub file: Option<PathBuf>,
    /// Frames in it.
    pub frames: u64,
    /// Interfaces in it.
    pub interfaces: usize,
    /// Its length in bytes.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What its user should know: what was left out, or is not complete.
    pub notes: Vec<String>,
}

impl Sources {
    /// Whether there is anything to merge.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

/// Merges into a file or to standard output.
///
/// # Errors
/// The output could not be written; a file is then as it was before.
pub fn merge(sources: Sources, output: Output) -> Result<Merged, Error> {
    let begun = Instant::now();
    let file = output.path().map(PathBuf::from);
    let mut output = output.open()?;
    let written = write(sources, &mut output).map_err(|source| output.failed(source))?;
    output.commit()?;
    let ms = begun.elapsed().as_millis() as u64;
    Ok(Merged {
        file,
        ms,
        ..written
    })
}

/// Merges to anything that can be written to.
///
/// # Errors
/// It could not be written to.
pub fn write(sources: Sources, out: impl Write) -> io::Result<Merged> {
    let mut notes = sources.notes;
    let mut timeline = Timeline::new(sources.series);
    let mut writer = PcapngWriter::new(out, &about(sources.comment));
    let mut known = 0;
    known = describe_new(&mut writer, timeline.interfaces(), known)?;
    // Before the frames: who reads the file once has the names in time.
    writer.names(&sources.names)?;
    let mut frames = 0;
    while timeline.advance() {
        if timeline.interfaces().len() > known {
            // A pcapng file may describe an interface at any place.
            known = describe_new(&mut writer, timeline.interfaces(), known)?;
        }
        let Some(frame) = timeline.frame() else { break };
        writer.frame(&frame)?;
        frames += 1;
    }
    // Interfaces without frames.
    let interfaces = describe_new(&mut writer, timeline.interfaces(), known)?;
    writer.names(timeline.names())?;
    for (n, interface) in timeline.interfaces().iter().enumerate() {
        let seen = timeline.seen(n);
        let counted = sources
            .counts
            .iter()
            .find(|(name, _)| Some(name) == interface.name.as_ref())
            .map_or(interface.counts, |(_, counts)| *counts);
        writer.statistics(n, &counted, seen.span)?;
    }
    let (_, bytes) = writer.finish()?;
    notes.extend(timeline.left_out().iter().map(ToString::to_string));
    let said = timeline.notes().iter();
    notes.extend(said.map(|note| format!("{}: {}", note.file, note.note.text)));
    Ok(Merged {
        file: None,
        frames,
        interfaces,
        bytes,
        ms: 0,
        notes,
    })
}

/// Writes the blocks of interfaces that the file does not have yet; gives how many it has then.
fn describe_new<W: Write>(
    writer: &mut PcapngWriter<W>,
    interfaces: &[Interface],
    known: usize,
) -> io::Result<usize> {
    for interface in &interfaces[known..] {
        writer.interface(interface)?;
    }
    Ok(interfaces.len())
}

/// What the file says of itself.
fn about(comment: String) -> About {
    let system = rustix::system::uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    About {
        hardware: Some(text(system.machine())),
        os: Some(format!(
            "{} {}",
            text(system.sysname()),
            text(system.release())
        )),
        application: Some(concat!("nslab ", env!("CARGO_PKG_VERSION")).to_owned()),
        comments: vec![comment],
    }
}

/// Final counts of a capture as a file's statistics have them. Frames that rotation has deleted
/// were received.
fn counts(stats: &Stats) -> Counts {
    Counts {
        received: Some(stats.packets + stats.lost()),
        dropped: Some(stats.lost()),
    }
}
