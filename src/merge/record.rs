//! `capture.json`: what a lab's captures came to, beside them, so that a merge after `down` knows
//! which files are of the last run and what is missing in them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::capture::{self, Stats, remove_beside, write_beside};

/// The file's name in a lab's folder of captures.
const FILE: &str = "capture.json";
/// Version of the file; one that is greater is not understood.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    interfaces: Vec<Stats>,
}

/// Writes what the captures came to.
///
/// # Errors
/// The file could not be written.
pub fn remember(
    folder: &Path,
    stats: &[Stats],
    owner: Option<(u32, u32)>,
) -> Result<(), capture::Error> {
    let record = Record {
        version: VERSION,
        interfaces: stats.to_vec(),
    };
    // Nothing in it could not be written as JSON.
    let mut text = serde_json::to_vec_pretty(&record).unwrap_or_default();
    text.push(b'\n');
    write_beside(&folder.join(FILE), &text, owner)
}

/// Removes what a former run left.
///
/// # Errors
/// It is there and cannot be removed.
pub fn forget(folder: &Path) -> Result<(), capture::Error> {
    remove_beside(&folder.join(FILE))
}

/// What the last run's captures came to, where it ended with `down`.
pub(super) fn recall(folder: &Path) -> Option<Vec<Stats>> {
    let text = std::fs::read(folder.join(FILE)).ok()?;
    let record: Record = serde_json::from_slice(&text).ok()?;
    (record.version <= VERSION).then_some(record.interfaces)
}
