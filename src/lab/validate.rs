//! From [`RawLab`] to [`Lab`], collecting every problem on the way.
//!
//! Each part is judged as far as its own values are known. What refers to something broken is not
//! judged by it: one mistake gives one message.

mod capture;
mod confine;
mod join;
mod mounts;
mod networks;
mod nodes;
mod process;
mod program;
mod services;
mod sysctls;
mod values;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

pub use join::with_servers;

use super::model::{Lab, Node};
use super::names::{IfName, LabName, Mac, NameError, NetworkName, NodeName};
use crate::spec::text::{any_of, nearest, quote};
use crate::spec::{At, Code, Diagnostic, Diagnostics, Field, RawLab, RawNode, Severity, Span};

/// Reads and validates a lab file's text. `path` is only printed. The error holds every problem of
/// the file, warnings included; use [`check`] to see the warnings of a valid lab.
pub fn load(path: &Path, text: &str) -> Result<Lab, Diagnostics> {
    let (lab, diagnostics) = check(path, text);
    lab.ok_or(diagnostics)
}

/// Like [`load`], with the warnings of a valid lab too. There is a lab exactly if the diagnostics
/// have no error.
pub fn check(path: &Path, text: &str) -> (Option<Lab>, Diagnostics) {
    let (raw, mut diagnostics) = crate::spec::parse(text);
    let (lab, more) = validate(&raw);
    diagnostics.extend(raw.without_shadows(more));
    let diagnostics = Diagnostics::new(path, text, diagnostics);
    let lab = if diagnostics.has_errors() { None } else { lab };
    (lab, diagnostics)
}

/// The lab, if it has no error, and what is to be said about it. Problems of shape are the
/// parser's to report: here they only leave their part out.
fn validate(raw: &RawLab) -> (Option<Lab>, Vec<Diagnostic>) {
    let mut v = Validator {
        raw,
        diagnostics: Vec::new(),
        lab: None,
        networks: Vec::new(),
        network_index: index(raw.networks.iter().map(|n| &n.name)),
        nodes: Vec::new(),
        node_index: index(raw.nodes.iter().map(|n| &n.name)),
        owners: HashMap::new(),
        macs: HashSet::new(),
        dead_ends: HashSet::new(),
    };
    let lab = v.build();
    let failed = v
        .diagnostics
        .iter()
        .any(|d| d.severity() == Severity::Error);
    (lab.filter(|_| !failed), v.diagnostics)
}

fn index<'r>(names: impl Iterator<Item = &'r At<String>>) -> HashMap<&'r str, usize> {
    names
        .enumerate()
        .map(|(n, name)| (name.value.as_str(), n))
        .collect()
}

/// A network as far as it is known; `None` is what has been reported.
struct Net {
    name: Option<NetworkName>,
    subnet: Option<At<IpNet>>,
    mtu: Option<u32>,
    ipv6: Option<bool>,
    /// The host's address on it.
    host: Field<IpAddr>,
}

/// A node as far as it is known.
struct Machine<'r> {
    raw: &'r RawNode,
    name: Option<NodeName>,
    interfaces: Vec<Port>,
    /// Whether it may be on networks that could not be read.
    networks_unsure: bool,
    /// Whether it may have addresses that could not be read.
    addresses_unsure: bool,
    /// Its default route, once nodes are built.
    next_hop: NextHop,
}

/// Where a node's default route leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NextHop {
    /// To something that has been reported, or it was not asked for yet.
    Unknown,
    /// Nowhere: there is none.
    None,
    /// To this address on one of its networks.
    Via(IpAddr),
}

/// An interface of a node as far as it is known.
struct Port {
    name: Option<IfName>,
    /// Place in `networks`.
    network: Option<usize>,
    address: Option<At<IpAddr>>,
    aliases: Vec<At<IpAddr>>,
    mac: Option<Mac>,
}

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Host,
    Node(usize),
}

