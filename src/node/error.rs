//! What can go wrong in this room.

use std::io;
use std::path::PathBuf;

/// A node could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call that prepares the init, in the supervisor.
    #[error("cannot {action} for node {node}: {source}")]
    Spawn {
        /// What was tried.
        action: &'static str,
        /// The node.
        node: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A control group that is to keep its limits cannot be joined.
    #[error("cannot join the control group {} of node {node}: {source}", folder.display())]
    Group {
        /// The group's folder.
        folder: PathBuf,
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// The [`InitSpec`](super::InitSpec) cannot be passed on.
    #[error("the description of a node cannot be {action}: {source}")]
    Spec {
        /// `written` or `read`.
        action: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Some text holds a NUL byte, which no system call takes.
    #[error("{what} `{text}` holds a NUL byte; remove it")]
    Nul {
        /// What it is.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// Preparing a process inside the node.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A step of the root filesystem.
    #[error("cannot {action} {}: {source}{}", path.display(), hint_suffix(hint))]
    Rootfs {
        /// What was tried, as `mount proc on`.
        action: String,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
        /// What to do; empty when there is nothing to say.
        hint: &'static str,
    },
    /// A capability that this kernel does not know.
    #[error("unknown capability `{0}`; capabilities look like CAP_NET_ADMIN, see capabilities(7)")]
    Capability(String),
    /// A user or group that is not in the node's own files.
    #[error("{kind} `{name}` is not in the node's {file}; use a number, or add it to the image")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// As it was given.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// A main process without a program.
    #[error("the main process has an empty command; give a program")]
    NoProgram,
}

fn hint_suffix(hint: &str) -> String {
    if hint.is_empty() {
        String::new()
    } else {
        format!("; {hint}")
    }
}

impl Error {
    pub(super) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}

/// A command could not be run in a node. `code` is the exit code that `nslab exec` ends with.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The node's init is gone, or its pid belongs to another process by now.
    #[error("exec: node {node} is not running (its init was pid {pid}); `nslab ps` shows what is")]
    Gone {
        /// The node.
        node: String,
        /// The recorded pid.
        pid: i32,
    },
    /// Another nslab wrote the target.
    #[error(
        "exec: node {node} was started by another nslab (record version {found}, this one reads \
         {expected}); `nslab down` and `up` it with this one"
    )]
    Version {
        /// The node.
        node: String,
        /// Version in the record.
        found: u32,
        /// Version that this binary writes.
        expected: u32,
    },
    /// No command given.
    #[error("exec: no command given; try `nslab exec {0} sh`")]
    NoCommand(String),
    /// Entering the node.
    #[error("exec: cannot {action} in node {node}: {source}{}", hint_suffix(hint))]
    Enter {
        /// What was tried.
        action: &'static str,
        /// The node.
        node: String,
        /// Why it failed.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// A control group that keeps the node's limits cannot be joined.
    #[error(
        "exec: cannot join the control group {} of node {node}: {source}; if somebody removed it, \
         `nslab down` and `up` make it again",
        folder.display()
    )]
    Group {
        /// The group's folder.
        folder: PathBuf,
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// User, capabilities, texts.
    #[error("exec: {0}")]
    Prepare(#[from] Error),
    /// The working directory cannot be entered.
    #[error("exec: cannot enter working directory {} in node {node}: {source}", cwd.display())]
    Cwd {
        /// The directory.
        cwd: PathBuf,
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// The program is not there.
    #[error("exec: {program}: {reason} in node {node}")]
    NotFound {
        /// As typed.
        program: String,
        /// `command not found`, `no such file`, or what about its interpreter.
        reason: &'static str,
        /// The node.
        node: String,
    },
    /// The program is there and cannot be run.
    #[error("exec: {program}: cannot be executed in node {node}: {source}")]
    NotExecutable {
        /// As typed.
        program: String,
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
}

impl ExecError {
    /// Exit code: 127 not found, 126 not executable, 125 anything else, as a shell and `docker
    /// exec` have it.
    pub fn code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}
