//! `nslab ps`.

use super::{Failure, LabArg, Result};
use crate::report;
use crate::supervisor::{Client, Error, Reply, Request, Status, find_lab, running_labs};

/// Arguments of `nslab ps`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let names = match &args.lab.lab {
        Some(name) => vec![find_lab(Some(name))?.lab().to_owned()],
        None => running_labs(),
    };
    if !names.is_empty() {
        super::need_root("ps")?;
    }
    let mut labs = Vec::new();
    let mut dead = Vec::new();
    for name in names {
        match status(&name) {
            Ok(status) => labs.push(status),
            Err(e @ Error::SupervisorDied { .. }) => dead.push(e),
            Err(e) => return Err(e.into()),
        }
    }
    if args.json {
        super::print_json(&labs)?;
    } else if labs.is_empty() && dead.is_empty() {
        super::print("no lab is up\n")?;
    } else {
        super::print(&report::status(&labs))?;
    }
    match dead.into_iter().next() {
        Some(e) => Err(Failure::from(e)),
        None => Ok(()),
    }
}

fn status(name: &str) -> Result<Status, Error> {
    let dir = find_lab(Some(name))?;
    match Client::connect(&dir)?.ask(&Request::Status)? {
        Reply::Status(status) => Ok(status),
        _ => Err(Error::Refused(format!(
            "the supervisor of lab {name} gave another answer than asked for"
        ))),
    }
}
