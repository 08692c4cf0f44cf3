//! Events to people and programs: human text, JSON; progress bars live only here.

pub mod progress;
