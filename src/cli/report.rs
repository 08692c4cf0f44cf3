//! `nslab report`.

use std::path::{Path, PathBuf};

use super::asked::Asked;
use super::traced::Traced;
use super::{Failure, Result, output};
use crate::report::page;
use crate::trace::LabFolder;

/// Arguments of `nslab report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Draws what `nslab proof` finds as one HTML file that needs no network and no JavaScript: topology with
the paths of requests and answers, frames at each interface, verdicts with their frames, servers' shares,
and a time-sequence diagram of each connection. Its path is printed.")]
pub(super) struct Args {
    #[command(flatten)]
    asked: Asked,
    /// The connection that is shown first, by its number in the report
    #[arg(long, value_name = "N")]
    flow: Option<usize>,
    /// The file to write; report.html in the lab's folder of captures, or here, if left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let traced = args.asked.traced()?;
    let proof = args.asked.prove(&traced, Some(page::extent(args.flow)))?;
    let most = proof
        .services
        .iter()
        .map(|s| s.flows.len())
        .max()
        .unwrap_or(0);
    if let Some(flow) = args.flow.filter(|n| *n == 0 || *n > most) {
        return Err(Failure::usage(match most {
            0 => "error: there is no connection in these captures".to_owned(),
            _ => format!("error: there is no connection {flow}; they are numbered 1 to {most}"),
        }));
    }
    let (folder, topology) = match &traced {
        Traced::Lab { folder, .. } => (folder.path(), Some(&folder.topology)),
        Traced::Files(_) => (Path::new(""), None),
    };
    let html = page::html(&page::Report {
        proof: &proof,
        topology,
        flow: args.flow,
    });
    let file = args
        .output
        .clone()
        .unwrap_or_else(|| folder.join(LabFolder::REPORT));
    output::write(&file, &html)?;
    super::print(&format!("{}\n", file.display()))
}
