//! `nslab capture` and its subcommands, one file each.

mod follow;
mod list;
mod merge;
mod out;
mod stream;
mod turn;

use super::{LabArg, Result};

/// Arguments of `nslab capture`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::Args,
}

/// Which interfaces a subcommand is about.
#[derive(Debug, clap::Args)]
#[group(id = "captured")]
struct Which {
    /// Which interfaces: NODE:INTERFACE, such as client:eth1, or all
    #[arg(value_name = "NODE:IF", required = true)]
    interfaces: Vec<String>,
    #[command(flatten)]
    lab: LabArg,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List captures (what `nslab capture` alone does)
    List(list::Args),
    /// Write frames as they come: pcapng for Wireshark, or a line each
    Follow(follow::Args),
    /// Stop capturing an interface while the lab runs; its file stays
    Stop(turn::Args),
    /// Capture an interface again, or for the first time; its file goes on
    Start(turn::Args),
    /// Merge captures into one pcapng file, ordered by time, that shows names and directions
    Merge(merge::Args),
}

pub(super) fn run(args: &Args) -> Result<()> {
    match &args.command {
        None => list::run(&args.list),
        Some(Command::List(list)) => list::run(list),
        Some(Command::Follow(which)) => follow::run(which),
        Some(Command::Stop(which)) => turn::stop(which),
        Some(Command::Start(which)) => turn::start(which),
        Some(Command::Merge(merge)) => merge::run(merge),
    }
}
