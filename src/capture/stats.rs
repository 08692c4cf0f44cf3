//! What is told of a capture.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whether an interface is being captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Yes.
    Running,
    /// No, because somebody asked for that.
    Stopped,
    /// No, and not on request: the interface was deleted, or libpcap gave up.
    Ended,
}

impl State {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }
}

/// A time in which an interface was not captured, because its capture was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// When it was stopped, in nanoseconds since 1970 (UTC).
    pub from_ns: u64,
    /// When it was started again, if it was.
    pub to_ns: Option<u64>,
}

/// What one interface's capture has seen so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The node's name, as requested.
    pub node: String,
    /// The interface's name, as requested.
    pub interface: String,
    /// Whether it runs.
    pub state: State,
    /// Frames that were written to the file or files.
    pub packets: u64,
    /// Bytes of these frames as they were on the wire, whatever the snapshot length.
    pub bytes: u64,
    /// Frames that the kernel dropped because the ring was full (`tp_drops` of packet(7)).
    pub dropped: u64,
    /// Frames that were taken from the ring and that the file could not take.
    /// `packets + dropped + unwritten` is what crossed the interface and matched the filter.
    pub unwritten: u64,
    /// Of `packets`, those that went with the full files that rotation deleted.
    pub deleted: u64,
    /// How many full files there are beside the current one.
    pub rotated: u32,
    /// When it was stopped and started again.
    pub gaps: Vec<Gap>,
    /// The current pcap file, as requested.
    pub file: PathBuf,
    /// What went wrong with this interface's capture, if anything did. The others go on.
    pub error: Option<String>,
}

impl Stats {
    /// Frames that crossed the interface while it was captured and are in no file.
    pub fn lost(&self) -> u64 {
        self.dropped + self.unwritten
    }

    /// `node:interface`.
    pub fn name(&self) -> String {
        format!("{}:{}", self.node, self.interface)
    }
}
