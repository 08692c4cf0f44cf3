//! Words that several sentences need.

/// "1 frame", "2 frames".
pub(crate) fn count(n: u64, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// "a", "a and b", "a, b and c".
pub(crate) fn list<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

/// A time between two frames: "12 µs", "1.25 ms", "-3 ns".
pub(crate) fn interval(ns: i64) -> String {
    let size = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    match size {
        0..=999 => format!("{sign}{size} ns"),
        1_000..=999_999 => format!("{sign}{}.{:01} µs", size / 1000, size % 1000 / 100),
        1_000_000..=999_999_999 => {
            format!(
                "{sign}{}.{:02} ms",
                size / 1_000_000,
                size % 1_000_000 / 10_000
            )
        }
        _ => format!(
            "{sign}{}.{:03} s",
            size / 1_000_000_000,
            size % 1_000_000_000 / 1_000_000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_read_well() {
        assert_eq!(count(1, "frame"), "1 frame");
        assert_eq!(count(0, "frame"), "0 frames");
        assert_eq!(list::<&str>(&[]), "");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a and b");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        let times = [7, 1_250, -12_345, 1_250_000, 2_000_000_000].map(interval);
        assert_eq!(times, ["7 ns", "1.2 µs", "-12.3 µs", "1.25 ms", "2.000 s"]);
    }
}
