//! nftables over netlink, without the nft binary: a ruleset as data, and its way into the kernel
//! in one atomic batch (include/uapi/linux/netfilter/nf_tables.h).
//!
//! ```text
//! Ruleset --encode--> Vec<Message> --batch--> bytes --socket--> kernel
//!    '------display--> text that nft(8) reads
//! ```
//!
//! The data is typed on the level of nft statements, not of the kernel's registers: what a rule
//! does can then be printed as it is, and the registers and the checks that nft(8) calls implicit
//! dependencies (`tcp dport` first asks whether the packet is TCP) are made in one place,
//! `encode`, in the order in which nft(8) makes them.

mod batch;
mod change;
mod display;
mod encode;
mod error;
mod expr;
mod query;
mod socket;

use std::time::Duration;

use serde::Serialize;

pub use change::{Change, between, change};
pub use error::Error;
pub use expr::{
    ETHERTYPE_IPV4, Expr, Field, Match, Meta, Op, PACKET_HOST, Selector, Statement, TCP_ACK,
    TCP_FIN, TCP_RST, TCP_SYN, Transport, Value, Verdict,
};
pub use query::{CounterValue, Mapped, counters, mapped};

/// Tables that go into the kernel together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ruleset {
    /// The tables; no two of the same family and name.
    pub tables: Vec<Table>,
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// Everything that a device receives.
    Netdev,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Family of its packets.
    pub family: Family,
    /// Name, as all names here: a letter or `_`, then letters, digits, `_`, `-`, `.`; at most 255
    /// bytes.
    pub name: String,
    /// Names of counters that rules refer to and [`counters`] reads.
    pub counters: Vec<String>,
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains with their rules.
    pub chains: Vec<Chain>,
}

/// A set, or a map if it has [`Set::data`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Set {
    /// Name.
    pub name: String,
    /// Types of the key's parts; more than one make a concatenation.
    pub key: Vec<Type>,
    /// Type of the values of a map.
    pub data: Option<Type>,
    /// Whether rules may change it.
    pub dynamic: bool,
    /// How long an element lives that says nothing itself; elements of a set without one stay.
    pub timeout: Option<Duration>,
    /// Most elements that it takes; a rule that would add one more ends there.
    pub size: Option<u32>,
    /// Elements that are there from the beginning.
    pub elements: Vec<Element>,
}

/// Type of a key or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// `ipv4_addr`, 4 bytes.
    Ipv4,
    /// `ipv6_addr`, 16 bytes.
    Ipv6,
    /// `inet_service`, a port, 2 bytes.
    Port,
    /// `mark`, 4 bytes in host order.
    Mark,
    /// `verdict`; for the values of maps only.
    Verdict,
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Element {
    /// Its key's parts.
    pub key: Vec<Value>,
    /// Its value in a map.
    pub data: Option<ElementData>,
}

/// What a map's element stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementData {
    /// A value.
    Value(Value),
    /// What happens to the packet.
    Verdict(Verdict),
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// Where packets enter it; without one, only jumps lead to it.
    pub hook: Option<Hook>,
    /// Rules in their order.
    pub rules: Vec<Rule>,
}

/// Where a base chain hangs. Its policy is always `accept`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Chain type.
    pub kind: HookKind,
    /// The place.
    pub point: HookPoint,
    /// Lower ones come first; 0 is `filter`, -100 `dstnat`.
    pub priority: i32,
    /// Devices of a netdev chain; none in other families.
    pub devices: Vec<String>,
}

/// Chain type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HookKind {
    /// `filter`.
    Filter,
    /// `nat`: sees the first packet of a connection only.
    Nat,
}

/// Place in a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HookPoint {
    /// As a device hands a frame in (netdev family).
    Ingress,
    /// Before routing.
    Prerouting,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Rule {
    /// What is asked and done, from left to right; a match that fails ends the rule.
    pub statements: Vec<Statement>,
    /// Comment that `nft list ruleset` shows; at most 127 bytes, no `"`.
    pub comment: Option<String>,
}

impl Rule {
    /// A rule without comment.
    pub fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self {
            statements: statements.into(),
            comment: None,
        }
    }
}

/// Puts the ruleset into the network namespace of the calling thread, all of it or nothing. A
/// table of the same family and name is replaced in the same step; other tables stay.
///
/// Devices are looked up in that namespace, so they have to exist. Needs CAP_NET_ADMIN over it.
pub fn apply(ruleset: &Ruleset) -> Result<(), Error> {
    let messages = encode::ruleset(ruleset, &socket::device_index)?;
    socket::run(&messages)
}

/// Deletes a table with all that is in it from the network namespace of the calling thread.
/// Returns whether it was there.
pub fn delete_table(family: Family, name: &str) -> Result<bool, Error> {
    match socket::run(&[encode::delete_table(family, name)?]) {
        Ok(()) => Ok(true),
        Err(Error::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
