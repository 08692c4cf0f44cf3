//! The lab file as it is written: right in shape, nothing known yet about what the values mean.

/// A stretch of the file in bytes, `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

impl From<std::ops::Range<usize>> for Span {
    fn from(r: std::ops::Range<usize>) -> Self {
        Self {
            start: r.start,
            end: r.end,
        }
    }
}

/// A value and its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it is written.
    pub span: Span,
}

/// A key's value, or why there is none: what stands on a bad field is not judged any further, so
/// that one mistake gives one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field<T> {
    /// The key is not there.
    Absent,
    /// The key is there, or meant to be, and its problem has been reported.
    Bad,
    /// The value.
    Set(At<T>),
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub const fn get(&self) -> Option<&At<T>> {
        match self {
            Self::Set(at) => Some(at),
            Self::Absent | Self::Bad => None,
        }
    }

    /// Whether its problem has been reported.
    pub const fn is_bad(&self) -> bool {
        matches!(self, Self::Bad)
    }

    /// Whether the key is not there.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A whole file.
#[derive(Debug, Clone)]
pub struct RawLab {
    /// `name`.
    pub name: Field<String>,
    /// `[networks.*]` in the file's order.
    pub networks: Vec<RawNetwork>,
    /// `[nodes.*]` in the file's order.
    pub nodes: Vec<RawNode>,
    /// `[services.*]` in the file's order.
    pub services: Vec<RawService>,
    /// `[capture]`.
    pub capture: RawCapture,
    /// Lines whose TOML is broken: nothing more is said about them.
    pub(super) damaged: Vec<Span>,
    /// Whether TOML is so broken that keys of any table may have been lost.
    pub(super) torn: bool,
    /// Whether whole tables are missing here that may be in the file.
    pub(super) incomplete: bool,
}

/// `[networks.NAME]`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawNetwork {
    pub name: At<String>,
    pub subnet: Field<String>,
    pub host: Field<String>,
    pub mtu: Field<i64>,
    pub ipv6: Field<bool>,
}

/// `[nodes.NAME]`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawNode {
    pub name: At<String>,
    pub interfaces: Field<Vec<RawInterface>>,
    /// Whether there may be interfaces that could not be read.
    pub interfaces_unsure: bool,
    pub gateway: Field<String>,
    pub forward: Field<bool>,
    pub image: Field<String>,
    pub entrypoint: Field<Vec<Field<String>>>,
    pub command: Field<Vec<Field<String>>>,
    pub user: Field<String>,
    pub workdir: Field<String>,
    pub env: Vec<(At<String>, Field<String>)>,
    pub env_file: Vec<Field<String>>,
    pub volumes: Vec<RawVolume>,
    pub tmpfs: Vec<RawTmpfs>,
    pub keep: Field<bool>,
    pub stop_signal: Field<String>,
    pub stop_grace: Field<String>,
    pub limits: Field<RawLimits>,
    pub cap_add: Vec<Field<String>>,
    pub cap_drop: Vec<Field<String>>,
    pub seccomp: Field<String>,
    pub sysctls: Vec<(At<String>, Field<String>)>,
    pub restart: Field<String>,
    pub ready: Field<RawReady>,
}

/// `interfaces.NAME` of a node.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawInterface {
    pub name: At<String>,
    pub network: Field<String>,
    pub address: Field<String>,
    pub aliases: Field<Vec<Field<String>>>,
}

/// An element of a node's `volumes`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub enum RawVolume {
    /// `"host:inside[:ro]"`.
    Short(At<String>),
    /// `{ source, target, read_only }`.
    Long {
        source: Field<String>,
        target: Field<String>,
        read_only: Field<bool>,
    },
}

/// An element of a node's `tmpfs`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub enum RawTmpfs {
    /// `"inside[:size=64m,mode=1777,exec]"`.
    Short(At<String>),
    /// `{ target, size, mode, exec }`.
    Long {
        target: Field<String>,
        size: Field<String>,
        mode: Field<String>,
        exec: Field<bool>,
    },
}

/// `limits` of a node.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawLimits {
    pub memory: Field<String>,
    /// As it is written: thousandths are exact in decimal only.
    pub cpus: Field<String>,
    pub pids: Field<i64>,
}

/// `ready` of a node.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawReady {
    pub http: Field<String>,
    pub tcp: Field<i64>,
    pub timeout: Field<String>,
}

/// `[services.NAME]`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawService {
    pub name: At<String>,
    pub vip: Field<String>,
    pub port: Field<i64>,
    pub protocol: Field<String>,
    pub director: Field<String>,
    pub scheduler: Field<String>,
    pub scheduler_flags: Field<Vec<Field<String>>>,
    pub persistent: Field<String>,
    pub persistent_mask: Field<i64>,
    pub one_packet: Field<bool>,
    pub method: Field<String>,
    pub accept: Field<String>,
    pub servers: Field<Vec<RawServer>>,
    pub engine: Field<String>,
    pub check: Field<RawCheck>,
    pub on_fail: Field<String>,
}

/// An element of a service's `servers`: a node's name or a table.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawServer {
    pub node: Field<String>,
    pub weight: Field<i64>,
    pub port: Field<i64>,
    pub upper: Field<i64>,
    pub lower: Field<i64>,
}

/// `check` of a service.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawCheck {
    pub http: Field<String>,
    pub tcp: Field<RawTcp>,
    pub exec: Field<Vec<Field<String>>>,
    pub every: Field<String>,
    pub timeout: Field<String>,
    pub rise: Field<i64>,
    pub fall: Field<i64>,
}

/// `tcp` of a check.
#[derive(Debug, Clone, Copy)]
pub enum RawTcp {
    /// `true`: the service's port. `false`: none.
    Service(bool),
    /// Another port.
    Port(i64),
}

/// `[capture]`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawCapture {
    pub interfaces: Field<RawScope>,
    pub settings: RawCaptureSettings,
    pub merge: Field<bool>,
    pub on: Vec<(At<String>, RawCaptureSettings)>,
}

/// What `[capture]` and `[capture.on.*]` both have.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawCaptureSettings {
    pub snaplen: Field<i64>,
    pub buffer: Field<String>,
    pub filter: Field<String>,
    pub rotate: Field<RawRotate>,
}

/// `rotate` of captures.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the keys of the file")]
pub struct RawRotate {
    pub size: Field<String>,
    pub every: Field<String>,
    pub keep: Field<i64>,
}

/// `interfaces` of `[capture]`.
#[derive(Debug, Clone)]
pub enum RawScope {
    /// `"all"`, `"off"` or another word.
    Word(String),
    /// A list of `"node:if"`.
    List(Vec<Field<String>>),
}
