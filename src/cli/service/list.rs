//! `nslab service [NAME]`: the table, once or again and again.

use std::io::IsTerminal;
use std::time::Duration;

use super::super::{Failure, LabArg, Result};
use super::screen::Screen;
use crate::report;
use crate::supervisor::{Client, Error, Reply, Request, RunDir, ServiceTable, find_lab};

/// Arguments of `nslab service` without a subcommand.
// Flattened: two groups called `Args` would be one too many (clap refuses).
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(after_help = "\
On a terminal the table is shown again every second, until ^C or the end of the lab. Elsewhere, and
with --once or --json, it is printed once; --watch prints it again and again there too.

ACTIVE are established TCP connections, INACTIVE all others that the director remembers. CONNS,
PACKETS and BYTES are what clients sent since `up`, bytes counted from the IP header. With method dr
and tun answers bypass the director, so it cannot count them; with nat there are columns for them.

With engine ipvs the rates are the kernel's own, averaged over some seconds; with engine nft they are
what came in the last half second to second, and the first table takes half a second. Engine nft sees
no difference between a connection that was idle for 14 of its 15 minutes and an ended one.")]
pub(super) struct Args {
    /// One service only
    name: Option<String>,
    #[command(flatten)]
    lab: LabArg,
    /// Print JSON; with --watch one line each time
    #[arg(long)]
    json: bool,
    /// Show the table again every N seconds (1 if left out)
    #[arg(short, long, value_name = "N", num_args = 0..=1, require_equals = false,
          default_missing_value = "1", value_parser = interval)]
    watch: Option<Duration>,
    /// Print once, on a terminal too
    #[arg(long, conflicts_with = "watch")]
    once: bool,
}

/// Seconds, with a fraction if need be; the kernel itself renews its rates every two seconds.
fn interval(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0.1 to 3600".to_owned()),
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    let dir = find_lab(args.lab.lab.as_deref())?;
    let terminal = std::io::stdout().is_terminal();
    let every = match args.watch {
        Some(every) => Some(every),
        None if terminal && !args.once && !args.json => Some(Duration::from_secs(1)),
        None => None,
    };
    let name = args.name.as_deref();
    let Some(every) = every else {
        let all = ask(&dir, name)?;
        if args.json {
            return super::super::print_json(&all);
        }
        return super::super::print(&text(&dir, &all));
    };
    // Before the screen changes: an error here is an ordinary one.
    let mut all = ask(&dir, name)?;
    let screen = Screen::new(terminal && !args.json)?;
    loop {
        let shown = if args.json {
            serde_json::to_string(&all).map_err(Failure::lab)? + "\n"
        } else if screen.is_full() {
            text(&dir, &all)
        } else {
            text(&dir, &all) + "\n"
        };
        if !screen.show(&shown)? || !screen.pause(every)? {
            return Ok(());
        }
        all = match ask(&dir, name) {
            Ok(all) => all,
            // The lab went down while we watched: that is an end, not a failure.
            Err(Error::SupervisorDied { .. }) if !dir.path().exists() => return Ok(()),
            Err(e) => {
                drop(screen);
                return Err(e.into());
            }
        };
    }
}

fn text(dir: &RunDir, all: &[ServiceTable]) -> String {
    if all.is_empty() {
        format!("lab {} has no services\n", dir.lab())
    } else {
        report::services(all)
    }
}

/// The services as they are now.
pub(super) fn ask(dir: &RunDir, name: Option<&str>) -> Result<Vec<ServiceTable>, Error> {
    let request = Request::Service {
        name: name.map(str::to_owned),
    };
    match Client::connect(dir)?.ask(&request)? {
        Reply::Services { services } => Ok(services),
        _ => Err(Error::Refused(
            "the supervisor gave another answer than asked for".to_owned(),
        )),
    }
}
