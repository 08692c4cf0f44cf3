//! `[services.*]`, key by key.

use toml::de::{DeTable, DeValue};

use crate::spec::keys;
use crate::spec::raw::{At, Field, RawCheck, RawServer, RawService, RawTcp, Span};
use crate::spec::shape::{Value, Walker, at, integer};
use crate::spec::text::quote;

impl Walker {
    pub(in crate::spec) fn service(&mut self, name: At<String>, value: &Value<'_>) -> RawService {
        let what = format!("service {}", quote(&name.value));
        let example = "[services.web]";
        let Some(t) = self.named(value, keys::SERVICE, what, name.span, example) else {
            return RawService {
                name,
                vip: Field::Bad,
                port: Field::Bad,
                protocol: Field::Bad,
                director: Field::Bad,
                scheduler: Field::Bad,
                scheduler_flags: Field::Bad,
                persistent: Field::Bad,
                persistent_mask: Field::Bad,
                one_packet: Field::Bad,
                method: Field::Bad,
                accept: Field::Bad,
                servers: Field::Bad,
                engine: Field::Bad,
                check: Field::Bad,
                on_fail: Field::Bad,
            };
        };
        let service = name.value.clone();
        RawService {
            name,
            vip: self.string(&t, "vip"),
            port: self.integer(&t, "port"),
            protocol: self.string(&t, "protocol"),
            director: self.string(&t, "director"),
            scheduler: self.string(&t, "scheduler"),
            scheduler_flags: self.strings(&t, "scheduler_flags"),
            persistent: self.string(&t, "persistent"),
            persistent_mask: self.integer(&t, "persistent_mask"),
            one_packet: self.boolean(&t, "one_packet"),
            method: self.string(&t, "method"),
            accept: self.string(&t, "accept"),
            servers: self.array(&t, "servers", Self::server),
            engine: self.string(&t, "engine"),
            check: self.field(&t, "check", "a table", |w, v| match v.get_ref() {
                DeValue::Table(table) => Some(w.check(&service, table, v.span().into())),
                _ => None,
            }),
            on_fail: self.string(&t, "on_fail"),
        }
    }

    fn server(&mut self, value: &Value<'_>) -> RawServer {
        match value.get_ref() {
            DeValue::String(s) => RawServer {
                node: Field::Set(at(s.to_string(), value)),
                weight: Field::Absent,
                port: Field::Absent,
                upper: Field::Absent,
                lower: Field::Absent,
            },
            DeValue::Table(table) => {
                let span = value.span().into();
                let t = self.open(table, keys::SERVER, "a server".to_owned(), span);
                RawServer {
                    node: self.string(&t, "node"),
                    weight: self.integer(&t, "weight"),
                    port: self.integer(&t, "port"),
                    upper: self.integer(&t, "upper"),
                    lower: self.integer(&t, "lower"),
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
                upper: Field::Bad,
                lower: Field::Bad,
            },
        }
    }

    fn check(&mut self, service: &str, table: &DeTable<'_>, span: Span) -> RawCheck {
        let what = format!("`check` of service {}", quote(service));
        let t = self.open(table, keys::CHECK, what, span);
        RawCheck {
            http: self.string(&t, "http"),
            tcp: self.field(&t, "tcp", "`true` or a port", |_, v| match v.get_ref() {
                DeValue::Boolean(b) => Some(RawTcp::Service(*b)),
                DeValue::Integer(i) => Some(RawTcp::Port(integer(i))),
                _ => None,
            }),
            exec: self.strings(&t, "exec"),
            every: self.string(&t, "every"),
            timeout: self.string(&t, "timeout"),
            rise: self.integer(&t, "rise"),
            fall: self.integer(&t, "fall"),
        }
    }
}
