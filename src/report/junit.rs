//! JUnit XML, as CI servers read it: one suite a service, one case a verdict.
//!
//! Written by hand: it is three elements, and escaping is five characters and what XML 1.0 does
//! not allow at all.

use std::fmt::Write;

use crate::trace::proof::{Outcome, Proof, ServiceProof};

use super::proof::frame;

/// The verdicts of a proof.
pub fn proof_junit(proof: &Proof) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites");
    let all = || proof.services.iter().flat_map(|s| &s.verdicts);
    let of = |outcome| all().filter(|v| v.outcome == outcome).count();
    let _ = writeln!(
        text,
        " name=\"nslab proof\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
        all().count(),
        of(Outcome::Fail),
        of(Outcome::Inconclusive)
    );
    for service in &proof.services {
        suite(&mut text, proof, service);
    }
    text.push_str("</testsuites>\n");
    text
}

fn suite(text: &mut String, proof: &Proof, service: &ServiceProof) {
    let name = match (&proof.lab, &service.name) {
        (Some(lab), Some(name)) => format!("{lab}.{name}"),
        _ => service.vip.to_string(),
    };
    let of = |outcome| {
        service
            .verdicts
            .iter()
            .filter(|v| v.outcome == outcome)
            .count()
    };
    let _ = writeln!(
        text,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
        escape(&name),
        service.verdicts.len(),
        of(Outcome::Fail),
        of(Outcome::Inconclusive)
    );
    for verdict in &service.verdicts {
        let _ = write!(
            text,
            "    <testcase classname=\"{}\" name=\"{}\">",
            escape(&name),
            escape(verdict.id.as_str())
        );
        let shown: Vec<_> = verdict.evidence.iter().map(frame).collect();
        let answer = escape(&verdict.answer);
        let lines = [&[verdict.question.clone()][..], &shown].concat();
        let details = escape(&lines.join("\n"));
        let _ = match verdict.outcome {
            Outcome::Pass => write!(text, "<system-out>{answer}\n{details}</system-out>"),
            Outcome::Fail => write!(text, "<failure message=\"{answer}\">{details}</failure>"),
            // JUnit knows no third answer; a case that was not decided is one that was not run.
            Outcome::Inconclusive => write!(text, "<skipped message=\"{answer}\"/>"),
        };
        text.push_str("</testcase>\n");
    }
    let _ = writeln!(
        text,
        "    <system-out>{}</system-out>\n  </testsuite>",
        escape(&service.conclusion)
    );
}

/// Text for an element or a quoted attribute. Characters that XML 1.0 has no way to write (its
/// production 2) become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t'
            | '\n'
            | '\r'
            | '\u{20}'..='\u{d7ff}'
            | '\u{e000}'..='\u{fffd}'
            | '\u{10000}'.. => {
                escaped.push(c);
            }
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_written() {
        assert_eq!(
            escape("a<b> & \"c\" 'd'\n\u{0}\u{b}\u{fffe}\u{1f980}"),
            "a&lt;b&gt; &amp; &quot;c&quot; &apos;d&apos;\n\u{fffd}\u{fffd}\u{fffd}\u{1f980}"
        );
    }
}
