//! A file with broken lines to the same file without them, so that the rest can be read.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::diagnostic::Lines;
use super::raw::Span;

/// More broken lines than this are not looked for one by one.
const MOST: usize = 64;

/// The text of the same length with broken lines blanked, and why they were.
pub(super) struct Mended {
    pub(super) text: String,
    /// Place and message in the style of the TOML parser, one a blanked line.
    pub(super) errors: Vec<(Span, String)>,
}

/// Blanks the line of the first error, or the lines from the one that opens the bracket it is in
/// up to it, whichever leaves fewer errors, until there are none or none of the two helps. A table
/// header is replaced by another one: the keys below must not fall into the table above.
pub(super) fn mend(text: &str) -> Mended {
    let mut mended = Mended {
        text: text.to_owned(),
        errors: Vec::new(),
    };
    let mut errors = hard(&mended.text);
    while !errors.is_empty() && mended.errors.len() < MOST {
        let lines = Lines::new(&mended.text);
        let Some((at, message)) = errors.first() else {
            break;
        };
        let line = lines.of(at.start);
        let opener = (0..line).rev().take(200).find_map(|l| {
            let span = open_bracket(lines.text(l), lines.start(l))?;
            let what = if mended.text[span.start..].starts_with('{') {
                "inline table"
            } else {
                "array"
            };
            Some((l..line, span, format!("unclosed {what}")))
        });
        let this = (line..line + 1, *at, message.clone());
        let best = [Some(this), opener]
            .into_iter()
            .flatten()
            .map(|(range, span, message)| {
                let text = without(&mended.text, &lines, range, mended.errors.len());
                let left = hard(&text);
                (left, text, span, message)
            })
            .min_by_key(|(left, ..)| left.len());
        match best {
            // Behind a broken header the parser passes over all up to the next one, and it gives
            // the rest of the file up at a lone key: there more may show where one error went.
            Some((left, text, span, message))
                if left.len() < errors.len()
                    || ((message.starts_with("key with no value")
                        || is_header(lines.text(lines.of(span.start))))
                        && left.first().is_none_or(|(at, _)| lines.of(at.start) > line)) =>
            {
                mended.text = text;
                mended.errors.push((span, message));
                errors = left;
            }
            _ => break,
        }
    }
    mended
}

/// Whether an error hides nothing but its own value.
pub(super) fn is_soft(e: &Error) -> bool {
    e.message() == "duplicate key"
        || e.message().starts_with("cannot extend value")
        || (e.message().starts_with("string values must be quoted")
            && e.span().is_some_and(|s| !s.is_empty()))
}

/// The errors that may hide something from the reader, in the order of their places.
fn hard(text: &str) -> Vec<(Span, String)> {
    let (_, errors) = DeTable::parse_recoverable(text);
    let mut hard: Vec<(Span, String)> = errors
        .iter()
        .filter(|e| !is_soft(e))
        .map(|e| {
            let span = e.span().unwrap_or(0..0);
            let start = text.floor_char_boundary(span.start);
            let end = text.ceil_char_boundary(span.end).max(start);
            (Span { start, end }, e.message().to_owned())
        })
        .collect();
    hard.sort();
    hard
}

/// Whether a line is meant as a table header, be it a broken one.
fn is_header(line: &str) -> bool {
    let code = line.split('#').next().unwrap_or("").trim();
    code.starts_with('[') || (code.ends_with(']') && !code.contains('='))
}

/// `text` with some lines blanked; a header alone is replaced by that of a table of its own.
fn without(text: &str, lines: &Lines<'_>, range: Range<usize>, n: usize) -> String {
    let (start, end) = (lines.start(range.start), lines.end(range.end - 1));
    let header = range.len() == 1 && is_header(lines.text(range.start));
    let mut blank: String = text[start..end]
        .bytes()
        .map(|b| if b == b'\n' { '\n' } else { ' ' })
        .collect();
    let substitute = format!("[_{n}]");
    if header && blank.trim_end_matches('\n').len() >= substitute.len() {
        blank.replace_range(..substitute.len(), &substitute);
    }
    let mut out = text.to_owned();
    out.replace_range(start..end, &blank);
    out
}

/// The innermost bracket of a line that the line does not close, if it is not a header's.
fn open_bracket(line: &str, start: usize) -> Option<Span> {
    if line.trim_start().starts_with('[') {
        return None;
    }
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(q), c) if q == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '#') => break,
            (None, '[' | '{') => open.push((start + at, c)),
            (None, ']') if open.last().is_some_and(|o| o.1 == '[') => drop(open.pop()),
            (None, '}') if open.last().is_some_and(|o| o.1 == '{') => drop(open.pop()),
            _ => {}
        }
    }
    open.last().map(|(at, _)| Span {
        start: *at,
        end: at + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_line_ends_stay() {
        let text = "a = 1\r\n[b\u{e9}\nc = {\nd\n";
        let mended = mend(text);
        assert_eq!(mended.text.len(), text.len());
        assert_eq!(
            mended.text.matches('\n').count(),
            text.matches('\n').count()
        );
        assert!(!mended.errors.is_empty());
    }

    #[test]
    fn a_sound_file_stays_as_it_is() {
        let text = "a = [\n 1,\n 2 # x ]\n]\n[b]\n";
        let mended = mend(text);
        assert_eq!((mended.text.as_str(), mended.errors.len()), (text, 0));
    }

    #[test]
    fn the_line_that_opens_is_blamed() {
        let mended = mend("a = { b = 1\nc = 2\n[d]\ne = 3\n");
        assert_eq!(
            mended.errors,
            [(Span { start: 4, end: 5 }, "unclosed inline table".into())]
        );
        assert_eq!(mended.text, "           \nc = 2\n[d]\ne = 3\n");
    }

    #[test]
    fn a_broken_header_keeps_its_keys_apart() {
        for header in ["[b", "b.c]", "b]"] {
            let mended = mend(&format!("[a]\nx = 1\n{header}   \nx = 2\n"));
            assert_eq!(mended.errors.len(), 1, "{header}");
            assert!(
                mended.text.contains("\n[_0]"),
                "{header}: {:?}",
                mended.text
            );
        }
    }

    #[test]
    fn brackets() {
        let at = |line: &str| open_bracket(line, 10).map(|s| s.start);
        assert_eq!(at("a = { b = [1, 2] }"), None);
        assert_eq!(at("a = { b = [1, 2 }"), Some(20));
        assert_eq!(at("a = [{ b = 1 ]"), Some(15));
        assert_eq!(at(r#"a = "[{\"[" # ["#), None);
        assert_eq!(at("a = '[\\' # ["), None);
        assert_eq!(at("[nodes.x"), None);
    }
}
