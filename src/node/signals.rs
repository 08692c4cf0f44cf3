//! Signals by name, as image configs and lab files write them.

use std::str::FromStr as _;

use nix::sys::signal::Signal;

/// First and last real-time signal, as Docker and systemd count them: the C library keeps 32 and 33
/// for itself (signal(7)).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of a signal: `SIGQUIT`, `QUIT`, `quit`, `3`, `SIGRTMIN+3`, `RTMAX-1`.
pub fn signal_number(text: &str) -> Option<i32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.parse().ok().filter(|n| (1..=RTMAX).contains(n));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let steps = |digits: &str| -> Option<i32> {
        let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        all.then(|| digits.parse().ok()).flatten()
    };
    let real_time = match name {
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        _ => match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            (Some(n), _) => steps(n).and_then(|n| RTMIN.checked_add(n)),
            (_, Some(n)) => steps(n).and_then(|n| RTMAX.checked_sub(n)),
            _ => None,
        },
    };
    if let Some(number) = real_time {
        return (RTMIN..=RTMAX).contains(&number).then_some(number);
    }
    // Second names of some.
    let name = match name {
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        other => other,
    };
    let signal = Signal::from_str(&format!("SIG{name}")).ok()?;
    Some(signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("TERM", Some(15)),
            ("sigquit", Some(3)),
            ("SIGWINCH", Some(28)),
            ("SIGIOT", Some(6)),
            ("3", Some(3)),
            ("64", Some(64)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMAX", Some(64)),
            ("SIGRTMIN+31", None),
            ("SIGRTMAX-31", None),
            ("SIGRTMIN+", None),
            ("SIGRTMIN+-1", None),
            ("SIGRTMIN+99999999999", None),
            ("0", None),
            ("65", None),
            ("3x", None),
            ("-1", None),
            ("SIG", None),
            ("", None),
            ("SIGSIGTERM", None),
            ("TERMINATE", None),
        ] {
            assert_eq!(signal_number(text), number, "{text:?}");
        }
    }
}
