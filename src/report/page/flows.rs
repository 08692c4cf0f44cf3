//! Connections: a list to choose from, and a time-sequence diagram of each.
//!
//! Each is a `<details>` of its own, the chosen one open: without JavaScript all can be reached. The
//! script adds a chooser that shows one at a time, and fades the paths of the others.

use std::fmt::Write;

use super::tables::{cell, number, row_head, table};
use super::{MOST_ROWS, Part, badge, heading_of, more, paragraph, sequence};
use crate::picture::markup::{Element, element};
use crate::trace::proof::Sequence;
use crate::trace::proof::{Flow, MatrixRow};
use crate::trace::words::count;

/// The section's body; headings of this level.
pub(super) fn flows(part: &Part<'_>, level: u8) -> Vec<Element> {
    let flows = &part.proof.flows;
    if flows.is_empty() {
        return vec![paragraph("There was no connection.")];
    }
    // Those that are drawn; at least one is, whether or not its frames were followed.
    let drawn: Vec<(&Flow, Option<&Sequence>)> = flows
        .iter()
        .filter_map(|f| {
            let sequence = part.drawing.sequences.iter().find(|s| s.flow == f.id);
            sequence.map(|s| (f, Some(s)))
        })
        .collect();
    let drawn = if drawn.is_empty() {
        vec![(&flows[0], None)]
    } else {
        drawn
    };
    let asked = |(f, _): &&(&Flow, Option<&Sequence>)| Some(f.id) == part.flow;
    let first = drawn.iter().find(asked).unwrap_or(&drawn[0]).0.id;
    let mut body = vec![overview(part)];
    body.extend(more(
        flows.len().saturating_sub(MOST_ROWS),
        "connection",
        "nslab proof --json has them.",
    ));
    let options = drawn.iter().map(|(f, _)| {
        let option = element("option").with("value", id(part, f)).text(title(f));
        if f.id == first {
            option.with("selected", "")
        } else {
            option
        }
    });
    let chooser = format!("choose-{}", part.n);
    body.push(
        element("p")
            .class("chooser")
            .with("hidden", "")
            .child(
                element("label")
                    .with("for", &chooser)
                    .text("Show connection "),
            )
            .child(
                element("select")
                    .with("id", &chooser)
                    .with("data-service", part.n)
                    .children(options),
            ),
    );
    for (f, sequence) in &drawn {
        body.push(flow(part, f, *sequence, f.id == first, level));
    }
    body.extend(more(
        flows.len() - drawn.len(),
        "diagram",
        "nslab report --flow N draws connection N as well.",
    ));
    body
}

fn id(part: &Part<'_>, flow: &Flow) -> String {
    format!("flow-{}-{}", part.n, flow.id)
}

/// `1: 192.168.10.168:50544, served by server1, GET /thredds`.
fn title(flow: &Flow) -> String {
    let mut title = format!("{}: {}", flow.id, flow.client);
    if let Some(server) = &flow.server {
        title.push_str(", served by ");
        title.push_str(server);
    }
    if let Some(request) = &flow.request {
        title.push_str(", ");
        title.push_str(&crate::picture::markup::shortened(request, 60));
    }
    title
}

fn overview(part: &Part<'_>) -> Element {
    let rows = part.proof.flows.iter().take(MOST_ROWS).map(|f| {
        element("tr")
            .child(row_head(&f.id.to_string()))
            .child(cell(f.client))
            .child(cell(f.server.as_deref().unwrap_or("not known")))
            .child(cell(f.request.as_deref().unwrap_or_default()))
            .child(cell(f.status.as_deref().unwrap_or_default()))
            .child(number(f.retransmissions))
            .child(element("td").child(badge(f.outcome)))
    });
    table(
        &format!(
            "{} in the order of time",
            count(part.proof.flows.len() as u64, "connection")
        ),
        &[
            ("Number", false),
            ("Client", false),
            ("Realserver", false),
            ("First request", false),
            ("First answer", false),
            ("Sent again", true),
            ("Outcome", false),
        ],
        rows.collect(),
    )
}

fn flow(
    part: &Part<'_>,
    flow: &Flow,
    sequence: Option<&Sequence>,
    open: bool,
    level: u8,
) -> Element {
    let id = id(part, flow);
    let mut details = element("details")
        .class("flow")
        .with("id", &id)
        .with("data-flow", flow.id)
        .with("data-service", part.n);
    if open {
        details = details.with("open", "");
    }
    details = details.child(
        element("summary").child(heading_of(level).text(format!("Connection {}", title(flow)))),
    );
    let mut said = format!("{} asked {} ({})", flow.client, flow.vip, flow.protocol);
    if let Some((came, left)) = flow.director_ttl {
        let _ = write!(
            said,
            "; a request came to the director with TTL {came} and left it with {left}"
        );
    }
    if !flow.opened {
        said.push_str("; its opening is not in the captures");
    }
    details.push(paragraph(format!("{said}.")));
    details
        .children(flow.remark.as_ref().map(paragraph))
        .child(frames(flow))
        .children(match sequence {
            Some(sequence) => sequence::sequence(&id, sequence),
            None => vec![paragraph(
                "Its frames were counted, not followed one by one, so there is no diagram.",
            )],
        })
}

/// Frames of one connection at each interface.
fn frames(flow: &Flow) -> Element {
    let rows = flow.matrix.iter().take(MOST_ROWS).map(|r: &MatrixRow| {
        element("tr")
            .child(row_head(&r.point))
            .child(number(r.to_vip))
            .child(number(r.from_vip))
    });
    table(
        &format!("Frames of connection {}", flow.id),
        &[("Interface", false), ("To VIP", true), ("From VIP", true)],
        rows.collect(),
    )
}
