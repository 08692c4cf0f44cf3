//! What is captured.

use super::Validator;
use crate::capture::filter;
use crate::lab::model::{Capture, CaptureScope, CaptureSettings, Rotate};
use crate::lab::names::{IfName, NodeName};
use crate::spec::text::{did_you_mean, quote};
use crate::spec::{At, Code, Field, RawCaptureSettings, RawRotate, RawScope, keys};

/// tcpdump's `MAXIMUM_SNAPLEN`, which is also its default.
const SNAPLEN: u32 = 262_144;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

const DEFAULTS: CaptureSettings = CaptureSettings {
    snaplen: SNAPLEN,
    buffer: None,
    filter: None,
    rotate: None,
};

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
        let settings = self.settings(&raw.settings, &DEFAULTS);
        let merge = match &raw.merge {
            Field::Absent => Some(true),
            Field::Bad => None,
            Field::Set(at) => Some(at.value),
        };
        let mut on = Some(Vec::new());
        for (key, own) in &raw.on {
            let place = self.captured(key);
            let own = match &settings {
                Some(lab) => self.settings(own, lab),
                // For its problems; what it would fall back to is broken itself.
                None => self.settings(own, &DEFAULTS),
            };
            if let (Some((node, interface)), Some(scope)) = (&place, &scope) {
                self.has_effect(key, scope, node, interface);
            }
            on = on.zip(place.zip(own)).map(|(mut list, ((n, i), own))| {
                list.push((n, i, own));
                list
            });
        }
        Some(Capture {
            scope: scope?,
            settings: settings?,
            merge: merge?,
            on: on?,
        })
    }

    /// The settings of one table, with `default` for what it leaves out.
    fn settings(
        &mut self,
        raw: &RawCaptureSettings,
        default: &CaptureSettings,
    ) -> Option<CaptureSettings> {
        let snaplen = match &raw.snaplen {
            Field::Absent => Some(default.snaplen),
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
        let buffer = match &raw.buffer {
            Field::Absent => Some(default.buffer),
            Field::Bad => None,
            Field::Set(at) => self.size(at, "a buffer", 64 * KIB..=1024 * MIB).map(Some),
        };
        let filter = match &raw.filter {
            Field::Absent => Some(default.filter.clone()),
            Field::Bad => None,
            Field::Set(at) => self.filter(at),
        };
        let rotate = match &raw.rotate {
            Field::Absent => Some(default.rotate),
            Field::Bad => None,
            Field::Set(at) => self.rotate(at).map(Some),
        };
        Some(CaptureSettings {
            snaplen: snaplen?,
            buffer: buffer?,
            filter: filter?,
            rotate: rotate?,
        })
    }

    /// An empty filter takes every frame, as in pcap-filter(7): so an interface can undo the lab's.
    #[expect(
        clippy::option_option,
        reason = "no filter and no valid filter are two things"
    )]
    fn filter(&mut self, at: &At<String>) -> Option<Option<String>> {
        if at.value.trim().is_empty() {
            return Some(None);
        }
        if let Err(why) = filter::check(&at.value) {
            self.report(
                Code::BadFilter,
                at.span,
                format!("{} is no capture filter", quote(&at.value)),
                why,
                "write it as pcap-filter(7) and tcpdump have it, like \"tcp port 8080\"",
            );
            return None;
        }
        Some(Some(at.value.clone()))
    }

    fn rotate(&mut self, at: &At<RawRotate>) -> Option<Rotate> {
        let raw = &at.value;
        let size = match &raw.size {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Set(at) => self
                .size(at, "a file", 64 * KIB..=1024 * 1024 * MIB)
                .map(Some),
        };
        let every = match &raw.every {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Set(at) => self.duration(at).map(Some),
        };
        let keep = match &raw.keep {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Set(at) => self
                .number(
                    at,
                    "`keep`",
                    1..=1_000_000,
                    Code::BadRotation,
                    "so many finished files stay beside the one that is written to",
                )
                .map(Some),
        };
        if raw.size.is_absent() && raw.every.is_absent() {
            self.report(
                Code::BadRotation,
                at.span,
                "`rotate` has neither `size` nor `every`",
                "when does a new file begin?",
                "write `{ size = \"64MiB\", keep = 8 }` or `{ every = \"60s\", keep = 8 }`",
            );
            return None;
        }
        Some(Rotate {
            size: size?,
            every: every?,
            keep: keep?,
        })
    }

    /// Settings of an interface that is not captured.
    fn has_effect(
        &mut self,
        key: &At<String>,
        scope: &CaptureScope,
        node: &NodeName,
        interface: &IfName,
    ) {
        let captured = match scope {
            CaptureScope::All => true,
            CaptureScope::Off => false,
            CaptureScope::Only(list) => list.iter().any(|(n, i)| n == node && i == interface),
        };
        if !captured {
            self.report(
                Code::CaptureIgnored,
                key.span,
                format!(
                    "{} has capture settings, but is not captured",
                    quote(&key.value)
                ),
                "without effect",
                "add it to `interfaces` of `[capture]`, or remove the settings",
            );
        }
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
