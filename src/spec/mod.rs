//! From the file's text to a [`RawLab`] with spans, and the diagnostics that point at them.
//!
//! | file | job |
//! |---|---|
//! | `keys` | which keys each table has: for the reader, help lines and the JSON schema |
//! | `read` | TOML to [`RawLab`]: shapes and types, nothing about meaning |
//! | `code`, `diagnostic`, `text` | problems, and how they are shown |

mod code;
mod diagnostic;
pub mod keys;
mod raw;
mod read;
mod text;

pub use code::{Code, Severity};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use raw::{
    At, Field, RawCapture, RawInterface, RawLab, RawNetwork, RawNode, RawReady, RawScope,
    RawServer, RawService, RawVolume, Span,
};
pub use read::parse;
pub(crate) use text::{any_of, did_you_mean, quote};
