//! What did the director change? Each frame is compared as it came and as it left.

use std::collections::BTreeSet;

use super::evidence::evidence;
use super::types::{Evidence, Outcome, Verdict, VerdictId};
use super::verdicts::{MOST_EVIDENCE, verdict};
use super::view::View;
use crate::trace::follow::{Journey, Leg};
use crate::trace::record::{Form, Record};
use crate::trace::words::{count, list};

/// What comparing came to.
#[derive(Default)]
struct Compared {
    /// Pairs of which all bytes are the same, but the TTL and what follows from it.
    same: u64,
    /// Of these, those of which only the first bytes were captured.
    cut: u64,
    /// Pairs that were captured with different lengths, so that bytes cannot be compared.
    unlike: u64,
    /// Pairs of which other bytes differ.
    other: u64,
    /// Pairs whose header checksum was right before and is wrong after.
    spoilt: u64,
    /// TTL before and after.
    ttls: BTreeSet<(u8, u8)>,
    /// Whether a MAC address stayed as it was.
    same_macs: u64,
    /// Tunnels and rewritten addresses, in words.
    forms: BTreeSet<String>,
    good: Vec<Evidence>,
    bad: Vec<Evidence>,
}

/// What did the director change?
pub(super) fn changed(view: &View<'_>, expected: &str) -> Verdict {
    let question = match expected {
        "nat" => "Did the director change addresses only?",
        "tun" => "Did the director wrap frames, and leave what is inside as it was?",
        _ => "Did the director change nothing but MAC addresses (and the TTL)?",
    };
    let mut c = Compared::default();
    for journey in view.journeys(true) {
        if let (Some(came), Some(went)) = view.at_director(journey)
            && !std::ptr::eq(came, went)
        {
            c.compare(view, journey, came, went);
        }
    }
    let pairs = c.same + c.unlike + c.other;
    let id = VerdictId::Changed;
    if pairs == 0 {
        let answer = "No frame was captured both as it came to the director and as it left.";
        return verdict(id, question, Outcome::Inconclusive, answer, Vec::new());
    }
    if expected == "nat" {
        return c.nat(question, pairs);
    }
    let wrapped = !c.forms.is_empty();
    let bad = c.other + c.spoilt;
    if bad > 0 || (wrapped && expected != "tun") {
        let what = if wrapped {
            format!("it {}", list(&c.forms.iter().collect::<Vec<_>>()))
        } else {
            format!(
                "of {}, {bad} left with other bytes changed as well",
                count(pairs, "frame")
            )
        };
        let evidence = if c.bad.is_empty() { c.good } else { c.bad };
        return verdict(
            id,
            question,
            Outcome::Fail,
            format!("No: {what}."),
            evidence,
        );
    }
    let compared = match (c.unlike, c.cut) {
        (0, 0) => format!("in all {} compared byte by byte", count(pairs, "frame")),
        (0, cut) => format!(
            "in all {} compared byte by byte, of {cut} only the bytes that were captured",
            count(pairs, "frame")
        ),
        (unlike, _) => format!(
            "in {} compared byte by byte; {unlike} more were cut at different lengths",
            count(c.same, "frame")
        ),
    };
    let answer = if wrapped {
        let forms = list(&c.forms.iter().collect::<Vec<_>>());
        let but = c
            .ttl()
            .map_or_else(String::new, |ttl| format!(" but for {ttl}"));
        format!("Yes: it {forms}; the packet inside is the same{but}, {compared}.")
    } else {
        let and = c.ttl().map(|ttl| format!(" and {ttl}"));
        let and = and.unwrap_or_else(|| c.kept());
        format!("Yes: only MAC addresses{and}, {compared}.")
    };
    let outcome = if c.same == 0 {
        Outcome::Inconclusive
    } else {
        Outcome::Pass
    };
    verdict(id, question, outcome, answer, c.good)
}

impl Compared {
    fn compare(&mut self, view: &View<'_>, journey: &Journey, came: &Leg, went: &Leg) {
        // The receiver's own sight of what came, and the sender's of what went.
        let (Some(before), Some(after)) = (came.sights.last(), went.sights.first()) else {
            return;
        };
        let (b, a) = (view.record(*before), view.record(*after));
        self.ttls.insert((b.ttl, a.ttl));
        self.same_macs += u64::from(b.src.is_some() && (b.src, b.dst) == (a.src, a.dst));
        match view.form(went) {
            Form::Wrapped(kind, from, to) => {
                let what = format!("wrapped them in {} ({from} > {to})", kind.as_str());
                self.note(what);
            }
            Form::Rewritten { server, .. } if view.is_real(journey, went) => {
                let vip = view.conn(journey.conn as usize).flow.server;
                self.note(format!("rewrote {vip} to {server}"));
            }
            _ => {}
        }
        let pair = || {
            [
                evidence(view.trace, view.stations, *before),
                evidence(view.trace, view.stations, *after),
            ]
        };
        let spoilt = a.spoilt && !b.spoilt;
        let differs = match same_bytes(b, a) {
            None => {
                self.unlike += 1;
                false
            }
            Some(true) => {
                self.same += 1;
                self.cut += u64::from(!b.whole);
                false
            }
            Some(false) => {
                self.other += 1;
                true
            }
        };
        self.spoilt += u64::from(spoilt && !differs);
        let place = if differs || spoilt {
            &mut self.bad
        } else {
            &mut self.good
        };
        if place.len() < MOST_EVIDENCE {
            place.extend(pair());
        }
    }

    fn note(&mut self, what: String) {
        // Some realservers are enough to see what is done.
        if self.forms.len() < 4 {
            self.forms.insert(what);
        }
    }

    /// What became of the TTL, if it changed.
    fn ttl(&self) -> Option<String> {
        let changes: Vec<_> = self.ttls.iter().filter(|(b, a)| b != a).collect();
        match changes[..] {
            [] => None,
            [(before, after)] => Some(format!("the TTL ({before} to {after})")),
            _ => Some("the TTL".to_owned()),
        }
    }

    fn kept(&self) -> String {
        match self.ttls.iter().next() {
            Some((ttl, _)) if self.ttls.len() == 1 => format!(" (the TTL stayed at {ttl})"),
            _ => " (the TTL stayed)".to_owned(),
        }
    }

    fn nat(self, question: &str, pairs: u64) -> Verdict {
        let id = VerdictId::Changed;
        if self.forms.is_empty() {
            let answer = format!("No: it changed no address in {}.", count(pairs, "frame"));
            return verdict(id, question, Outcome::Fail, answer, self.good);
        }
        let forms = list(&self.forms.iter().collect::<Vec<_>>());
        let answer = format!(
            "Yes: it {forms}{}; identification, sequence numbers, flags and lengths are the same, \
             in all {}.",
            self.ttl()
                .map_or_else(String::new, |ttl| format!(", and changed {ttl}")),
            count(pairs, "frame")
        );
        // Bytes differ by nature where addresses do.
        let mut evidence = self.bad;
        evidence.extend(self.good);
        evidence.truncate(MOST_EVIDENCE);
        verdict(id, question, Outcome::Pass, answer, evidence)
    }
}

/// Whether all bytes are the same, TTL and header checksum aside; `None` if different lengths of
/// them were captured.
fn same_bytes(before: &Record, after: &Record) -> Option<bool> {
    (before.digested == after.digested).then_some(before.digest == after.digest)
}
