//! A ruleset as netlink messages, in the order in which the kernel can take them: chains before
//! the maps whose verdicts lead to them, maps before the rules that ask them.

use std::time::Duration;

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, DevHookNumber, Hook as HookAttribute,
    InetHookNumber, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute,
    SetDescription, SetElementAttribute, SetElementList, SetElementMessage, SetFlags, SetMessage,
    TableAttribute, TableFlags, TableMessage, Verdict as RawVerdict, VerdictAttribute,
};

use super::error::Error;
use super::expr::{Statement, Verdict};
use super::{Chain, Family, Hook, HookKind, HookPoint, Rule, Ruleset, Set, Table};

mod change;
mod rule;
mod set;

pub(super) use change::changes;

/// `NF_DROP` and `NF_ACCEPT` (linux/netfilter.h).
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// `NFT_OBJECT_COUNTER`.
pub(super) const OBJECT_COUNTER: u32 = 1;
/// `NFTNL_UDATA_RULE_COMMENT` and `NFTNL_UDATA_COMMENT_MAXLEN` (libnftnl/udata.h).
const UDATA_COMMENT: u8 = 0;
const COMMENT_MAX: usize = 127;
/// `NFT_NAME_MAXLEN` without its closing zero.
const NAME_MAX: usize = 255;
/// A netlink attribute has a 16-bit length: long lists of elements go in several messages.
const ELEMENTS_BYTES: usize = 32 * 1024;

/// A message and what to call it when the kernel refuses it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// `rule 2 of chain x in table netdev nslab`.
    pub what: String,
    /// Kernel options that it takes, for the hint of an error.
    pub needs: Vec<&'static str>,
    /// Family in the message's header.
    pub family: NetfilterProtoFamily,
    /// `NLM_F_*` besides `NLM_F_REQUEST`.
    pub flags: u16,
    /// The message.
    pub body: NfTablesMessage,
}

/// Looks up a device's index.
pub(super) type DeviceIndex<'a> = &'a dyn Fn(&str) -> std::io::Result<u32>;

/// The messages that put `ruleset` in the place of whatever its tables hold now.
pub(super) fn ruleset(ruleset: &Ruleset, device: DeviceIndex<'_>) -> Result<Vec<Message>, Error> {
    let mut out = Vec::new();
    for table in &ruleset.tables {
        let mut encoder = Encoder {
            table,
            device,
            out: &mut out,
        };
        encoder.table()?;
    }
    Ok(out)
}

/// The message that deletes a table.
pub(super) fn delete_table(family: Family, name: &str) -> Result<Message, Error> {
    let what = format!("the deletion of table {family} {name}");
    check_name(&what, name)?;
    Ok(Message {
        what,
        needs: vec![],
        family: proto(family),
        flags: 0,
        body: NfTablesMessage::DeleteTable(TableMessage {
            attributes: vec![TableAttribute::Name(name.to_owned())],
        }),
    })
}

pub(super) fn proto(family: Family) -> NetfilterProtoFamily {
    match family {
        Family::Ip => NetfilterProtoFamily::IPv4,
        Family::Ip6 => NetfilterProtoFamily::IPv6,
        Family::Inet => NetfilterProtoFamily::Inet,
        Family::Netdev => NetfilterProtoFamily::NetDev,
    }
}

/// Names as the grammar of nft(8) has them, so that what we make can be read back by it.
fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let head = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    let why = if name.len() > NAME_MAX {
        format!(
            "has a name of {} bytes; at most {NAME_MAX} are allowed",
            name.len()
        )
    } else if !head || !rest {
        "has a name that nft cannot read: a letter or '_' comes first, then letters, digits, '_', \
         '-', '.'"
            .to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Invalid {
        what: what.to_owned(),
        why,
    })
}

struct Encoder<'a> {
    table: &'a Table,
    device: DeviceIndex<'a>,
    out: &'a mut Vec<Message>,
}

