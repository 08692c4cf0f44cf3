//! A lab as a mermaid flowchart (<https://mermaid.js.org/syntax/flowchart.html>), which GitHub, GitLab
//! and many editors draw where it stands in a Markdown file.

use std::fmt::Write;

use super::markup::visible;
use super::scene::Scene;

/// The flowchart's text.
pub fn mermaid(scene: &Scene) -> String {
    let mut out = String::from("flowchart TB\n");
    let _ = writeln!(out, "  accTitle: {}", plain(&format!("Lab {}", scene.name)));
    let _ = writeln!(out, "  accDescr: {}", plain(&scene.description()));
    for (n, network) in scene.networks.iter().enumerate() {
        let lines = [network.name.clone(), network.subnet.clone()];
        let _ = writeln!(out, "  net{n}{{{{{}}}}}:::network", quoted(&lines));
    }
    for (n, machine) in scene.machines.iter().enumerate() {
        let lines = [std::slice::from_ref(&machine.name), &scene.roles(n)[..]].concat();
        let class = match machine {
            m if m.host => "host",
            m if m.forward => "router",
            _ => "node",
        };
        let _ = writeln!(out, "  node{n}[{}]:::{class}", quoted(&lines));
    }
    for (n, machine) in scene.machines.iter().enumerate() {
        for (p, port) in machine.ports.iter().enumerate() {
            let lines = [std::slice::from_ref(&port.name), &port.addresses[..]].concat();
            let label = quoted(&lines);
            // What stands first in a link is drawn above.
            let (node, net) = (format!("node{n}"), format!("net{}", port.network));
            let (upper, lower) = if scene.is_above(n, p) {
                (node, net)
            } else {
                (net, node)
            };
            let _ = writeln!(out, "  {upper} ---|{label}| {lower}");
        }
    }
    for (n, machine) in scene.machines.iter().enumerate() {
        if let Some(gateway) = &machine.gateway
            && let Some(to) = gateway.machine
        {
            let label = quoted(&[format!("gateway {}", gateway.address)]);
            let _ = writeln!(out, "  node{n} -.->|{label}| node{to}");
        }
    }
    for service in &scene.services {
        for server in &service.servers {
            let lines = [
                service.name.clone(),
                service.address.clone(),
                format!(
                    "{}, {}, weight {}",
                    service.scheduler, service.method, server.weight
                ),
            ];
            let _ = writeln!(
                out,
                "  node{} ==>|{}| node{}",
                service.director,
                quoted(&lines),
                server.machine
            );
        }
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
