//! What runs in a node: image, command, environment, volumes, capabilities, sysctls, readiness.

use std::path::PathBuf;
use std::time::Duration;

use super::Checker;
use crate::lab::model::{Node, Ready, ReadyKind, Restart, Volume};
use crate::spec::{At, Code, Field, RawNode, RawReady, RawVolume, quote};

impl Checker {
    pub(super) fn process(&mut self, raw: &RawNode, node: &mut Node) {
        if let Some(at) = raw.image.get() {
            if at.value.trim().is_empty() {
                let help = "name a folder of images/, or an OCI image layout like `./layout`";
                self.report(
                    Code::BadProgram,
                    at.span,
                    "the image's name is empty",
                    "empty",
                    help,
                );
            }
            node.image = Some(at.value.clone());
        }
        if let Some(at) = raw.command.get() {
            let words: Vec<String> = at
                .value
                .iter()
                .filter_map(|f| f.get().map(|w| w.value.clone()))
                .collect();
            let program = at.value.first().and_then(Field::get);
            if at.value.is_empty() || program.is_some_and(|p| p.value.is_empty()) {
                let help = "write the program and its arguments, like `[\"sleep\", \"60\"]`, or remove the key";
                self.report(
                    Code::BadProgram,
                    at.span,
                    "the command is empty",
                    "no program",
                    help,
                );
            }
            node.command = Some(words);
        }
        for (name, value) in &raw.env {
            if name.value.is_empty() || name.value.contains(['=', '\0']) {
                let message = format!(
                    "{} cannot be the name of an environment variable",
                    quote(&name.value)
                );
                self.report(
                    Code::BadEnv,
                    name.span,
                    message,
                    "bad name",
                    "a name is not empty and has no `=` in it",
                );
            } else if let Some(value) = value.get() {
                node.env.insert(name.value.clone(), value.value.clone());
            }
        }
        for volume in &raw.volumes {
            node.volumes.extend(self.volume(volume));
        }
        for at in raw.cap_add.iter().filter_map(Field::get) {
            node.cap_add.extend(self.capability(at));
        }
        for (key, value) in &raw.sysctls {
            if !key.value.starts_with("net.")
                || key.value.contains("..")
                || key.value.contains(char::is_whitespace)
            {
                let message = format!(
                    "sysctl {} is not one of a network namespace",
                    quote(&key.value)
                );
                self.report(
                    Code::BadSysctl,
                    key.span,
                    message,
                    "not `net.*`",
                    "only `net.*` belongs to a node; everything else is the host's",
                );
            } else if let Some(value) = value.get() {
                node.sysctls.insert(key.value.clone(), value.value.clone());
            }
        }
        let words = [
            ("no", Restart::No),
            ("on-failure", Restart::OnFailure),
            ("always", Restart::Always),
        ];
        if let Some(restart) = self.word(&raw.restart, "restart", &words, Restart::OnFailure) {
            node.restart = restart;
        }
        if let Some(at) = raw.ready.get() {
            if !node.has_process() && raw.image.is_absent() && raw.command.is_absent() {
                let message = format!(
                    "node `{}` has a readiness probe and nothing that could answer it",
                    node.name
                );
                self.report(
                    Code::ReadyNoProcess,
                    at.span,
                    message,
                    "no process to wait for",
                    "add an `image` or a `command`, or remove `ready`",
                );
            }
            node.ready = self.ready(at, node);
        }
    }

    fn volume(&mut self, raw: &RawVolume) -> Option<Volume> {
        let (source, target, read_only) = match raw {
            RawVolume::Short(at) => {
                let mut parts = at.value.split(':');
                let (source, target, mode) = (parts.next(), parts.next(), parts.next());
                let read_only = match mode {
                    None | Some("rw") => Some(false),
                    Some("ro") => Some(true),
                    Some(_) => None,
                };
                match (source, target, read_only, parts.next()) {
                    (Some(source), Some(target), Some(read_only), None) => {
                        let part = |s: &str| At {
                            value: s.to_owned(),
                            span: at.span,
                        };
                        (part(source), part(target), read_only)
                    }
                    _ => {
                        let message = format!("{} is not a volume", quote(&at.value));
                        self.report(
                            Code::BadVolume,
                            at.span,
                            message,
                            "not a volume",
                            "write `host-path:path-inside`, with `:ro` behind it for read-only",
                        );
                        return None;
                    }
                }
            }
            RawVolume::Long {
                source,
                target,
                read_only,
            } => (
                source.get()?.clone(),
                target.get()?.clone(),
                read_only.get().is_some_and(|at| at.value),
            ),
        };
        if source.value.is_empty() {
            self.report(
                Code::BadVolume,
                source.span,
                "the volume's host path is empty",
                "empty",
                "name a file or folder on the host",
            );
            return None;
        }
        let clean = PathBuf::from(&target.value);
        if !clean.is_absolute()
            || clean
                .components()
                .any(|c| matches!(c, std::path::Component::ParentDir))
            || clean.parent().is_none()
        {
            let message = format!("{} is not a place for a volume", quote(&target.value));
            self.report(
                Code::BadVolume,
                target.span,
                message,
                "bad path inside",
                "write an absolute path below `/`, without `..`",
            );
            return None;
        }
        Some(Volume {
            source: source.value.into(),
            target: clean,
            read_only,
        })
    }