impl Encoder<'_> {
    fn push(&mut self, what: String, needs: Vec<&'static str>, flags: u16, body: NfTablesMessage) {
        let family = proto(self.table.family);
        self.out.push(Message {
            what,
            needs,
            family,
            flags,
            body,
        });
    }

    fn named(&self, kind: &str, name: &str) -> Result<String, Error> {
        let what = format!("{kind} {name} in {}", self.table_name());
        check_name(&what, name)?;
        Ok(what)
    }

    fn table_name(&self) -> String {
        format!("table {} {}", self.table.family, self.table.name)
    }

    fn table(&mut self) -> Result<(), Error> {
        let (what, table) = (self.table_name(), self.table);
        check_name(&what, &table.name)?;
        let needs = match table.family {
            Family::Netdev => vec!["CONFIG_NF_TABLES_NETDEV"],
            Family::Inet => vec!["CONFIG_NF_TABLES_INET"],
            Family::Ip => vec!["CONFIG_NF_TABLES_IPV4"],
            Family::Ip6 => vec!["CONFIG_NF_TABLES_IPV6"],
        };
        let new = NfTablesMessage::NewTable(TableMessage {
            attributes: vec![
                TableAttribute::Name(table.name.clone()),
                TableAttribute::Flags(TableFlags::empty()),
            ],
        });
        // Made, deleted, made: the second step finds a table whether there was one or not, and
        // all three happen at once. nft(8) scripts do the same.
        self.push(what.clone(), needs.clone(), NLM_F_CREATE, new.clone());
        let delete = delete_table(table.family, &table.name)?;
        self.out.push(delete);
        self.push(what, needs, NLM_F_CREATE, new);

        for chain in &table.chains {
            self.chain(chain)?;
        }
        for counter in &table.counters {
            self.counter(counter)?;
        }
        for (n, set) in table.sets.iter().enumerate() {
            self.set(set, n as u32 + 1)?;
        }
        for set in &table.sets {
            self.elements(set)?;
        }
        for chain in &table.chains {
            self.rules(chain)?;
        }
        Ok(())
    }

    fn rules(&mut self, chain: &Chain) -> Result<(), Error> {
        let mut rules = chain.rules.iter().enumerate();
        rules.try_for_each(|(n, rule)| self.rule(chain, n, rule))
    }

    fn chain(&mut self, chain: &Chain) -> Result<(), Error> {
        let what = self.named("chain", &chain.name)?;
        let mut attributes = vec![
            ChainAttribute::Table(self.table.name.clone()),
            ChainAttribute::Name(chain.name.clone()),
        ];
        let mut needs = vec![];
        if let Some(hook) = &chain.hook {
            attributes.push(ChainAttribute::Hook(self.hook(&what, hook)?));
            attributes.push(ChainAttribute::Policy(NF_ACCEPT));
            attributes.push(ChainAttribute::Type(
                match hook.kind {
                    HookKind::Filter => "filter",
                    HookKind::Nat => {
                        needs.push("CONFIG_NFT_NAT");
                        "nat"
                    }
                }
                .to_owned(),
            ));
        }
        let body = NfTablesMessage::NewChain(ChainMessage { attributes });
        self.push(what, needs, NLM_F_CREATE, body);
        Ok(())
    }

    fn hook(&self, what: &str, hook: &Hook) -> Result<Vec<HookAttribute>, Error> {
        let number = match hook.point {
            HookPoint::Ingress => DevHookNumber::Ingress.into(),
            HookPoint::Prerouting => InetHookNumber::PreRouting.into(),
        };
        let mut attributes = vec![
            HookAttribute::Number(number),
            HookAttribute::Priority(hook.priority.cast_unsigned()),
        ];
        for device in &hook.devices {
            // Asked here only for the sake of the error: the kernel says ENOENT and no name.
            self.device(what, device)?;
        }
        match hook.devices.as_slice() {
            [] => {}
            [one] => attributes.push(HookAttribute::NetDeviceName(one.clone())),
            many => attributes.push(HookAttribute::NetDevices(
                // NFTA_DEVICE_NAME is 1.
                many.iter().map(|d| text(1, d)).collect(),
            )),
        }
        Ok(attributes)
    }

    fn device(&self, what: &str, device: &str) -> Result<u32, Error> {
        (self.device)(device).map_err(|source| Error::NoDevice {
            what: what.to_owned(),
            device: device.to_owned(),
            source,
        })
    }

    fn counter(&mut self, name: &str) -> Result<(), Error> {
        let what = self.named("counter", name)?;
        // NFTA_OBJ_TABLE, _NAME, _TYPE, _DATA (empty: it begins at zero).
        let attributes = vec![
            text(1, &self.table.name),
            text(2, name),
            number(3, OBJECT_COUNTER),
            nested(4, &[]),
        ];
        let body = NfTablesMessage::NewObject(attributes);
        self.push(what, vec!["CONFIG_NFT_COUNTER"], NLM_F_CREATE, body);
        Ok(())
    }

    fn set(&mut self, set: &Set, id: u32) -> Result<(), Error> {
        let what = self.named(if set.data.is_some() { "map" } else { "set" }, &set.name)?;
        let mut flags = SetFlags::empty();
        flags.set(SetFlags::Map, set.data.is_some());
        flags.set(SetFlags::Timeout, set.timeout.is_some());
        flags.set(SetFlags::Eval, set.dynamic);
        let mut attributes = vec![
            SetAttribute::Table(self.table.name.clone()),
            SetAttribute::Name(set.name.clone()),
            SetAttribute::Flags(flags),
            // A concatenation's type is its parts' types, six bits each (nft's datatype.h).
            SetAttribute::KeyType(set.key.iter().fold(0, |acc, t| acc << 6 | t.id())),
            SetAttribute::KeyLen(set::key_len(&set.key)),
            SetAttribute::Id(id),
        ];
        if let Some(data) = set.data {
            attributes.push(SetAttribute::DataType(data.id()));
            attributes.push(SetAttribute::DataLen(data.len()));
        }
        if let Some(size) = set.size {
            attributes.push(SetAttribute::Description(vec![SetDescription::Size(size)]));
        }
        if let Some(timeout) = set.timeout {
            attributes.push(SetAttribute::Timeout(milliseconds(timeout)));
        }
        attributes.push(SetAttribute::UserData(set::byte_orders(set)));
        let body = NfTablesMessage::NewSet(SetMessage { attributes });
        self.push(what, vec![], NLM_F_CREATE, body);
        Ok(())
    }

    fn elements(&mut self, set: &Set) -> Result<(), Error> {
        let what = format!("elements of {}", self.named("map", &set.name)?);
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for element in &set.elements {
            let element = ListAttribute::Element(set::element(&what, set, element)?);
            bytes += element.buffer_len();
            chunk.push(element);
            if bytes >= ELEMENTS_BYTES {
                bytes = 0;
                self.push_elements(&what, set, std::mem::take(&mut chunk));
            }
        }
        if !chunk.is_empty() {
            self.push_elements(&what, set, chunk);
        }
        Ok(())
    }

    fn push_elements(
        &mut self,
        what: &str,
        set: &Set,
        elements: Vec<ListAttribute<SetElementAttribute>>,
    ) {
        let attributes = vec![
            SetElementList::Table(self.table.name.clone()),
            SetElementList::Set(set.name.clone()),
            SetElementList::Elements(elements),
        ];
        let body = NfTablesMessage::NewSetElement(SetElementMessage { attributes });
        self.push(what.to_owned(), vec![], NLM_F_CREATE, body);
    }

    fn rule(&mut self, chain: &Chain, n: usize, rule: &Rule) -> Result<(), Error> {
        let what = format!(
            "rule {} of chain {} in {}",
            n + 1,
            chain.name,
            self.table_name()
        );
        let mut encoder = rule::Encoder::new(self.table.family);
        for statement in &rule.statements {
            let index = match statement {
                Statement::Forward { device } => self.device(&what, device)?,
                _ => 0,
            };
            encoder
                .statement(statement, index)
                .map_err(|why| Error::Invalid {
                    what: what.clone(),
                    why: why.to_owned(),
                })?;
        }
        let (expressions, needs) = encoder.finish();
        let mut attributes = vec![
            RuleAttribute::Table(self.table.name.clone()),
            RuleAttribute::Chain(chain.name.clone()),
            RuleAttribute::Expressions(expressions),
        ];
        if let Some(comment) = &rule.comment {
            if comment.len() > COMMENT_MAX || comment.contains(['"', '\0', '\n']) {
                let why = format!(
                    "has a comment over {COMMENT_MAX} bytes or with a quote, zero or newline in it"
                );
                return Err(Error::Invalid { what, why });
            }
            let mut data = vec![UDATA_COMMENT, comment.len() as u8 + 1];
            data.extend_from_slice(comment.as_bytes());
            data.push(0);
            attributes.push(RuleAttribute::UserData(data));
        }
        let body = NfTablesMessage::NewRule(RuleMessage { attributes });
        self.push(what, needs, NLM_F_CREATE | NLM_F_APPEND, body);
        Ok(())
    }
}

/// A verdict as data.
fn verdict(verdict: &Verdict) -> DataAttribute {
    let code = VerdictAttribute::Code;
    DataAttribute::Verdict(match verdict {
        Verdict::Accept => vec![code(RawVerdict::Other(NF_ACCEPT))],
        Verdict::Drop => vec![code(RawVerdict::Other(NF_DROP))],
        Verdict::Return => vec![code(RawVerdict::Return)],
        Verdict::Jump(chain) => {
            vec![
                code(RawVerdict::Jump),
                VerdictAttribute::Chain(chain.clone()),
            ]
        }
        Verdict::Goto(chain) => {
            vec![
                code(RawVerdict::Goto),
                VerdictAttribute::Chain(chain.clone()),
            ]
        }
    })
}

/// Netlink's unit for timeouts. Zero would mean "the map's own", so it becomes one.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A string attribute with its closing zero.
pub(super) fn text(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, [value.as_bytes(), b"\0"].concat())
}

/// A 32-bit attribute in network order, as all of nf_tables' are.
pub(super) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// An attribute that holds attributes.
fn nested(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | netlink_packet_core::NLA_F_NESTED, bytes)
}
