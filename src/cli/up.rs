//! `nslab up`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Failure, Result, lab_file};
use crate::image::{Image, Store};
use crate::lab::{Lab, Node};
use crate::node::signal_number;
use crate::report::{Reporter, progress::ImageProgress};
use crate::spec::{Code, Diagnostic};
use crate::supervisor::{self, Launch, NodeImage, Owner, RunDir};

/// Arguments of `nslab up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The lab file
    #[arg(value_name = "LAB.toml")]
    file: PathBuf,
    /// Folder for capture files; a folder of the lab's name is made in it
    #[arg(long, value_name = "DIR", default_value = "exchange")]
    exchange: PathBuf,
    /// Capture nothing, whatever the lab file says
    #[arg(long)]
    no_capture: bool,
    /// Throw away what a node with `keep = true` keeps, and start it from its image; may be repeated
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    fresh: Vec<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let (file, env_files, _) = lab_file::read_with_files(&args.file, args.json)?;
    super::need_root("up")?;
    refuse_second(&file.lab)?;
    supervisor::check_fresh(&file.lab, &args.fresh)
        .map_err(|e| Failure::usage(format!("error: {e}")))?;
    let missing = missing_sources(&file.lab, file.folder());
    if !missing.is_empty() {
        return Err(file.refused(missing, args.json));
    }
    // Open until the supervisor has a lease of its own: nobody removes the layers in between.
    let (images, _store) = images(&file.lab, file.folder(), args.json)?;
    for node in file.lab.nodes() {
        something_runs(node, &images)?;
    }
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|e| Failure::lab(format!("cannot find {}: {e}", path.display())))
    };
    let launch = Launch {
        file: absolute(&file.path)?,
        text: file.text,
        exchange: absolute(&args.exchange)?.join(file.lab.name().as_str()),
        owner: Owner::from_sudo(),
        images,
        env_files,
        store: absolute(&Store::default_root())?,
        fresh: args.fresh.clone(),
        no_capture: args.no_capture,
    };
    let mut reporter = Reporter::new(args.json);
    let outcome = supervisor::up(&launch, |event| reporter.event(event));
    reporter.finish();
    // The reporter has shown the reason, with the guilty node's log.
    outcome.map_err(|e| {
        if reporter.has_failed() {
            Failure::silent(1)
        } else {
            e.into()
        }
    })
}

/// Before images are built for nothing.
fn refuse_second(lab: &Lab) -> Result<()> {
    let dir = RunDir::of(lab.name().as_str());
    match dir.state() {
        Some(state) if state.supervisor.is_alive() => {
            let lab = lab.name().to_string();
            Err(supervisor::Error::AlreadyUp {
                lab,
                pid: state.supervisor.pid,
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// Finds, and builds where it has to, every image of the lab.
fn images(
    lab: &Lab,
    folder: &Path,
    json: bool,
) -> Result<(BTreeMap<String, NodeImage>, Option<Store>)> {
    let mut images = BTreeMap::new();
    let mut store = None;
    for node in lab.nodes() {
        let Some(reference) = node.image() else {
            continue;
        };
        if images.contains_key(reference) {
            continue;
        }
        let search = [
            folder.join("images"),
            folder.join("../images"),
            PathBuf::from("images"),
        ];
        let store = match &store {
            Some(store) => store,
            None => store.insert(Store::open(&Store::default_root())?),
        };
        let mut shown = if json {
            ImageProgress::plain()
        } else {
            ImageProgress::new()
        };
        let image = store.resolve(reference, &search, &mut |event| shown.event(event))?;
        drop(shown);
        images.insert(reference.clone(), node_image(image));
    }
    Ok((images, store))
}

fn node_image(image: Image) -> NodeImage {
    let config = image.config;
    NodeImage {
        digest: image.digest,
        layers: image.layers,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        user: config.user,
        workdir: config.workdir,
        // Some builders write an empty one for none.
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
    }
}

/// Volumes whose source is not on this host. nslab makes none: a folder that is made for a slip of
/// the pen is found by nobody.
fn missing_sources(lab: &Lab, folder: &Path) -> Vec<Diagnostic> {
    let volumes = lab.nodes().iter().flat_map(Node::volumes);
    volumes
        .filter_map(|volume| {
            let source = folder.join(volume.source());
            let error = std::fs::metadata(&source).err()?;
            Some(Diagnostic::new(
                Code::BadVolume,
                volume.span(),
                format!("cannot show {} in a node: {error}", source.display()),
                "nothing that could be shown",
                "make the folder or file first, or correct the path, which starts at the lab \
                 file's folder",
            ))
        })
        .collect()
}

/// Before anything is made: what only images can tell about a node's main process.
fn something_runs(node: &Node, images: &BTreeMap<String, NodeImage>) -> Result<()> {
    let Some(reference) = node.image() else {
        return Ok(());
    };
    let name = node.name();
    let image = images.get(reference);
    if supervisor::argv(image, node).is_empty() {
        return Err(Failure::lab(format!(
            "node {name}: image {reference} has neither ENTRYPOINT nor CMD; write a `command` with \
             the program and its arguments into [nodes.{name}]"
        )));
    }
    let signal = image.and_then(|i| i.stop_signal.as_deref());
    match signal {
        Some(signal) if node.stop_signal().is_none() && signal_number(signal).is_none() => {
            Err(Failure::lab(format!(
                "node {name}: image {reference} wants to be stopped by {signal:?}, which is no \
                 signal; write a `stop_signal` into [nodes.{name}]"
            )))
        }
        _ => Ok(()),
    }
}
