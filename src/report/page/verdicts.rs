//! Questions, answers, and the frames that show them.

use super::tables::{cell, number, row_head, table};
use super::{MOST_ROWS, Part, badge, heading_of, more, paragraph};
use crate::picture::markup::{Element, element};
use crate::trace::proof::{Evidence, Verdict};

/// The section's body; headings of this level.
pub(super) fn verdicts(part: &Part<'_>, level: u8) -> Vec<Element> {
    let verdicts = &part.proof.verdicts;
    if verdicts.is_empty() {
        return vec![paragraph("There were no packets to judge.")];
    }
    verdicts.iter().map(|v| verdict(v, level)).collect()
}

fn verdict(verdict: &Verdict, level: u8) -> Element {
    let mut body = element("div")
        .class("verdict")
        .with("data-verdict", verdict.id.as_str())
        .child(
            heading_of(level)
                .child(badge(verdict.outcome))
                .text(" ")
                .child(element("span").text(&verdict.question)),
        )
        .child(paragraph(&verdict.answer));
    if !verdict.evidence.is_empty() {
        body.push(
            element("details")
                .child(
                    element("summary")
                        .text(format!("Frames that show it ({})", verdict.evidence.len())),
                )
                .child(evidence(&verdict.question, &verdict.evidence))
                .children(more(
                    verdict.evidence.len().saturating_sub(MOST_ROWS),
                    "frame",
                    "nslab proof --json has them.",
                )),
        );
    }
    body
}

fn evidence(question: &str, evidence: &[Evidence]) -> Element {
    let rows = evidence.iter().take(MOST_ROWS).map(|e| {
        element("tr")
            .child(row_head(&e.point))
            .child(number(e.frame))
            .child(cell(&e.what))
            .child(cell(e.file.display()))
    });
    table(
        &format!("Evidence: {question}"),
        &[
            ("Interface", false),
            ("Frame", true),
            ("What it is", false),
            ("File", false),
        ],
        rows.collect(),
    )
}
