//! Undoing: the same code after a failed `up`, at `down`, and after the supervisor was killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::journal::{Journal, Undo};
use super::{Error, Result, RunDir};
use crate::kernel::{Linux, cgroup, mount};

/// Undoes everything in the lab's journal, last first, and removes the lab's folder. Goes on at
/// errors and gives them all, in words.
pub(super) fn undo_all(dir: &RunDir) -> Vec<String> {
    let mut errors = Vec::new();
    match Journal::read(&dir.journal()) {
        Ok(entries) => {
            for entry in entries.iter().rev() {
                if let Err(e) = undo(entry) {
                    errors.push(e.to_string());
                }
            }
        }
        Err(e) => errors.push(e.to_string()),
    }
    // With errors the journal stays, so that the next `down` can try again.
    if errors.is_empty() {
        if let Err(e) = remove_folder(dir.path()) {
            errors.push(e.to_string());
        }
        // The common folder goes with the last lab; others may be in it.
        let _ = fs::remove_dir(RunDir::base());
    }
    errors
}

fn undo(entry: &Undo) -> Result<()> {
    match entry {
        // On a thread of its own: it may move between namespaces.
        Undo::HostLink { mark, name, mac } => std::thread::scope(|s| {
            s.spawn(|| Linux::new("/nonexistent".into())?.delete_host_links(mark, name, *mac))
                .join()
        })
        .unwrap_or(Ok(()))
        .map_err(Error::from),
        Undo::Mount { path } => Ok(mount::detach(path)?),
        Undo::Folder { path } => remove_folder(path),
        Undo::ControlGroup { path } => Ok(cgroup::remove(path)?),
        Undo::Process { id, .. } => Ok(id.kill()?),
    }
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::File {
            op: "remove",
            path: path.to_owned(),
            source: e,
        }),
        _ => Ok(()),
    }
}

/// `down` of a lab whose supervisor is dead, or hangs and is to be killed (`force`). Needs neither
/// the lab file nor the supervisor.
///
/// # Errors
/// The supervisor lives, or there is no such lab. What could not be undone is in the list.
pub fn down_without_supervisor(dir: &RunDir, force: bool) -> Result<Vec<String>> {
    if force && let Some(state) = dir.state() {
        state.supervisor.kill()?;
    }
    // A supervisor that was just killed lets go of its lock when the kernel has buried it.
    for _ in 0..50 {
        if let Some(_lock) = dir.try_lock()? {
            return Ok(undo_all(dir));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::Refused(format!(
        "the supervisor of lab {0} is alive but does not answer; `nslab down --force {0}` kills it",
        dir.lab()
    )))
}
