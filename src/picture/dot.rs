//! A lab in Graphviz' language (<https://graphviz.org/doc/info/lang.html>).

use std::fmt::Write;

use super::graph::{BoxKind, EdgeKind, Graph};
use super::markup::visible;
use super::scene::Scene;

/// The graph's text.
pub fn dot(scene: &Scene) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "digraph {} {{",
        quoted(std::slice::from_ref(&scene.name))
    );
    let _ = writeln!(out, "  label={};", quoted(&[format!("lab {}", scene.name)]));
    out.push_str(
        "  labelloc=t; rankdir=TB; nodesep=0.4; ranksep=0.5;\n  \
           node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\", fontsize=11];\n  \
           edge [fontname=\"sans-serif\", fontsize=9];\n",
    );
    let graph = Graph::of(scene);
    for b in &graph.boxes {
        let style = match b.kind {
            BoxKind::Network => ", shape=box, style=filled, width=3, fillcolor=\"#e8eef7\"",
            BoxKind::Host => ", fillcolor=\"#f3f0e6\"",
            BoxKind::Router => ", fillcolor=\"#eaf5ea\"",
            BoxKind::Node => "",
        };
        let _ = writeln!(out, "  {} [label={}{style}];", b.id, quoted(&b.lines));
    }
    for e in &graph.edges {
        let style = match e.kind {
            EdgeKind::Link => "dir=none",
            EdgeKind::Gateway => "style=dotted, constraint=false",
            EdgeKind::Service => "style=bold, color=\"#6e40c9\", constraint=false",
        };
        let label = quoted(&e.lines);
        let _ = writeln!(out, "  {} -> {} [label={label}, {style}];", e.from, e.to);
    }
    out.push_str("}\n");
    out
}

/// A double-quoted string. A backslash begins an escape (`\N` is the node's name, `\n` a line) and `&`
/// an HTML entity (escString in Graphviz' attribute types).
fn quoted(lines: &[String]) -> String {
    let lines: Vec<_> = lines
        .iter()
        .filter(|l| !l.is_empty())
        .map(|l| {
            visible(l)
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('&', "&amp;")
        })
        .collect();
    format!("\"{}\"", lines.join("\\n"))
}
