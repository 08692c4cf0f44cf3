//! `nslab capture stop` and `nslab capture start`.

use std::fmt::Write as _;

use super::super::{Failure, Result, need_root, print, print_json};
use super::Which;
use crate::supervisor::{Client, Reply, Request, find_lab};

/// Arguments of `nslab capture stop` and `nslab capture start`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print JSON: the counts of those that changed
    #[arg(long)]
    json: bool,
}

/// `nslab capture stop`.
pub(super) fn stop(args: &Args) -> Result<()> {
    let request = Request::CaptureStop {
        interfaces: args.which.interfaces.clone(),
    };
    turn(args, "capture stop", &request, "stopped")
}

/// `nslab capture start`.
pub(super) fn start(args: &Args) -> Result<()> {
    let request = Request::CaptureStart {
        interfaces: args.which.interfaces.clone(),
    };
    turn(args, "capture start", &request, "running")
}

fn turn(args: &Args, command: &'static str, request: &Request, now: &str) -> Result<()> {
    need_root(command)?;
    let dir = find_lab(args.which.lab.lab.as_deref())?;
    let Reply::Turned { changed, unchanged } = Client::connect(&dir)?.ask(request)? else {
        return Err(Failure::lab(
            "the supervisor gave another answer than asked for",
        ));
    };
    if args.json {
        return print_json(&changed);
    }
    let mut text = String::new();
    for of in changed {
        let _ = writeln!(
            text,
            "{} is {now}; {} frames so far, in {}",
            of.name(),
            of.packets,
            of.file.display()
        );
    }
    for name in unchanged {
        let _ = writeln!(text, "{name} was {now} already");
    }
    print(&text)
}
