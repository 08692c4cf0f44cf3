//! `[nodes.*]`, key by key.

use toml::de::{DeTable, DeValue};

use crate::spec::keys;
use crate::spec::raw::{
    At, Field, RawInterface, RawLimits, RawNode, RawReady, RawTmpfs, RawVolume, Span,
};
use crate::spec::shape::{Table, Value, Walker, at, entries, integer};
use crate::spec::text::quote;

impl Walker {
    pub(in crate::spec) fn node(&mut self, name: At<String>, value: &Value<'_>) -> RawNode {
        let what = format!("node {}", quote(&name.value));
        let Some(t) = self.named(value, keys::NODE, what, name.span, "[nodes.client]") else {
            return broken(name);
        };
        let node = name.value.clone();
        RawNode {
            name,
            interfaces: self.field(&t, "interfaces", "a table", |w, v| match v.get_ref() {
                DeValue::Table(table) => Some(
                    entries(table)
                        .into_iter()
                        .map(|(k, v)| w.interface(&node, k, v))
                        .collect(),
                ),
                _ => None,
            }),
            interfaces_unsure: t.is_misspelt("interfaces"),
            gateway: self.string(&t, "gateway"),
            forward: self.boolean(&t, "forward"),
            image: self.string(&t, "image"),
            entrypoint: self.strings(&t, "entrypoint"),
            command: self.strings(&t, "command"),
            user: self.text_or_number(&t, "user"),
            workdir: self.string(&t, "workdir"),
            env: self.texts(&t, "env", false),
            env_file: self.one_or_more(&t, "env_file"),
            volumes: list(self.array(&t, "volumes", Self::volume))
                .into_iter()
                .flatten()
                .collect(),
            tmpfs: list(self.array(&t, "tmpfs", Self::tmpfs))
                .into_iter()
                .flatten()
                .collect(),
            keep: self.boolean(&t, "keep"),
            stop_signal: self.text_or_number(&t, "stop_signal"),
            stop_grace: self.string(&t, "stop_grace"),
            limits: self.field(&t, "limits", "a table", |w, v| match v.get_ref() {
                DeValue::Table(table) => Some(w.limits(&node, table, v.span().into())),
                _ => None,
            }),
            cap_add: list(self.strings(&t, "cap_add")),
            cap_drop: list(self.strings(&t, "cap_drop")),
            seccomp: self.string(&t, "seccomp"),
            sysctls: self.texts(&t, "sysctls", true),
            restart: self.string(&t, "restart"),
            ready: self.field(&t, "ready", "a table", |w, v| match v.get_ref() {
                DeValue::Table(table) => Some(w.ready(&node, table, v.span().into())),
                _ => None,
            }),
        }
    }

