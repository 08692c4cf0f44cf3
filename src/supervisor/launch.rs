//! The `up` command's side: it starts the supervisor, hands on its events, and holds its lifeline.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::error::OnPath;
use super::{Error, Event, Result};

/// The first argument (`argv[0]`) that makes the binary a supervisor.
pub const SUPERVISOR: &str = "nslab-supervisor";

/// Everything that a supervisor is told, as one line of JSON on its standard input. The input then
/// stays open as its lifeline: its end before the lab is up means that nobody waits any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    /// The lab file as it was given.
    pub file: PathBuf,
    /// Its text; the supervisor parses it again, so that a `Lab` never travels.
    pub text: String,
    /// Absolute folder of the capture files, `exchange/<lab>`.
    pub exchange: PathBuf,
    /// Whom the capture files belong to.
    pub owner: Option<Owner>,
    /// Every image of the lab, unpacked, by its reference in the file.
    pub images: BTreeMap<String, NodeImage>,
    /// What the nodes' env files say, by node, in the order in which it counts.
    pub env_files: BTreeMap<String, Vec<(String, String)>>,
    /// Folder of the image store, which has the nodes' writable layers too.
    pub store: PathBuf,
    /// Nodes whose kept files are thrown away first.
    pub fresh: Vec<String>,
    /// Whether captures are left out, whatever the file says.
    pub no_capture: bool,
}

/// User and group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// The user who ran sudo, if one did (sudo(8): `SUDO_UID`, `SUDO_GID`).
    pub fn from_sudo() -> Option<Self> {
        let id = |name| std::env::var(name).ok()?.parse().ok();
        Some(Self {
            uid: id("SUDO_UID")?,
            gid: id("SUDO_GID")?,
        })
    }
}

/// An unpacked image as the supervisor has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeImage {
    /// Digest of its manifest.
    pub digest: String,
    /// Layers, uppermost first.
    pub layers: Vec<PathBuf>,
    /// Program and arguments that come before [`cmd`](Self::cmd).
    pub entrypoint: Vec<String>,
    /// Default arguments, or the program itself if there is no entrypoint.
    pub cmd: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// User, as the image has it.
    pub user: String,
    /// Working directory.
    pub workdir: PathBuf,
    /// Signal that stops it, as the image has it: by name or number.
    pub stop_signal: Option<String>,
}

/// Starts the supervisor of a lab and waits until it is up, handing its events on.
///
/// # Errors
/// The lab did not come up; everything is undone then, and the last event said why.
pub fn up(launch: &Launch, mut on_event: impl FnMut(&Event)) -> Result<()> {
    let exe = std::env::current_exe().on("find", "/proc/self/exe".as_ref())?;
    let mut child = {
        use std::os::unix::process::CommandExt;
        Command::new(&exe)
            .arg0(SUPERVISOR)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .on("start", &exe)?
    };
    let interrupted = interrupt::watch()?;
    let mut lifeline = child.stdin.take();
    if let Some(stdin) = &mut lifeline {
        let mut line = serde_json::to_vec(launch)
            .map_err(std::io::Error::other)
            .on("encode", &launch.file)?;
        line.push(b'\n');
        stdin.write_all(&line).on("write to", &exe)?;
    }
    let Some(stdout) = child.stdout.take() else {
        return Err(Error::Refused("the supervisor has no output".to_owned()));
    };
    // ^C closes the lifeline; the supervisor undoes everything, tells so, and ends.
    let holder = std::thread::spawn(move || {
        interrupted.wait();
        drop(lifeline);
    });
    let mut outcome = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.on("read from", &exe)?;
        let Ok(event) = serde_json::from_str::<Event>(&line) else {
            continue;
        };
        on_event(&event);
        match event {
            Event::Up { .. } => {
                outcome = Some(Ok(()));
                break;
            }
            Event::Failed { error, .. } => outcome = Some(Err(Error::Refused(error))),
            _ => {}
        }
    }
    drop(holder);
    match outcome {
        Some(Ok(())) => Ok(()),
        Some(Err(e)) => {
            let _ = child.wait();
            Err(e)
        }
        None => {
            let status = child.wait().on("wait for", &exe)?;
            Err(Error::Refused(format!(
                "the supervisor ended ({status}) before the lab was up; `nslab down` removes what it left"
            )))
        }
    }
}

/// SIGINT, SIGTERM and SIGHUP as something to wait for.
mod interrupt {
    use nix::sys::signal::{SigSet, Signal};

    use super::{Error, Result};

    /// The signals, blocked in every thread that is started from now on.
    pub(super) struct Interrupts(SigSet);

    pub(super) fn watch() -> Result<Interrupts> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()
            .map_err(|e| Error::Refused(format!("cannot block signals: {e}")))?;
        Ok(Interrupts(set))
    }

    impl Interrupts {
        /// Returns when one of them has come.
        pub(super) fn wait(self) {
            let _ = self.0.wait();
        }
    }
}
