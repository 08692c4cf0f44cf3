//! TOML to [`RawLab`]: every key known, every value of the right type, or a diagnostic each.
//!
//! The spanned tree is walked by hand instead of being deserialized: serde stops at the first
//! thing that does not fit, and a lab file's author wants to hear of all of them.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::code::Code;
use super::diagnostic::Diagnostic;
use super::keys::{self, Key};
use super::raw::{
    At, Field, RawCapture, RawInterface, RawLab, RawNetwork, RawNode, RawReady, RawScope,
    RawServer, RawService, RawVolume, Span,
};
use super::text::{did_you_mean, quote};

/// Reads a file's text. The lab holds whatever could be read; the list holds every problem of
/// syntax and shape.
pub fn parse(text: &str) -> (RawLab, Vec<Diagnostic>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { found: Vec::new() };
    let mut damaged = Vec::new();
    for error in &errors {
        let span = error.span().map_or(Span { start: 0, end: 0 }, Span::from);
        damaged.push(span);
        reader.found.push(syntax(error.message(), span));
    }
    let whole = Span {
        start: 0,
        end: text.len().min(text.find('\n').unwrap_or(text.len())),
    };
    let mut lab = reader.lab(root.get_ref(), whole);
    if !errors.is_empty() {
        // What is missing may be in the part that could not be read.
        reader.found.retain(|d| !d.code().is_about_absence());
        lab.incomplete = true;
    }
    lab.damaged = damaged;
    (lab, reader.found)
}

fn syntax(message: &str, span: Span) -> Diagnostic {
    if message.contains("duplicate key") {
        let help = "remove one of the two, or give it another name";
        return Diagnostic::new(
            Code::DuplicateKey,
            span,
            "key given twice",
            "given before",
            help,
        );
    }
    let help = "a lab file is TOML (https://toml.io): `key = value` lines below `[table]` headers";
    Diagnostic::new(
        Code::Syntax,
        span,
        format!("not TOML: {message}"),
        "here",
        help,
    )
}

/// A table's entries in the order of the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(At<String>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            (
                At {
                    value: key.get_ref().to_string(),
                    span: key.span().into(),
                },
                value,
            )
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.span.start);
    entries
}

/// A table whose keys have been checked.
struct Table<'a, 'i> {
    /// What it is, for messages: `node `client``.
    what: String,
    values: HashMap<&'static str, &'a Spanned<DeValue<'i>>>,
}

struct Reader {
    found: Vec<Diagnostic>,
}

impl Reader {
    /// Checks a table's keys: unknown ones and missing ones are reported at `place`.
    fn table<'a, 'i>(
        &mut self,
        what: String,
        keys: &'static [Key],
        table: &'a DeTable<'i>,
        place: Span,
    ) -> Table<'a, 'i> {
        let mut values = HashMap::new();
        for (key, value) in in_order(table) {
            if let Some(known) = keys.iter().find(|k| k.name == key.value) {
                values.insert(known.name, value);
                continue;
            }
            let names = keys.iter().map(|k| k.name);
            let help = did_you_mean(&key.value, names, "its keys are", "it has no keys");
            let message = format!("unknown key {} in {what}", quote(&key.value));
            self.report(Code::UnknownKey, key.span, message, "unknown key", help);
        }
        for key in keys
            .iter()
            .filter(|k| k.required && !values.contains_key(k.name))
        {
            let message = format!("{what} has no {}", quote(key.name));
            let help = format!("add `{} = {}`", key.name, key.example);
            self.report(
                Code::MissingKey,
                place,
                message,
                format!("{} is missing", quote(key.name)),
                help,
            );
        }
        Table { what, values }
    }

    fn report(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.found
            .push(Diagnostic::new(code, span, message, label, help));
    }

    /// Reports a value of the wrong type.
    fn wrong(
        &mut self,
        what: &str,
        key: &str,
        wanted: &str,
        value: &Spanned<DeValue<'_>>,
        example: &str,
    ) {
        let message = format!("{} of {what} must be {wanted}", quote(key));
        let label = format!("this is {}", article(value.get_ref()));
        let help = if example.is_empty() {
            format!("write {wanted}")
        } else {
            format!("for example `{key} = {example}`")
        };
        self.report(Code::WrongType, value.span().into(), message, label, help);
    }

