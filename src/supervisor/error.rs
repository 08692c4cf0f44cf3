//! What can go wrong around a lab's supervisor.

use std::io;
use std::path::PathBuf;

/// A failed operation on a lab.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] crate::kernel::Error),
    /// A node's process could not be started or entered.
    #[error("node {node}: {source}")]
    Node {
        /// Which node.
        node: String,
        /// Why.
        source: crate::node::Error,
    },
    /// The image store refused.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// Captures could not be started.
    #[error(transparent)]
    Capture(#[from] crate::capture::Error),
    /// No engine can do what the file asks for.
    #[error("director {node}: {source}")]
    Director {
        /// Which director.
        node: String,
        /// Why.
        source: crate::director::Error,
    },
    /// A running director could not be asked or changed.
    #[error("director {node}: {source}")]
    Live {
        /// Which director.
        node: String,
        /// Why.
        source: crate::director::live::Error,
    },
    /// A file or folder of nslab's own.
    #[error("cannot {op} {}: {source}", path.display())]
    File {
        /// The verb.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `up` of a lab that runs.
    #[error(
        "lab {lab} is up already (supervisor pid {pid}); `nslab ps` shows it, `nslab down {lab}` ends it"
    )]
    AlreadyUp {
        /// Its name.
        lab: String,
        /// Its supervisor's pid, or 0 while it is only starting.
        pid: i32,
    },
    /// A lab that nobody started.
    #[error("lab {lab} is not up{}", others(.running))]
    NotUp {
        /// The name that was given.
        lab: String,
        /// Names of those that are up.
        running: Vec<String>,
    },
    /// No lab is up and none was named.
    #[error("no lab is up; start one with `sudo nslab up LAB.toml`")]
    NoLab,
    /// Several labs are up and none was named.
    #[error("{} labs are up ({}): say which with --lab NAME", .0.len(), .0.join(", "))]
    SeveralLabs(Vec<String>),
    /// The supervisor is dead, its lab is not taken down.
    #[error("the supervisor of lab {lab} has died; `sudo nslab down {lab}` removes what it left")]
    SupervisorDied {
        /// Its lab.
        lab: String,
    },
    /// The host's own network is in the way.
    #[error(
        "the host already has a route to {route}, which overlaps network {network} ({subnet}) that the lab puts the host on; take another subnet in the lab file, or remove `host` from the network"
    )]
    RouteOverlap {
        /// The host's route.
        route: String,
        /// The lab's network.
        network: String,
        /// Its subnet.
        subnet: String,
    },
    /// An interface of this name exists on the host.
    #[error(
        "the host already has an interface {0}, the name that the lab would use; rename the lab or the network"
    )]
    HostLinkExists(String),
    /// A node did not become ready.
    #[error("node {node} is not ready: {why}")]
    NotReady {
        /// Which node.
        node: String,
        /// What happened instead.
        why: String,
    },
    /// The user or the terminal went away.
    #[error("interrupted")]
    Interrupted,
    /// The supervisor said no.
    #[error("{0}")]
    Refused(String),
    /// The control socket said something unexpected.
    #[error("cannot talk to the supervisor of lab {lab}: {source}")]
    Talk {
        /// Its lab.
        lab: String,
        /// Why.
        source: io::Error,
    },
    /// Not root.
    #[error("nslab makes network namespaces and links, which needs root: run `sudo nslab {0}`")]
    NeedsRoot(&'static str),
}

fn others(running: &[String]) -> String {
    if running.is_empty() {
        "; no lab is".to_owned()
    } else {
        format!("; up: {}", running.join(", "))
    }
}

/// Adds the file to an I/O error.
pub(super) trait OnPath<T> {
    /// `op` is a verb.
    fn on(self, op: &'static str, path: &std::path::Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> OnPath<T> for Result<T, E> {
    fn on(self, op: &'static str, path: &std::path::Path) -> Result<T, Error> {
        self.map_err(|e| Error::File {
            op,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}
