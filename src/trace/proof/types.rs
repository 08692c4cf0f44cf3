//! What a proof says: matrix, flows, verdicts. All of it is data; `report` draws it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Serialize;

use super::drawing::Drawing;
use crate::trace::packet::Tunnel;

/// What captures prove, for each service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The lab that the captures are of, if they are of one.
    pub lab: Option<String>,
    /// Pass if every service's is.
    pub outcome: Outcome,
    /// One for each VIP and port that was looked at.
    pub services: Vec<ServiceProof>,
    /// The files that were read.
    pub files: Vec<FileRead>,
    /// What the reader should know of the whole: files left out, a lab that is still running.
    pub notes: Vec<String>,
}

/// What was read of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileRead {
    /// The file.
    pub path: PathBuf,
    /// Frames in it.
    pub frames: u64,
    /// What is wrong with it: truncated, damaged.
    pub notes: Vec<String>,
}

/// How a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The packets show that it is as it should be.
    Pass,
    /// The captures do not tell.
    Inconclusive,
    /// The packets show that it is not.
    Fail,
}

impl Outcome {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "FAIL",
        }
    }
}

/// What the packets of one service prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceProof {
    /// The service's name in the lab.
    pub name: Option<String>,
    /// The virtual address.
    pub vip: IpAddr,
    /// Port on it; none if all were looked at.
    pub port: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Option<String>,
    /// The method that the lab or the user declares: `dr`, `nat`, `tun`.
    pub declared: Option<String>,
    /// The method that the packets show.
    pub method: Method,
    /// It in plain words, one or two sentences.
    pub conclusion: String,
    /// Fails if a verdict does; passes if the method is shown and is the declared one.
    pub outcome: Outcome,
    /// The director, as far as it is known.
    pub director: Option<Machine>,
    /// Frames at each interface, over all flows; the interfaces in the lab's order.
    pub matrix: Vec<MatrixRow>,
    /// Every connection, in the order of time.
    pub flows: Vec<Flow>,
    /// How many connections each realserver had.
    pub shares: Vec<Share>,
    /// The questions and their answers.
    pub verdicts: Vec<Verdict>,
    /// What the reader should know: clients that are the director itself, ICMP errors, cut frames.
    pub notes: Vec<String>,
    /// The packets themselves, where pictures were asked for.
    #[serde(skip)]
    pub drawing: Option<Drawing>,
}

/// How packets reach the realservers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "tunnel")]
pub enum Method {
    /// Direct Routing: only MAC addresses change, answers go straight to the client.
    Direct,
    /// Masquerading: the director rewrites addresses, in both directions.
    Nat,
    /// Tunnelling: the director wraps packets, answers go straight to the client.
    Tunnel(Tunnel),
    /// Packets reach realservers without passing the director.
    Bypassed,
    /// The director answers itself.
    Local,
    /// The director passes packets on unchanged, and answers pass it as well.
    Routed,
    /// Nobody in sight balances: one machine has the address and answers.
    Unbalanced,
    /// Not all connections go the same way.
    Mixed,
    /// There are no packets of the service.
    Nothing,
    /// The captures do not tell.
    Unknown,
}

impl Method {
    /// The lab file's word for it, for those that a lab can ask for.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Direct => Some("dr"),
            Self::Nat => Some("nat"),
            Self::Tunnel(_) => Some("tun"),
            _ => None,
        }
    }
}

/// A machine as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The node's name, or of a foreign capture its file's, its address or its MAC address.
    pub name: String,
    /// Its interfaces that were captured.
    pub points: Vec<String>,
    /// How it is known.
    pub known: Known,
}

/// How a machine's part is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// From the lab.
    Lab,
    /// The user said so.
    Told,
    /// From what it did with packets.
    Inferred,
}

/// Frames of a service, or of a flow, at one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MatrixRow {
    /// `node:interface`, or what the file is called.
    pub point: String,
    /// What its machine is, where that is known.
    pub role: Option<Role>,
    /// Frames to the VIP, wrapped ones among them, as `ip.dst==VIP && tcp.dstport==PORT` counts.
    pub to_vip: u64,
    /// Frames from the VIP.
    pub from_vip: u64,
    /// Of both, those that are wrapped into a tunnel.
    pub wrapped: u64,
    /// Frames to a realserver's own address that were to the VIP before NAT.
    pub to_real: u64,
    /// Frames from a realserver's own address that are from the VIP after NAT.
    pub from_real: u64,
}

/// The part that a machine plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It asks.
    Client,
    /// It passes packets on.
    Router,
    /// It balances.
    Director,
    /// It answers.
    Realserver,
}

/// A connection, or all datagrams between two ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Its number, from 1, in the order of time.
    pub id: usize,
    /// Who asked.
    pub client: SocketAddr,
    /// Whom.
    pub vip: SocketAddr,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Time of its first and of its last frame, nanoseconds since 1970.
    pub span: (i64, i64),
    /// Whether its opening was captured.
    pub opened: bool,
    /// The realserver that served it.
    pub server: Option<String>,
    /// How its packets went.
    pub method: Method,
    /// Its first HTTP request line.
    pub request: Option<String>,
    /// Its first HTTP status line.
    pub status: Option<String>,
    /// TTL of a request as it came to the director, and as it left.
    pub director_ttl: Option<(u8, u8)>,
    /// Segments that were sent again.
    pub retransmissions: u64,
    /// Frames at the interfaces that saw any.
    pub matrix: Vec<MatrixRow>,
    /// Whether it went as the method has it.
    pub outcome: Outcome,
    /// What there is to say about it.
    pub remark: Option<String>,
}

/// A realserver's part of the connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The realserver.
    pub server: String,
    /// Its weight, where the lab tells.
    pub weight: Option<u32>,
    /// Connections that it served.
    pub connections: u64,
}

/// A question and what the packets say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Which question.
    pub id: VerdictId,
    /// The question in words.
    pub question: String,
    /// Whether it is as it should be.
    pub outcome: Outcome,
    /// The answer in words.
    pub answer: String,
    /// Frames that show it.
    pub evidence: Vec<Evidence>,
}

/// The questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictId {
    /// Is it the declared method?
    Method,
    /// Who answered ARP for the VIP?
    Arp,
    /// Did every request reach a realserver through the director?
    PassedOn,
    /// Did the director see both directions?
    BothDirections,
    /// What did the director change?
    Changed,
    /// Which way did the answers go?
    Answers,
    /// Which realserver served which connection?
    Served,
    /// Are connections distributed as the scheduler does it?
    Distribution,
    /// Did each answer reach its client?
    Arrived,
}

impl VerdictId {
    /// The identifier, as JSON and JUnit have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Arp => "arp",
            Self::PassedOn => "passed-on",
            Self::BothDirections => "both-directions",
            Self::Changed => "changed",
            Self::Answers => "answers",
            Self::Served => "served",
            Self::Distribution => "distribution",
            Self::Arrived => "arrived",
        }
    }
}

/// A frame that shows something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The interface.
    pub point: String,
    /// The file.
    pub file: PathBuf,
    /// Number of the frame in it, from 1, as Wireshark counts.
    pub frame: u64,
    /// When, nanoseconds since 1970.
    pub time_ns: i64,
    /// The frame in a few words.
    pub what: String,
}
