//! `nslab image prune`.

use std::fmt::Write as _;

use indicatif::HumanBytes;

use crate::cli::{self, Result};
use crate::image::{Prune, Pruned};

/// Arguments of `nslab image prune`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct Args {
    /// Also remove every image that nothing uses now, and packages downloaded for building
    #[arg(short, long)]
    all: bool,
    /// Also throw away what nodes with `keep = true` keep, of labs that are not up
    #[arg(long)]
    kept: bool,
    /// Only print what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let pruned = super::store()?.prune(Prune {
        all: args.all,
        kept: args.kept,
        dry_run: args.dry_run,
    })?;
    if args.json {
        return cli::print_json(&pruned);
    }
    cli::print(&text(&pruned, args.dry_run))
}

fn text(pruned: &Pruned, dry_run: bool) -> String {
    let (verb, frees) = if dry_run {
        ("would remove", "would free")
    } else {
        ("removed", "freed")
    };
    let mut text = String::new();
    for one in &pruned.removed {
        let _ = writeln!(
            text,
            "{verb} {:9} {:>10}  {}",
            one.what,
            HumanBytes(one.bytes).to_string(),
            one.name
        );
    }
    for busy in &pruned.busy {
        let _ = writeln!(text, "left {busy}: another nslab works on it");
    }
    if pruned.removed.is_empty() {
        text.push_str("nothing to remove\n");
    } else {
        let _ = writeln!(text, "{frees} {}", HumanBytes(pruned.bytes));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Removed;

    #[test]
    fn the_text() {
        assert_eq!(text(&Pruned::default(), false), "nothing to remove\n");
        let pruned = Pruned {
            removed: vec![Removed {
                what: "layer",
                name: "sha256:0".into(),
                bytes: 2048,
            }],
            bytes: 2048,
            busy: vec!["build of tiny".into()],
        };
        assert_eq!(
            text(&pruned, true),
            "would remove layer       2.00 KiB  sha256:0\n\
             left build of tiny: another nslab works on it\n\
             would free 2.00 KiB\n"
        );
    }
}
