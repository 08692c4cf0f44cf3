//! Reading a lab file, for `up`, `check` and `plan`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::env_file::{self, EnvFiles};
use super::{Failure, Result};
use crate::lab::Lab;
use crate::spec::{Diagnostic, Diagnostics};

/// A lab file larger than this is not one: 16 MiB.
const LIMIT: u64 = 16 << 20;

/// A lab file that was read and found good.
pub(super) struct LabFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) lab: Lab,
}

/// Reads and checks a lab file; every problem in it is in the failure. Warnings go to standard
/// error.
pub(super) fn read(path: &Path, json: bool) -> Result<LabFile> {
    let (file, problems) = parsed(path, json)?;
    warn(&problems, json);
    Ok(file)
}

/// The same with the files that it names: what is wrong in those is a problem too.
pub(super) fn read_with_files(path: &Path, json: bool) -> Result<(LabFile, EnvFiles, Diagnostics)> {
    let (file, problems) = parsed(path, json)?;
    match env_file::read_all(&file.lab, file.folder()) {
        Ok(env_files) => {
            warn(&problems, json);
            Ok((file, env_files, problems))
        }
        Err(more) => {
            let all = problems.iter().cloned().chain(more).collect();
            Err(file.refused(all, json))
        }
    }
}

fn parsed(path: &Path, json: bool) -> Result<(LabFile, Diagnostics)> {
    let text = read_text(path)?;
    match crate::lab::check(path, &text) {
        (Some(lab), problems) => {
            let path = path.to_owned();
            Ok((LabFile { path, text, lab }, problems))
        }
        (None, problems) => Err(failure(&problems, json)),
    }
}

fn warn(problems: &Diagnostics, json: bool) {
    if !problems.is_empty() && !json {
        eprintln!("{}", problems.render(std::io::stderr().is_terminal()));
    }
}

/// The problems as the command's failure; as JSON they are printed at once.
fn failure(problems: &Diagnostics, json: bool) -> Failure {
    if !json {
        return Failure::usage(problems.render(std::io::stderr().is_terminal()));
    }
    match super::print_json(&problems.to_json()) {
        Ok(()) => Failure::silent(2),
        Err(failure) => failure,
    }
}

impl LabFile {
    /// The folder that relative paths start at.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The failure that a lab is which does not fit this machine.
    pub(super) fn refused(&self, problems: Vec<Diagnostic>, json: bool) -> Failure {
        failure(&Diagnostics::new(&self.path, &self.text, problems), json)
    }
}

fn read_text(path: &Path) -> Result<String> {
    let shown = path.display();
    let failed =
        |e: std::io::Error| Failure::usage(format!("error: cannot read lab file {shown}: {e}"));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(Failure::usage(format!(
            "error: {shown} is larger than {} MiB, so it is not a lab file",
            LIMIT >> 20
        )));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = String::from_utf8_lossy(good).lines().count().max(1);
        Failure::usage(format!(
            "error: {shown} is not UTF-8 text (line {line}); a lab file is TOML"
        ))
    })
}
