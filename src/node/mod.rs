//! A node's processes: an init in the node's namespaces, its root filesystem, capabilities, exec,
//! restart. Knows nothing of images and labs: everything comes in an [`InitSpec`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that the init of a node needs. It travels as JSON over an inherited descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitSpec {
    /// UTS hostname.
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
    /// Working directory; created if an image lacks it. Empty means `/`.
    pub cwd: PathBuf,
    /// Capabilities kept, by name (`CAP_NET_RAW`): the container default and the lab's additions.
    pub capabilities: Vec<String>,
    /// The main process, if the node has one.
    pub process: Option<Process>,
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
        /// The node's own writable layer (exists, empty).
        upper: PathBuf,
        /// Overlayfs' work folder on the same filesystem (exists, empty).
        work: PathBuf,
        /// Where it is mounted inside the node's mount namespace before pivot_root (exists, empty).
        target: PathBuf,
    },
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
