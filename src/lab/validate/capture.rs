//! What is captured.

use super::Validator;
use crate::lab::model::{Capture, CaptureScope};
use crate::lab::names::{IfName, NodeName};
use crate::spec::text::{did_you_mean, quote};
use crate::spec::{At, Code, Field, RawScope, keys};

/// tcpdump's `MAXIMUM_SNAPLEN`, which is also its default.
const SNAPLEN: u32 = 262_144;

impl Validator<'_> {
    pub(super) fn build_capture(&mut self) -> Option<Capture> {
        let raw = &self.raw.capture;
        let scope = match &raw.interfaces {
            Field::Absent => Some(CaptureScope::All),
            Field::Bad => None,
            Field::Set(at) => match &at.value {
                RawScope::Word(word) if word == "all" => Some(CaptureScope::All),
                RawScope::Word(word) if word == "off" => Some(CaptureScope::Off),
                RawScope::Word(word) => {
                    let at = At {
                        value: word.clone(),
                        span: at.span,
                    };
                    if word.contains(':') {
                        self.list_wanted(&at);
                    } else {
                        self.unknown_word("interfaces", &at, keys::SCOPES);
                    }
                    None
                }
                RawScope::List(list) => self.scope(list),
            },
        };
        let snaplen = match &raw.snaplen {
            Field::Absent => Some(SNAPLEN),
            Field::Bad => None,
            // 64: Ethernet, IPv4 and the ports of TCP, whatever the options.
            Field::Set(at) => self.number(
                at,
                "a snaplen",
                64..=i64::from(SNAPLEN),
                Code::BadSnaplen,
                "262144 keeps whole frames, 128 the headers",
            ),
        };
        Some(Capture {
            scope: scope?,
            snaplen: snaplen?,
        })
    }

    fn list_wanted(&mut self, at: &At<String>) {
        self.report(
            Code::UnknownWord,
            at.span,
            format!("`interfaces` cannot be {}", quote(&at.value)),
            "one interface is a list of one",
            format!("write `interfaces = [\"{}\"]`", at.value.escape_default()),
        );
    }

    fn scope(&mut self, list: &[Field<String>]) -> Option<CaptureScope> {
        let mut all = Some(Vec::new());
        for entry in list {
            let found = entry.get().and_then(|at| self.captured(at));
            all = all.zip(found).map(|(mut list, pair)| {
                if !list.contains(&pair) {
                    list.push(pair);
                }
                list
            });
        }
        all.map(CaptureScope::Only)
    }

    fn captured(&mut self, at: &At<String>) -> Option<(NodeName, IfName)> {
        let bad = |v: &mut Self, message: String, label: &str, help: String| {
            v.report(Code::CaptureUnknown, at.span, message, label, help);
            None
        };
        let Some((node, interface)) = at.value.split_once(':') else {
            let message = format!("{} is not an interface of a node", quote(&at.value));
            let help = "write it like `client:eth1`".to_owned();
            return bad(self, message, "expected `node:interface`", help);
        };
        let Some(&n) = self.node_index.get(node) else {
            let known = self.raw.nodes.iter().map(|n| n.name.value.as_str());
            let help = did_you_mean(node, known, "the lab has the nodes", "remove it");
            let message = format!("cannot capture on unknown node {}", quote(node));
            return bad(self, message, "no such node", help);
        };
        let raw = self.nodes[n].raw;
        let known = raw.interfaces.get().map_or(&[][..], |list| &list.value);
        let Some(i) = known.iter().position(|i| i.name.value == interface) else {
            if raw.interfaces_unsure || raw.interfaces.is_bad() {
                return None;
            }
            let known = known.iter().map(|i| i.name.value.as_str());
            let help = did_you_mean(
                interface,
                known,
                "the node has",
                "the node has no interfaces",
            );
            let message = format!("node {} has no interface {}", quote(node), quote(interface));
            return bad(self, message, "no such interface", help);
        };
        self.nodes[n]
            .name
            .clone()
            .zip(self.nodes[n].interfaces[i].name.clone())
    }
}