    /// The value of a key by a conversion that says no by `None`.
    fn field<T>(
        &mut self,
        table: &Table<'_, '_>,
        keys: &'static [Key],
        key: &'static str,
        wanted: &str,
        convert: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Field<T> {
        let Some(value) = table.values.get(key) else {
            return Field::Absent;
        };
        if let Some(converted) = convert(value.get_ref()) {
            return Field::Set(At {
                value: converted,
                span: value.span().into(),
            });
        }
        let example = keys
            .iter()
            .find(|k| k.name == key)
            .map_or("", |k| k.example);
        self.wrong(&table.what, key, wanted, value, example);
        Field::Bad
    }

    fn text(
        &mut self,
        t: &Table<'_, '_>,
        keys: &'static [Key],
        key: &'static str,
    ) -> Field<String> {
        self.field(t, keys, key, "a string", |v| v.as_str().map(str::to_owned))
    }

    fn integer(
        &mut self,
        t: &Table<'_, '_>,
        keys: &'static [Key],
        key: &'static str,
    ) -> Field<i64> {
        self.field(t, keys, key, "a whole number", integer)
    }

    fn boolean(
        &mut self,
        t: &Table<'_, '_>,
        keys: &'static [Key],
        key: &'static str,
    ) -> Field<bool> {
        self.field(t, keys, key, "`true` or `false`", |v| v.as_bool())
    }

    /// Strings of an array, each with its own fate.
    fn texts(
        &mut self,
        t: &Table<'_, '_>,
        keys: &'static [Key],
        key: &'static str,
    ) -> Field<Vec<Field<String>>> {
        let Some(value) = t.values.get(key) else {
            return Field::Absent;
        };
        let Some(array) = value.get_ref().as_array() else {
            return self.field(t, keys, key, "an array of strings", |_| None);
        };
        let list = array
            .iter()
            .map(|element| self.element(&t.what, key, element))
            .collect();
        Field::Set(At {
            value: list,
            span: value.span().into(),
        })
    }

    fn element(&mut self, what: &str, key: &str, element: &Spanned<DeValue<'_>>) -> Field<String> {
        match element.get_ref().as_str() {
            Some(text) => Field::Set(At {
                value: text.to_owned(),
                span: element.span().into(),
            }),
            None => {
                self.wrong(what, key, "an array of strings", element, "");
                Field::Bad
            }
        }
    }

    /// Entries of a table of tables, such as `[nodes.*]`.
    fn tables<'a, 'i>(
        &mut self,
        t: &Table<'a, 'i>,
        keys: &'static [Key],
        key: &'static str,
        kind: &str,
    ) -> Vec<(At<String>, &'a DeTable<'i>)> {
        let Some(value) = t.values.get(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            let _: Field<()> = self.field(t, keys, key, "a table of tables", |_| None);
            return Vec::new();
        };
        let mut found = Vec::new();
        for (name, value) in in_order(table) {
            match value.get_ref().as_table() {
                Some(inner) => found.push((name, inner)),
                None => {
                    let example = format!("[{key}.{}]", name.value);
                    let message = format!("{kind} {} must be a table", quote(&name.value));
                    let label = format!("this is {}", article(value.get_ref()));
                    let help = format!("write `{example}` with its keys below, or `{{ ... }}`");
                    self.report(Code::WrongType, value.span().into(), message, label, help);
                }
            }
        }
        found
    }

    /// A table of strings by free names (`env`, `sysctls`).
    fn pairs(
        &mut self,
        t: &Table<'_, '_>,
        keys: &'static [Key],
        key: &'static str,
    ) -> Vec<(At<String>, Field<String>)> {
        let Some(value) = t.values.get(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            let _: Field<()> = self.field(t, keys, key, "a table of strings", |_| None);
            return Vec::new();
        };
        let mut list = Vec::new();
        for (name, value) in in_order(table) {
            let span = value.span().into();
            let text = match value.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                // A sysctl of 1 is as clear as one of "1".
                DeValue::Integer(_) => integer(value.get_ref()).map(|n| n.to_string()),
                _ => None,
            };
            let field = if let Some(value) = text {
                Field::Set(At { value, span })
            } else {
                let what = format!("{} of {}", quote(key), t.what);
                self.wrong(&what, &name.value, "a string", value, "\"value\"");
                Field::Bad
            };
            list.push((name, field));
        }
        list
    }

