//! What a node's processes may do and use: capabilities and limits.

use std::str::FromStr;

use super::Validator;
use crate::lab::model::{Limits, Node};
use crate::spec::text::{nearest, quote};
use crate::spec::{At, Code, Diagnostic, Field, RawLimits};

/// Capabilities by their full names.
pub(super) struct Capabilities {
    pub(super) add: Vec<String>,
    pub(super) drop: Vec<String>,
}

/// The least memory that a shell and its init get along with, and more than there is.
const MEMORY: std::ops::RangeInclusive<u64> = 4 << 20..=16 << 40;
/// Thousandths of a processor: Docker's least, and more than there are.
const CPUS_MILLI: std::ops::RangeInclusive<u32> = 10..=1_024_000;
/// The node's init, which counts, and one process of its own; `PID_MAX_LIMIT` of
/// include/linux/threads.h.
const PIDS: std::ops::RangeInclusive<i64> = 2..=4_194_304;

impl Validator<'_> {
    pub(super) fn capabilities(
        &mut self,
        add: &[Field<String>],
        drop: &[Field<String>],
    ) -> Capabilities {
        let mut added: Vec<At<String>> = Vec::new();
        for at in add.iter().filter_map(Field::get) {
            added.extend(self.capability(at).map(|value| At {
                value,
                span: at.span,
            }));
        }
        let mut dropped = Vec::new();
        for at in drop.iter().filter_map(Field::get) {
            if at.value == Node::ALL {
                dropped.push(at.value.clone());
                continue;
            }
            let Some(name) = self.capability(at) else {
                continue;
            };
            if let Some(first) = added.iter().find(|a| a.value == name) {
                let d = Diagnostic::new(
                    Code::CapabilityClash,
                    at.span,
                    format!("capability {} is added and dropped", quote(&name)),
                    "dropped here",
                    "remove one of the two; `cap_drop = [\"ALL\"]` drops all but the added ones",
                )
                .and(first.span, "added here");
                self.diagnostics.push(d);
            }
            dropped.push(name);
        }
        Capabilities {
            add: added.into_iter().map(|at| at.value).collect(),
            drop: dropped,
        }
    }

    fn capability(&mut self, at: &At<String>) -> Option<String> {
        let full = if at.value.starts_with("CAP_") {
            at.value.clone()
        } else {
            format!("CAP_{}", at.value)
        };
        if caps::Capability::from_str(&full).is_ok() {
            return Some(full);
        }
        let mut known: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
        known.sort();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let upper = full.to_uppercase().replace("CAP_CAP_", "CAP_");
        let near = nearest(&upper, &known);
        let help = if upper == "CAP_ALL" {
            "`cap_drop` knows `ALL`; `cap_add` wants each capability by its name".to_owned()
        } else if near.is_empty() {
            "capabilities(7) lists them; write one like `CAP_SYS_PTRACE`".to_owned()
        } else {
            format!("did you mean {}?", crate::spec::text::any_of(&near))
        };
        self.report(
            Code::BadCapability,
            at.span,
            format!("unknown capability {}", quote(&at.value)),
            "no such capability",
            help,
        );
        None
    }

    /// `None` too where nothing is limited.
    pub(super) fn limits(&mut self, raw: &RawLimits) -> Option<Limits> {
        let memory = raw
            .memory
            .get()
            .and_then(|at| self.size(at, "a memory limit", MEMORY));
        let cpus_milli = raw.cpus.get().and_then(|at| self.cpus(at));
        let pids = raw.pids.get().and_then(|at| {
            self.number(
                at,
                "`pids`",
                PIDS,
                Code::BadLimit,
                "so many processes and threads may live in the node at a time, its init among them",
            )
        });
        let limits = Limits {
            memory,
            cpus_milli,
            pids,
        };
        (memory.is_some() || cpus_milli.is_some() || pids.is_some()).then_some(limits)
    }

    fn cpus(&mut self, at: &At<String>) -> Option<u32> {
        let milli = thousandths(&at.value);
        let (message, label) = match milli {
            Some(n) if CPUS_MILLI.contains(&n) => return milli,
            Some(_) => ("`cpus` must be from 0.01 to 1024", "out of range"),
            None => (
                "`cpus` is a number of processors to a thousandth",
                "not such a number",
            ),
        };
        let help = "write so many processors as the node may keep busy, as 0.5 or 2";
        self.report(Code::BadLimit, at.span, message, label, help);
        None
    }
}

/// A decimal number in thousandths, if it is one; what is too large is the largest, what is negative
/// is 0.
fn thousandths(text: &str) -> Option<u32> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let number: f64 = digits.parse().ok()?;
    let milli = number * 1000.0;
    #[expect(
        clippy::cast_sign_loss,
        reason = "the conversion saturates, and not a number is 0"
    )]
    let whole = milli.round() as u32;
    let exact = (milli - milli.round()).abs() < 1e-6;
    (number.is_finite() && exact).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_count_in_thousandths() {
        for (text, milli) in [
            ("1", Some(1000)),
            ("1.5", Some(1500)),
            ("0.001", Some(1)),
            ("1.2345", None),
            ("1_000.5", Some(1_000_500)),
            ("-1.0", Some(0)),
            ("1e30", Some(u32::MAX)),
            ("inf", None),
            ("-nan", None),
            ("9223372036854775807", Some(u32::MAX)),
        ] {
            assert_eq!(thousandths(text), milli, "{text}");
        }
    }
}
