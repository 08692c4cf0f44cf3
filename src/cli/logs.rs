//! `nslab logs`.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::{Failure, LabArg, Result};
use crate::supervisor::{find_lab, tail};

/// Arguments of `nslab logs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node
    node: String,
    #[command(flatten)]
    lab: LabArg,
    /// Go on printing what is added, until the lab is down
    #[arg(short, long)]
    follow: bool,
    /// Print the last N lines only
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<usize>,
    /// Print JSON: an array of lines
    #[arg(long, conflicts_with = "follow")]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let dir = find_lab(args.lab.lab.as_deref())?;
    let path = dir.log(&args.node);
    if !path.exists() {
        super::exec::node_exists(&dir, &args.node)?;
        if !args.follow {
            eprintln!(
                "node {} has printed nothing: no main process runs in it",
                args.node
            );
            return if args.json {
                super::print("[]\n")
            } else {
                Ok(())
            };
        }
    }
    let end = std::fs::metadata(&path).map_or(0, |m| m.len());
    let lines = tail(&path, args.tail.unwrap_or(usize::MAX));
    if args.json {
        return super::print_json(&lines);
    }
    for line in &lines {
        super::print(&format!("{line}\n"))?;
    }
    if args.follow {
        follow(&path, end)
    } else {
        Ok(())
    }
}

/// Prints what is appended; a file that was moved away and begun anew is followed from its start.
fn follow(path: &Path, mut at: u64) -> Result<()> {
    let failed = |e: std::io::Error| Failure::lab(format!("cannot read {}: {e}", path.display()));
    let mut inode = std::fs::metadata(path).map_err(failed)?.ino();
    while let Ok(mut file) = std::fs::File::open(path) {
        let now = file.metadata().map_err(failed)?.ino();
        if now != inode {
            (inode, at) = (now, 0);
        }
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        let mut text = Vec::new();
        at += file.read_to_end(&mut text).map_err(failed)? as u64;
        super::print(&String::from_utf8_lossy(&text))?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