    fn lab(&mut self, root: &DeTable<'_>, place: Span) -> RawLab {
        let t = self.table("the lab".to_owned(), keys::LAB, root, place);
        let networks = self.tables(&t, keys::LAB, "networks", "network");
        let nodes = self.tables(&t, keys::LAB, "nodes", "node");
        let services = self.tables(&t, keys::LAB, "services", "service");
        RawLab {
            name: self.text(&t, keys::LAB, "name"),
            networks: networks
                .into_iter()
                .map(|(n, t)| self.network(n, t))
                .collect(),
            nodes: nodes.into_iter().map(|(n, t)| self.node(n, t)).collect(),
            services: services
                .into_iter()
                .map(|(n, t)| self.service(n, t))
                .collect(),
            capture: self.capture(&t),
            damaged: Vec::new(),
            incomplete: false,
        }
    }

    fn network(&mut self, name: At<String>, table: &DeTable<'_>) -> RawNetwork {
        let t = self.table(
            format!("network {}", quote(&name.value)),
            keys::NETWORK,
            table,
            name.span,
        );
        RawNetwork {
            name,
            subnet: self.text(&t, keys::NETWORK, "subnet"),
            host: self.text(&t, keys::NETWORK, "host"),
            mtu: self.integer(&t, keys::NETWORK, "mtu"),
            ipv6: self.boolean(&t, keys::NETWORK, "ipv6"),
        }
    }

    fn node(&mut self, name: At<String>, table: &DeTable<'_>) -> RawNode {
        let t = self.table(
            format!("node {}", quote(&name.value)),
            keys::NODE,
            table,
            name.span,
        );
        let interfaces = match t.values.get("interfaces") {
            None => Field::Absent,
            Some(value) if value.get_ref().is_table() => {
                let list = self.tables(&t, keys::NODE, "interfaces", "interface");
                let list = list
                    .into_iter()
                    .map(|(n, i)| self.interface(&name.value, n, i))
                    .collect();
                Field::Set(At {
                    value: list,
                    span: value.span().into(),
                })
            }
            Some(_) => self.field(
                &t,
                keys::NODE,
                "interfaces",
                "a table of interfaces",
                |_| None,
            ),
        };
        RawNode {
            interfaces,
            gateway: self.text(&t, keys::NODE, "gateway"),
            forward: self.boolean(&t, keys::NODE, "forward"),
            image: self.text(&t, keys::NODE, "image"),
            command: self.texts(&t, keys::NODE, "command"),
            env: self.pairs(&t, keys::NODE, "env"),
            volumes: self.volumes(&t),
            cap_add: self
                .texts(&t, keys::NODE, "cap_add")
                .get()
                .map(|at| at.value.clone())
                .unwrap_or_default(),
            sysctls: self.pairs(&t, keys::NODE, "sysctls"),
            restart: self.text(&t, keys::NODE, "restart"),
            ready: self.ready(&name.value, &t),
            name,
        }
    }

    fn interface(&mut self, node: &str, name: At<String>, table: &DeTable<'_>) -> RawInterface {
        let what = format!("interface {} of node {}", quote(&name.value), quote(node));
        let t = self.table(what, keys::INTERFACE, table, name.span);
        RawInterface {
            name,
            network: self.text(&t, keys::INTERFACE, "network"),
            address: self.text(&t, keys::INTERFACE, "address"),
            aliases: self.texts(&t, keys::INTERFACE, "aliases"),
        }
    }

