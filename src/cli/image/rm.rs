//! `nslab image rm`.

use std::fmt::Write as _;

use crate::cli::{self, Result};

/// Arguments of `nslab image rm`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its name, its digest, or the first digits of that, as `list` prints them
    #[arg(value_name = "NAME|DIGEST")]
    name: String,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let mut lines = String::new();
    for image in super::store()?.remove(&args.name)? {
        let _ = writeln!(lines, "removed {} {}", image.name, image.digest);
    }
    cli::print(&lines)
}
