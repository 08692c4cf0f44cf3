//! Capture files of others and our own: readers of pcap and pcapng, the writer of pcapng, and the
//! merging of many files into one timeline.
//!
//! The formats are those of draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. They are read
//! here rather than by libpcap, which hides what a lab needs to know: it takes of pcapng one link
//! type, and neither names nor directions nor drops of interfaces; of a file that ends in the
//! middle of a frame it tells nothing but that; and what it allocates is up to the file.
//!
//! Rules of this room:
//! - Files stream: a [`Reader`] holds one buffer, and a [`Frame`] borrows from it.
//! - Nothing is allocated because a file claims a length, only as data really come, and no more
//!   than [`MOST_FRAME`], [`MOST_BLOCK`] and [`MOST_TEXT`] say.
//! - What is whole is read, and what is not is told ([`Note`]) with its place and what is missing.
//!   An [`Error`] is only what makes a file unreadable from its beginning, or the disk's.

mod direction;
mod error;
mod input;
mod options;
mod pcap;
mod pcapng;
mod reader;
mod sections;
mod series;
mod time;
mod timeline;
mod writer;

use std::net::IpAddr;

use serde::Serialize;

pub use direction::direction;
pub use error::Error;
pub use reader::Reader;
pub use series::{FileNote, Series};
pub use timeline::{Seen, Timeline};
pub use writer::PcapngWriter;

/// Largest frame, in captured bytes: libpcap's MAXIMUM_SNAPLEN and Wireshark's
/// WTAP_MAX_PACKET_SIZE_STANDARD. One that claims to be larger is damage.
pub const MOST_FRAME: u32 = 262_144;

/// Largest pcapng block that is read, in bytes, as in libpcap (`INITIAL_MAX_BLOCKSIZE`). Larger
/// ones are skipped, and told if they would have been of use.
pub const MOST_BLOCK: u32 = 16 << 20;

/// Bytes that a file's interfaces, names and comments may take together.
pub const MOST_TEXT: usize = 16 << 20;

/// Link type of Ethernet (LINKTYPE_ETHERNET of the registry at tcpdump.org/linktypes.html).
pub const ETHERNET: u32 = 1;
/// Link type of Linux' "cooked" captures, as `tcpdump -i any` once wrote them.
pub const LINUX_SLL: u32 = 113;
/// Link type of cooked captures, version 2: as `tcpdump -i any` writes them.
pub const LINUX_SLL2: u32 = 276;

/// A frame of a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// On which interface: an index into [`Reader::interfaces`].
    pub interface: usize,
    /// When, in nanoseconds since 1970-01-01 00:00 UTC. Of frames without a time (Simple Packet
    /// Blocks) the time of the frame before.
    pub time_ns: u64,
    /// Its first bytes; all of them unless the snapshot length cut it.
    pub captured: &'a [u8],
    /// How many bytes it had.
    pub wire_len: u32,
    /// Which way it went, where the file knows.
    pub direction: Option<Direction>,
}

/// Which way a frame went, as the interface's own machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It was received.
    In,
    /// It was sent.
    Out,
}

/// An interface, as a file describes it. A pcap file has one, of which it tells little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// `if_name`.
    pub name: Option<String>,
    /// `if_description`.
    pub description: Option<String>,
    /// Link type: [`ETHERNET`] or another of tcpdump.org/linktypes.html.
    pub link_type: u32,
    /// Bytes that were kept of each frame at most; 0 is no limit.
    pub snaplen: u32,
    /// `if_MACaddr`.
    pub mac: Option<[u8; 6]>,
    /// `if_IPv4addr` and `if_IPv6addr`, with the length of their prefix.
    pub addresses: Vec<(IpAddr, u8)>,
    /// `if_filter`, in the language of pcap-filter(7).
    pub filter: Option<String>,
    /// `if_os`.
    pub os: Option<String>,
    /// Length of the frame check sequence that each frame ends with, in bytes, where it is told.
    pub fcs: Option<u8>,
    /// What an Interface Statistics Block says, the last one if there are several.
    pub counts: Counts,
}

/// Counts of an interface's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// `isb_ifrecv`: frames that came to the capture, dropped ones among them.
    pub received: Option<u64>,
    /// `isb_ifdrop` and `isb_osdrop` together: frames that are not in the file.
    pub dropped: Option<u64>,
}

/// What a pcapng file says of itself, in its first section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// `shb_hardware`.
    pub hardware: Option<String>,
    /// `shb_os`.
    pub os: Option<String>,
    /// `shb_userappl`: the program that wrote it.
    pub application: Option<String>,
    /// `opt_comment`, each.
    pub comments: Vec<String>,
}

/// Something about a file that its user should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What kind of thing.
    pub kind: NoteKind,
    /// Where in the file, in bytes; of a compressed file in what it unpacks to.
    pub offset: u64,
    /// In words.
    pub text: String,
}

/// Kinds of notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NoteKind {
    /// The file ends before it is over; everything before is there.
    Truncated,
    /// Something contradicts the format. Either it was left out, or reading ended there.
    Damaged,
    /// Times that cannot be trusted.
    Time,
}
