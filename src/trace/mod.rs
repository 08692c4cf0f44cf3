//! Following packets through a lab: frames taken apart, the same packet recognised at several
//! interfaces, and what that proves.

pub mod packet;
mod topology;

pub use topology::{
    TopoHost, TopoInterface, TopoNetwork, TopoNode, TopoServer, TopoService, Topology,
    TopologyError,
};
