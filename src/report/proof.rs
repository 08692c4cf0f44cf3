//! `nslab proof` as text.

use std::fmt::Write;

use super::tables::{header, table};
use crate::trace::proof::{
    Evidence, Flow, MatrixRow, Method, Outcome, Proof, ServiceProof, Verdict,
};

/// Connections that are listed; `--json` has all.
const MOST_FLOWS: usize = 20;
/// Frames that are shown for a verdict.
const MOST_EVIDENCE: usize = 2;
/// Columns that the answers are wrapped at.
const WIDTH: usize = 96;

/// What captures prove, for people.
pub fn proof(proof: &Proof) -> String {
    let mut text = String::new();
    for (n, service) in proof.services.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        one(&mut text, proof, service);
    }
    let damaged = proof.files.iter().flat_map(|f| {
        f.notes
            .iter()
            .map(move |note| format!("{}: {note}", f.path.display()))
    });
    for note in damaged.chain(proof.notes.iter().cloned()) {
        wrap(&mut text, "note: ", "      ", &note);
    }
    text
}

fn one(text: &mut String, proof: &Proof, service: &ServiceProof) {
    let _ = writeln!(text, "{}\n", title(proof, service));
    text.push_str(&matrix(&service.matrix));
    if !service.flows.is_empty() {
        let _ = writeln!(text, "\n{}", flows(&service.flows).trim_end());
    }
    text.push('\n');
    for verdict in &service.verdicts {
        show(text, verdict);
    }
    for note in &service.notes {
        wrap(text, "note: ", "      ", note);
    }
    if !service.notes.is_empty() || !service.verdicts.is_empty() {
        text.push('\n');
    }
    wrap(text, "", "", &service.conclusion);
    let word = match service.outcome {
        Outcome::Pass => "PROVEN",
        Outcome::Inconclusive => "NOT CONCLUSIVE",
        Outcome::Fail => "REFUTED",
    };
    let declared = service
        .declared
        .as_ref()
        .map_or_else(String::new, |d| format!(" (declared: method {d})"));
    let _ = writeln!(text, "{word}{declared}");
}

fn title(proof: &Proof, service: &ServiceProof) -> String {
    let mut title = String::new();
    if let Some(lab) = &proof.lab {
        let _ = write!(title, "lab {lab}, ");
    }
    if let Some(name) = &service.name {
        let _ = write!(title, "service {name} at ");
    } else {
        title.push_str("VIP ");
    }
    match service.port {
        Some(port) => {
            let _ = write!(title, "{}", std::net::SocketAddr::new(service.vip, port));
        }
        None => {
            let _ = write!(title, "{}", service.vip);
        }
    }
    if let Some(protocol) = &service.protocol {
        let _ = write!(title, "/{protocol}");
    }
    if let Some(director) = &service.director {
        let _ = write!(title, ", director {}", director.name);
    }
    title
}

fn matrix(rows: &[MatrixRow]) -> String {
    let nat = rows.iter().any(|r| r.to_real + r.from_real > 0);
    let wrapped = rows.iter().any(|r| r.wrapped > 0);
    let mut names = vec!["FRAMES", "to VIP", "from VIP"];
    if nat {
        names.extend(["to realserver", "from realserver"]);
    }
    if wrapped {
        names.push("in tunnel");
    }
    let mut lines = vec![header(&names)];
    for row in rows {
        let mut cells = vec![row.to_vip, row.from_vip];
        if nat {
            cells.extend([row.to_real, row.from_real]);
        }
        if wrapped {
            cells.push(row.wrapped);
        }
        let mut line = vec![row.point.clone()];
        line.extend(cells.iter().map(ToString::to_string));
        lines.push(line);
    }
    table(&lines, &[1, 2, 3, 4, 5])
}

/// The interfaces in columns: frames to the VIP and from it, NAT's other side among them.
fn flows(flows: &[Flow]) -> String {
    let mut points: Vec<&str> = Vec::new();
    for row in flows.iter().flat_map(|f| &f.matrix) {
        if !points.contains(&row.point.as_str()) {
            points.push(&row.point);
        }
    }
    let shown = &flows[..flows.len().min(MOST_FLOWS)];
    let mut names = vec!["CONNECTION", "SERVER"];
    names.extend(&points);
    names.extend(["TTL", "VERDICT"]);
    let mut lines = vec![header(&names)];
    for flow in shown {
        let mut line = vec![
            flow.client.to_string(),
            flow.server.clone().unwrap_or_else(|| "?".to_owned()),
        ];
        for point in &points {
            let row = flow.matrix.iter().find(|r| r.point == *point);
            line.push(row.map_or_else(
                || "-".to_owned(),
                |r| format!("{}/{}", r.to_vip + r.to_real, r.from_vip + r.from_real),
            ));
        }
        line.push(
            flow.director_ttl
                .map_or_else(|| "-".to_owned(), |(came, went)| format!("{came}>{went}")),
        );
        line.push(verdict_of(flow));
        lines.push(line);
    }
    let columns: Vec<usize> = (2..2 + points.len()).collect();
    let mut text = table(&lines, &columns);
    if flows.len() > shown.len() {
        let _ = writeln!(
            text,
            "and {} more (--json has all)",
            flows.len() - shown.len()
        );
    }
    text
}

fn verdict_of(flow: &Flow) -> String {
    let mut words = match flow.method {
        Method::Direct => "direct".to_owned(),
        Method::Nat => "nat".to_owned(),
        Method::Tunnel(kind) => kind.as_str().to_lowercase(),
        _ => flow.outcome.as_str().to_owned(),
    };
    if flow.outcome != Outcome::Pass && flow.method.word().is_some() {
        flow.outcome.as_str().clone_into(&mut words);
    }
    if let Some(remark) = &flow.remark {
        let _ = write!(words, ": {remark}");
    }
    if flow.retransmissions > 0 {
        let _ = write!(words, " ({} sent again)", flow.retransmissions);
    }
    words
}

fn show(text: &mut String, verdict: &Verdict) {
    const MARGIN: &str = "              ";
    let word = verdict.outcome.as_str();
    wrap(text, &format!("{word:<14}"), MARGIN, &verdict.question);
    wrap(text, MARGIN, MARGIN, &verdict.answer);
    for evidence in verdict.evidence.iter().take(MOST_EVIDENCE) {
        let _ = writeln!(text, "{MARGIN}  {}", frame(evidence));
    }
}

/// A frame with its place: `lb_eth1.pcap:12 10:05:59.123456789 ...`.
pub(super) fn frame(evidence: &Evidence) -> String {
    let name = evidence.file.file_name().map_or_else(
        || evidence.file.display().to_string(),
        |n| n.to_string_lossy().into_owned(),
    );
    format!(
        "{name}:{} {} {}",
        evidence.frame,
        time_of_day(evidence.time_ns),
        evidence.what
    )
}

/// UTC, as tshark's `frame.time_utc` has it.
fn time_of_day(ns: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    let (seconds, rest) = (ns.div_euclid(SECOND), ns.rem_euclid(SECOND));
    let day = seconds.rem_euclid(86_400);
    format!(
        "{:02}:{:02}:{:02}.{rest:09}",
        day / 3600,
        day / 60 % 60,
        day % 60
    )
}

/// Writes a paragraph, wrapped at spaces.
pub(super) fn wrap(text: &mut String, first: &str, rest: &str, paragraph: &str) {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in paragraph.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            rest.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}
