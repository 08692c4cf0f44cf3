//! Captures to people: the table of `nslab capture`, and what they have to know about what is not
//! in the files.

use std::time::Duration;

use super::tables::{header, table};
use crate::capture::{State, Stats};

/// The table of `nslab capture`, and below it what is missing and why.
pub fn captures(interfaces: &[Stats]) -> String {
    let mut rows = vec![header(&[
        "INTERFACE",
        "STATE",
        "PACKETS",
        "BYTES",
        "DROPPED",
        "UNWRITTEN",
        "FILES",
        "FILE",
    ])];
    for i in interfaces {
        rows.push(vec![
            i.name(),
            i.state.as_str().to_owned(),
            i.packets.to_string(),
            i.bytes.to_string(),
            i.dropped.to_string(),
            i.unwritten.to_string(),
            (i.rotated + 1).to_string(),
            i.file.display().to_string(),
        ]);
    }
    let mut text = table(&rows, &[2, 3, 4, 5, 6]);
    for note in interfaces.iter().flat_map(notes) {
        text.push_str(&note);
        text.push('\n');
    }
    text
}

/// What is not in an interface's files, and what to do about it: a line each.
pub(super) fn notes(of: &Stats) -> Vec<String> {
    let mut notes = Vec::new();
    let name = of.name();
    if of.dropped > 0 {
        let all = of.packets + of.lost();
        let percent = of.dropped * 10_000 / all;
        let percent = format!("{}.{:02}", percent / 100, percent % 100);
        notes.push(format!(
            "warning: {name} lost {} of {all} frames ({percent} %), because the kernel's buffer was full: \
             give it a larger `buffer`, or less to record with `filter` or `snaplen`, in [capture] of the lab file",
            of.dropped
        ));
    }
    if let Some(error) = &of.error {
        notes.push(format!("warning: {name}: {error}"));
    }
    if of.deleted > 0 {
        notes.push(format!(
            "{name}: the oldest {} of its frames went with the files that rotation deleted (`keep`)",
            of.deleted
        ));
    }
    let closed: Vec<u64> = of
        .gaps
        .iter()
        .filter_map(|gap| Some(gap.to_ns?.saturating_sub(gap.from_ns)))
        .collect();
    if !closed.is_empty() {
        let seconds = Duration::from_nanos(closed.iter().sum()).as_secs_f64();
        let times = match closed.len() {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        notes.push(format!(
            "{name} was stopped {times}, for {seconds:.1} s in all; frames of that time are missing"
        ));
    }
    if of.state == State::Stopped {
        notes.push(format!(
            "{name} is stopped; what crosses it is missing until `nslab capture start {name}`"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Gap;

    fn row(node: &str, packets: u64) -> Stats {
        Stats {
            node: node.into(),
            interface: "eth1".into(),
            state: State::Running,
            packets,
            bytes: packets * 60,
            dropped: 0,
            unwritten: 0,
            deleted: 0,
            rotated: 0,
            gaps: Vec::new(),
            file: format!("exchange/dsr/{node}_eth1.pcap").into(),
            error: None,
        }
    }

    #[test]
    fn the_table_lines_up() {
        assert_eq!(
            captures(&[row("client", 9), row("lb", 40)]),
            "\
INTERFACE    STATE    PACKETS  BYTES  DROPPED  UNWRITTEN  FILES  FILE
client:eth1  running        9    540        0          0      1  exchange/dsr/client_eth1.pcap
lb:eth1      running       40   2400        0          0      1  exchange/dsr/lb_eth1.pcap
"
        );
    }

    #[test]
    fn what_is_missing_is_said_with_its_cause() {
        assert_eq!(notes(&row("client", 9)), [""; 0]);
        let gap = |from: u64, to| Gap {
            from_ns: from * 1_000_000_000,
            to_ns: Option::map(to, |to: u64| to * 1_000_000_000),
        };
        let all = Stats {
            state: State::Stopped,
            dropped: 30,
            unwritten: 20,
            deleted: 10,
            rotated: 3,
            gaps: vec![gap(10, Some(12)), gap(20, Some(23)), gap(30, None)],
            error: Some("20 frames could not be written: No space left on device".into()),
            ..row("lb", 950)
        };
        assert_eq!(
            notes(&all),
            [
                "warning: lb:eth1 lost 30 of 1000 frames (3.00 %), because the kernel's buffer was full: \
                 give it a larger `buffer`, or less to record with `filter` or `snaplen`, in [capture] of \
                 the lab file",
                "warning: lb:eth1: 20 frames could not be written: No space left on device",
                "lb:eth1: the oldest 10 of its frames went with the files that rotation deleted (`keep`)",
                "lb:eth1 was stopped 2 times, for 5.0 s in all; frames of that time are missing",
                "lb:eth1 is stopped; what crosses it is missing until `nslab capture start lb:eth1`",
            ]
        );
        let text = captures(std::slice::from_ref(&all));
        let row = "lb:eth1    stopped      950  57000       30         20      4  exchange/dsr/lb_eth1.pcap";
        assert_eq!(text.lines().nth(1), Some(row), "{text}");
        assert_eq!(text.lines().count(), 7);
    }
}
