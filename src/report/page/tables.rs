//! Tables: the matrix, the servers' shares, the files.

use super::{MOST_ROWS, Part, list, more, paragraph, scroll};
use crate::picture::markup::{Element, element};
use crate::trace::proof::{Proof, Role};

/// A table in a box of its own that scrolls.
pub(super) fn table(caption: &str, columns: &[(&str, bool)], rows: Vec<Element>) -> Element {
    let heads = columns.iter().map(|(name, number)| {
        // A column of bars says nothing that its neighbours do not: it has no name.
        if name.is_empty() {
            return element("td");
        }
        let head = element("th").with("scope", "col").text(name);
        if *number { head.class("number") } else { head }
    });
    scroll(
        caption,
        element("table")
            .child(element("caption").text(caption))
            .child(element("thead").child(element("tr").children(heads)))
            .child(element("tbody").children(rows)),
    )
}

/// The cell that names its row.
pub(super) fn row_head(text: &str) -> Element {
    element("th").with("scope", "row").text(text)
}

/// A cell of text.
pub(super) fn cell(text: impl std::fmt::Display) -> Element {
    element("td").text(text)
}

/// A cell of a number.
pub(super) fn number(text: impl std::fmt::Display) -> Element {
    element("td").class("number").text(text)
}

const fn role_name(role: Option<Role>) -> &'static str {
    match role {
        Some(Role::Client) => "client",
        Some(Role::Router) => "router",
        Some(Role::Director) => "director",
        Some(Role::Realserver) => "realserver",
        None => "",
    }
}

/// Interface by (to VIP, from VIP); columns of what did not occur are left out.
pub(super) fn matrix(part: &Part<'_>) -> Vec<Element> {
    let rows = &part.proof.matrix;
    let wrapped = rows.iter().any(|r| r.wrapped > 0);
    let real = rows.iter().any(|r| r.to_real + r.from_real > 0);
    let mut columns = vec![
        ("Interface", false),
        ("Part", false),
        ("To VIP", true),
        ("From VIP", true),
    ];
    if wrapped {
        columns.push(("of these in a tunnel", true));
    }
    if real {
        columns.extend([
            ("To a realserver's address", true),
            ("From a realserver's address", true),
        ]);
    }
    let drawn = rows.iter().take(MOST_ROWS).map(|r| {
        let mut row = element("tr")
            .with("data-point", &r.point)
            .child(row_head(&r.point))
            .child(cell(role_name(r.role)))
            .child(number(r.to_vip))
            .child(number(r.from_vip));
        if wrapped {
            row.push(number(r.wrapped));
        }
        if real {
            row.push(number(r.to_real));
            row.push(number(r.from_real));
        }
        row
    });
    let mut body = vec![table(
        "Frames of the service at each captured interface, in and out, over all connections",
        &columns,
        drawn.collect(),
    )];
    body.extend(more(
        rows.len().saturating_sub(MOST_ROWS),
        "interface",
        "nslab proof --json has them.",
    ));
    body
}

/// How many connections each server had, as bars with their numbers.
pub(super) fn shares(part: &Part<'_>) -> Vec<Element> {
    let shares = &part.proof.shares;
    let all: u64 = shares.iter().map(|s| s.connections).sum();
    if all == 0 {
        return vec![paragraph(
            "No realserver is known to have served a connection.",
        )];
    }
    let most = shares
        .iter()
        .map(|s| s.connections)
        .max()
        .unwrap_or(1)
        .max(1);
    let weights = shares.iter().any(|s| s.weight.is_some());
    let mut columns = vec![("Realserver", false)];
    if weights {
        columns.push(("Weight", true));
    }
    columns.extend([("Connections", true), ("Share", true), ("", false)]);
    let rows = shares.iter().take(MOST_ROWS).map(|s| {
        let mut row = element("tr")
            .with("data-server", &s.server)
            .child(row_head(&s.server));
        if weights {
            row.push(number(
                s.weight.map_or_else(|| "-".to_owned(), |w| w.to_string()),
            ));
        }
        let tenths = (s.connections * 1000 + all / 2) / all;
        row.push(number(s.connections));
        row.push(number(format!("{}.{} %", tenths / 10, tenths % 10)));
        // Its length says again what the numbers say.
        row.push(
            element("td")
                .class("bar")
                .with("aria-hidden", "true")
                .child(
                    element("svg")
                        .with("viewBox", "0 0 1000 10")
                        .with("preserveAspectRatio", "none")
                        .with("focusable", "false")
                        .child(
                            element("rect")
                                .with("width", s.connections * 1000 / most)
                                .with("height", 10),
                        ),
                ),
        );
        row
    });
    let mut body = vec![table(
        &format!("Connections by realserver; {all} in all"),
        &columns,
        rows.collect(),
    )];
    body.extend(more(
        shares.len().saturating_sub(MOST_ROWS),
        "realserver",
        "nslab proof --json has them.",
    ));
    body
}

/// What was read, and what is to be known of it.
pub(super) fn files(proof: &Proof) -> Vec<Element> {
    let rows = proof.files.iter().take(MOST_ROWS).map(|f| {
        element("tr")
            .child(row_head(&f.path.display().to_string()))
            .child(number(f.frames))
            .child(cell(f.notes.join("; ")))
    });
    let mut body = vec![table(
        "Capture files that were read",
        &[
            ("File", false),
            ("Frames", true),
            ("What is wrong with it", false),
        ],
        rows.collect(),
    )];
    body.extend(more(
        proof.files.len().saturating_sub(MOST_ROWS),
        "file",
        "nslab proof --json has them.",
    ));
    if !proof.notes.is_empty() {
        body.push(list(&proof.notes));
    }
    body
}
