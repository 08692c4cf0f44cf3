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
mod folder;
mod follow;
mod hop;
pub mod packet;
pub mod proof;
mod record;
mod source;
mod stations;
mod survey;
mod target;
mod topology;
mod words;

pub use error::Error;
pub use folder::{LabFolder, is_topology};
pub use hop::{Explanation, Hop, Way};
pub use source::{Point, Source};
pub use target::Target;
pub use topology::{
    TopoHost, TopoInterface, TopoNetwork, TopoNode, TopoServer, TopoService, Topology,
    TopologyError,
};
