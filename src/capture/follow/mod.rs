//! Following captures: frames as they come, out of the files that are being written.
//!
//! The files are the buffer: whoever follows reads at its own pace and the recording knows nothing
//! of it. Only where rotation deletes a file before it was read are frames missed, and that is told.

mod merge;
mod tail;

pub use merge::{Follow, Step};
pub use tail::{Frame, Start};

#[cfg(test)]
mod tests;
