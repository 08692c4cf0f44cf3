//! What each table of the file holds, key by key.

use toml::de::{DeTable, DeValue};

use super::keys;
use super::raw::{
    At, Field, RawCapture, RawInterface, RawNetwork, RawNode, RawReady, RawScope, RawServer,
    RawService, RawVolume, Span,
};
use super::shape::{Table, Value, Walker, at, entries};
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

    pub(super) fn service(&mut self, name: At<String>, value: &Value<'_>) -> RawService {
        let what = format!("service {}", quote(&name.value));
        match self.named(value, keys::SERVICE, what, name.span, "[services.web]") {
            Some(t) => RawService {
                name,
                vip: self.string(&t, "vip"),
                port: self.integer(&t, "port"),
                protocol: self.string(&t, "protocol"),
                director: self.string(&t, "director"),
                scheduler: self.string(&t, "scheduler"),
                method: self.string(&t, "method"),
                accept: self.string(&t, "accept"),
                servers: self.array(&t, "servers", Self::server),
                engine: self.string(&t, "engine"),
            },
            None => RawService {
                name,
                vip: Field::Bad,
                port: Field::Bad,
                protocol: Field::Bad,
                director: Field::Bad,
                scheduler: Field::Bad,
                method: Field::Bad,
                accept: Field::Bad,
                servers: Field::Bad,
                engine: Field::Bad,
            },
        }
    }

    fn server(&mut self, value: &Value<'_>) -> RawServer {
        match value.get_ref() {
            DeValue::String(s) => RawServer {
                node: Field::Set(at(s.to_string(), value)),
                weight: Field::Absent,
                port: Field::Absent,
            },
            DeValue::Table(table) => {
                let span = value.span().into();
                let t = self.open(table, keys::SERVER, "a server".to_owned(), span);
                RawServer {
                    node: self.string(&t, "node"),
                    weight: self.integer(&t, "weight"),
                    port: self.integer(&t, "port"),
                }
            }
            _ => RawServer {
                node: self.wrong_type(
                    value,
                    "a server",
                    "a string or a table",
                    "write it like `\"server1\"` or `{ node = \"server1\", weight = 3 }`"
                        .to_owned(),
                ),
                weight: Field::Bad,
                port: Field::Bad,
            },
        }
    }

    pub(super) fn capture(&mut self, root: &Table<'_, '_>) -> RawCapture {
        let read = |w: &mut Self, v: &Value<'_>| match v.get_ref() {
            DeValue::Table(table) => {
                let t = w.open(
                    table,
                    keys::CAPTURE,
                    "`capture`".to_owned(),
                    v.span().into(),
                );
                let interfaces = w.field(&t, "interfaces", "a string or an array", |w, v| match v
                    .get_ref()
                {
                    DeValue::String(s) => Some(RawScope::Word(s.to_string())),
                    DeValue::Array(a) => Some(RawScope::List(
                        a.iter().map(|e| w.element(e, "interfaces")).collect(),
                    )),
                    _ => None,
                });
                Some(RawCapture {
                    interfaces,
                    snaplen: w.integer(&t, "snaplen"),
                })
            }
            _ => None,
        };
        match self.field(root, "capture", "a table", read) {
            Field::Set(c) => c.value,
            Field::Absent => RawCapture {
                interfaces: Field::Absent,
                snaplen: Field::Absent,
            },
            Field::Bad => RawCapture {
                interfaces: Field::Bad,
                snaplen: Field::Bad,
            },
        }
    }
}
