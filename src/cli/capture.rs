//! `nslab capture`.

use super::{Failure, LabArg, Result};
use crate::report;
use crate::supervisor::{Client, Reply, Request, find_lab};

/// Arguments of `nslab capture`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    lab: LabArg,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List captures (what `nslab capture` alone does)
    List,
}

pub(super) fn run(args: &Args) -> Result<()> {
    super::need_root("capture")?;
    let (None | Some(Command::List)) = args.command;
    let dir = find_lab(args.lab.lab.as_deref())?;
    let Reply::Captures { interfaces } = Client::connect(&dir)?.ask(&Request::Captures)? else {
        return Err(Failure::lab(
            "the supervisor gave another answer than asked for",
        ));
    };
    if args.json {
        return super::print_json(&interfaces);
    }
    if interfaces.is_empty() {
        return super::print(&format!("lab {} captures nothing\n", dir.lab()));
    }
    super::print(&report::captures(&interfaces))
}
