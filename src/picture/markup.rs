//! Writing XML and HTML that is well-formed whatever the text in it is.
//!
//! Names come from foreign captures: a file called `<script>.cap` is an interface here. So there is
//! no way to put markup into a document as text, but for [`Element::raw`], which takes only what is
//! compiled in.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// An element with its attributes and children.
#[derive(Debug, Clone)]
pub struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Child>,
}

#[derive(Debug, Clone)]
enum Child {
    Element(Element),
    Text(String),
    Raw(&'static str),
}

/// HTML's void elements have no end tag (HTML Living Standard, 13.1.2).
const VOID: [&str; 6] = ["br", "hr", "img", "input", "link", "meta"];

/// An element without attributes or children.
pub fn element(name: &'static str) -> Element {
    Element {
        name,
        attributes: Vec::new(),
        children: Vec::new(),
    }
}

impl Element {
    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// With this class.
    #[must_use]
    pub fn class(self, value: impl fmt::Display) -> Self {
        self.with("class", value)
    }

    /// With one more child.
    #[must_use]
    pub fn child(mut self, child: Element) -> Self {
        self.children.push(Child::Element(child));
        self
    }

    /// With more children.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children
            .extend(children.into_iter().map(Child::Element));
        self
    }

    /// With text, escaped.
    #[must_use]
    pub fn text(mut self, text: impl fmt::Display) -> Self {
        self.children.push(Child::Text(text.to_string()));
        self
    }

    /// With text that is left as it is: style sheets and scripts that are compiled in.
    #[must_use]
    pub fn raw(mut self, text: &'static str) -> Self {
        self.children.push(Child::Raw(text));
        self
    }

    /// Adds a child in place.
    pub fn push(&mut self, child: Element) {
        self.children.push(Child::Element(child));
    }

    /// Puts a child before the others from `at` on.
    pub fn insert(&mut self, at: usize, child: Element) {
        self.children.insert(at, Child::Element(child));
    }

    /// An XML document: every empty element closes itself.
    pub fn to_xml(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        self.write(&mut out, Syntax::Xml, 0);
        out.push('\n');
        out
    }

    /// An HTML document.
    pub fn to_html(&self) -> String {
        let mut out = String::from("<!DOCTYPE html>\n");
        self.write(&mut out, Syntax::Html, 0);
        out.push('\n');
        out
    }

    /// White space is put only where it cannot be seen: between elements that hold no text.
    fn write(&self, out: &mut String, syntax: Syntax, depth: usize) {
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            let _ = write!(out, " {name}=\"{}\"", escape(value));
        }
        match syntax {
            Syntax::Xml if self.children.is_empty() => {
                out.push_str("/>");
                return;
            }
            Syntax::Html if VOID.contains(&self.name) => {
                out.push('>');
                return;
            }
            _ => out.push('>'),
        }
        let spread = self
            .children
            .iter()
            .all(|c| matches!(c, Child::Element(e) if !e.is_inline()));
        for child in &self.children {
            if spread {
                new_line(out, depth + 1);
            }
            match child {
                Child::Element(e) => e.write(out, syntax, depth + 1),
                Child::Text(t) => out.push_str(&escape(t)),
                Child::Raw(t) => out.push_str(t),
            }
        }
        if spread && !self.children.is_empty() {
            new_line(out, depth);
        }
        let _ = write!(out, "</{}>", self.name);
    }

    /// Elements between which white space would be seen.
    fn is_inline(&self) -> bool {
        matches!(
            self.name,
            "a" | "b" | "bdi" | "br" | "code" | "em" | "span" | "strong" | "tspan"
        )
    }
}

#[derive(Clone, Copy)]
enum Syntax {
    Xml,
    Html,
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    // Ids and indentation of deep trees would be half the file.
    for _ in 0..depth.min(6) {
        out.push(' ');
    }
}

/// Text for XML and HTML, in attributes and between tags.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Text in which nothing acts unseen: control characters (most of which XML 1.0 does not allow at
/// all), line breaks, and those that turn the direction of the text around them (Unicode UAX #9) are
/// written as Rust writes them, `\u{202e}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(unseen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::new();
    for c in text.chars() {
        if unseen(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Text of at most `max` characters; what is cut is shown by an ellipsis.
pub fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    if text.chars().nth(max).is_none() {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    Cow::Owned(format!("{kept}\u{2026}"))
}

/// Breaks text into lines of at most `width` characters, after a separator where there is one in
/// the line's second half.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut rest: Vec<char> = text.chars().collect();
    let mut lines = Vec::new();
    while rest.len() > width {
        let at = (width / 2..width)
            .rev()
            .find(|&at| matches!(rest[at], ' ' | '-' | '_' | '.' | ':' | '/' | ','))
            .map_or(width, |at| at + 1);
        let line: String = rest.drain(..at).collect();
        lines.push(line.trim_end().to_owned());
        while rest.first() == Some(&' ') {
            rest.remove(0);
        }
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest.into_iter().collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_text_is_markup() {
        let e = element("p")
            .with("title", "\"><script>alert(1)</script>'")
            .text("</p><script>&\u{0}\u{202e}gpj.exe\n");
        let want = "<p title=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#39;\">\
            &lt;/p&gt;&lt;script&gt;&amp;\\u{0}\\u{202e}gpj.exe\\n</p>";
        assert_eq!(e.to_html(), format!("<!DOCTYPE html>\n{want}\n"));
        assert_eq!(
            e.to_xml(),
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{want}\n")
        );
    }

    #[test]
    fn void_and_empty_elements_close_as_their_syntax_has_it() {
        let e = element("div").child(element("meta")).child(element("p"));
        assert_eq!(
            e.to_html(),
            "<!DOCTYPE html>\n<div>\n <meta>\n <p></p>\n</div>\n"
        );
        assert!(e.to_xml().ends_with("<div>\n <meta/>\n <p/>\n</div>\n"));
    }

    #[test]
    fn white_space_is_not_added_where_it_shows() {
        let e = element("p")
            .child(element("code").text("a"))
            .child(element("code").text("b"));
        assert!(
            e.to_html()
                .ends_with("<p><code>a</code><code>b</code></p>\n")
        );
    }

    #[test]
    fn lines_break_after_separators() {
        assert_eq!(
            wrap("registry.example/tomcat:10", 12),
            ["registry.", "example/", "tomcat:10"]
        );
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("one two", 4), ["one", "two"]);
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn long_text_ends_in_an_ellipsis() {
        assert_eq!(shortened("abcd", 4), "abcd");
        assert_eq!(shortened("äbcde", 4), "äbc\u{2026}");
    }
}
