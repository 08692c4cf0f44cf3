//! `nslab explain`.

use std::path::{Path, PathBuf};

use super::traced::{self, Traced};
use super::{Failure, Result};
use crate::report;
use crate::trace;

/// Arguments of `nslab explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
FROM and TO are nodes, services, `VIP`, or addresses with a port or not; FROM alone may be a
client's address and port. The latest answered request between them is followed.

    nslab explain client VIP
    nslab explain client server1
    nslab explain 192.168.10.168:41234
    nslab explain 192.168.10.168 172.28.128.3:8080 client.cap router.cap lb.cap

Needs no root where files can be read.")]
pub(super) struct Args {
    /// Who asks, whom, and capture files if not a lab's
    #[arg(value_name = "FROM [TO] [FILE]...", required = true)]
    what: Vec<String>,
    /// The lab; may be left out while only one lab is up or has left captures
    #[arg(short, long, value_name = "LAB")]
    lab: Option<String>,
    /// Folder where labs leave their captures
    #[arg(long, value_name = "DIR", default_value = "exchange")]
    exchange: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let (files, ends): (Vec<String>, Vec<String>) = args
        .what
        .iter()
        .cloned()
        .partition(|word| Path::new(word).is_file());
    let (from, to) = match &ends[..] {
        [from] => (from, None),
        [from, to] => (from, Some(to.as_str())),
        [] => {
            return Err(Failure::usage(
                "error: from where? nslab explain FROM TO [FILE]...",
            ));
        }
        [.., odd] => {
            return Err(Failure::usage(format!(
                "error: {odd} is no file, and FROM and TO are given already"
            )));
        }
    };
    let traced = match (&files[..], &args.lab) {
        ([], lab) => traced::lab(lab.as_deref(), &args.exchange)?,
        (_, Some(_)) => {
            return Err(Failure::usage("error: give either --lab or capture files"));
        }
        (files, None) => traced::named(files, &args.exchange)?,
    };
    let found = match &traced {
        Traced::Lab { folder, .. } => {
            trace::explain(from, to, Some(&folder.topology), &folder.sources)?
        }
        Traced::Files(sources) => trace::explain(from, to, None, sources)?,
    };
    if args.json {
        super::print_json(&found)
    } else {
        super::print(&report::explanation(&found))
    }
}
