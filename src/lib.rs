//! nslab builds whole networks out of Linux namespaces on one host, runs OCI images as the
//! machines in them, load-balances with Direct Routing, and records every interface from before
//! the first packet.
//!
//! The way through the house, each stage with a type of its own (see `docs/architecture.md`):
//!
//! ```text
//! TOML --spec--> RawLab --lab--> Lab --plan--> Plan --apply--> kernel
//! ```

pub mod capture;
pub mod cli;
pub mod director;
pub mod doctor;
pub mod image;
pub mod kernel;
pub mod lab;
pub mod merge;
pub mod node;
pub mod picture;
pub mod plan;
pub mod report;
pub mod spec;
pub mod supervisor;
pub mod trace;
