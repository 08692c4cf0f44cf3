//! `nslab events`.

use std::os::fd::AsFd;

use super::{LabArg, Result};
use crate::report;
use crate::supervisor::{Client, Followed, Record, find_lab, history};

/// Arguments of `nslab events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --follow the log alone is read, also that of a lab whose supervisor has died.
With --follow nothing is lost between the two: each event has a number (member `number` of the JSON).
A reader that is too slow does not hold the lab up; it is told how many events it has missed.")]
pub(super) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// Go on with what happens, until the lab is down
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N of the past events only
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<usize>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let dir = find_lab(args.lab.lab.as_deref())?;
    // Before the log is read: what comes between is in both, and the number tells.
    let mut live = None;
    let mut last = u64::MAX;
    if args.follow {
        super::need_root("events --follow")?;
        let mut client = Client::connect(&dir)?;
        last = client.follow()?;
        live = Some(client);
    }
    let mut past = history(&dir)?;
    past.retain(|r| r.number <= last);
    let skip = past.len().saturating_sub(args.tail.unwrap_or(usize::MAX));
    for record in &past[skip..] {
        if !super::print_on(&text(record, args.json)?)? {
            return Ok(());
        }
    }
    let Some(mut live) = live else {
        return Ok(());
    };
    let out = std::io::stdout();
    while let Some(next) = live.next(out.as_fd())? {
        let text = match next {
            Followed::Record(record) => text(&record, args.json)?,
            Followed::Skipped(events) if args.json => {
                format!("{{\"event\":\"skipped\",\"events\":{events}}}\n")
            }
            Followed::Skipped(events) => format!(
                "warning: {events} events were skipped here: they came faster than they were read; \
                 `nslab events` without --follow has them\n"
            ),
        };
        if !super::print_on(&text)? {
            return Ok(());
        }
    }
    Ok(())
}

fn text(record: &Record, json: bool) -> Result<String> {
    if json {
        let line = serde_json::to_string(record).map_err(super::Failure::lab)?;
        Ok(line + "\n")
    } else {
        Ok(report::record(record).unwrap_or_default())
    }
}
