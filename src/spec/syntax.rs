//! TOML itself: the text to a spanned tree, with every syntax error in it reported once.
//!
//! The parser recovers from errors, but tells of each place at which it stumbled on its way. Here
//! broken lines are taken out one by one as long as that makes the rest better (see [`mend`]); what
//! is kept is the first error of a line, and one error for a bracket that is never closed.

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::code::Code;
use super::diagnostic::{Diagnostic, Lines};
use super::mend::{is_soft, mend};
use super::raw::Span;
use super::text::quote;

/// The tree and what is wrong with it.
pub(super) struct Document<'i> {
    pub(super) root: DeTable<'i>,
    pub(super) errors: Vec<Diagnostic>,
    /// Whole lines on which TOML is broken.
    pub(super) damaged: Vec<Span>,
    /// Whether keys or tables may be missing from the tree.
    pub(super) torn: bool,
}

/// Reads `text` and hands on what was found; never fails, at worst the tree is empty.
pub(super) fn read<T>(text: &str, then: impl FnOnce(Document<'_>) -> T) -> T {
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.iter().all(is_soft) {
        return then(document(text, root.into_inner(), &errors, &[]));
    }
    let mended = mend(text);
    let (root, errors) = DeTable::parse_recoverable(&mended.text);
    then(document(text, root.into_inner(), &errors, &mended.errors))
}

/// The tree with the parser's errors and those of lines that it has not seen.
fn document<'i>(
    text: &str,
    root: DeTable<'i>,
    errors: &[Error],
    mended: &[(Span, String)],
) -> Document<'i> {
    let lines = Lines::new(text);
    let mut reader = Reader {
        text,
        lines,
        errors: Vec::new(),
        damaged: Vec::new(),
        torn: false,
    };
    let mut found: Vec<(Span, &str)> = errors
        .iter()
        .map(|e| (reader.clamp(e.span()), e.message()))
        .collect();
    found.extend(
        mended
            .iter()
            .map(|(span, message)| (*span, message.as_str())),
    );
    found.sort_by_key(|(span, _)| *span);
    let (duplicates, broken): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(_, message)| *message == "duplicate key");
    reader.broken(&root, &broken);
    reader.duplicates(&root, &duplicates);
    let Reader {
        errors,
        damaged,
        torn,
        ..
    } = reader;
    Document {
        root,
        errors,
        damaged,
        torn,
    }
}

struct Reader<'i> {
    text: &'i str,
    lines: Lines<'i>,
    errors: Vec<Diagnostic>,
    damaged: Vec<Span>,
    torn: bool,
}

impl Reader<'_> {
    /// Onto the text and onto borders of characters, whatever the parser says.
    fn clamp(&self, span: Option<std::ops::Range<usize>>) -> Span {
        let span = span.unwrap_or(0..0);
        let start = self.text.floor_char_boundary(span.start);
        Span {
            start,
            end: self.text.ceil_char_boundary(span.end).max(start),
        }
    }

    /// Everything but duplicates.
    fn broken(&mut self, root: &DeTable<'_>, found: &[(Span, &str)]) {
        // A bracket that is never closed, and that taking its line out did not help, swallows the
        // rest of the file: what the parser says behind it is about text that was meant to be
        // something else.
        let swallowing = found
            .iter()
            .filter(|(at, m)| {
                m.starts_with("invalid multi-line") || (unclosed(m) && !self.is_bracket(*at))
            })
            .filter_map(|(at, m)| Some((opening(root, self.text, at.end)?, *m)))
            .min();
        for &(span, message) in found {
            if swallowing.is_some_and(|(from, _)| span.start > from.start) {
                continue;
            }
            if unclosed(message) && self.is_bracket(span) {
                self.without_end(span, message, "");
            } else {
                self.syntax(span, message);
            }
        }
        if let Some((from, message)) = swallowing {
            self.without_end(from, message, "; what follows was not checked");
            self.damaged.push(Span {
                start: from.start,
                end: self.text.len(),
            });
        }
    }

    /// Whether it is the place of an opening bracket itself, as [`mend`] tells it; the parser's
    /// own messages are at the end of the file.
    fn is_bracket(&self, span: Span) -> bool {
        self.text[span.start..].starts_with(['[', '{'])
    }

    fn without_end(&mut self, from: Span, message: &str, more: &str) {
        let (what, close) = match message {
            m if m.contains("array") => ("array", "`]`"),
            m if m.contains("table") => ("inline table", "`}`"),
            _ => ("multi-line string", "three quotes"),
        };
        self.errors.push(Diagnostic::new(
            Code::Syntax,
            from,
            format!("invalid TOML: {what} without an end"),
            "begins here and is never closed",
            format!("close it with {close}{more}"),
        ));
        let line = self.lines.of(from.start);
        self.damaged.push(Span {
            start: self.lines.start(line),
            end: self.lines.end(line),
        });
        self.torn = true;
    }

    fn syntax(&mut self, span: Span, message: &str) {
        let line = self.lines.of(span.start);
        let whole = Span {
            start: self.lines.start(line),
            end: self.lines.end(line),
        };
        if self.damaged.contains(&whole) {
            return;
        }
        self.damaged.push(whole);
        let message = message.trim_end_matches(", expected nothing");
        let unquoted = message.starts_with("string values must be quoted");
        // An unquoted word is read as the string that it was meant to be: nothing is lost.
        self.torn |= !unquoted || span.start == span.end;
        let (headline, label, help) = if unquoted && span.start == span.end {
            (
                "key without a value",
                "a value is missing here",
                "write `key = value`",
            )
        } else if unquoted {
            (
                "text without quotes",
                "not a number, `true` or `false`",
                "put it in double quotes",
            )
        } else if message.starts_with("key with no value") {
            (
                "key without a value",
                "`=` is missing here",
                "write `key = value`",
            )
        } else if message.starts_with("unclosed table") {
            (
                "table header without an end",
                "`]` is missing here",
                "write `[table.name]`",
            )
        } else if message.starts_with("cannot extend value") {
            (
                message,
                "was given a value before",
                "give all keys of it in one place: in braces, or in a table of its own",
            )
        } else if message.starts_with("invalid basic string")
            || message.starts_with("invalid literal string")
        {
            (
                "string without an end",
                "the closing quote is missing here",
                "close the quotes",
            )
        } else if ["float", "integer", "date"]
            .iter()
            .any(|w| message.contains(w))
        {
            (
                message,
                "not a number",
                "if it is meant as text, put it in double quotes",
            )
        } else if message.starts_with("missing comma between array") {
            (
                "array elements without a comma",
                "`,` is missing here",
                "put a comma between them",
            )
        } else {
            (
                message,
                "here",
                "mend this line; nothing else on it was checked",
            )
        };
        self.errors.push(Diagnostic::new(
            Code::Syntax,
            span,
            format!("invalid TOML: {headline}"),
            label,
            help,
        ));
    }

    fn duplicates(&mut self, root: &DeTable<'_>, found: &[(Span, &str)]) {
        // Keys of a table that is given twice are not judged one by one.
        let mut skip_to = 0;
        for &(span, _) in found {
            if span.start < skip_to {
                continue;
            }
            let line = self.lines.of(span.start);
            let key = &self.text[span.start..span.end];
            let header = header(self.lines.text(line));
            let (what, first) = if let Some(header) = header {
                skip_to = (line + 1..self.lines.count())
                    .find(|&l| self::header(self.lines.text(l)).is_some())
                    .map_or(self.text.len(), |l| self.lines.start(l));
                (
                    format!("table `[{header}]`"),
                    self.same_header(line, &header),
                )
            } else {
                (
                    format!("key {}", quote(key)),
                    first_key(root, self.text, span),
                )
            };
            let mut d = Diagnostic::new(
                Code::DuplicateKey,
                span,
                format!("{what} is given twice"),
                "second time",
                "keep one of the two",
            );
            if let Some(first) = first {
                d = d.and(first, "first time");
            }
            self.errors.push(d);
        }
    }

    /// The last part of the same header further up.
    fn same_header(&self, line: usize, wanted: &str) -> Option<Span> {
        (0..line)
            .rev()
            .find(|&l| header(self.lines.text(l)).as_deref() == Some(wanted))
            .map(|l| {
                let text = self.lines.text(l);
                let from = self.lines.start(l) + (text.len() - text.trim_start().len());
                let close = text.find(']').map_or(text.len(), |c| c + 1);
                Span {
                    start: from,
                    end: self.lines.start(l) + close,
                }
            })
    }
}