    fn volumes(&mut self, t: &Table<'_, '_>) -> Vec<RawVolume> {
        let Some(value) = t.values.get("volumes") else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            let _: Field<()> = self.field(t, keys::NODE, "volumes", "an array", |_| None);
            return Vec::new();
        };
        let mut list = Vec::new();
        for element in array.iter() {
            let span: Span = element.span().into();
            match element.get_ref() {
                DeValue::String(text) => {
                    list.push(RawVolume::Short(At {
                        value: text.to_string(),
                        span,
                    }));
                }
                DeValue::Table(table) => {
                    let t =
                        self.table(format!("a volume of {}", t.what), keys::VOLUME, table, span);
                    list.push(RawVolume::Long {
                        source: self.text(&t, keys::VOLUME, "source"),
                        target: self.text(&t, keys::VOLUME, "target"),
                        read_only: self.boolean(&t, keys::VOLUME, "read_only"),
                    });
                }
                _ => self.wrong(
                    &t.what,
                    "volumes",
                    "an array of strings or tables",
                    element,
                    "",
                ),
            }
        }
        list
    }

    fn ready(&mut self, node: &str, t: &Table<'_, '_>) -> Field<RawReady> {
        let Some(value) = t.values.get("ready") else {
            return Field::Absent;
        };
        let Some(table) = value.get_ref().as_table() else {
            return self.field(t, keys::NODE, "ready", "a table", |_| None);
        };
        let span = value.span().into();
        let t = self.table(
            format!("`ready` of node {}", quote(node)),
            keys::READY,
            table,
            span,
        );
        let ready = RawReady {
            http: self.text(&t, keys::READY, "http"),
            tcp: self.integer(&t, keys::READY, "tcp"),
            timeout: self.text(&t, keys::READY, "timeout"),
        };
        Field::Set(At { value: ready, span })
    }

    fn service(&mut self, name: At<String>, table: &DeTable<'_>) -> RawService {
        let t = self.table(
            format!("service {}", quote(&name.value)),
            keys::SERVICE,
            table,
            name.span,
        );
        RawService {
            vip: self.text(&t, keys::SERVICE, "vip"),
            port: self.integer(&t, keys::SERVICE, "port"),
            protocol: self.text(&t, keys::SERVICE, "protocol"),
            director: self.text(&t, keys::SERVICE, "director"),
            scheduler: self.text(&t, keys::SERVICE, "scheduler"),
            method: self.text(&t, keys::SERVICE, "method"),
            accept: self.text(&t, keys::SERVICE, "accept"),
            servers: self.servers(&t),
            engine: self.text(&t, keys::SERVICE, "engine"),
            name,
        }
    }

    fn servers(&mut self, t: &Table<'_, '_>) -> Field<Vec<RawServer>> {
        let Some(value) = t.values.get("servers") else {
            return Field::Absent;
        };
        let Some(array) = value.get_ref().as_array() else {
            return self.field(t, keys::SERVICE, "servers", "an array", |_| None);
        };
        let mut list = Vec::new();
        for element in array.iter() {
            let span: Span = element.span().into();
            list.push(match element.get_ref() {
                DeValue::String(text) => RawServer {
                    node: Field::Set(At {
                        value: text.to_string(),
                        span,
                    }),
                    weight: Field::Absent,
                    port: Field::Absent,
                },
                DeValue::Table(table) => {
                    let t =
                        self.table(format!("a server of {}", t.what), keys::SERVER, table, span);
                    RawServer {
                        node: self.text(&t, keys::SERVER, "node"),
                        weight: self.integer(&t, keys::SERVER, "weight"),
                        port: self.integer(&t, keys::SERVER, "port"),
                    }
                }
                _ => {
                    self.wrong(
                        &t.what,
                        "servers",
                        "an array of node names or tables",
                        element,
                        "",
                    );
                    RawServer {
                        node: Field::Bad,
                        weight: Field::Absent,
                        port: Field::Absent,
                    }
                }
            });
        }
        Field::Set(At {
            value: list,
            span: value.span().into(),
        })
    }

    fn capture(&mut self, lab: &Table<'_, '_>) -> RawCapture {
        let absent = RawCapture {
            interfaces: Field::Absent,
            snaplen: Field::Absent,
        };
        let Some(value) = lab.values.get("capture") else {
            return absent;
        };
        let Some(table) = value.get_ref().as_table() else {
            let _: Field<()> = self.field(lab, keys::LAB, "capture", "a table", |_| None);
            return absent;
        };
        let t = self.table(
            "`capture`".to_owned(),
            keys::CAPTURE,
            table,
            value.span().into(),
        );
        let interfaces = match t.values.get("interfaces") {
            None => Field::Absent,
            Some(value) if value.get_ref().is_array() => {
                match self.texts(&t, keys::CAPTURE, "interfaces") {
                    Field::Set(At { value, span }) => Field::Set(At {
                        value: RawScope::List(value),
                        span,
                    }),
                    _ => Field::Bad,
                }
            }
            Some(_) => self.field(
                &t,
                keys::CAPTURE,
                "interfaces",
                "\"all\", \"off\" or an array of strings",
                |v| v.as_str().map(|word| RawScope::Word(word.to_owned())),
            ),
        };
        RawCapture {
            interfaces,
            snaplen: self.integer(&t, keys::CAPTURE, "snaplen"),
        }
    }
}

/// An integer that fits 64 bits, in any of TOML's notations.
fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// A value's type with its article, for labels.
fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
