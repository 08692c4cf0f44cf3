//! `nslab service` and its subcommands, one file each.

mod change;
mod list;
mod screen;

use super::Result;

/// Arguments of `nslab service`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::Args,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give a server another weight: 0 drains it, its connections go on
    Weight(change::WeightArgs),
    /// Add a node of the lab to a service as a server
    Add(change::AddArgs),
    /// Remove a server from a service
    Remove(change::RemoveArgs),
}

pub(super) fn run(args: &Args) -> Result<()> {
    super::need_root("service")?;
    match &args.command {
        None => list::run(&args.list),
        Some(Command::Weight(args)) => change::weight(args),
        Some(Command::Add(args)) => change::add(args),
        Some(Command::Remove(args)) => change::remove(args),
    }
}
