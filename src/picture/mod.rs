//! Pictures of a lab: mermaid, Graphviz dot, and SVG with a layout of our own.
//!
//! They are pure functions of a [`Scene`], so that a lab file, and what `up` left of a lab, give the
//! same picture.

mod dot;
mod graph;
mod layout;
pub mod markup;
mod mermaid;
mod scene;
mod svg;

pub use dot::dot;
pub use layout::{Hop, Kind};
pub use mermaid::mermaid;
pub use scene::{Balanced, Gateway, Machine, Port, Realserver, Scene, Segment};
pub use svg::{STYLE, picture, service_hops, svg};