struct Validator<'r> {
    raw: &'r RawLab,
    diagnostics: Vec<Diagnostic>,
    lab: Option<LabName>,
    networks: Vec<Net>,
    network_index: HashMap<&'r str, usize>,
    nodes: Vec<Machine<'r>>,
    node_index: HashMap<&'r str, usize>,
    owners: HashMap<IpAddr, (Owner, Span)>,
    macs: HashSet<Mac>,
    /// Gateways that do not forward and have been named: one warning each is enough.
    dead_ends: HashSet<usize>,
}

impl Validator<'_> {
    fn build(&mut self) -> Option<Lab> {
        let raw = self.raw;
        self.lab = raw
            .name
            .get()
            .and_then(|n| self.name(n, "lab", Code::BadName, "the lab", LabName::new));
        if raw.nodes.is_empty() {
            self.report(
                Code::NoNodes,
                raw.name.get().map_or(Span::default(), |n| n.span),
                "the lab has no nodes",
                "a lab needs at least one",
                "add a table `[nodes.NAME]` for each machine",
            );
        }
        self.read_networks();
        self.read_nodes();
        self.claim_addresses();
        let networks = self.build_networks();
        let nodes = self.build_nodes();
        let services = self.build_services();
        let capture = self.build_capture();
        let nodes: Vec<Node> = nodes?;
        let lab = Lab {
            name: self.lab.clone()?,
            networks: networks?,
            services: services?,
            capture: capture?,
            node_index: nodes
                .iter()
                .enumerate()
                .map(|(n, node)| (node.name.as_str().to_owned(), n))
                .collect(),
            nodes,
        };
        self.checks_have_an_address(&lab);
        Some(lab)
    }

    fn report(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.diagnostics
            .push(Diagnostic::new(code, span, message, label, help));
    }

    /// Checks a name of `what` (`node`); `whose` is what the help line calls it.
    fn name<T>(
        &mut self,
        name: &At<String>,
        what: &str,
        code: Code,
        whose: &str,
        new: fn(&str) -> Result<T, NameError>,
    ) -> Option<T> {
        match new(&name.value) {
            Ok(t) => Some(t),
            Err(e) => {
                let help = match &e {
                    NameError::TooLong { max, .. } => {
                        format!("shorten it to at most {max} bytes")
                    }
                    NameError::BadChar(_, allowed) => format!("write it with {allowed} only"),
                    NameError::Empty | NameError::BadEdge | NameError::Reserved(_) => {
                        format!("give {whose} another name")
                    }
                };
                self.report(
                    code,
                    name.span,
                    format!("{what} name {} {e}", quote(&name.value)),
                    format!("bad {what} name"),
                    help,
                );
                None
            }
        }
    }

    /// A word out of a short list, or `default` where the key is absent.
    fn word<T>(
        &mut self,
        key: &str,
        field: &Field<String>,
        default: T,
        words: &[&str],
        read: fn(&str) -> Option<T>,
    ) -> Option<T> {
        match field {
            Field::Absent => Some(default),
            Field::Bad => None,
            Field::Set(at) => read(&at.value).or_else(|| {
                self.unknown_word(key, at, words);
                None
            }),
        }
    }

    fn unknown_word(&mut self, key: &str, at: &At<String>, words: &[&str]) {
        let near = nearest(&at.value, words);
        let help = if near.is_empty() {
            format!("it may be {}", any_of(words))
        } else {
            format!("did you mean {}?", any_of(&near))
        };
        self.report(
            Code::UnknownWord,
            at.span,
            format!("`{key}` cannot be {}", quote(&at.value)),
            "unknown word",
            help,
        );
    }
}

/// A MAC address made from `parts` that no other interface of the lab has. [`Mac::from_seed`] has
/// 40 bits; that two of a thousand interfaces meet is unlikely, but would be a puzzle to find.
fn unique_mac(taken: &mut HashSet<Mac>, parts: &[&str]) -> Mac {
    let mut mac = Mac::from_seed(parts);
    let mut salt = String::new();
    while !taken.insert(mac) {
        salt.push('+');
        let salted: Vec<&str> = parts.iter().copied().chain([salt.as_str()]).collect();
        mac = Mac::from_seed(&salted);
    }
    mac
}

#[cfg(test)]
mod tests;
