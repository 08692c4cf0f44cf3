//! From the file's text to a [`RawLab`] with spans, and the diagnostics that point at them.
//!
//! Nothing here stops at the first problem: syntax errors, unknown keys, wrong types and missing
//! keys of a whole file are collected, and what could be read goes on to be validated.

mod code;
mod diagnostic;
pub mod keys;
mod mend;
mod raw;
mod shape;
mod syntax;
mod tables;
pub(crate) mod text;

pub use code::{Code, Severity};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use raw::{
    At, Field, RawCapture, RawCaptureSettings, RawCheck, RawInterface, RawLab, RawLimits,
    RawNetwork, RawNode, RawReady, RawRotate, RawScope, RawServer, RawService, RawTcp, RawTmpfs,
    RawVolume, Span,
};

pub use crate::lab::load;

/// The JSON schema of lab files (draft 2020-12), as `nslab schema` prints it.
pub const SCHEMA: &str = include_str!("../../schemas/lab.schema.json");

/// Reads a lab file's text as far as it can be read, with every problem of syntax and shape.
pub fn parse(text: &str) -> (RawLab, Vec<Diagnostic>) {
    let (raw, diagnostics) = syntax::read(text, shape::walk);
    let diagnostics = raw.without_shadows(diagnostics);
    (raw, diagnostics)
}

impl RawLab {
    /// Drops what is only the shadow of a syntax error: anything on a damaged line, and what seems
    /// to be absent while a part of the file could not be read. Both show in the next run if they
    /// are real. Without an error there is no shadow, so at least one error always stays.
    pub(crate) fn without_shadows(&self, mut list: Vec<Diagnostic>) -> Vec<Diagnostic> {
        list.retain(|d| {
            let syntax = matches!(d.code(), Code::Syntax | Code::DuplicateKey);
            let damaged = || {
                self.damaged
                    .iter()
                    .any(|l| l.start <= d.span().start && d.span().start < l.end)
            };
            let hidden = match d.code() {
                Code::MissingKey => self.torn,
                code => self.incomplete && code.is_about_absence(),
            };
            syntax || !(hidden || damaged())
        });
        list
    }
}
