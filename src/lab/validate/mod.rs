//! From [`RawLab`] to [`Lab`], collecting every problem on the way.
//!
//! One mistake gives one message: what depends on something that has been reported is not judged.

mod networks;
mod nodes;
mod process;
mod services;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use super::model::{Capture, CaptureScope, Interface, Lab, Network, Node};
use super::names::{IfName, LabName, NameError, NodeName};
use crate::spec::{
    At, Code, Diagnostic, Diagnostics, Field, RawLab, RawScope, Severity, Span, any_of,
    did_you_mean, parse, quote,
};

/// Reads a lab file's text: a valid lab, or everything that is wrong with it.
///
/// # Errors
/// All errors and warnings. A file with warnings only gives a lab; [`check`] gives its warnings.
pub fn load(path: &Path, text: &str) -> Result<Lab, Diagnostics> {
    let (lab, problems) = check(path, text);
    lab.ok_or(problems)
}

/// Reads a lab file's text: the lab, if there is no error, and all errors and warnings.
pub fn check(path: &Path, text: &str) -> (Option<Lab>, Diagnostics) {
    let (raw, found) = parse(text);
    let incomplete = raw.incomplete;
    let mut checker = Checker {
        found,
        incomplete,
        ..Checker::default()
    };
    let lab = checker.lab(&raw);
    let failed = checker
        .found
        .iter()
        .any(|d| d.severity() == Severity::Error);
    let lab = lab.filter(|_| !failed);
    (lab, Diagnostics::new(path, text, checker.found))
}

/// bytes that tcpdump keeps of a frame unless told otherwise (MAXIMUM_SNAPLEN).
const SNAPLEN: u32 = 262_144;

#[derive(Default)]
struct Checker {
    found: Vec<Diagnostic>,
    incomplete: bool,
    /// Whose address it is, and where that is written.
    addresses: HashMap<IpAddr, (String, Span)>,
}

/// A network as far as it is good, for what refers to it.
struct KnownNetwork {
    /// `None`: its own problems have been reported.
    network: Option<Network>,
}

/// A node as far as it is good.
struct KnownNode {
    span: Span,
    node: Option<Node>,
    /// Whether something about its interfaces has been reported.
    doubtful: bool,
}

