//! Plain tables: columns as wide as their widest cell, no lines around them, so that awk reads them.

use std::fmt::Write;

use crate::supervisor::{CaptureStats, Status};

/// Aligns rows in columns; `right` names the columns of numbers.
fn table(rows: &[Vec<String>], right: &[usize]) -> String {
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

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// The table of `nslab capture`.
pub fn captures(interfaces: &[CaptureStats]) -> String {
    let mut rows = vec![header(&[
        "INTERFACE",
        "PACKETS",
        "BYTES",
        "DROPPED",
        "FILE",
    ])];
    for i in interfaces {
        let mut row = vec![
            format!("{}:{}", i.node, i.interface),
            i.packets.to_string(),
            i.bytes.to_string(),
            i.dropped.to_string(),
            i.file.display().to_string(),
        ];
        if let Some(error) = &i.error {
            row.push(format!("({error})"));
        }
        rows.push(row);
    }
    table(&rows, &[1, 2, 3])
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
                "SCHEDULER",
                "SERVERS",
            ];
            let mut rows = vec![header(&names)];
            for s in &lab.services {
                let servers: Vec<String> = s
                    .servers
                    .iter()
                    .map(|(name, weight)| format!("{name}({weight})"))
                    .collect();
                rows.push(vec![
                    s.name.clone(),
                    s.address.clone(),
                    s.director.clone(),
                    s.engine.clone(),
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

    #[test]
    fn the_capture_table_lines_up() {
        let row = |node: &str, packets| CaptureStats {
            node: node.into(),
            interface: "eth1".into(),
            packets,
            bytes: packets * 60,
            dropped: 0,
            file: format!("exchange/dsr/{node}_eth1.pcap").into(),
            error: None,
        };
        assert_eq!(
            captures(&[row("client", 9), row("lb", 40)]),
            "\
INTERFACE    PACKETS  BYTES  DROPPED  FILE
client:eth1        9    540        0  exchange/dsr/client_eth1.pcap
lb:eth1           40   2400        0  exchange/dsr/lb_eth1.pcap
"
        );
    }
}
