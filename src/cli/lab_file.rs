//! Reading a lab file, for `up`, `check` and `plan`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::{Failure, Result};
use crate::lab::Lab;

/// A lab file larger than this is not one: 16 MiB.
const LIMIT: u64 = 16 << 20;

/// A lab file that was read and found good.
pub(super) struct LabFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) lab: Lab,
}

/// Reads and checks a lab file; every problem in it is in the failure.
pub(super) fn read(path: &Path, json: bool) -> Result<LabFile> {
    let text = read_text(path)?;
    match crate::lab::load(path, &text) {
        Ok(lab) => Ok(LabFile { path: path.to_owned(), text, lab }),
        Err(problems) if json => {
            super::print_json(&problems.to_json())?;
            Err(Failure::silent(2))
        }
        Err(problems) => Err(Failure::usage(problems.render(std::io::stderr().is_terminal()))),
    }
}

fn read_text(path: &Path) -> Result<String> {
    let shown = path.display();
    let failed = |e: std::io::Error| {
        Failure::usage(format!("error: cannot read lab file {shown}: {e}"))
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(Failure::usage(format!(
            "error: {shown} is larger than {} MiB, so it is not a lab file",
            LIMIT >> 20
        )));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Failure::usage(format!("error: {shown} is not UTF-8 text (line {line}); a lab file is TOML"))
    })
}
