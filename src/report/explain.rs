//! `nslab explain` as text: a table of hops each way, and what happened, step by step.

use std::fmt::Write;

use super::proof::wrap;
use super::tables::{header, table};
use crate::trace::words::interval;
use crate::trace::{Explanation, Hop, Way};

/// The way of a request and its answer, for people.
pub fn explanation(explanation: &Explanation) -> String {
    let mut text = String::new();
    if let Some(lab) = &explanation.lab {
        let _ = write!(text, "lab {lab}: ");
    }
    let _ = writeln!(
        text,
        "{} to {} ({}), the latest of {} captured\n",
        explanation.client, explanation.server, explanation.protocol, explanation.of
    );
    let _ = writeln!(text, "The request, {}:\n", explanation.request);
    text.push_str(&hops(&explanation.there));
    if let Some(answer) = &explanation.answer {
        let _ = writeln!(text, "\nThe answer, {answer}:\n");
        text.push_str(&hops(&explanation.back));
    }
    text.push('\n');
    for (n, sentence) in explanation.prose.iter().enumerate() {
        wrap(
            &mut text,
            &format!("{:>2}. ", n + 1),
            "    ",
            &capital(sentence),
        );
    }
    for note in &explanation.notes {
        wrap(&mut text, "note: ", "      ", note);
    }
    text
}

fn capital(sentence: &str) -> String {
    // A name stays as it is written; only a sentence that begins with a word of ours is raised.
    let raised = ["on ", "the "]
        .iter()
        .any(|word| sentence.starts_with(word));
    let mut chars = sentence.chars();
    match chars.next() {
        Some(first) if raised => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        _ => format!("{sentence}."),
    }
}

fn hops(hops: &[Hop]) -> String {
    let mut rows = vec![header(&[
        "TIME", "STEP", "AT", "WAY", "FRAME", "PACKET", "TTL", "WHERE",
    ])];
    let mut last: Option<i64> = None;
    for hop in hops {
        let step = last.map_or_else(|| "-".to_owned(), |at| interval(hop.since_ns - at));
        last = Some(hop.since_ns);
        let mac = |name: &Option<String>, mac: &Option<String>| {
            name.clone()
                .or_else(|| mac.clone())
                .unwrap_or_else(|| "?".to_owned())
        };
        let mut packet = format!("{} > {}", hop.src, hop.dst);
        if let Some(tunnel) = &hop.tunnel {
            packet = format!("{tunnel} {{ {packet} }}");
        }
        rows.push(vec![
            interval(hop.since_ns),
            step,
            hop.point.clone(),
            match hop.direction {
                Some(Way::In) => "in",
                Some(Way::Out) => "out",
                None => "passes",
            }
            .to_owned(),
            format!(
                "{} > {}",
                mac(&hop.from, &hop.from_mac),
                mac(&hop.to, &hop.to_mac)
            ),
            packet,
            hop.ttl.to_string(),
            format!(
                "{}:{}",
                hop.evidence
                    .file
                    .file_name()
                    .map(|n| n.to_string_lossy())
                    .unwrap_or_default(),
                hop.evidence.frame
            ),
        ]);
    }
    table(&rows, &[0, 1, 6])
}