fn unclosed(message: &str) -> bool {
    message.starts_with("unclosed array") || message.starts_with("unclosed inline")
}

/// The path in a table header's line, without white space.
fn header(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix('[')?;
    let path = &rest[..rest.find(']')?];
    Some(path.chars().filter(|c| !c.is_whitespace()).collect())
}

fn children<'t, 'i>(value: &'t DeValue<'i>) -> Vec<&'t Spanned<DeValue<'i>>> {
    match value {
        DeValue::Table(t) => t.values().collect(),
        DeValue::Array(a) => a.iter().collect(),
        _ => Vec::new(),
    }
}

/// Where the outermost value begins that runs up to `end`, the place at which the parser gave up:
/// its opening bracket or quotes.
fn opening(root: &DeTable<'_>, text: &str, end: usize) -> Option<Span> {
    let mut queue: Vec<&Spanned<DeValue<'_>>> = root.values().collect();
    let mut found: Option<Span> = None;
    while let Some(value) = queue.pop() {
        let span = value.span();
        let bytes = text.as_bytes();
        let opens = matches!(bytes.get(span.start), Some(b'{' | b'"' | b'\''))
            || (bytes.get(span.start) == Some(&b'[')
                && matches!(value.get_ref(), DeValue::Array(_)));
        let spans_to_end = text
            .get(span.end..end)
            .is_some_and(|rest| rest.trim().is_empty());
        if opens && spans_to_end && span.start < end {
            let width = if matches!(value.get_ref(), DeValue::String(_)) {
                3
            } else {
                1
            };
            let this = Span {
                start: span.start,
                end: span.start + width,
            };
            found = Some(found.map_or(this, |f| f.min(this)));
        }
        queue.extend(children(value.get_ref()));
    }
    found
}

/// The key of the same name that was there before: the nearest one above that is not inside an
/// inline table of its own.
fn first_key(root: &DeTable<'_>, text: &str, second: Span) -> Option<Span> {
    let name = text[second.start..second.end].trim_matches(['"', '\'']);
    let mut best: Option<Span> = None;
    let mut queue = vec![root];
    let mut arrays: Vec<&Spanned<DeValue<'_>>> = Vec::new();
    while let Some(table) = queue.pop() {
        for (key, value) in table {
            let at = Span::from(key.span());
            if key.get_ref() == name
                && at.start < second.start
                && best.is_none_or(|b| b.start < at.start)
            {
                best = Some(at);
            }
            arrays.push(value);
        }
        while let Some(value) = arrays.pop() {
            let span = value.span();
            let inline = text.as_bytes().get(span.start) == Some(&b'{');
            if inline && span.end <= second.start {
                continue;
            }
            match value.get_ref() {
                DeValue::Table(t) => queue.push(t),
                DeValue::Array(a) => arrays.extend(a.iter()),
                _ => {}
            }
        }
    }
    best
}
