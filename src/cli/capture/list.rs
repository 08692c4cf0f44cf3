//! `nslab capture list`.

use super::super::{Failure, LabArg, Result, need_root, print, print_json};
use crate::report;
use crate::supervisor::{Client, Reply, Request, find_lab};

/// Arguments of `nslab capture list`.
// Flattened into `nslab capture`: two groups called `Args` would be one too many (clap refuses).
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    lab: LabArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    need_root("capture")?;
    let dir = find_lab(args.lab.lab.as_deref())?;
    let Reply::Captures { interfaces } = Client::connect(&dir)?.ask(&Request::Captures)? else {
        return Err(Failure::lab(
            "the supervisor gave another answer than asked for",
        ));
    };
    if args.json {
        return print_json(&interfaces);
    }
    if interfaces.is_empty() {
        return print(&format!("lab {} captures nothing\n", dir.lab()));
    }
    print(&report::captures(&interfaces))
}
