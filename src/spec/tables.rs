//! What each table of the file holds, key by key.

mod capture;
mod node;
mod service;

use super::keys;
use super::raw::{At, Field, RawNetwork};
use super::shape::{Value, Walker};
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
}
