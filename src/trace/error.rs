//! Why nothing could be traced.

use std::path::PathBuf;

use crate::capture::savefile;

use super::TopologyError;

/// Why nothing could be traced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A capture file cannot be read at all.
    #[error(transparent)]
    File(#[from] savefile::Error),
    /// The lab's topology cannot be read.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// There are no captures.
    #[error(
        "there are no captures in {0}; `nslab up` makes them unless the lab file or --no-capture \
         turns them off"
    )]
    NoCaptures(PathBuf),
    /// There is no service to prove anything of.
    #[error(
        "lab {lab} has no balanced service, so there is nothing to prove; `nslab explain FROM TO` \
         follows packets between its nodes"
    )]
    NoService {
        /// The lab.
        lab: String,
    },
    /// The VIP that was asked for is not one of the lab's.
    #[error("lab {lab} has no service at {vip}; its services are at {services}")]
    UnknownVip {
        /// The lab.
        lab: String,
        /// What was asked for.
        vip: String,
        /// What there is.
        services: String,
    },
    /// No VIP was given and there is no lab to tell.
    #[error("which address is the VIP? give it with --vip; {candidates}")]
    WhichVip {
        /// What was seen.
        candidates: String,
    },
    /// An interface that was named is not among the captures.
    #[error("there is no capture called {name}; there are {known}")]
    UnknownPoint {
        /// What was named.
        name: String,
        /// What there is.
        known: String,
    },
    /// What `explain` was to follow is nowhere.
    #[error("{0}")]
    NothingToExplain(String),
}
