//! `nslab capture merge`.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::super::{Failure, Result, down, need_root, print, print_json};
use crate::capture::Stats;
use crate::merge::{self, Merged, Output, Sources};
use crate::report;
use crate::supervisor::{Client, Owner, Reply, Request, RunDir, find_lab, running_labs};
use crate::trace::Topology;

/// Where `up` makes the folders of captures, if nothing else is wished.
const EXCHANGE: &str = "exchange";

/// Arguments of `nslab capture merge`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A lab that is up or was (its name, lab file or folder of captures), or capture files (pcap,
    /// pcapng, also gzip'ed); may be left out while there is only one lab
    #[arg(value_name = "LAB|FILE")]
    what: Vec<PathBuf>,
    /// The merged file, `-` for standard output; a lab's is LAB.pcapng beside its captures
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is to be merged.
enum What {
    /// A lab's folder, and what its captures have come to if it is up.
    Lab {
        folder: PathBuf,
        name: String,
        stats: Option<Vec<Stats>>,
    },
    Files(Vec<PathBuf>),
}

pub(super) fn run(args: &Args) -> Result<()> {
    let what = what(&args.what)?;
    let output = output(&what, args.output.as_deref())?;
    let merged = merge::merge(sources(&what)?, output)?;
    for note in &merged.notes {
        eprintln!("warning: {note}");
    }
    if args.json && merged.file.is_some() {
        return print_json(&merged);
    }
    tell(&merged)
}

/// What came of it, where frames do not go.
fn tell(merged: &Merged) -> Result<()> {
    let text = report::merged(merged);
    if merged.file.is_some() {
        return print(&format!("{text}\n"));
    }
    eprintln!("{text}");
    Ok(())
}

fn sources(what: &What) -> Result<Sources, merge::Error> {
    match what {
        What::Lab { folder, stats, .. } => merge::lab(folder, stats.as_deref()),
        What::Files(files) => merge::files(files),
    }
}

fn output(what: &What, given: Option<&Path>) -> Result<Output> {
    let path = match (given, what) {
        (Some(path), _) if path == Path::new("-") => {
            if io::stdout().is_terminal() {
                return Err(Failure::usage(
                    "error: a capture is not for a terminal: send it to a file or a program, as in \
                     `nslab capture merge -o - | tshark -r -`",
                ));
            }
            return Ok(Output::Stdout);
        }
        (Some(path), _) => path.to_owned(),
        (None, What::Lab { folder, name, .. }) => folder.join(format!("{name}.pcapng")),
        (None, What::Files(_)) => {
            return Err(Failure::usage(
                "error: say with -o FILE where the merged capture shall go (`-` is standard output)",
            ));
        }
    };
    let owner = Owner::from_sudo().map(|owner| (owner.uid, owner.gid));
    Ok(Output::File {
        path: resolved(&path)?,
        owner,
    })
}

/// The path without symbolic links: those that were typed may be followed, others may not.
fn resolved(path: &Path) -> Result<PathBuf> {
    let failed = |e| Failure::lab(format!("cannot write {}: {e}", path.display()));
    if let Ok(whole) = path.canonicalize() {
        return Ok(whole);
    }
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::IsADirectory.into()))?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(parent.canonicalize().map_err(failed)?.join(name))
}

fn what(words: &[PathBuf]) -> Result<What> {
    match words {
        [] if running_labs().is_empty() => only_folder(),
        [] => running(&find_lab(None)?),
        [word] if word.is_dir() => of_folder(word),
        [word] if word.extension().is_some_and(|e| e == "toml") || !word.exists() => {
            let name = down::name_of(&word.to_string_lossy())?;
            named(&name)
        }
        files => Ok(What::Files(files.to_vec())),
    }
}

fn named(name: &str) -> Result<What> {
    if running_labs().iter().any(|lab| lab == name) {
        return running(&RunDir::of(name));
    }
    let folder = Path::new(EXCHANGE).join(name);
    // A name that leads elsewhere is none.
    if !name.contains('/') && folder.is_dir() {
        return of_folder(&folder);
    }
    Err(Failure::usage(format!(
        "error: {name} is neither a lab that is up, nor has it captures in {}, nor is it a file; \
         give the lab's folder of captures if that is elsewhere",
        folder.display()
    )))
}

/// A lab that is up, or whose supervisor has died.
fn running(dir: &RunDir) -> Result<What> {
    need_root("capture merge")?;
    let name = dir.lab().to_owned();
    let state = dir.state().ok_or_else(|| {
        Failure::lab(format!(
            "lab {name} is only coming up or was left in disorder; `nslab ps` tells, `nslab down \
             {name}` removes it"
        ))
    })?;
    let counts = match Client::connect(dir) {
        Ok(mut client) => match client.ask(&Request::Captures)? {
            Reply::Captures { interfaces } => Some(interfaces),
            _ => None,
        },
        // Its captures are there all the same.
        Err(_) => None,
    };
    Ok(What::Lab {
        folder: state.exchange,
        name,
        stats: counts,
    })
}

fn of_folder(folder: &Path) -> Result<What> {
    let folder = folder
        .canonicalize()
        .map_err(|e| Failure::lab(format!("cannot find {}: {e}", folder.display())))?;
    let known = Topology::read(&folder.join(Topology::FILE)).ok();
    let name = match known {
        Some(topology) => topology.lab,
        None => folder
            .file_name()
            .map_or_else(|| "merged".to_owned(), |n| n.to_string_lossy().into_owned()),
    };
    Ok(What::Lab {
        folder,
        name,
        stats: None,
    })
}

/// The only lab that has left captures.
fn only_folder() -> Result<What> {
    let entries = std::fs::read_dir(EXCHANGE).into_iter().flatten().flatten();
    let mut labs: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join(Topology::FILE).exists())
        .collect();
    labs.sort();
    match &labs[..] {
        [] => Err(Failure::usage(format!(
            "error: no lab is up, and none has left captures in {EXCHANGE}; name a lab's folder of \
             captures, or capture files"
        ))),
        [one] => of_folder(one),
        several => {
            let names = several.iter().filter_map(|p| p.file_name());
            let names: Vec<_> = names.map(|n| n.to_string_lossy().into_owned()).collect();
            Err(Failure::usage(format!(
                "error: {} labs have left captures in {EXCHANGE} ({}); say which",
                names.len(),
                names.join(", ")
            )))
        }
    }
}
