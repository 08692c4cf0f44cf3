//! Images: recipes built from Debian packages, registries, OCI image layouts and archives, the layer
//! applier, the store. Knows nothing of labs.
//!
//! ```text
//! reference --+-- recipe --debs--build--pack--> OCI layout --+
//!             +-- registry --pull-------------> OCI layout --+
//!             +-- archive --unpack------------> OCI layout --+
//!             +-- OCI layout --------------------------------+--layer--> store/layers/<diff id>
//! store/layers --export--> OCI runtime bundle
//! ```

mod ahead;
mod archive;
mod beneath;
mod build;
mod counted;
mod debs;
mod digest;
mod error;
mod export;
mod files;
mod hashcache;
mod implied;
pub mod layer;
mod layout;
mod pack;
mod recipe;
mod reference;
mod registry;
mod several;
mod store;
mod tarread;
mod unpack;
mod zstd;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::{Error, LayerError};
pub use export::{Bundle, BundleRequest, BundleUser, FindUser, Runtime};
pub use store::{
    Base, ImageInfo, Inspected, InspectedLayer, Kept, Lease, Prune, Pruned, Removed, Store, Use,
    User, diff_ids, root_folder,
};

/// An image whose layers are unpacked in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The reference that was resolved.
    pub reference: String,
    /// Digest of its manifest, `sha256:...`.
    pub digest: String,
    /// Folders for overlayfs' `lowerdir`, the uppermost first, none twice.
    pub layers: Vec<PathBuf>,
    /// What runs in it.
    pub config: RunConfig,
}

/// What an image says about its process (image-spec, config.md).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// Program and arguments that come before [`cmd`](Self::cmd).
    pub entrypoint: Vec<String>,
    /// Default arguments, or the program itself if there is no entrypoint.
    pub cmd: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// `""`, `user`, `uid`, `user:group`, `uid:gid`: looked up in the image's own /etc/passwd.
    pub user: String,
    /// Working directory; empty means `/`.
    pub workdir: PathBuf,
    /// Signal that stops it, as `SIGTERM` or a number; `None` means SIGTERM.
    pub stop_signal: Option<String>,
}

/// What happens while an image is built or unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A new stage began.
    Stage {
        /// What is done now: `linking a Java runtime (jlink)`.
        text: String,
        /// Its number, from 1.
        step: usize,
        /// How many there are.
        of: usize,
    },
    /// How far the stage is.
    Bytes {
        /// What is counted: `packages`, `layer`.
        what: &'static str,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// How far the download of a blob is.
    Blob {
        /// Its digest, `sha256:...`.
        digest: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Something worth a line, such as what the build script wrote.
    Log(String),
    /// All is done.
    Done {
        /// The image's name.
        name: String,
        /// Bytes of all files of its layers.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
}
