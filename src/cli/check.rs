//! `nslab check`.

use std::path::PathBuf;

use super::{Result, lab_file};

/// Arguments of `nslab check`.
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
    let (file, _, problems) = lab_file::read_with_files(&args.file, args.json)?;
    let lab = &file.lab;
    if args.json {
        return super::print_json(&problems.to_json());
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    super::print(&format!(
        "{}: lab {} is valid: {}, {}, {}\n",
        file.path.display(),
        lab.name(),
        count(lab.networks().len(), "network"),
        count(lab.nodes().len(), "node"),
        count(lab.services().len(), "service"),
    ))
}
