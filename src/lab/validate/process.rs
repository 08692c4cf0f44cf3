//! What runs in a node: image, command, environment, volumes, capabilities, sysctls, readiness.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::Validator;
use crate::lab::model::{Ready, ReadyKind, Restart, Volume};
use crate::spec::text::{did_you_mean, nearest, quote};
use crate::spec::{At, Code, Diagnostic, Field, RawNode, RawReady, RawVolume, Span, keys};

/// The part of a node that is about its processes.
pub(super) struct Process {
    pub(super) image: Option<String>,
    pub(super) command: Option<Vec<String>>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) volumes: Vec<Volume>,
    pub(super) cap_add: Vec<String>,
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) restart: Restart,
    pub(super) ready: Option<Ready>,
}

impl Validator<'_> {
    pub(super) fn process(&mut self, n: usize) -> Option<Process> {
        let raw = self.nodes[n].raw;
        let image = raw.image.get().and_then(|at| self.image(at));
        let command = raw.command.get().and_then(|at| self.command(at));
        let env = self.env(&raw.env);
        let volumes = self.volumes(&raw.volumes);
        let cap_add = raw
            .cap_add
            .iter()
            .filter_map(|c| self.capability(c.get()?))
            .collect();
        let sysctls = self.sysctls(raw);
        let restart = self.word(
            "restart",
            &raw.restart,
            Restart::OnFailure,
            keys::RESTARTS,
            Restart::from_word,
        );
        let ready = match &raw.ready {
            Field::Absent => Some(None),
            Field::Bad => None,
            Field::Set(at) => self.ready(n, at).map(Some),
        };
        Some(Process {
            image,
            command,
            env,
            volumes,
            cap_add,
            sysctls,
            restart: restart?,
            ready: ready?,
        })
    }

    fn image(&mut self, at: &At<String>) -> Option<String> {
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

    pub(super) fn command(&mut self, at: &At<Vec<Field<String>>>) -> Option<Vec<String>> {
        let program = at.value.first().map(Field::get);
        let words: Option<Vec<&At<String>>> = at.value.iter().map(Field::get).collect();
        let (span, what) = match program {
            None => (at.span, "the command is empty"),
            Some(Some(p)) if p.value.is_empty() => (p.span, "the command's program is empty"),
            _ => {
                let words = words?;
                match words.iter().find(|w| w.value.contains('\0')) {
                    Some(w) => (w.span, "the command has a zero byte in it"),
                    None => return Some(words.iter().map(|w| w.value.clone()).collect()),
                }
            }
        };
        self.report(
            Code::BadProgram,
            span,
            what,
            "nothing that could be run",
            "write the program and its arguments, as `[\"python3\", \"-m\", \"http.server\"]`",
        );
        None
    }

    fn env(&mut self, list: &[(At<String>, Field<String>)]) -> BTreeMap<String, String> {
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

    fn volumes(&mut self, list: &[RawVolume]) -> Vec<Volume> {
        let mut volumes = Vec::new();
        let mut targets: HashMap<PathBuf, Span> = HashMap::new();
        for raw in list {
            let (source, target, read_only) = match raw {
                RawVolume::Short(at) => {
                    let Some(parts) = short_volume(at) else {
                        self.bad_volume(
                            at,
                            "is not `host:inside` or `host:inside:ro`",
                            "write it like `\"./site:/srv/site:ro\"`, or as a table with \
                             `source`, `target` and `read_only`",
                        );
                        continue;
                    };
                    parts
                }
                RawVolume::Long {
                    source,
                    target,
                    read_only,
                } => {
                    let read_only = read_only.get().is_some_and(|at| at.value);
                    let (Some(source), Some(target)) = (source.get(), target.get()) else {
                        continue;
                    };
                    (source.clone(), target.clone(), read_only)
                }
            };
            if !self.source(&source) || !self.target(&target) {
                continue;
            }
            let path: PathBuf = Path::new(&target.value).components().collect();
            if let Some(first) = targets.insert(path.clone(), target.span) {
                let d = Diagnostic::new(
                    Code::BadVolume,
                    target.span,
                    format!("two volumes at {}", quote(&target.value)),
                    "would hide the first",
                    "give each volume a place of its own inside the node",
                )
                .and(first, "first volume");
                self.diagnostics.push(d);
            }
            volumes.push(Volume {
                source: source.value.into(),
                target: path,
                read_only,
            });
        }
        volumes
    }

    fn bad_volume(&mut self, at: &At<String>, why: &str, help: &str) {
        let message = format!("volume {} {why}", quote(&at.value));
        self.report(Code::BadVolume, at.span, message, "bad volume", help);
    }

    fn source(&mut self, at: &At<String>) -> bool {
        if at.value.is_empty() || at.value.contains('\0') {
            self.bad_volume(
                at,
                "has no path on the host",
                "name a folder or file of the host",
            );
        } else if at.value.starts_with('~') {
            self.bad_volume(
                at,
                "begins with `~`, which only shells know",
                "write the path in full, or from the lab file's folder on",
            );
        } else {
            return true;
        }
        false
    }

    fn target(&mut self, at: &At<String>) -> bool {
        let path = Path::new(&at.value);
        let climbs = path.components().any(|c| matches!(c, Component::ParentDir));
        if !path.is_absolute() || climbs || at.value.contains('\0') {
            self.bad_volume(
                at,
                "has no absolute path inside the node",
                "begin it with `/` and leave `..` out",
            );
        } else if path.parent().is_none() {
            self.bad_volume(at, "would hide the whole root", "choose a folder below `/`");
        } else {
            return true;
        }
        false
    }

    fn capability(&mut self, at: &At<String>) -> Option<String> {
        let full = if at.value.starts_with("CAP_") {
            at.value.clone()
        } else {
            format!("CAP_{}", at.value)
        };
        if caps::Capability::from_str(&full).is_ok() {
            return Some(full);
        }
        let mut known: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
        known.sort();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let upper = full.to_uppercase().replace("CAP_CAP_", "CAP_");
        let near = nearest(&upper, &known);
        let help = if near.is_empty() {
            "capabilities(7) lists them; write one like `CAP_SYS_PTRACE`".to_owned()
        } else {
            format!("did you mean {}?", crate::spec::text::any_of(&near))
        };
        self.report(
            Code::BadCapability,
            at.span,
            format!("unknown capability {}", quote(&at.value)),
            "no such capability",
            help,
        );
        None
    }

    fn ready(&mut self, n: usize, at: &At<RawReady>) -> Option<Ready> {
        let node = self.nodes[n].raw;
        if node.image.is_absent() && node.command.is_absent() {
            self.report(
                Code::ReadyNoProcess,
                at.span,
                format!(
                    "node {} has nothing that could become ready",
                    quote(&node.name.value)
                ),
                "waits for ever",
                "give the node an `image` or a `command`, or remove `ready`",
            );
        }
        let timeout = match &at.value.timeout {
            Field::Absent => Some(Duration::from_mins(1)),
            Field::Bad => None,
            Field::Set(t) => self.duration(t),
        };
        let kind = match (&at.value.http, &at.value.tcp) {
            (Field::Set(url), Field::Absent) => self.http(n, node, url),
            (Field::Absent, Field::Set(port)) => self.port(port).map(ReadyKind::Tcp),
            (Field::Bad, _) | (_, Field::Bad) => None,
            (http, _) => {
                let message = if http.is_absent() {
                    "`ready` has neither `http` nor `tcp`"
                } else {
                    "`ready` has both `http` and `tcp`"
                };
                self.report(
                    Code::BadReady,
                    at.span,
                    message,
                    "one probe is needed",
                    "write `{ http = \"http://localhost:8080/\" }` or `{ tcp = 8080 }`",
                );
                None
            }
        };
        Some(Ready {
            kind: kind?,
            timeout: timeout?,
        })
    }

    fn http(&mut self, n: usize, node: &RawNode, at: &At<String>) -> Option<ReadyKind> {
        let url = self.url(at, "probe", Code::BadReady, "http://localhost:8080/path")?;
        let machine = &self.nodes[n];
        let own = |a: IpAddr| {
            a.is_loopback()
                || machine
                    .interfaces
                    .iter()
                    .any(|p| p.address.iter().chain(&p.aliases).any(|own| own.value == a))
        };
        let fits = url.host == "localhost" || url.host.parse().is_ok_and(own);
        if !fits && !machine.addresses_unsure {
            self.report(
                Code::BadReady,
                at.span,
                format!(
                    "probe URL's host {} is not node {} itself",
                    quote(&url.host),
                    quote(&node.name.value)
                ),
                "probes are made from inside the node",
                "write `localhost` or an address of the node",
            );
        }
        fits.then_some(ReadyKind::Http {
            host: url.host,
            port: url.port,
            path: url.path,
        })
    }

    /// A node that a service names.
    pub(super) fn service_node(&mut self, at: &At<String>, role: &str) -> Option<usize> {
        let found = self.node_index.get(at.value.as_str()).copied();
        if found.is_none() {
            let known = self.raw.nodes.iter().map(|n| n.name.value.as_str());
            let help = did_you_mean(
                &at.value,
                known,
                "the lab has the nodes",
                "add it as a node",
            );
            self.report(
                Code::UnknownNode,
                at.span,
                format!("{role} {} is no node of the lab", quote(&at.value)),
                "no such node",
                help,
            );
        }
        found
    }
}

fn short_volume(at: &At<String>) -> Option<(At<String>, At<String>, bool)> {
    let parts: Vec<&str> = at.value.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => return None,
    };
    let part = |s: &str| At {
        value: s.to_owned(),
        span: at.span,
    };
    Some((part(source), part(target), read_only))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_known() {
        for word in keys::RESTARTS {
            assert_eq!(
                Restart::from_word(word).map(Restart::as_str),
                Some(*word),
                "{word}"
            );
        }
    }
}
