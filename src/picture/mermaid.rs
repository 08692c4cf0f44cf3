//! A lab as a mermaid flowchart (<https://mermaid.js.org/syntax/flowchart.html>), which GitHub, GitLab
//! and many editors draw where it stands in a Markdown file.

use std::fmt::Write;

use super::graph::{BoxKind, EdgeKind, Graph};
use super::markup::visible;
use super::scene::Scene;

/// The flowchart's text.
pub fn mermaid(scene: &Scene) -> String {
    let mut out = String::from("flowchart TB\n");
    let _ = writeln!(out, "  accTitle: {}", plain(&format!("Lab {}", scene.name)));
    let _ = writeln!(out, "  accDescr: {}", plain(&scene.description()));
    let graph = Graph::of(scene);
    for b in &graph.boxes {
        let label = quoted(&b.lines);
        let _ = match b.kind {
            BoxKind::Network => writeln!(out, "  {}{{{{{label}}}}}:::network", b.id),
            BoxKind::Router => writeln!(out, "  {}[{label}]:::router", b.id),
            BoxKind::Host => writeln!(out, "  {}[{label}]:::host", b.id),
            BoxKind::Node => writeln!(out, "  {}[{label}]:::node", b.id),
        };
    }
    for e in &graph.edges {
        let line = match e.kind {
            EdgeKind::Link => "---",
            EdgeKind::Gateway => "-.->",
            EdgeKind::Service => "==>",
        };
        let _ = writeln!(out, "  {} {line}|{}| {}", e.from, quoted(&e.lines), e.to);
    }
    out.push_str(
        "  classDef network fill:#e8eef7,stroke:#4a6a8f,color:#12263f\n  \
           classDef router fill:#eaf5ea,stroke:#3f7d46,color:#10290f\n  \
           classDef host fill:#f3f0e6,stroke:#7c6a2a,color:#2b2408\n  \
           classDef node fill:#ffffff,stroke:#555555,color:#111111\n",
    );
    out
}

/// A quoted label. Inside one, mermaid takes HTML, Markdown between backticks, and entities of the
/// form `#35;`; everything but plain characters is such an entity.
fn quoted(lines: &[String]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .filter(|l| !l.is_empty())
        .map(|l| entities(l))
        .collect();
    format!("\"{}\"", lines.join("<br>"))
}

fn entities(text: &str) -> String {
    let mut out = String::new();
    for c in visible(text).chars() {
        // A label that begins with "1. " or "- " would be a Markdown list.
        if c.is_alphanumeric()
            || (matches!(c, '-' | '/' | ',' | ' ' | '.' | ':') && !out.is_empty())
        {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
            if c == '\\' {
                // Mermaid takes `\n` for a line break even so; a word joiner (U+2060) keeps them apart.
                out.push_str("#8288;");
            }
        }
    }
    out
}

/// A title or description: the rest of the line, as it is, up to a `;` (mermaid's lexer).
fn plain(text: &str) -> String {
    visible(text)
        .chars()
        .map(|c| {
            if matches!(c, ';' | '#' | '{' | '}' | '%') {
                ' '
            } else {
                c
            }
        })
        .collect()
}
