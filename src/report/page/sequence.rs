//! Time-sequence diagrams: a column for each machine, an arrow for each frame on each segment.

#![expect(
    clippy::cast_possible_wrap,
    reason = "counts of rows and columns that are drawn: at most some hundreds"
)]

use super::tables::{cell, number, row_head, table};
use super::{more, scroll};
use crate::picture::markup::{Element, element, shortened, wrap};
use crate::trace::proof::{Crossing, Sequence};
use crate::trace::words::{count, interval};

/// Room for the times at the left.
const LEFT: i32 = 84;
/// Between two columns.
const COLUMN: i32 = 148;
/// Height of an arrow's row.
const ROW: i32 = 25;
/// Letters of a machine's name in one line, and lines of it.
const NAME: usize = 17;
const NAME_LINES: usize = 3;

/// Diagram and table of a connection.
pub(super) fn sequence(id: &str, sequence: &Sequence) -> Vec<Element> {
    let (flow, shown) = (sequence.flow, &sequence.crossings[..]);
    let diagram = element("figure").child(scroll(
        &format!("Time-sequence diagram of connection {flow}; scrolls sideways"),
        diagram(id, flow, shown),
    ));
    let rest = more(
        sequence.left_out,
        "frame",
        "Wireshark shows them in the files.",
    );
    let rows = shown.iter().map(|c| {
        element("tr")
            .child(row_head(&since(c, shown)))
            .child(cell(&c.from.machine))
            .child(cell(&c.into.machine))
            .child(cell(&c.what))
            .child(number(c.ttl))
            .child(cell(&c.evidence.point))
            .child(number(c.evidence.frame))
    });
    let table = element("details")
        .class("frames")
        .child(element("summary").text("The same as a table"))
        .child(table(
            &format!("Frames of connection {flow}, segment by segment"),
            &[
                ("Time", false),
                ("From", false),
                ("To", false),
                ("What it is", false),
                ("TTL", true),
                ("Seen first at", false),
                ("Frame", true),
            ],
            rows.collect(),
        ));
    let mut body = vec![diagram];
    body.extend(rest);
    body.push(table);
    body
}

/// Time since the connection's first frame.
fn since(crossing: &Crossing, all: &[Crossing]) -> String {
    let start = all.first().map_or(0, |c| c.evidence.time_ns);
    interval(crossing.evidence.time_ns - start)
}

fn diagram(id: &str, flow: usize, crossings: &[Crossing]) -> Element {
    let machines = machines(crossings);
    let names: Vec<_> = machines.iter().map(|m| name_lines(m)).collect();
    let lines = names.iter().map(Vec::len).max().unwrap_or(1) as i32;
    let head = 14 + 16 * lines;
    let x = |n: usize| LEFT + COLUMN / 2 + COLUMN * n as i32;
    let width = LEFT + COLUMN * machines.len() as i32;
    let height = 2 * head + ROW * crossings.len() as i32 + 26;
    let title = format!("Time-sequence diagram of connection {flow}");
    let there = crossings.iter().filter(|c| c.to_vip).count();
    let description = format!(
        "Machines from left to right: {}. {} towards the VIP and {} from it, from top to bottom in the \
         order of time; the table below has each.",
        machines.join(", "),
        count(there as u64, "frame"),
        count((crossings.len() - there) as u64, "frame")
    );
    let mut svg = element("svg")
        .class("picture sequence")
        .with("viewBox", format!("0 0 {width} {height}"))
        .with("width", width)
        .with("height", height)
        .with("role", "img")
        .with("aria-labelledby", format!("{id}-t"))
        .with("aria-describedby", format!("{id}-d"))
        .child(element("title").with("id", format!("{id}-t")).text(title))
        .child(
            element("desc")
                .with("id", format!("{id}-d"))
                .text(description),
        );
    svg.push(
        element("rect")
            .class("paper")
            .with("width", width)
            .with("height", height),
    );
    // Packets are told apart by stripes: one crosses several segments.
    for run in runs(crossings).into_iter().step_by(2) {
        svg.push(
            element("rect")
                .class("stripe")
                .with("x", 0)
                .with("y", head + 8 + ROW * run.start as i32)
                .with("width", width)
                .with("height", ROW * run.len() as i32),
        );
    }
    for (n, lines) in names.iter().enumerate() {
        svg.push(
            element("line")
                .class("life")
                .with("x1", x(n))
                .with("x2", x(n))
                .with("y1", head)
                .with("y2", height - head),
        );
        svg.push(machine(x(n), 2, head - 4, lines, machines[n]));
        // Again at the foot: long diagrams are read far from their head.
        svg.push(machine(
            x(n),
            height - head + 2,
            head - 4,
            lines,
            machines[n],
        ));
    }
    let at = |name: &str| machines.iter().position(|m| *m == name).unwrap_or(0);
    for (n, c) in crossings.iter().enumerate() {
        let y = head + 8 + ROW * n as i32 + ROW - 7;
        let first = n == 0 || crossings[n - 1].packet != c.packet;
        svg.push(arrow(
            c,
            x(at(&c.from.machine)),
            x(at(&c.into.machine)),
            y,
            first,
            &since(c, crossings),
        ));
    }
    svg
}

