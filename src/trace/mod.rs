//! Following packets through a lab: frames taken apart, the same packet recognised at several
//! interfaces, and what that proves.
//!
//! Capture files are read twice. The first reading (`survey`) learns who is there and which
//! connections there are; the second (`collect`) keeps a small record of each frame of the traced
//! ones. From records of the same packet at several interfaces `follow` makes journeys, `stations`
//! knows which machine a MAC address belongs to, and [`proof`] and `explain` say what it means.

mod collect;
mod conns;
mod error;
mod explain;
mod folder;
mod follow;
pub mod packet;
pub mod proof;
mod record;
mod source;
mod stations;
mod survey;
mod target;
#[cfg(test)]
pub(crate) mod testlab;
mod topology;
pub(crate) mod words;

pub use error::Error;
pub use explain::{Explanation, Hop, Way, explain};
pub use folder::{LabFolder, is_companion};
pub use source::{Point, Source};
pub use target::Target;
pub use topology::{
    TopoChecker, TopoHost, TopoInterface, TopoNetwork, TopoNode, TopoServer, TopoService, Topology,
    TopologyError,
};
