//! What is captured, and how.

use std::time::Duration;

use serde::Serialize;

use crate::lab::names::{IfName, NodeName};

/// What is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capture {
    pub(in crate::lab) scope: CaptureScope,
    pub(in crate::lab) settings: CaptureSettings,
    pub(in crate::lab) merge: bool,
    pub(in crate::lab) on: Vec<(NodeName, IfName, CaptureSettings)>,
}

getters!(Capture {
    /// Which interfaces.
    scope: &CaptureScope = borrow,
    /// How, where [`Self::on`] does not say otherwise.
    settings: &CaptureSettings = borrow,
    /// Whether `down` merges all captures into one file (default true).
    merge: bool = copy,
});

impl Capture {
    /// Whether this interface of this node is captured.
    pub fn wants(&self, node: &NodeName, interface: &IfName) -> bool {
        match &self.scope {
            CaptureScope::All => true,
            CaptureScope::Off => false,
            CaptureScope::Only(list) => list.iter().any(|(n, i)| n == node && i == interface),
        }
    }

    /// How this interface of this node is captured: `[capture.on."node:interface"]` over
    /// `[capture]`, key by key.
    pub fn on(&self, node: &str, interface: &str) -> &CaptureSettings {
        self.on
            .iter()
            .find(|(n, i, _)| n.as_str() == node && i.as_str() == interface)
            .map_or(&self.settings, |(_, _, settings)| settings)
    }

    /// Bytes kept of each frame where nothing else is said.
    pub fn snaplen(&self) -> u32 {
        self.settings.snaplen
    }
}

/// How an interface is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaptureSettings {
    pub(in crate::lab) snaplen: u32,
    pub(in crate::lab) buffer: Option<u64>,
    pub(in crate::lab) filter: Option<String>,
    pub(in crate::lab) rotate: Option<Rotate>,
}

getters!(CaptureSettings {
    /// Bytes kept of each frame (default 262144, tcpdump's).
    snaplen: u32 = copy,
    /// The kernel's ring buffer in bytes; by default it depends on the number of interfaces.
    buffer: Option<u64> = copy,
    /// A filter of pcap-filter(7) for Ethernet, which libpcap has compiled.
    filter: Option<&String> = option,
    /// When a new file is begun.
    rotate: Option<&Rotate> = option,
});

/// When a new file is begun: by size or by time, whichever comes first. One of the two is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rotate {
    pub(in crate::lab) size: Option<u64>,
    pub(in crate::lab) every: Option<Duration>,
    pub(in crate::lab) keep: Option<u32>,
}

getters!(Rotate {
    /// Bytes that a file may have.
    size: Option<u64> = copy,
    /// How long a file is written to.
    every: Option<Duration> = copy,
    /// How many finished files are kept, besides the one that is written to; all by default.
    keep: Option<u32> = copy,
});

/// Which interfaces are captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureScope {
    /// Every interface of every node.
    All,
    /// None.
    Off,
    /// These.
    Only(Vec<(NodeName, IfName)>),
}
