//! The walk over the TOML tree: known keys, right types, required keys; everything that is wrong,
//! not the first thing only.

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::code::Code;
use super::diagnostic::Diagnostic;
use super::keys::{self, Key};
use super::raw::{At, Field, RawLab, Span};
use super::syntax::Document;
use super::text::{did_you_mean, nearest, quote};

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// A table's known keys, with those that are there.
pub(super) struct Table<'t, 'i> {
    keys: &'static [Key],
    /// How messages call it.
    what: String,
    /// What is underlined when a key is missing.
    span: Span,
    /// Parallel to `keys`.
    values: Vec<Option<(Span, &'t Value<'i>)>>,
    /// Parallel to `keys`: absent, but an unknown key is probably a misspelling of it.
    misspelt: Vec<bool>,
}

impl Table<'_, '_> {
    /// Whether an unknown key is probably meant to be this one.
    pub(super) fn is_misspelt(&self, name: &str) -> bool {
        self.keys
            .iter()
            .zip(&self.misspelt)
            .any(|(k, misspelt)| *misspelt && k.name == name)
    }
}

#[derive(Default)]
pub(super) struct Walker {
    diagnostics: Vec<Diagnostic>,
    incomplete: bool,
}

/// The whole file.
pub(super) fn walk(document: Document<'_>) -> (RawLab, Vec<Diagnostic>) {
    let mut w = Walker {
        diagnostics: document.errors,
        incomplete: document.torn,
    };
    let root = w.open(
        &document.root,
        keys::LAB,
        "a lab file".to_owned(),
        Span { start: 0, end: 0 },
    );
    let name = w.string(&root, "name");
    let networks = w.tables(&root, "networks", Walker::network);
    let nodes = w.tables(&root, "nodes", Walker::node);
    let services = w.tables(&root, "services", Walker::service);
    let capture = w.capture(&root);
    let Walker {
        diagnostics,
        incomplete,
    } = w;
    let raw = RawLab {
        name,
        networks,
        nodes,
        services,
        capture,
        damaged: document.damaged,
        torn: document.torn,
        incomplete,
    };
    (raw, diagnostics)
}

/// The entries in the file's order; the tree may have sorted them.
pub(super) fn entries<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(At<String>, &'t Value<'i>)> {
    let mut list: Vec<_> = table
        .iter()
        .map(|(key, value): (&Spanned<DeString<'_>>, _)| {
            (
                At {
                    value: key.get_ref().to_string(),
                    span: key.span().into(),
                },
                value,
            )
        })
        .collect();
    list.sort_by_key(|(key, _)| key.span);
    list
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn integer(i: &DeInteger<'_>) -> i64 {
    // What is beyond 64 bits is beyond every range that is checked later.
    let limit = if i.as_str().starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    };
    i64::from_str_radix(i.as_str(), i.radix()).unwrap_or(limit)
}

pub(super) fn at<T>(value: T, place: &Value<'_>) -> At<T> {
    At {
        value,
        span: place.span().into(),
    }
}

impl Walker {
    pub(super) fn open<'t, 'i>(
        &mut self,
        table: &'t DeTable<'i>,
        keys: &'static [Key],
        what: String,
        span: Span,
    ) -> Table<'t, 'i> {
        let mut t = Table {
            keys,
            what,
            span,
            values: vec![None; keys.len()],
            misspelt: vec![false; keys.len()],
        };
        let mut unknown = Vec::new();
        for (key, value) in entries(table) {
            match keys.iter().position(|k| k.name == key.value) {
                Some(n) => t.values[n] = Some((key.span, value)),
                None => unknown.push(key),
            }
        }
        for key in unknown {
            let names: Vec<&str> = keys.iter().map(|k| k.name).collect();
            let mut meant = nearest(&key.value, &names);
            let mut help = did_you_mean(&key.value, names, "it may have", "remove it");
            // `[nodesclient]`: a dot was forgotten.
            let joined = keys
                .iter()
                .find(|k| k.is_table() && key.value.starts_with(k.name));
            if let (Some(k), true) = (joined, meant.is_empty()) {
                meant.push(k.name);
                help = format!("did you mean `{}.{}`?", k.name, &key.value[k.name.len()..]);
            }
            for (n, k) in keys.iter().enumerate() {
                t.misspelt[n] |= meant.contains(&k.name);
            }
            self.diagnostics.push(Diagnostic::new(
                Code::UnknownKey,
                key.span,
                format!("unknown key {} in {}", quote(&key.value), t.what),
                "unknown key",
                help,
            ));
        }
        t
    }

    pub(super) fn wrong_type<T>(
        &mut self,
        value: &Value<'_>,
        what: &str,
        wanted: &str,
        help: String,
    ) -> Field<T> {
        let found = kind(value.get_ref());
        self.diagnostics.push(Diagnostic::new(
            Code::WrongType,
            value.span().into(),
            format!("{what} must be {wanted}, not {found}"),
            format!("expected {wanted}"),
            help,
        ));
        Field::Bad
    }

