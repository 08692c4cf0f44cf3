//! `[capture]`, key by key.

use toml::de::{DeTable, DeValue};

use crate::spec::keys;
use crate::spec::raw::{At, Field, RawCapture, RawCaptureSettings, RawRotate, RawScope, Span};
use crate::spec::shape::{Table, Value, Walker, entries};
use crate::spec::text::quote;

impl Walker {
    pub(in crate::spec) fn capture(&mut self, root: &Table<'_, '_>) -> RawCapture {
        let read = |w: &mut Self, v: &Value<'_>| match v.get_ref() {
            DeValue::Table(table) => Some(w.capture_table(table, v.span().into())),
            _ => None,
        };
        match self.field(root, "capture", "a table", read) {
            Field::Set(c) => c.value,
            Field::Absent => RawCapture {
                interfaces: Field::Absent,
                settings: RawCaptureSettings {
                    snaplen: Field::Absent,
                    buffer: Field::Absent,
                    filter: Field::Absent,
                    rotate: Field::Absent,
                },
                merge: Field::Absent,
                on: Vec::new(),
            },
            Field::Bad => RawCapture {
                interfaces: Field::Bad,
                settings: unreadable(),
                merge: Field::Bad,
                on: Vec::new(),
            },
        }
    }

    fn capture_table(&mut self, table: &DeTable<'_>, span: Span) -> RawCapture {
        let t = self.open(table, keys::CAPTURE, "`capture`".to_owned(), span);
        let interfaces = self.field(&t, "interfaces", "a string or an array", |w, v| {
            match v.get_ref() {
                DeValue::String(s) => Some(RawScope::Word(s.to_string())),
                DeValue::Array(a) => Some(RawScope::List(
                    a.iter().map(|e| w.element(e, "interfaces")).collect(),
                )),
                _ => None,
            }
        });
        let settings = self.capture_settings(&t);
        let merge = self.boolean(&t, "merge");
        let on = self.field(&t, "on", "a table", |w, v| match v.get_ref() {
            DeValue::Table(table) => Some(
                entries(table)
                    .into_iter()
                    .map(|(key, v)| w.capture_on(key, v))
                    .collect(),
            ),
            _ => None,
        });
        RawCapture {
            interfaces,
            settings,
            merge,
            on: match on {
                Field::Set(list) => list.value,
                Field::Absent | Field::Bad => Vec::new(),
            },
        }
    }

    fn capture_on(
        &mut self,
        key: At<String>,
        value: &Value<'_>,
    ) -> (At<String>, RawCaptureSettings) {
        let what = format!("the capture on {}", quote(&key.value));
        let example = "[capture.on.\"client:eth1\"]";
        let settings = match self.named(value, keys::CAPTURE_ON, what, key.span, example) {
            Some(t) => self.capture_settings(&t),
            None => unreadable(),
        };
        (key, settings)
    }

    fn capture_settings(&mut self, t: &Table<'_, '_>) -> RawCaptureSettings {
        RawCaptureSettings {
            snaplen: self.integer(t, "snaplen"),
            buffer: self.string(t, "buffer"),
            filter: self.string(t, "filter"),
            rotate: self.field(t, "rotate", "a table", |w, v| match v.get_ref() {
                DeValue::Table(table) => {
                    let span = v.span().into();
                    let t = w.open(table, keys::ROTATE, "`rotate`".to_owned(), span);
                    Some(RawRotate {
                        size: w.string(&t, "size"),
                        every: w.string(&t, "every"),
                        keep: w.integer(&t, "keep"),
                    })
                }
                _ => None,
            }),
        }
    }
}

const fn unreadable() -> RawCaptureSettings {
    RawCaptureSettings {
        snaplen: Field::Bad,
        buffer: Field::Bad,
        filter: Field::Bad,
        rotate: Field::Bad,
    }
}
