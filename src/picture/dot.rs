//! A lab in Graphviz' language (<https://graphviz.org/doc/info/lang.html>).

use std::fmt::Write;

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
    for (n, network) in scene.networks.iter().enumerate() {
        let label = quoted(&[network.name.clone(), network.subnet.clone()]);
        let _ = writeln!(
            out,
            "  net{n} [label={label}, shape=box, style=filled, width=3, fillcolor=\"#e8eef7\"];"
        );
    }
    for (n, machine) in scene.machines.iter().enumerate() {
        let lines = [std::slice::from_ref(&machine.name), &scene.roles(n)[..]].concat();
        let color = match machine {
            m if m.host => ", fillcolor=\"#f3f0e6\"",
            m if m.forward => ", fillcolor=\"#eaf5ea\"",
            _ => "",
        };
        let _ = writeln!(out, "  node{n} [label={}{color}];", quoted(&lines));
    }
    for (n, machine) in scene.machines.iter().enumerate() {
        for (p, port) in machine.ports.iter().enumerate() {
            let lines = [std::slice::from_ref(&port.name), &port.addresses[..]].concat();
            let label = quoted(&lines);
            // What stands first in an edge is drawn above.
            let (node, net) = (format!("node{n}"), format!("net{}", port.network));
            let (upper, lower) = if scene.is_above(n, p) {
                (node, net)
            } else {
                (net, node)
            };
            let _ = writeln!(out, "  {upper} -> {lower} [label={label}, dir=none];");
        }
    }
    for (n, machine) in scene.machines.iter().enumerate() {
        if let Some(gateway) = &machine.gateway
            && let Some(to) = gateway.machine
        {
            let label = quoted(&[format!("gateway {}", gateway.address)]);
            let _ = writeln!(
                out,
                "  node{n} -> node{to} [label={label}, style=dotted, constraint=false];"
            );
        }
    }
    for service in &scene.services {
        for server in &service.servers {
            let label = quoted(&[
                service.name.clone(),
                service.address.clone(),
                format!(
                    "{}, {}, weight {}",
                    service.scheduler, service.method, server.weight
                ),
            ]);
            let _ = writeln!(
                out,
                "  node{} -> node{} [label={label}, style=bold, color=\"#6e40c9\", constraint=false];",
                service.director, server.machine
            );
        }
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