/// The machines that have part, in the order in which packets meet them; requests first.
fn machines(crossings: &[Crossing]) -> Vec<&str> {
    let mut machines: Vec<&str> = Vec::new();
    for to_vip in [true, false] {
        for c in crossings.iter().filter(|c| c.to_vip == to_vip) {
            for name in [c.from.machine.as_str(), c.into.machine.as_str()] {
                if !machines.contains(&name) {
                    machines.push(name);
                }
            }
        }
    }
    machines
}

/// Stretches of one packet's segments.
fn runs(crossings: &[Crossing]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (n, c) in crossings.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if crossings[run.start].packet == c.packet => run.end = n + 1,
            _ => runs.push(n..n + 1),
        }
    }
    runs
}

fn name_lines(name: &str) -> Vec<String> {
    let mut lines = wrap(name, NAME);
    if lines.len() > NAME_LINES {
        let rest = lines.split_off(NAME_LINES - 1).concat();
        lines.push(shortened(&rest, NAME).into_owned());
    }
    lines
}

fn machine(x: i32, y: i32, height: i32, lines: &[String], full: &str) -> Element {
    let mut group = element("g")
        .class("machine")
        .child(element("title").text(full))
        .child(
            element("rect")
                .class("box")
                .with("x", x - COLUMN / 2 + 5)
                .with("y", y)
                .with("width", COLUMN - 10)
                .with("height", height)
                .with("rx", 6),
        );
    let top = y + (height - 16 * lines.len() as i32) / 2 + 12;
    for (n, line) in lines.iter().enumerate() {
        group.push(
            element("text")
                .class("name")
                .with("x", x)
                .with("y", top + 16 * n as i32)
                .text(line),
        );
    }
    group
}

fn arrow(c: &Crossing, from: i32, into: i32, y: i32, first: bool, time: &str) -> Element {
    let class = if c.to_vip {
        "hop request"
    } else {
        "hop answer"
    };
    let right = if into >= from { 1 } else { -1 };
    let what = if first {
        shortened(&c.what, 60).into_owned()
    } else {
        format!("TTL {}", c.ttl)
    };
    let end = if into == from {
        from + 26
    } else {
        into - 7 * right
    };
    element("g")
        .class(class)
        .child(element("title").text(format!(
            "{time}: {} to {}, {}, TTL {}, frame {} at {}",
            c.from.machine,
            c.into.machine,
            c.evidence.what,
            c.ttl,
            c.evidence.frame,
            c.evidence.point
        )))
        .child(
            element("text")
                .class("time")
                .with("x", LEFT - 8)
                .with("y", y + 3)
                .text(time),
        )
        .child(
            element("path")
                .class("line")
                .with("d", format!("M{from} {y}H{end}")),
        )
        .child(element("path").class("head").with(
            "d",
            format!("M{} {y}l{} -4v8z", end + 7 * right, -9 * right),
        ))
        .child(
            element("text")
                .class(if right > 0 { "frame" } else { "frame back" })
                .with("x", from + 8 * right)
                .with("y", y - 5)
                .text(what),
        )
}
