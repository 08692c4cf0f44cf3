//! `nslab proof`.

use std::path::PathBuf;

use super::asked::Asked;
use super::{Failure, Result};
use crate::report;
use crate::trace::proof::Outcome;

/// Arguments of `nslab proof`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads captures, of a lab that is up, of one that was (exchange/LAB, with its lab.json), or of any
origin (pcap or pcapng; then --vip has to be given), and says what they prove. Needs no root where
files can be read.

Exit codes: 0 proven; 1 refuted, or not to be concluded from these captures; 2 usage.")]
pub(super) struct Args {
    #[command(flatten)]
    asked: Asked,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the verdicts as JUnit XML as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let proof = args.asked.prove(&args.asked.traced()?, None)?;
    if let Some(path) = &args.junit {
        super::output::write(path, &report::proof_junit(&proof))?;
    }
    if args.json {
        super::print_json(&proof)?;
    } else {
        super::print(&report::proof(&proof))?;
    }
    match proof.outcome {
        Outcome::Pass => Ok(()),
        Outcome::Inconclusive | Outcome::Fail => Err(Failure::silent(1)),
    }
}
