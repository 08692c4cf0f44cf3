//! What `explain` says: the way of one request and its answer.

use std::net::SocketAddr;

use serde::Serialize;

use crate::trace::proof::Evidence;

/// The way of a request and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The lab that the captures are of, if they are of one.
    pub lab: Option<String>,
    /// The connection that was chosen: client and server as the client sees them.
    pub client: SocketAddr,
    /// The server's side, the VIP if there is one.
    pub server: SocketAddr,
    /// `tcp`, `udp`, `sctp` or `ping`.
    pub protocol: String,
    /// How many there were to choose from.
    pub of: usize,
    /// The packet that is followed there, in a few words.
    pub request: String,
    /// The packet that is followed back.
    pub answer: Option<String>,
    /// Where the request went.
    pub there: Vec<Hop>,
    /// Where the answer went.
    pub back: Vec<Hop>,
    /// What it means, a sentence each.
    pub prose: Vec<String>,
    /// What could not be seen.
    pub notes: Vec<String>,
}

/// A frame at one interface, on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The machine.
    pub node: String,
    /// Its interface, as it is called in the captures.
    pub point: String,
    /// Whether the machine received it there or sent it; none if the interface only overheard it.
    pub direction: Option<Way>,
    /// Who sent the frame on this segment.
    pub from_mac: Option<String>,
    /// That machine's name.
    pub from: Option<String>,
    /// Who was to receive it.
    pub to_mac: Option<String>,
    /// That machine's name.
    pub to: Option<String>,
    /// Source of the packet, innermost.
    pub src: SocketAddr,
    /// Destination of the packet, innermost.
    pub dst: SocketAddr,
    /// Tunnel that it is in: kind, outer source and destination.
    pub tunnel: Option<String>,
    /// TTL of the innermost packet.
    pub ttl: u8,
    /// Nanoseconds since the first hop; negative where clocks differ.
    pub since_ns: i64,
    /// Where it is in the files.
    pub evidence: Evidence,
    /// What happened at this machine, in words, if anything did.
    pub decision: Option<String>,
}

/// Received or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Received.
    In,
    /// Sent.
    Out,
}
