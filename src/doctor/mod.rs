//! What this machine can do for nslab: each thing is tried where it leaves nothing behind, and
//! what is missing is said with what to do about it.

mod machine;
mod network;

use serde::Serialize;

use crate::kernel::probe;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing is missing that every lab needs.
    pub ok: bool,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// Modules that looking has loaded, as using them would have; they stay.
    pub loaded: Vec<String>,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is.
    pub subject: String,
    /// How it is.
    pub state: State,
    /// Details, in words.
    pub detail: String,
    /// What to do, where something is to be done.
    pub advice: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not there; some labs need it.
    Lacking,
    /// Not there; every lab needs it.
    Missing,
    /// Cannot be known without something else that is missing.
    Unknown,
}

impl State {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Lacking => "lacking",
            Self::Missing => "MISSING",
            Self::Unknown => "unknown",
        }
    }
}

impl Check {
    fn ok(subject: &str, detail: impl Into<String>) -> Self {
        Self::new(subject, State::Ok, detail, None)
    }

    fn new(subject: &str, state: State, detail: impl Into<String>, advice: Option<&str>) -> Self {
        Self {
            subject: subject.to_owned(),
            state,
            detail: detail.into(),
            advice: advice.map(str::to_owned),
        }
    }

    /// `Ok` with these words, or `otherwise` with the error's.
    fn of<E: std::fmt::Display>(
        subject: &str,
        outcome: Result<(), E>,
        good: &str,
        otherwise: State,
        advice: &str,
    ) -> Self {
        match outcome {
            Ok(()) => Self::ok(subject, good),
            Err(e) => Self::new(subject, otherwise, e.to_string(), Some(advice)),
        }
    }
}

/// Looks at everything.
pub fn examine() -> Report {
    let before = probe::modules();
    let mut checks = machine::privileges();
    let root = checks.iter().all(|c| c.state == State::Ok);
    checks.push(machine::kernel());
    if root {
        checks.extend(network::all());
        checks.push(machine::overlay());
    } else {
        let detail = "cannot be tried without root";
        for subject in network::SUBJECTS.iter().chain(&["overlayfs"]) {
            checks.push(Check::new(subject, State::Unknown, detail, None));
        }
    }
    checks.extend(machine::limits());
    checks.extend([
        machine::open_files(),
        machine::user_namespaces(),
        machine::disk(),
        machine::leftovers(),
    ]);
    let mut loaded = probe::modules();
    loaded.retain(|m| !before.contains(m));
    let ok = checks
        .iter()
        .all(|c| matches!(c.state, State::Ok | State::Lacking));
    Report { ok, checks, loaded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_root_it_says_so_and_the_rest_is_told() {
        let report = examine();
        let state = |subject: &str| {
            let mut checks = report.checks.iter();
            checks.find(|c| c.subject == subject).map(|c| c.state)
        };
        assert_eq!(state("kernel"), Some(State::Ok));
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(state("root"), Some(State::Missing));
            assert_eq!(state("nftables"), Some(State::Unknown));
            assert!(!report.ok);
        }
        for check in &report.checks {
            assert_eq!(
                check.advice.is_some(),
                matches!(check.state, State::Missing | State::Lacking),
                "{check:?}"
            );
        }
    }
}
