//! What `proof` and `explain` read: a lab's captures, while it is up or after, or files of any
//! origin.

use std::path::{Path, PathBuf};

use super::{Failure, Result};
use crate::supervisor::{RunDir, find_lab, running_labs};
use crate::trace::{self, LabFolder, Source};

impl From<trace::Error> for Failure {
    fn from(error: trace::Error) -> Self {
        match error {
            // What was asked for is not there: a matter of the command line.
            trace::Error::NoService { .. }
            | trace::Error::UnknownVip { .. }
            | trace::Error::WhichVip { .. }
            | trace::Error::UnknownPoint { .. } => Self::usage(format!("error: {error}")),
            other => Self::lab(other),
        }
    }
}

/// What there is to read.
pub(super) enum Traced {
    /// A lab's captures.
    Lab {
        folder: LabFolder,
        /// It is up, and its files grow.
        up: bool,
    },
    /// Captures of which nothing is known.
    Files(Vec<Source>),
}

/// The captures of the lab of that name, of a folder, or of the only lab there is.
pub(super) fn lab(name: Option<&str>, exchange: &Path) -> Result<Traced> {
    let (folder, up) = match name {
        None => default_folder(exchange)?,
        Some(name) if Path::new(name).is_dir() => (PathBuf::from(name), false),
        Some(name) => named_folder(name, exchange)?,
    };
    Ok(Traced::Lab {
        folder: LabFolder::open(&folder)?,
        up,
    })
}

/// What the words of a command line name: nothing, a lab or its folder, or capture files.
pub(super) fn named(words: &[String], exchange: &Path) -> Result<Traced> {
    match words {
        [] => lab(None, exchange),
        [one] if !Path::new(one).is_file() => lab(Some(one), exchange),
        [one] if is_lab_file(one) => {
            let file = super::lab_file::read(one.as_ref(), false)?;
            lab(Some(file.lab.name().as_str()), exchange)
        }
        files => Ok(self::files(files)?),
    }
}

fn is_lab_file(word: &str) -> bool {
    Path::new(word).extension().is_some_and(|e| e == "toml")
}

fn files(words: &[String]) -> Result<Traced> {
    let paths: Vec<PathBuf> = words.iter().map(PathBuf::from).collect();
    if let Some(missing) = paths.iter().find(|p| !p.is_file()) {
        return Err(Failure::usage(format!(
            "error: {} is no file; capture files, or one lab, are expected",
            missing.display()
        )));
    }
    if let Some(folder) = LabFolder::around(&paths) {
        return Ok(Traced::Lab { folder, up: false });
    }
    let sources: Vec<_> = paths
        .iter()
        .filter(|p| !trace::is_companion(p))
        .map(|p| Source::new(p))
        .collect();
    if sources.is_empty() {
        return Err(Failure::usage("error: no capture file was named"));
    }
    Ok(Traced::Files(sources))
}

/// Of the lab that is up; else of the only one that has left captures here.
fn default_folder(exchange: &Path) -> Result<(PathBuf, bool)> {
    if !running_labs().is_empty() {
        let dir = find_lab(None)?;
        return Ok((running_folder(&dir, exchange), true));
    }
    let mut folders: Vec<PathBuf> = std::fs::read_dir(exchange)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.join(trace::Topology::FILE).is_file())
        .collect();
    folders.sort();
    match folders.len() {
        1 => Ok((folders.remove(0), false)),
        0 => Err(Failure::usage(format!(
            "error: no lab is up, and {} holds no lab's captures; run `sudo nslab up LAB.toml`, or \
             name capture files",
            exchange.display()
        ))),
        _ => {
            let names: Vec<_> = folders
                .iter()
                .filter_map(|f| f.file_name())
                .map(|n| n.to_string_lossy())
                .collect();
            Err(Failure::usage(format!(
                "error: {} holds captures of several labs: name one of {}",
                exchange.display(),
                names.join(", ")
            )))
        }
    }
}

fn named_folder(name: &str, exchange: &Path) -> Result<(PathBuf, bool)> {
    if running_labs().iter().any(|l| l == name) {
        return Ok((running_folder(&RunDir::of(name), exchange), true));
    }
    let folder = exchange.join(name);
    if folder.join(trace::Topology::FILE).is_file() {
        return Ok((folder, false));
    }
    Err(Failure::usage(format!(
        "error: {name} is neither a capture file nor a lab that is up, and there are no captures of \
         such a lab in {}",
        folder.display()
    )))
}

fn running_folder(dir: &RunDir, exchange: &Path) -> PathBuf {
    dir.state()
        .map_or_else(|| exchange.join(dir.lab()), |s| s.exchange)
}
