//! Events to people and programs: human text and JSON. Progress bars live only here.

mod events;
mod progress;
mod tables;

pub use events::Reporter;
pub use progress::ImageReporter;
pub use tables::{captures, status};
