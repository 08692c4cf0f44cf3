//! What each table of the file holds, key by key.

mod capture;
mod service;

use toml::de::{DeTable, DeValue};

use super::keys;
use super::raw::{At, Field, RawInterface, RawNetwork, RawNode, RawReady, RawVolume, Span};
use super::shape::{Value, Walker, at, entries};
use super::text::quote;

impl Walker {
    pub(super) fn network(&mut self, name: At<String>, value: &Value<'_>) -> RawNetwork {
        let what = format!("network {}", quote(&name.value));
        let example = "[networks.lan]";
        match self.named(value, keys::NETWORK, what, name.span, example) {
            Some(t) => RawNetwork {
                name,
                subnet: self.string(&t, "subnet"),
                host: self.string(&t, "host"),
                mtu: self.integer(&t, "mtu"),
                ipv6: self.boolean(&t, "ipv6"),
            },
            None => RawNetwork {
                name,
                subnet: Field::Bad,
                host: Field::Bad,
                mtu: Field::Bad,
                ipv6: Field::Bad,
            },
        }
    }

    pub(super) fn node(&mut self, name: At<String>, value: &Value<'_>) -> RawNode {
        let what = format!("node {}", quote(&name.value));
        let Some(t) = self.named(value, keys::NODE, what, name.span, "[nodes.client]") else {
            return RawNode {
                name,
                interfaces: Field::Bad,
                interfaces_unsure: true,
                gateway: Field::Bad,
                forward: Field::Bad,
                image: Field::Bad,
                command: Field::Bad,
                env: Vec::new(),
                volumes: Vec::new(),
                cap_add: Vec::new(),
                sysctls: Vec::new(),
                restart: Field::Bad,
                ready: Field::Bad,
            };
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
            command: self.strings(&t, "command"),
            env: self.texts(&t, "env", false),
            volumes: match self.array(&t, "volumes", Self::volume) {
                Field::Set(list) => list.value.into_iter().flatten().collect(),
                Field::Absent | Field::Bad => Vec::new(),
            },
            cap_add: match self.strings(&t, "cap_add") {
                Field::Set(list) => list.value,
                Field::Absent | Field::Bad => Vec::new(),
            },
            sysctls: self.texts(&t, "sysctls", true),
            restart: self.string(&t, "restart"),
            ready: self.field(&t, "ready", "a table", |w, v| match v.get_ref() {
                DeValue::Table(table) => Some(w.ready(&node, table, v.span().into())),
                _ => None,
            }),
        }
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
