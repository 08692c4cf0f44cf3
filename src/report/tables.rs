//! Plain tables: columns as wide as their widest cell, no lines around them, so that awk reads them.

use std::fmt::Write;

use crate::supervisor::{Health, Status};

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
        let mut rows = vec![header(&[
            "NODE",
            "STATE",
            "PID",
            "RESTARTS",
            "IMAGE",
            "ADDRESSES",
        ])];
        for node in &lab.nodes {
            rows.push(vec![
                node.name.clone(),
                node.state.clone(),
                node.pid.map_or_else(|| "-".to_owned(), |p| p.to_string()),
                node.restarts.to_string(),
                node.image.clone().unwrap_or_else(|| "-".to_owned()),
                node.addresses.join(" "),
            ]);
        }
        text.push_str(&table(&rows, &[2, 3]));
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
