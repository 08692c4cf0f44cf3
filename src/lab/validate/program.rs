//! The main process of a node: its program, as whom, where and with what it runs, how it is stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Validator;
use super::mounts::path_inside;
use crate::lab::model::EnvFile;
use crate::node::signal_number;
use crate::spec::text::quote;
use crate::spec::{At, Code, Field, RawNode, Span};

/// How a main process is asked to end.
pub(super) struct Stop {
    pub(super) signal: Option<i32>,
    pub(super) grace: Option<Duration>,
}

/// The highest user or group id that Docker takes (moby/sys/user), too; the kernel has one bit more.
const HIGHEST_ID: u32 = i32::MAX as u32;

/// `down` waits so long at most.
const LONGEST_GRACE: Duration = Duration::from_hours(1);

impl Validator<'_> {
    pub(super) fn image(&mut self, at: &At<String>) -> Option<String> {
        let what = if at.value.is_empty() {
            "the image reference is empty"
        } else if at
            .value
            .chars()
            .any(|c| c.is_whitespace() || c.is_control())
        {
            "the image reference has white space or control characters"
        } else {
            return Some(at.value.clone());
        };
        self.report(
            Code::BadProgram,
            at.span,
            what,
            "not an image",
            "name a folder of images/, a registry reference, an OCI layout or an archive",
        );
        None
    }

    /// A program and its arguments; `what` is what messages call it.
    pub(super) fn command(
        &mut self,
        at: &At<Vec<Field<String>>>,
        what: &str,
    ) -> Option<Vec<String>> {
        let program = at.value.first().map(Field::get);
        let words: Option<Vec<&At<String>>> = at.value.iter().map(Field::get).collect();
        let (span, wrong) = match program {
            None => (at.span, " is empty"),
            Some(Some(p)) if p.value.is_empty() => (p.span, "'s program is empty"),
            _ => {
                let words = words?;
                match words.iter().find(|w| w.value.contains('\0')) {
                    Some(w) => (w.span, " has a zero byte in it"),
                    None => return Some(words.iter().map(|w| w.value.clone()).collect()),
                }
            }
        };
        self.report(
            Code::BadProgram,
            span,
            format!("{what}{wrong}"),
            "nothing that could be run",
            "write the program and its arguments, as `[\"python3\", \"-m\", \"http.server\"]`",
        );
        None
    }

    pub(super) fn env(&mut self, list: &[(At<String>, Field<String>)]) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for (name, value) in list {
            let Some(value) = value.get() else { continue };
            let bad_name =
                name.value.is_empty() || name.value.chars().any(|c| c == '=' || c.is_control());
            if bad_name {
                self.report(
                    Code::BadEnv,
                    name.span,
                    format!("{} cannot name an environment variable", quote(&name.value)),
                    "empty, or with `=` or a control character",
                    "write it like `NAME = \"value\"`",
                );
            } else if value.value.contains('\0') {
                self.report(
                    Code::BadEnv,
                    value.span,
                    format!(
                        "environment variable {} has a zero byte",
                        quote(&name.value)
                    ),
                    "a zero byte ends the value",
                    "remove `\\u0000`",
                );
            } else {
                env.insert(name.value.clone(), value.value.clone());
            }
        }
        env
    }

    /// `[]` is a value of its own: no ENTRYPOINT.
    pub(super) fn entrypoint(&mut self, raw: &RawNode) -> Option<Vec<String>> {
        let at = raw.entrypoint.get()?;
        if raw.image.is_absent() {
            self.needs_image(
                raw,
                "entrypoint",
                at.span,
                "write the program and its arguments into `command`",
            );
            return None;
        }
        if !at.value.is_empty() {
            return self.command(at, "the entrypoint");
        }
        if raw.command.is_absent() {
            self.report(
                Code::NothingToRun,
                at.span,
                format!("node {} has nothing left to run", quote(&raw.name.value)),
                "drops the image's ENTRYPOINT and its CMD",
                "add a `command` with the program and its arguments, or remove `entrypoint`",
            );
        }
        Some(Vec::new())
    }

    fn needs_image(&mut self, raw: &RawNode, key: &str, span: Span, help: &str) {
        self.report(
            Code::NeedsImage,
            span,
            format!("node {} has `{key}`, but no image", quote(&raw.name.value)),
            "means something with an `image` only",
            help,
        );
    }

    pub(super) fn keep(&mut self, raw: &RawNode) -> bool {
        let Some(at) = raw.keep.get().filter(|at| at.value) else {
            return false;
        };
        if raw.image.is_absent() {
            let help = "without image a node cannot write but into memory; mount a folder that \
                        stays with `volumes`, or remove `keep`";
            self.needs_image(raw, "keep", at.span, help);
        }
        true
    }

    pub(super) fn user(&mut self, at: &At<String>) -> Option<String> {
        let (name, group) = match at.value.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (at.value.as_str(), None),
        };
        let written = |part: &str| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.contains([':', '/', ','])
                && !part.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let in_range = |part: &str| part.parse().is_ok_and(|id: u32| id <= HIGHEST_ID);
        let parts = || std::iter::once(name).chain(group);
        let (why, label) = if !parts().all(written) {
            ("is not `user` or `user:group`", "not a user")
        } else if parts().any(|part| number(part) && !in_range(part)) {
            ("has a number above 2147483647", "out of range")
        } else {
            return Some(at.value.clone());
        };
        self.report(
            Code::BadUser,
            at.span,
            format!("user {} {why}", quote(&at.value)),
            label,
            "write names of the node's own /etc/passwd and /etc/group, or numbers, as \
             \"www-data\" or \"1000:1000\"",
        );
        None
    }

    pub(super) fn workdir(&mut self, at: &At<String>) -> Option<PathBuf> {
        let path = path_inside(&at.value);
        if path.is_none() {
            self.report(
                Code::BadUser,
                at.span,
                format!(
                    "working directory {} is no absolute path inside the node",
                    quote(&at.value)
                ),
                "not a path of the node",
                "begin it with `/` and leave `..` out",
            );
        }
        path
    }

    pub(super) fn env_files(&mut self, list: &[Field<String>]) -> Vec<EnvFile> {
        let mut files = Vec::new();
        for at in list.iter().filter_map(Field::get) {
            let (why, help) = if at.value.is_empty() || at.value.contains('\0') {
                ("has no path", "name a file with lines like `NAME=value`")
            } else if at.value.starts_with('~') {
                (
                    "begins with `~`, which only shells know",
                    "write the path in full, or from the lab file's folder on",
                )
            } else {
                files.push(EnvFile {
                    path: at.value.clone().into(),
                    span: at.span,
                });
                continue;
            };
            let message = format!("env file {} {why}", quote(&at.value));
            self.report(Code::BadEnvFile, at.span, message, "not a file", help);
        }
        files
    }

    pub(super) fn stop(&mut self, raw: &RawNode) -> Stop {
        let stop = Stop {
            signal: raw.stop_signal.get().and_then(|at| self.stop_signal(at)),
            grace: raw.stop_grace.get().and_then(|at| self.stop_grace(at)),
        };
        if raw.image.is_absent() && raw.command.is_absent() {
            let signal = raw.stop_signal.get().map(|at| ("stop_signal", at.span));
            let grace = raw.stop_grace.get().map(|at| ("stop_grace", at.span));
            if let Some((key, span)) = signal.or(grace) {
                self.report(
                    Code::NothingToStop,
                    span,
                    format!(
                        "node {} has `{key}`, but no process",
                        quote(&raw.name.value)
                    ),
                    "without effect",
                    format!("give the node an `image` or a `command`, or remove `{key}`"),
                );
            }
        }
        stop
    }

    fn stop_signal(&mut self, at: &At<String>) -> Option<i32> {
        let number = signal_number(&at.value);
        let (why, label) = match number {
            None => ("is not a signal", "no such signal"),
            Some(libc::SIGSTOP) => ("only halts a process", "nothing ends by it"),
            Some(_) => return number,
        };
        self.report(
            Code::BadStop,
            at.span,
            format!("{} {why}", quote(&at.value)),
            label,
            "write a name or a number of signal(7), as \"SIGQUIT\", \"SIGRTMIN+3\" or 3",
        );
        None
    }

    fn stop_grace(&mut self, at: &At<String>) -> Option<Duration> {
        let grace = self.duration(at)?;
        if grace <= LONGEST_GRACE {
            return Some(grace);
        }
        self.report(
            Code::BadStop,
            at.span,
            format!("{} is too long to wait for an end", quote(&at.value)),
            "longer than an hour",
            "write what the program needs to end in good order, as \"10s\"; an hour (\"60m\") is \
             the most",
        );
        None
    }
}
