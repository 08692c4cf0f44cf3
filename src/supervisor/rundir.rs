//! `/run/nslab/<lab>/`: where everything of a running lab is found.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::error::OnPath;
use super::{Error, Result};
use crate::kernel::process::ProcessId;

/// Version of [`State`] and of the control protocol; one that is not equal is not understood.
pub const VERSION: u32 = 2;

/// The folder of one lab.
#[derive(Debug, Clone)]
pub struct RunDir {
    lab: String,
    root: PathBuf,
}

/// What a lab's supervisor says of itself, in `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the lab.
    pub lab: String,
    /// The lab file as it was given.
    pub file: PathBuf,
    /// The supervisor.
    pub supervisor: ProcessId,
    /// Folder of the capture files.
    pub exchange: PathBuf,
    /// Unix time of `up`, seconds.
    pub since: u64,
    /// Whether `up` is through.
    pub up: bool,
}

impl RunDir {
    /// The folder that holds one folder a lab: `/run/nslab`, or what `NSLAB_RUN` names.
    pub fn base() -> PathBuf {
        std::env::var_os("NSLAB_RUN").map_or_else(|| PathBuf::from("/run/nslab"), PathBuf::from)
    }

    /// The folder of the lab of that name; it need not exist.
    pub fn of(lab: &str) -> Self {
        Self {
            lab: lab.to_owned(),
            root: Self::base().join(lab),
        }
    }

    /// The folder of a lab in a place of its own.
    #[cfg(test)]
    pub(super) fn at(lab: &str, root: &Path) -> Self {
        Self {
            lab: lab.to_owned(),
            root: root.to_owned(),
        }
    }

    /// The lab's name.
    pub fn lab(&self) -> &str {
        &self.lab
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Pins of the lab's network namespaces, named like their nodes. For `nsenter --net=`.
    pub fn pins(&self) -> PathBuf {
        self.root.join("ns")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("control")
    }

    /// What has to be undone.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Output of a node's main process.
    pub fn log(&self, node: &str) -> PathBuf {
        self.root.join("logs").join(format!("{node}.log"))
    }

    /// The lab's events, one [`super::Record`] a line.
    pub fn supervisor_log(&self) -> PathBuf {
        self.root.join("supervisor.log")
    }

    /// What `exec` has to know of a node.
    pub fn target(&self, node: &str) -> PathBuf {
        self.root.join("nodes").join(format!("{node}.json"))
    }

    fn state_path(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// Makes the folder and takes the lab's lock.
    ///
    /// # Errors
    /// [`Error::AlreadyUp`] when somebody else holds it.
    pub fn lock(&self) -> Result<Flock<File>> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.root)
            .on("create", &self.root)?;
        match self.try_lock()? {
            Some(lock) => Ok(lock),
            None => Err(Error::AlreadyUp {
                lab: self.lab.clone(),
                pid: self.state().map_or(0, |s| s.supervisor.pid),
            }),
        }
    }

    /// The lock if nobody holds it; the folder exists.
    pub fn try_lock(&self) -> Result<Option<Flock<File>>> {
        let path = self.root.join("lock");
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .on("open", &path)?;
            let inode = file.metadata().on("look at", &path)?.ino();
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // Its last holder may have removed the file between our open and our lock.
                Ok(lock) if fs::metadata(&path).is_ok_and(|m| m.ino() == inode) => {
                    return Ok(Some(lock));
                }
                Ok(_) => {}
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, e)) => return Err(e).on("lock", &path),
            }
        }
    }

    /// What the supervisor last said; `None` if there is nothing readable.
    pub fn state(&self) -> Option<State> {
        let state: State = serde_json::from_slice(&fs::read(self.state_path()).ok()?).ok()?;
        (state.version == VERSION).then_some(state)
    }

    /// Writes the state in one move.
    pub fn write_state(&self, state: &State) -> Result<()> {
        write_json(&self.state_path(), state)
    }
}

/// Writes JSON to a file that is whole at any time.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let temporary = path.with_extension("new");
    let text = serde_json::to_vec(value)
        .map_err(std::io::Error::other)
        .on("encode", path)?;
    fs::write(&temporary, text).on("write", &temporary)?;
    fs::rename(&temporary, path).on("rename", &temporary)
}
