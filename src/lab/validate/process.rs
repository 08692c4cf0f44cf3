//! What runs in a node, and what `up` waits for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Validator;
use super::confine::Capabilities;
use super::mounts::Mounts;
use super::program::Stop;
use crate::lab::model::{EnvFile, Limits, Ready, ReadyKind, Restart, Seccomp};
use crate::spec::text::{did_you_mean, quote};
use crate::spec::{At, Code, Field, RawNode, RawReady, keys};

/// The part of a node that is about its processes.
pub(super) struct Process {
    pub(super) image: Option<String>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) workdir: Option<PathBuf>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) env_files: Vec<EnvFile>,
    pub(super) mounts: Mounts,
    pub(super) keep: bool,
    pub(super) stop: Stop,
    pub(super) limits: Option<Limits>,
    pub(super) capabilities: Capabilities,
    pub(super) seccomp: Seccomp,
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) restart: Restart,
    pub(super) ready: Option<Ready>,
}

impl Validator<'_> {
    /// `None` only with an error reported: what is left out here has an error of its own.
    pub(super) fn process(&mut self, n: usize) -> Option<Process> {
        let raw = self.nodes[n].raw;
        let image = raw.image.get().and_then(|at| self.image(at));
        let entrypoint = self.entrypoint(raw);
        let command = raw
            .command
            .get()
            .and_then(|at| self.command(at, "the command"));
        let user = raw.user.get().and_then(|at| self.user(at));
        let workdir = raw.workdir.get().and_then(|at| self.workdir(at));
        let env = self.env(&raw.env);
        let env_files = self.env_files(&raw.env_file);
        let mounts = self.mounts(&raw.volumes, &raw.tmpfs);
        let keep = self.keep(raw);
        let stop = self.stop(raw);
        let limits = raw.limits.get().and_then(|at| self.limits(&at.value));
        let capabilities = self.capabilities(&raw.cap_add, &raw.cap_drop);
        let seccomp = self.word(
            "seccomp",
            &raw.seccomp,
            Seccomp::Default,
            keys::SECCOMPS,
            Seccomp::from_word,
        );
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
            entrypoint,
            command,
            user,
            workdir,
            env,
            env_files,
            mounts,
            keep,
            stop,
            limits,
            capabilities,
            seccomp: seccomp?,
            sysctls,
            restart: restart?,
            ready: ready?,
        })
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
        for word in keys::SECCOMPS {
            let read = Seccomp::from_word(word).map(Seccomp::as_str);
            assert_eq!(read, Some(*word), "{word}");
        }
    }
}