    fn capability(&mut self, at: &At<String>) -> Option<String> {
        let upper = at.value.to_ascii_uppercase();
        let name = if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        if name.parse::<caps::Capability>().is_ok() {
            return Some(name);
        }
        let message = format!("unknown capability {}", quote(&at.value));
        self.report(
            Code::BadCapability,
            at.span,
            message,
            "unknown",
            "see capabilities(7); for example `CAP_NET_ADMIN`",
        );
        None
    }

    fn ready(&mut self, at: &At<RawReady>, node: &Node) -> Option<Ready> {
        let raw = &at.value;
        let timeout = match raw.timeout.get() {
            None => Duration::from_secs(60),
            Some(at) => self.duration(at)?,
        };
        let kind = match (&raw.http, &raw.tcp) {
            (Field::Set(url), Field::Absent) => self.http(url, node)?,
            (Field::Absent, Field::Set(port)) => ReadyKind::Tcp(self.port(port)?),
            (Field::Absent, Field::Absent) => {
                let help = "write `{ http = \"http://localhost:8080/\" }` or `{ tcp = 8080 }`";
                self.report(
                    Code::BadReady,
                    at.span,
                    "the readiness probe asks nothing",
                    "no `http` and no `tcp`",
                    help,
                );
                return None;
            }
            (Field::Set(_), Field::Set(_)) => {
                self.report(
                    Code::BadReady,
                    at.span,
                    "the readiness probe has both `http` and `tcp`",
                    "two probes",
                    "keep one of them",
                );
                return None;
            }
            _ => return None,
        };
        Some(Ready { kind, timeout })
    }

    fn http(&mut self, at: &At<String>, node: &Node) -> Option<ReadyKind> {
        let made = (|| {
            let rest = at.value.strip_prefix("http://")?;
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok().filter(|p| *p > 0)?),
                None => (authority, 80),
            };
            let own = node
                .interfaces
                .iter()
                .any(|i| i.address.addr().to_string() == host);
            let plain = !at
                .value
                .contains(|c: char| c.is_whitespace() || c.is_control());
            let path = if path.is_empty() { "/" } else { path };
            (plain && (own || host == "localhost" || host == "127.0.0.1")).then(|| {
                ReadyKind::Http {
                    host: host.to_owned(),
                    port,
                    path: path.to_owned(),
                }
            })
        })();
        if made.is_none() {
            let message = format!(
                "{} is not a URL that a readiness probe can ask",
                quote(&at.value)
            );
            self.report(Code::BadReady, at.span, message, "bad URL", "write `http://localhost:PORT/PATH`, or an address of the node instead of `localhost`");
        }
        made
    }

    fn duration(&mut self, at: &At<String>) -> Option<Duration> {
        let split = at
            .value
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(at.value.len());
        let (number, unit) = at.value.split_at(split);
        let unit = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            _ => None,
        };
        let millis = number
            .parse::<u64>()
            .ok()
            .zip(unit)
            .and_then(|(n, u)| n.checked_mul(u));
        match millis {
            Some(ms @ 1..=86_400_000) => Some(Duration::from_millis(ms)),
            _ => {
                let message = format!("{} is not a duration", quote(&at.value));
                self.report(
                    Code::BadDuration,
                    at.span,
                    message,
                    "not a duration",
                    "write a number and `ms`, `s` or `m`, like `60s`; a day at most",
                );
                None
            }
        }
    }

    /// A port from 1 to 65535.
    pub(super) fn port(&mut self, at: &At<i64>) -> Option<u16> {
        match u16::try_from(at.value) {
            Ok(port @ 1..) => Some(port),
            _ => {
                let message = format!("port {} is out of range", at.value);
                self.report(
                    Code::BadPort,
                    at.span,
                    message,
                    "out of range",
                    "a port is a number from 1 to 65535",
                );
                None
            }
        }
    }
}
