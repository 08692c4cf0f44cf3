//! Following packets through a lab: frames taken apart, the same packet recognised at several
//! interfaces, and what that proves.

mod hop;
pub mod packet;
pub mod proof;
mod topology;

pub use hop::{Explanation, Hop, Way};
pub use topology::{
    TopoHost, TopoInterface, TopoNetwork, TopoNode, TopoServer, TopoService, Topology,
    TopologyError,
};
