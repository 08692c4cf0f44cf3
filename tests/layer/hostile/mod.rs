//! Hostile layers, as a generator: what each tries, how it is built, and what has to become of it.
//!
//! The tests apply them; `cargo run --example hostile-layers DIR` writes them out for other tools; the
//! fuzz target begins with them. A layer is meant to be unpacked into a folder whose neighbour is the
//! folder `canary` with the file `file` in it.

mod attributes;
mod headers;
mod links;
mod names;
mod sparse;
mod whiteouts;

use crate::tarball::Tarball;

/// One hostile layer.
pub struct Case {
    /// A file name without extension.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// The uncompressed layer.
    pub tar: Vec<u8>,
    /// The exact text it is refused with; `None` if unpacking it does no harm.
    pub refused: Option<String>,
    /// What is there afterwards, as `tree::lines` has it; of a refused layer what came before.
    pub leaves: &'static [&'static str],
}

/// All of them. `canary` is the absolute path of the canary's folder.
pub fn all(canary: &str) -> Vec<Case> {
    [
        names::all(),
        links::all(canary),
        whiteouts::all(),
        headers::all(),
        sparse::all(),
        attributes::all(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A layer that has to be refused.
fn refused(
    name: &'static str,
    tries: &'static str,
    tar: Tarball,
    error: impl Into<String>,
    leaves: &'static [&'static str],
) -> Case {
    Case {
        name,
        tries,
        tar: tar.end(),
        refused: Some(error.into()),
        leaves,
    }
}

/// A layer that looks dangerous and has to become just these files.
fn harmless(
    name: &'static str,
    tries: &'static str,
    tar: Tarball,
    leaves: &'static [&'static str],
) -> Case {
    Case {
        name,
        tries,
        tar: tar.end(),
        refused: None,
        leaves,
    }
}

/// How an entry is refused.
fn entry(name: &str, why: &str) -> String {
    format!("entry `{name}` is refused: {why}")
}

/// An empty archive.
fn t() -> Tarball {
    Tarball::default()
}
