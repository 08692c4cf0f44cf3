//! Events to people and programs: human text and JSON. Progress bars live only here.

mod captures;
mod events;
pub mod progress;
mod tables;

pub use captures::captures;
pub use events::{Reporter, record};
pub use tables::status;
