//! Diagnostics: what is wrong, where, and what to do; for people and as JSON.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::json;

use super::code::{Code, Severity};
use super::raw::Span;

/// One problem of a lab file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    code: Code,
    span: Span,
    message: String,
    label: String,
    related: Vec<(Span, String)>,
    help: String,
}

impl Diagnostic {
    /// A problem at `span`: `message` is its headline, `label` stands at the underlined text,
    /// `help` says what to do.
    pub fn new(
        code: Code,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            code,
            span,
            message: message.into(),
            label: label.into(),
            related: Vec::new(),
            help: help.into(),
        }
    }

    /// Underlines a second place that has to do with it, such as the first definition.
    #[must_use]
    pub fn and(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// What kind of problem it is.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Error or warning.
    pub const fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// The bytes of the file that are underlined.
    pub const fn span(&self) -> Span {
        self.span
    }

    /// The headline.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The text at the underlined place.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What to do about it.
    pub fn help(&self) -> &str {
        &self.help
    }

    /// Other places that have to do with it.
    pub fn related(&self) -> impl Iterator<Item = (Span, &str)> {
        self.related.iter().map(|(s, l)| (*s, l.as_str()))
    }
}

/// All problems of one file, in the order of their places, with what is needed to show them.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    path: PathBuf,
    source: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Sorts `list`; `path` is printed as given, `source` is the text that the spans point into.
    pub fn new(path: &Path, source: &str, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|d| (d.span.start, d.span.end, d.code));
        list.dedup();
        Self {
            path: path.to_owned(),
            source: source.to_owned(),
            list,
        }
    }

    /// The file's path as the caller gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Errors and warnings in the order of their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are, warnings included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is neither an error nor a warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.list
            .iter()
            .filter(|d| d.severity() == Severity::Error)
            .count()
    }

    /// Whether there is an error, so that there is no lab.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// `3 errors and 1 warning in labs/dsr.toml`.
    pub fn summary(&self) -> String {
        let errors = self.errors();
        let warnings = self.len() - errors;
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let counts = match (errors, warnings) {
            (0, 0) => "no problems".to_owned(),
            (_, 0) => count(errors, "error"),
            (0, _) => count(warnings, "warning"),
            _ => format!(
                "{} and {}",
                count(errors, "error"),
                count(warnings, "warning")
            ),
        };
        format!("{counts} in {}", self.path.display())
    }

    /// For people: each problem with the text it is about, underlined; a last line counts them
    /// when there are several. `color` adds ANSI escapes. Does not end in a newline.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let lines = Lines::new(&self.source);
        let path = self.path.to_string_lossy();
        let mut out: Vec<String> = self
            .list
            .iter()
            .map(|d| self.render_one(d, &renderer, &lines, &path))
            .collect();
        if self.list.len() > 1 {
            out.push(self.summary());
        }
        out.join("\n\n")
    }

    fn render_one(
        &self,
        d: &Diagnostic,
        renderer: &Renderer,
        lines: &Lines<'_>,
        path: &str,
    ) -> String {
        // Only the lines from the first to the last underlined one go to the renderer, which
        // reads all it gets: a file with a thousand problems would be read a thousand times.
        let spans = || std::iter::once(d.span).chain(d.related.iter().map(|(s, _)| *s));
        let first = spans().map(|s| lines.of(s.start)).min().unwrap_or(0);
        let last = spans().map(|s| lines.of(s.end)).max().unwrap_or(first);
        let window = lines.start(first)..lines.end(last);
        let within = |s: Span| -> Range<usize> {
            let clamp = |at: usize| at.clamp(window.start, window.end) - window.start;
            clamp(s.start)..clamp(s.end)
        };
        let snippet = Snippet::source(&self.source[window.clone()])
            .line_start(first + 1)
            .path(path.to_owned())
            .annotation(
                AnnotationKind::Primary
                    .span(within(d.span))
                    .label(d.label.as_str()),
            )
            .annotations(
                d.related
                    .iter()
                    .map(|(s, l)| AnnotationKind::Context.span(within(*s)).label(l.as_str())),
            );
        let level = match d.severity() {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        renderer.render(&[level
            .primary_title(d.message.as_str())
            .id(d.code.as_str())
            .element(snippet)
            .element(Level::HELP.message(d.help.as_str()))])
    }

    /// For programs. Lines and columns count from 1, columns in characters; `start` and `end` are
    /// byte offsets, `end` exclusive.
    pub fn to_json(&self) -> serde_json::Value {
        let lines = Lines::new(&self.source);
        let place = |s: Span| {
            let (line, column) = lines.position(s.start);
            let (end_line, end_column) = lines.position(s.end);
            json!({
                "line": line, "column": column, "end_line": end_line, "end_column": end_column,
                "start": s.start, "end": s.end,
            })
        };
        let one = |d: &Diagnostic| {
            let related: Vec<_> = d
                .related
                .iter()
                .map(|(s, l)| json!({ "label": l, "place": place(*s) }))
                .collect();
            json!({
                "code": d.code, "severity": d.severity(), "title": d.code.title(),
                "message": d.message, "label": d.label, "help": d.help,
                "place": place(d.span), "related": related,
            })
        };
        json!({
            "file": self.path.to_string_lossy(),
            "errors": self.errors(),
            "warnings": self.len() - self.errors(),
            "diagnostics": self.list.iter().map(one).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Where the lines of a text begin.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    /// The line, counted from 0, that holds this byte.
    pub(super) fn of(&self, at: usize) -> usize {
        self.starts.partition_point(|&s| s <= at).saturating_sub(1)
    }

    pub(super) fn start(&self, line: usize) -> usize {
        self.starts.get(line).copied().unwrap_or(self.text.len())
    }

    /// Its end, behind its newline.
    pub(super) fn end(&self, line: usize) -> usize {
        self.starts
            .get(line + 1)
            .copied()
            .unwrap_or(self.text.len())
    }

    /// How many lines there are; the part behind the last newline counts.
    pub(super) fn count(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn text(&self, line: usize) -> &'a str {
        &self.text[self.start(line)..self.end(line)]
    }

    /// Line and column from 1, the column in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.of(at);
        let before = self.text.get(self.start(line)..at).unwrap_or("");
        (line + 1, before.chars().count() + 1)
    }
}
