//! Plain tables: columns as wide as their widest cell, no lines around them, so that awk reads them.

use std::fmt::Write;

use crate::kernel::cgroup::Controller;
use crate::supervisor::{Health, NodeLimits, NodeStatus, Status};

/// Aligns rows in columns; `right` names the columns of numbers.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|s| s.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(c, cell)| {
                let w = widths[c];
                if right.contains(&c) {
                    format!("{cell:>w$}")
                } else {
                    format!("{cell:<w$}")
                }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// The tables of `nslab ps`.
pub fn status(labs: &[Status]) -> String {
    let mut text = String::new();
    for (n, lab) in labs.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "lab {} ({}), up for {}, supervisor {}, captures in {}",
            lab.lab,
            lab.file.display(),
            duration(lab.uptime_s),
            lab.supervisor.pid,
            lab.exchange.display()
        );
        text.push_str(&nodes(&lab.nodes));
        if !lab.services.is_empty() {
            let names = [
                "SERVICE",
                "ADDRESS",
                "DIRECTOR",
                "ENGINE",
                "METHOD",
                "SCHEDULER",
                "SERVERS",
            ];
            let mut rows = vec![header(&names)];
            for s in &lab.services {
                let servers: Vec<String> = s
                    .servers
                    .iter()
                    .map(|(name, weight)| format!("{name}({weight})"))
                    .chain(health_cell(s.health.as_ref()))
                    .collect();
                rows.push(vec![
                    s.name.clone(),
                    s.address.clone(),
                    s.director.clone(),
                    s.engine.clone(),
                    s.method.clone(),
                    s.scheduler.clone(),
                    servers.join(" "),
                ]);
            }
            text.push_str(&table(&rows, &[]));
        }
        if lab.dropped > 0 {
            let _ = writeln!(
                text,
                "warning: captures lost {} frames; `nslab capture` tells where",
                lab.dropped
            );
        }
    }
    text
}

fn nodes(nodes: &[NodeStatus]) -> String {
    // Most labs have no limits, and need no columns for them.
    let limited = nodes.iter().any(|n| n.limits.is_some());
    let mut names = header(&["NODE", "STATE", "PID", "RESTARTS"]);
    if limited {
        names.extend(header(&["MEMORY", "CPUS", "TASKS"]));
    }
    names.extend(header(&["IMAGE", "ADDRESSES"]));
    let mut rows = vec![names];
    let dash = || "-".to_owned();
    for node in nodes {
        let mut row = vec![
            node.name.clone(),
            node.state.clone(),
            node.pid.map_or_else(dash, |p| p.to_string()),
            node.restarts.to_string(),
        ];
        if limited {
            row.extend(limits(node.limits.as_ref()));
        }
        row.push(node.image.clone().unwrap_or_else(dash));
        row.push(node.addresses.join(" "));
        rows.push(row);
    }
    let right = if limited { 2..7 } else { 2..4 };
    table(&rows, &right.collect::<Vec<_>>())
}

/// Used and most of memory, processors and tasks; a limit that nothing keeps is in parentheses.
fn limits(limits: Option<&NodeLimits>) -> [String; 3] {
    let Some(NodeLimits {
        limits,
        not_kept,
        usage,
    }) = limits
    else {
        return ["-", "-", "-"].map(str::to_owned);
    };
    let cell = |controller, most: Option<String>, used: Option<String>| match (most, used) {
        (None, _) => "-".to_owned(),
        (Some(most), _) if not_kept.contains(&controller) => format!("({most})"),
        (Some(most), None) => most,
        (Some(most), Some(used)) => format!("{used}/{most}"),
    };
    let mib = |bytes: u64| {
        let tenths = (bytes >> 10) * 10 / 1024;
        format!("{}.{}M", tenths / 10, tenths % 10)
    };
    [
        cell(
            Controller::Memory,
            limits.memory.map(mib),
            usage.memory.map(mib),
        ),
        cell(
            Controller::Cpu,
            limits
                .cpus_milli
                .map(|m| (f64::from(m) / 1000.0).to_string()),
            None,
        ),
        cell(
            Controller::Pids,
            limits.pids.map(|p| p.to_string()),
            usage.pids.map(|p| p.to_string()),
        ),
    ]
}

/// What is wrong with a service's servers.
fn health_cell(health: Option<&Health>) -> Option<String> {
    let health = health?;
    let dead: Vec<_> = health.dead.iter().map(|d| d.server.as_str()).collect();
    match (health.live, dead.as_slice()) {
        (0, _) => Some("no live server".to_owned()),
        (_, []) => None,
        (_, dead) => Some(format!("dead: {}", dead.join(" "))),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cgroup::{Limits, Usage};

    fn node(name: &str, limits: Option<NodeLimits>) -> NodeStatus {
        NodeStatus {
            name: name.into(),
            state: "up".into(),
            pid: None,
            image: None,
            addresses: Vec::new(),
            restarts: 0,
            limits,
        }
    }

    #[test]
    fn limits_have_columns_where_a_node_has_some() {
        let some = NodeLimits {
            limits: Limits {
                memory: Some(64 << 20),
                cpus_milli: Some(1500),
                pids: Some(20),
            },
            not_kept: vec![Controller::Cpu],
            usage: Usage {
                memory: Some(3 << 19),
                pids: Some(3),
                ..Usage::default()
            },
        };
        assert_eq!(
            nodes(&[node("a", Some(some)), node("b", None)]),
            "NODE  STATE  PID  RESTARTS      MEMORY   CPUS  TASKS  IMAGE  ADDRESSES\n\
             a     up       -         0  1.5M/64.0M  (1.5)   3/20  -\n\
             b     up       -         0           -      -      -  -\n"
        );
        assert_eq!(
            nodes(&[node("b", None)]),
            "NODE  STATE  PID  RESTARTS  IMAGE  ADDRESSES\nb     up       -         0  -\n"
        );
    }
}
