//! A node's processes: an init in the node's namespaces, its root filesystem, capabilities, exec,
//! restart. Knows nothing of images and labs: everything comes in an [`InitSpec`].
//!
//! ```text
//! supervisor --spawn--> init (PID 1 of the node) --Launch--> main process
//!     ^  status pipe: InitEvent, one JSON object a line        | output pipe
//!     '--------------------------------------------------------'
//! nslab exec --setns(init's pidfd)--Launch--> the user's command
//! ```
//!
//! | file | job |
//! |---|---|
//! | `spawn` | the supervisor's side: clones an init into a namespace |
//! | `init` | PID 1: root filesystem, capabilities, restart, reaping, stop |
//! | `rootfs`, `kernel_views`, `devices`, `asked` | what is mounted where: pure data |
//! | `mountinfo` | which of the host's mounts a node sees |
//! | `mounts` | carries that data out |
//! | `groups` | into the control groups that limit a node |
//! | `credentials` | capability sets; users and groups of the node's own files |
//! | `seccomp` | which system calls a node's programs may make |
//! | `child` | one prepared process start, for init and exec alike |
//! | `raw` | system calls of a child before its program |
//! | `springboard`, `view` | the way out of nslab's own binary, and its read-only view |
//! | `signals` | their names and numbers |
//! | `exec`, `terminal` | a command in a running node |

mod asked;
mod child;
mod credentials;
mod devices;
mod error;
mod exec;
mod groups;
mod init;
mod kernel_views;
mod mountinfo;
mod mounts;
mod raw;
mod rootfs;
mod seccomp;
mod signals;
mod spawn;
mod springboard;
mod terminal;
mod view;

use std::path::PathBuf;
use std::time::Duration;

pub use child::DEFAULT_PATH;
pub use credentials::{DEFAULT_CAPABILITIES, User};
pub use error::{Error, ExecError};
pub use exec::{ExecOptions, Target, Tty, exec};
pub use init::{INIT_ARGV0, InitEvent, init_main};
pub use kernel_views::{masked_paths, read_only_paths};
pub use seccomp::{SyscallAction, SyscallArg, SyscallRule, seccomp_architectures, seccomp_rules};
pub use signals::signal_number;
pub use spawn::{Init, MountTemplate, SpawnOptions, spawn, spawn_with};

use serde::{Deserialize, Serialize};

/// What the binary does when it was started under another name than `nslab`: init of a node
/// ([`INIT_ARGV0`]), or the tests' way to [`exec()`] (`nslab-exec`). To be called first thing
/// in `main`, before any thread exists; returns when this is an ordinary start.
pub fn reexec() {
    let argv0 = std::env::args_os().next().unwrap_or_default();
    if argv0 == INIT_ARGV0 {
        init_main();
    }
    if argv0 == exec::EXEC_ARGV0 {
        exec::exec_main();
    }
}

/// Everything that the init of a node needs. It travels as JSON over an inherited descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitSpec {
    /// UTS hostname: the node's name, which messages use too.
    pub hostname: String,
    /// What `/` is.
    pub rootfs: Rootfs,
    /// Content of /etc/hosts.
    pub hosts: String,
    /// Host paths shown inside.
    pub binds: Vec<Bind>,
    /// Environment of every process in the node (main process and `exec`), in order.
    pub env: Vec<(String, String)>,
    /// User as an image config has it: `""`, `name`, `uid`, `user:group`; looked up in the node's
    /// own /etc/passwd and /etc/group.
    pub user: String,
    /// Working directory; created where it is missing. Empty means `/`.
    pub cwd: PathBuf,
    /// Capabilities kept, by name (`CAP_NET_RAW`): the container default and the lab's additions.
    pub capabilities: Vec<String>,
    /// The main process, if the node has one.
    pub process: Option<Process>,
    /// How long a stop waits between [`stop_signal`](Self::stop_signal) to the main process and SIGKILL to everything, in
    /// milliseconds.
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
    /// Number of the signal that asks the main process to end (`STOPSIGNAL` of an image).
    #[serde(default = "default_stop_signal")]
    pub stop_signal: i32,
    /// Memory filesystems of the node's own; of these and [`binds`](Self::binds) what is nearer to
    /// the root is mounted first.
    #[serde(default)]
    pub tmpfs: Vec<Tmpfs>,
    /// Whether system calls are filtered as containers have it.
    #[serde(default = "default_seccomp")]
    pub seccomp: bool,
    /// Control group folders that every process of the node is in, from the host's view: one in
    /// version 2, one for each controller in version 1, none without limits.
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
}

impl InitSpec {
    /// The usual time between stop signal and SIGKILL.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(3);
}

const fn default_grace_ms() -> u64 {
    InitSpec::DEFAULT_GRACE.as_millis() as u64
}

const fn default_stop_signal() -> i32 {
    libc::SIGTERM
}

const fn default_seccomp() -> bool {
    true
}

/// A supervised main process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; the program is looked up in the PATH of [`InitSpec::env`].
    pub argv: Vec<String>,
    /// When it is started again.
    pub restart: RestartPolicy,
}

/// When a main process is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    No,
    /// When it ends with another code than 0 or by a signal.
    OnFailure,
    /// Always.
    Always,
}

/// Where `/` comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rootfs {
    /// The host's own root, read-only with all its mounts, with an own /tmp, /run, /dev, /proc,
    /// /sys.
    Host,
    /// An overlay mount.
    Overlay {
        /// Read-only layers, uppermost first.
        lower: Vec<PathBuf>,
        /// The node's own writable layer (exists).
        upper: PathBuf,
        /// Overlayfs' work folder on the same filesystem (exists).
        work: PathBuf,
        /// Where it is mounted inside the node's mount namespace before pivot_root (exists, empty).
        target: PathBuf,
        /// Whether the writable layer is used again after the node's end: it is synced then, and can
        /// be mounted again however the node ended.
        kept: bool,
    },
}

/// A memory filesystem of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Absolute path inside.
    pub target: PathBuf,
    /// Most bytes in it; `None` is the kernel's default, half of the memory (tmpfs(5)).
    pub size: Option<u64>,
    /// Permission bits of its root.
    pub mode: u32,
    /// Whether programs in it can be run.
    pub exec: bool,
}

/// A host path shown inside a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Whether it is read-only inside.
    pub read_only: bool,
}
