//! `nslab plan`.

use std::path::PathBuf;

use super::{Result, lab_file};

/// Arguments of `nslab plan`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The lab file
    #[arg(value_name = "LAB.toml")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let (file, ..) = lab_file::read_with_files(&args.file, args.json)?;
    let plan = crate::plan::build(&file.lab);
    if args.json {
        super::print_json(&plan)
    } else {
        super::print(&plan.to_string())
    }
}
