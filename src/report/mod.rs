//! Events to people and programs: human text, JSON and HTML. Progress bars live only here.

mod captures;
mod doctor;
mod events;
mod explain;
mod frames;
mod health;
mod junit;
pub mod page;
pub mod progress;
mod proof;
mod services;
mod tables;

pub use captures::captures;
pub use doctor::doctor;
pub use events::{Reporter, merged, record};
pub use explain::explanation;
pub use frames::{FrameLines, Shown};
pub use junit::proof_junit;
pub use proof::proof;
pub use services::services;
pub use tables::status;
