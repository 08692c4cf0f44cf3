//! `nslab up`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Failure, Result, lab_file};
use crate::image::{Image, Store};
use crate::lab::Lab;
use crate::report::{Reporter, progress::ImageProgress};
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
    let file = lab_file::read(&args.file, args.json)?;
    super::need_root("up")?;
    refuse_second(&file.lab)?;
    supervisor::check_fresh(&file.lab, &args.fresh)?;
    // Open until the supervisor has a lease of its own: nobody removes the layers in between.
    let (images, _store) = images(&file.lab, &file.path, args.json)?;
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
    file: &Path,
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
        let folder = file.parent().unwrap_or(Path::new(""));
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
        argv: config.entrypoint.into_iter().chain(config.cmd).collect(),
        env: config.env,
        user: config.user,
        workdir: config.workdir,
    }
}
