//! What surrounds a node's processes: memory filesystems, limits, files with environment.

use std::path::PathBuf;

use serde::Serialize;

use crate::spec::Span;

/// A host path shown inside a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    pub(in crate::lab) source: PathBuf,
    pub(in crate::lab) target: PathBuf,
    pub(in crate::lab) read_only: bool,
    #[serde(skip)]
    pub(in crate::lab) span: Span,
}

getters!(Volume {
    /// Path on the host; relative ones are taken from the lab file's folder.
    source: &PathBuf = borrow,
    /// Absolute path inside the node.
    target: &PathBuf = borrow,
    /// Whether it is mounted read-only.
    read_only: bool = copy,
    /// Where the lab file has it, for messages about what is not there.
    span: Span = copy,
});

/// A memory filesystem of a node's own, with nosuid and nodev.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tmpfs {
    pub(in crate::lab) target: PathBuf,
    pub(in crate::lab) size: Option<u64>,
    pub(in crate::lab) mode: u32,
    pub(in crate::lab) exec: bool,
}

getters!(Tmpfs {
    /// Absolute path inside the node.
    target: &PathBuf = borrow,
    /// Most bytes in it; `None` is the kernel's default, half of the memory (tmpfs(5)).
    size: Option<u64> = copy,
    /// Permission bits of its root (default 1777).
    mode: u32 = copy,
    /// Whether programs in it can be run (default not, as Docker's `--tmpfs`).
    exec: bool = copy,
});

/// A file of environment variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnvFile {
    pub(in crate::lab) path: PathBuf,
    #[serde(skip)]
    pub(in crate::lab) span: Span,
}

getters!(EnvFile {
    /// Path on the host; relative ones are taken from the lab file's folder.
    path: &PathBuf = borrow,
    /// Where the lab file names it, for messages about its content.
    span: Span = copy,
});

/// What the kernel lets a node have at most; at least one of them is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    pub(in crate::lab) memory: Option<u64>,
    pub(in crate::lab) cpus_milli: Option<u32>,
    pub(in crate::lab) pids: Option<u32>,
}

getters!(Limits {
    /// Memory in bytes.
    memory: Option<u64> = copy,
    /// Processor time in thousandths of one processor.
    cpus_milli: Option<u32> = copy,
    /// Processes and threads, the node's init among them.
    pids: Option<u32> = copy,
});

words! {
    /// Whether a node's system calls are filtered.
    Seccomp {
        /// What containers may call (the default).
        Default = "default",
        /// Everything.
        Unconfined = "unconfined",
    }
}