impl Checker {
    fn report(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Diagnostic::new(code, span, message, label, help));
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        // Behind broken TOML something may only seem to be missing.
        if !(self.incomplete && diagnostic.code().is_about_absence()) {
            self.found.push(diagnostic);
        }
    }

    /// One of some words; `default` when the key is absent, `None` when it is bad.
    fn word<T: Copy>(
        &mut self,
        field: &Field<String>,
        what: &str,
        words: &[(&str, T)],
        default: T,
    ) -> Option<T> {
        let at = match field {
            Field::Absent => return Some(default),
            Field::Bad => return None,
            Field::Set(at) => at,
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == at.value) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        let message = format!("unknown {what} {}", quote(&at.value));
        let help = format!("{what} is {}", any_of(&known));
        self.report(
            Code::UnknownWord,
            at.span,
            message,
            "not one of its words",
            help,
        );
        None
    }

    fn name<T>(
        &mut self,
        what: &str,
        name: &At<String>,
        make: fn(&str) -> Result<T, NameError>,
    ) -> Option<T> {
        match make(&name.value) {
            Ok(made) => Some(made),
            Err(e) => {
                let help = "such names are lower-case letters, digits and `-` between them";
                self.report(
                    Code::BadName,
                    name.span,
                    format!("{what} name {} {e}", quote(&name.value)),
                    "bad name",
                    help,
                );
                None
            }
        }
    }

    fn address(&mut self, at: &At<String>) -> Option<IpAddr> {
        if let Ok(address) = at.value.parse() {
            return Some(address);
        }
        let message = format!("{} is not an IP address", quote(&at.value));
        let help = "write it like `192.168.10.2` or `2001:db8::2`";
        self.report(Code::BadAddress, at.span, message, "not an address", help);
        None
    }

    /// Writes down whose address it is; reports one that is taken.
    fn claim(&mut self, address: IpAddr, owner: &str, span: Span) {
        if let Some((first, place)) = self.addresses.get(&address) {
            let message = format!("address {address} is given to {owner} and to {first}");
            let d = Diagnostic::new(
                Code::DuplicateAddress,
                span,
                message,
                "given again",
                "give one of the two another address",
            )
            .and(*place, format!("first given to {first}"));
            self.push(d);
        } else {
            self.addresses.insert(address, (owner.to_owned(), span));
        }
    }

    fn lab(&mut self, raw: &RawLab) -> Option<Lab> {
        let name = raw
            .name
            .get()
            .and_then(|name| self.name("lab", name, LabName::new));
        // Addresses and MACs need some name; the lab is not given out then.
        let used = name.clone().or_else(|| LabName::new("lab").ok())?;
        let networks = self.networks(&used, &raw.networks);
        if raw.nodes.is_empty() {
            let span = raw.name.get().map(|n| n.span).unwrap_or_default();
            let help = "add one, for example `[nodes.client]` with `interfaces.eth1 = { network = \"lan\", address = \"192.168.10.2\" }`";
            self.report(
                Code::NoNodes,
                span,
                "a lab needs at least one node",
                "this lab has none",
                help,
            );
        }
        let mut nodes = self.nodes(&used, &raw.nodes, &networks);
        self.gateways(&raw.nodes, &mut nodes, &networks);
        let services = self.services(&raw.services, &nodes);
        let capture = self.capture(raw, &nodes);
        Some(Lab {
            name: name?,
            networks: networks
                .into_iter()
                .filter_map(|(_, n)| n.network)
                .collect(),
            nodes: nodes.list.into_iter().filter_map(|n| n.node).collect(),
            services,
            capture,
        })
    }

    fn capture(&mut self, raw: &RawLab, nodes: &nodes::Nodes) -> Capture {
        let mut scope = CaptureScope::All;
        match raw.capture.interfaces.get() {
            None => {}
            Some(At {
                value: RawScope::Word(word),
                span,
            }) => {
                let field = Field::Set(At {
                    value: word.clone(),
                    span: *span,
                });
                let words = [("all", true), ("off", false)];
                if self.word(&field, "capture interfaces", &words, true) == Some(false) {
                    scope = CaptureScope::Off;
                }
            }
            Some(At {
                value: RawScope::List(list),
                ..
            }) => {
                let wanted = list.iter().filter_map(Field::get);
                let list = wanted
                    .filter_map(|at| self.capture_entry(at, nodes))
                    .collect();
                scope = CaptureScope::Only(list);
            }
        }
        let mut snaplen = SNAPLEN;
        if let Some(at) = raw.capture.snaplen.get() {
            match u32::try_from(at.value) {
                Ok(n @ 64..=SNAPLEN) => snaplen = n,
                _ => {
                    let message = format!("snaplen {} is out of range", at.value);
                    let help = format!(
                        "write a number of bytes from 64 to {SNAPLEN}; leave it out to keep whole frames"
                    );
                    self.report(Code::BadSnaplen, at.span, message, "out of range", help);
                }
            }
        }
        Capture { scope, snaplen }
    }

    fn capture_entry(
        &mut self,
        at: &At<String>,
        nodes: &nodes::Nodes,
    ) -> Option<(NodeName, IfName)> {
        let entry = at.value.split_once(':');
        let known = entry.and_then(|(node, _)| nodes.get(node));
        if known.is_some_and(|k| k.node.is_none() || k.doubtful) {
            return None;
        }
        let found = known.and_then(|k| k.node.as_ref()).and_then(|node| {
            let interface = node.interface(entry?.1)?;
            Some((node.name.clone(), interface.name.clone()))
        });
        if found.is_none() {
            let all: Vec<String> = nodes
                .list
                .iter()
                .filter_map(|n| n.node.as_ref())
                .flat_map(|n| {
                    n.interfaces
                        .iter()
                        .map(move |i| format!("{}:{}", n.name, i.name))
                })
                .collect();
            let help = did_you_mean(
                &at.value,
                all.iter().map(String::as_str),
                "its interfaces are",
                "write `node:interface`",
            );
            let message = format!("the lab has no interface {}", quote(&at.value));
            self.report(
                Code::CaptureUnknown,
                at.span,
                message,
                "unknown interface",
                help,
            );
        }
        found
    }
}

/// Where an interface's address ends up in messages.
fn owner(node: &str, interface: &str) -> String {
    format!("{node}:{interface}")
}

/// The interface of `node` on a network that `other` is on too: the first in `node`'s order.
fn shared<'a>(node: &'a Node, other: &'a Node) -> Option<(&'a Interface, &'a Interface)> {
    node.interfaces
        .iter()
        .find_map(|i| other.on(&i.network).map(|o| (i, o)))
}
