//! Events to people and programs: human text and JSON. Progress bars live only here.

mod events;
pub mod progress;
mod tables;

pub use events::{Reporter, record};
pub use tables::{captures, status};
