//! Reading a lab file, for `up`, `check` and `plan`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::{Failure, Result};
use crate::lab::Lab;
use crate::spec::Diagnostics;

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
    Ok(read_with_warnings(path, json)?.0)
}

/// The same, and the warnings as they are.
pub(super) fn read_with_warnings(path: &Path, json: bool) -> Result<(LabFile, Diagnostics)> {
    let text = read_text(path)?;
    let color = std::io::stderr().is_terminal();
    match crate::lab::check(path, &text) {
        (Some(lab), problems) => {
            if !problems.is_empty() && !json {
                eprintln!("{}", problems.render(color));
            }
            Ok((
                LabFile {
                    path: path.to_owned(),
                    text,
                    lab,
                },
                problems,
            ))
        }
        (None, problems) if json => {
            super::print_json(&problems.to_json())?;
            Err(Failure::silent(2))
        }
        (None, problems) => Err(Failure::usage(problems.render(color))),
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
