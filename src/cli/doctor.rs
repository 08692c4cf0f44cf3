//! `nslab doctor`.

use super::{Failure, Result};
use crate::{doctor, report};

/// Arguments of `nslab doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`ok`: it is there. `lacking`: some labs need it. `MISSING`: every lab needs it, and the exit code is 1.
Everything is tried in namespaces that end at once; nothing is left. Modules that the kernel loads for
it, as it would for `up`, stay; they are named at the end.")]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let found = doctor::examine();
    if args.json {
        super::print_json(&found)?;
    } else {
        super::print(&report::doctor(&found))?;
    }
    if found.ok {
        Ok(())
    } else {
        Err(Failure::silent(1))
    }
}
