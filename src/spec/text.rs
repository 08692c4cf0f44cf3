//! Pieces of messages: quoted names, lists, "did you mean".

/// `s` in backticks, safe to print: control characters escaped, long text cut.
pub(crate) fn quote(s: &str) -> String {
    const LONGEST: usize = 60;
    let mut out = String::from("`");
    for (n, c) in s.chars().enumerate() {
        if n == LONGEST {
            out.push_str("...");
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.push('`');
    out
}

/// "`a`, `b` or `c`".
pub(crate) fn any_of(words: &[&str]) -> String {
    join(words, "or")
}

fn join(words: &[&str], last: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|w| quote(w)).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., end] => format!("{} {last} {end}", rest.join(", ")),
    }
}

/// "did you mean `x`?" where something known is near `word`, else what is known, else `none`.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
    listed_as: &str,
    none: &str,
) -> String {
    const MOST: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    let near = nearest(word, &known);
    if !near.is_empty() {
        return format!("did you mean {}?", any_of(&near));
    }
    match known.len() {
        0 => none.to_owned(),
        n if n > MOST => {
            let some: Vec<String> = known[..MOST].iter().map(|w| quote(w)).collect();
            format!("{listed_as} {} and {} more", some.join(", "), n - MOST)
        }
        _ => format!("{listed_as} {}", join(&known, "and")),
    }
}

/// The known words nearest to `word`, at most three, none if all are too far away to be a slip.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Vec<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let limit = match word.len() {
        0..=2 => 1,
        3..=5 => 2.min(word.len() / 2),
        6..=8 => 2,
        _ => 3,
    };
    let mut best: Vec<&str> = Vec::new();
    let mut least = limit + 1;
    for candidate in known {
        let other: Vec<char> = candidate.to_lowercase().chars().collect();
        if word.len().abs_diff(other.len()) > limit {
            continue;
        }
        let distance = distance(&word, &other);
        // A "slip" that replaces everything is another word: `a` is not a misspelt `b`.
        if distance > limit || distance >= word.len().max(other.len()) {
            continue;
        }
        if distance < least {
            least = distance;
            best.clear();
        }
        if distance == least && best.len() < 3 {
            best.push(candidate);
        }
    }
    best
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i);
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word() {
        for (slip, word) in [
            ("adress", "address"),
            ("gatway", "gateway"),
            ("node", "nodes"),
            ("sceduler", "scheduler"),
            ("Subnet", "subnet"),
            ("naem", "name"),
            ("cap-add", "cap_add"),
        ] {
            let known = [
                "subnet",
                "address",
                "gateway",
                "nodes",
                "scheduler",
                "name",
                "cap_add",
            ];
            assert_eq!(nearest(slip, &known), [word], "{slip}");
        }
    }

    #[test]
    fn another_word_is_no_slip() {
        assert_eq!(
            nearest("colour", &["subnet", "host", "mtu"]),
            Vec::<&str>::new()
        );
        assert_eq!(nearest("b", &["a"]), Vec::<&str>::new());
        assert_eq!(nearest("", &["a", "bc"]), Vec::<&str>::new());
    }

    #[test]
    fn equally_near_words_are_all_named() {
        let help = did_you_mean(
            "server3",
            ["server1", "client", "server2"],
            "known:",
            "none",
        );
        assert_eq!(help, "did you mean `server1` or `server2`?");
    }

    #[test]
    fn quotes_show_control_characters() {
        assert_eq!(quote("a\u{1b}[31m\n"), r"`a\u{1b}[31m\n`");
        assert_eq!(quote(&"x".repeat(100)), format!("`{}...`", "x".repeat(60)));
    }
}