    /// A string, or an array of strings.
    fn one_or_more(&mut self, t: &Table<'_, '_>, name: &'static str) -> Vec<Field<String>> {
        let read = |w: &mut Self, v: &Value<'_>| match v.get_ref() {
            DeValue::String(s) => Some(vec![Field::Set(at(s.to_string(), v))]),
            DeValue::Array(a) => Some(a.iter().map(|e| w.element(e, name)).collect()),
            _ => None,
        };
        list(self.field(t, name, "a string or an array", read))
    }

    /// A string, or an integer that means the same.
    fn text_or_number(&mut self, t: &Table<'_, '_>, name: &'static str) -> Field<String> {
        self.field(t, name, "a string or an integer", |_, v| {
            match v.get_ref() {
                DeValue::String(s) => Some(s.to_string()),
                DeValue::Integer(i) => Some(integer(i).to_string()),
                _ => None,
            }
        })
    }

    fn interface(&mut self, node: &str, name: At<String>, value: &Value<'_>) -> RawInterface {
        let what = format!("interface {} of node {}", quote(&name.value), quote(node));
        let example = "interfaces.eth1 = { network = \"lan\", address = \"192.168.10.2\" }";
        match self.named(value, keys::INTERFACE, what, name.span, example) {
            Some(t) => RawInterface {
                name,
                network: self.string(&t, "network"),
                address: self.string(&t, "address"),
                aliases: self.strings(&t, "aliases"),
            },
            None => RawInterface {
                name,
                network: Field::Bad,
                address: Field::Bad,
                aliases: Field::Bad,
            },
        }
    }

    fn volume(&mut self, value: &Value<'_>) -> Option<RawVolume> {
        match value.get_ref() {
            DeValue::String(s) => Some(RawVolume::Short(at(s.to_string(), value))),
            DeValue::Table(table) => {
                let span = value.span().into();
                let t = self.open(table, keys::VOLUME, "a volume".to_owned(), span);
                Some(RawVolume::Long {
                    source: self.string(&t, "source"),
                    target: self.string(&t, "target"),
                    read_only: self.boolean(&t, "read_only"),
                })
            }
            _ => {
                let _: Field<()> = self.wrong_type(
                    value,
                    "a volume",
                    "a string or a table",
                    "write it like `\"./site:/srv/site:ro\"`".to_owned(),
                );
                None
            }
        }
    }

    fn tmpfs(&mut self, value: &Value<'_>) -> Option<RawTmpfs> {
        match value.get_ref() {
            DeValue::String(s) => Some(RawTmpfs::Short(at(s.to_string(), value))),
            DeValue::Table(table) => {
                let span = value.span().into();
                let t = self.open(table, keys::TMPFS, "a tmpfs".to_owned(), span);
                Some(RawTmpfs::Long {
                    target: self.string(&t, "target"),
                    size: self.string(&t, "size"),
                    // Not as a number: 1777 and 0o1777 are two.
                    mode: self.string(&t, "mode"),
                    exec: self.boolean(&t, "exec"),
                })
            }
            _ => {
                let _: Field<()> = self.wrong_type(
                    value,
                    "a tmpfs",
                    "a string or a table",
                    "write it like `\"/var/cache:size=64m\"`".to_owned(),
                );
                None
            }
        }
    }

    fn limits(&mut self, node: &str, table: &DeTable<'_>, span: Span) -> RawLimits {
        let what = format!("`limits` of node {}", quote(node));
        let t = self.open(table, keys::LIMITS, what, span);
        RawLimits {
            memory: self.string(&t, "memory"),
            cpus: self.field(&t, "cpus", "a number", |_, v| match v.get_ref() {
                DeValue::Integer(i) => Some(integer(i).to_string()),
                DeValue::Float(f) => Some(f.as_str().to_owned()),
                _ => None,
            }),
            pids: self.integer(&t, "pids"),
        }
    }

    fn ready(&mut self, node: &str, table: &DeTable<'_>, span: Span) -> RawReady {
        let t = self.open(
            table,
            keys::READY,
            format!("`ready` of node {}", quote(node)),
            span,
        );
        RawReady {
            http: self.string(&t, "http"),
            tcp: self.integer(&t, "tcp"),
            timeout: self.string(&t, "timeout"),
        }
    }
}

/// The elements, where there are any.
fn list<T>(field: Field<Vec<T>>) -> Vec<T> {
    match field {
        Field::Set(list) => list.value,
        Field::Absent | Field::Bad => Vec::new(),
    }
}

/// What is no table: nothing is known about it.
fn broken(name: At<String>) -> RawNode {
    RawNode {
        name,
        interfaces: Field::Bad,
        interfaces_unsure: true,
        gateway: Field::Bad,
        forward: Field::Bad,
        image: Field::Bad,
        entrypoint: Field::Bad,
        command: Field::Bad,
        user: Field::Bad,
        workdir: Field::Bad,
        env: Vec::new(),
        env_file: Vec::new(),
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        keep: Field::Bad,
        stop_signal: Field::Bad,
        stop_grace: Field::Bad,
        limits: Field::Bad,
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        seccomp: Field::Bad,
        sysctls: Vec::new(),
        restart: Field::Bad,
        ready: Field::Bad,
    }
}