    /// The value of a key if `read` takes it; absent, wrong and missing ones are dealt with.
    pub(super) fn field<T>(
        &mut self,
        t: &Table<'_, '_>,
        name: &'static str,
        wanted: &str,
        read: impl FnOnce(&mut Self, &Value<'_>) -> Option<T>,
    ) -> Field<T> {
        let Some(n) = t.keys.iter().position(|k| k.name == name) else {
            debug_assert!(false, "{name} is in no key list");
            return Field::Absent;
        };
        let key = t.keys[n];
        let Some((_, value)) = t.values[n] else {
            if t.misspelt[n] {
                return Field::Bad;
            }
            if key.required {
                self.missing(t.span, &t.what, key);
                return Field::Bad;
            }
            return Field::Absent;
        };
        match read(self, value) {
            Some(v) => Field::Set(at(v, value)),
            None => self.wrong_type(
                value,
                &quote(name),
                wanted,
                format!("write it like `{name} = {}`", key.example),
            ),
        }
    }

    fn missing(&mut self, span: Span, what: &str, key: Key) {
        self.diagnostics.push(Diagnostic::new(
            Code::MissingKey,
            span,
            format!("{what} lacks {}", quote(key.name)),
            format!("{} is missing", quote(key.name)),
            format!("add `{} = {}`", key.name, key.example),
        ));
    }

    pub(super) fn string(&mut self, t: &Table<'_, '_>, name: &'static str) -> Field<String> {
        self.field(t, name, "a string", |_, v| match v.get_ref() {
            DeValue::String(s) => Some(s.to_string()),
            _ => None,
        })
    }

    pub(super) fn integer(&mut self, t: &Table<'_, '_>, name: &'static str) -> Field<i64> {
        self.field(t, name, "an integer", |_, v| match v.get_ref() {
            DeValue::Integer(i) => Some(integer(i)),
            _ => None,
        })
    }

    pub(super) fn boolean(&mut self, t: &Table<'_, '_>, name: &'static str) -> Field<bool> {
        self.field(t, name, "`true` or `false`", |_, v| match v.get_ref() {
            DeValue::Boolean(b) => Some(*b),
            _ => None,
        })
    }

    pub(super) fn array<T>(
        &mut self,
        t: &Table<'_, '_>,
        name: &'static str,
        read: impl Fn(&mut Self, &Value<'_>) -> T,
    ) -> Field<Vec<T>> {
        self.field(t, name, "an array", |w, v| match v.get_ref() {
            DeValue::Array(a) => Some(a.iter().map(|e| read(w, e)).collect()),
            _ => None,
        })
    }

    pub(super) fn strings(
        &mut self,
        t: &Table<'_, '_>,
        name: &'static str,
    ) -> Field<Vec<Field<String>>> {
        self.array(t, name, |w, e| w.element(e, name))
    }

    pub(super) fn element(&mut self, e: &Value<'_>, list: &str) -> Field<String> {
        match e.get_ref() {
            DeValue::String(s) => Field::Set(at(s.to_string(), e)),
            _ => self.wrong_type(
                e,
                &format!("an element of {}", quote(list)),
                "a string",
                "put it in double quotes".to_owned(),
            ),
        }
    }

    /// `env` and `sysctls`: free keys with text values, integers too where they mean the same.
    pub(super) fn texts(
        &mut self,
        t: &Table<'_, '_>,
        name: &'static str,
        integers: bool,
    ) -> Vec<(At<String>, Field<String>)> {
        let wanted = if integers {
            "a string or an integer"
        } else {
            "a string"
        };
        let text = |w: &mut Self, key: &str, v: &Value<'_>| match v.get_ref() {
            DeValue::String(s) => Field::Set(at(s.to_string(), v)),
            DeValue::Integer(i) if integers => Field::Set(at(integer(i).to_string(), v)),
            other => {
                let help = if matches!(other, DeValue::Table(_)) {
                    "a key with dots in it needs quotes, as in \
                     `\"net.ipv4.tcp_syncookies\" = \"0\"`"
                } else {
                    "put it in double quotes"
                };
                let what = format!("{} in `{name}`", quote(key));
                w.wrong_type(v, &what, wanted, help.to_owned())
            }
        };
        let read = |w: &mut Self, v: &Value<'_>| match v.get_ref() {
            DeValue::Table(table) => {
                let list = entries(table).into_iter().map(|(key, v)| {
                    let value = text(w, &key.value, v);
                    (key, value)
                });
                Some(list.collect())
            }
            _ => None,
        };
        match self.field(t, name, "a table", read) {
            Field::Set(list) => list.value,
            Field::Absent | Field::Bad => Vec::new(),
        }
    }

    /// A table of tables, one entry a name.
    fn tables<T>(
        &mut self,
        t: &Table<'_, '_>,
        name: &'static str,
        read: impl Fn(&mut Self, At<String>, &Value<'_>) -> T,
    ) -> Vec<T> {
        let found: Field<Vec<T>> = self.field(t, name, "a table", |w, v| match v.get_ref() {
            DeValue::Table(table) => Some(
                entries(table)
                    .into_iter()
                    .map(|(k, v)| read(w, k, v))
                    .collect(),
            ),
            _ => None,
        });
        let misspelt = t
            .keys
            .iter()
            .zip(&t.misspelt)
            .any(|(k, m)| *m && k.name == name);
        self.incomplete |= misspelt || found.is_bad();
        match found {
            Field::Set(list) => list.value,
            Field::Absent | Field::Bad => Vec::new(),
        }
    }

    /// Opens a named table; `None`, with the reason reported, if it is something else.
    pub(super) fn named<'t, 'i>(
        &mut self,
        value: &'t Value<'i>,
        keys: &'static [Key],
        what: String,
        span: Span,
        example: &str,
    ) -> Option<Table<'t, 'i>> {
        if let DeValue::Table(table) = value.get_ref() {
            Some(self.open(table, keys, what, span))
        } else {
            let _: Field<()> = self.wrong_type(
                value,
                &what,
                "a table",
                format!("write it like `{example}`"),
            );
            None
        }
    }
}
