//! Changes of a table as netlink messages.

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage, SetElementList,
    SetElementMessage,
};

use super::super::change::Change;
use super::super::error::Error;
use super::super::{Family, Table};
use super::{DeviceIndex, Encoder, Message, OBJECT_COUNTER, number, text};

/// The messages that change a table, in the order of the changes.
pub(in super::super) fn changes(
    family: Family,
    table: &str,
    changes: &[Change],
    device: DeviceIndex<'_>,
) -> Result<Vec<Message>, Error> {
    let table = Table {
        family,
        name: table.to_owned(),
        counters: vec![],
        sets: vec![],
        chains: vec![],
    };
    let mut out = Vec::new();
    let mut encoder = Encoder {
        table: &table,
        device,
        out: &mut out,
    };
    for change in changes {
        encoder.change(change)?;
    }
    Ok(out)
}

impl Encoder<'_> {
    fn change(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::NewCounter(name) => self.counter(name)?,
            Change::NewChain(chain) => {
                self.chain(chain)?;
                self.rules(chain)?;
            }
            Change::Elements(set) => {
                let what = self.named("the emptying of map", &set.name)?;
                // No elements named: all of them (nf_tables_delsetelem).
                let attributes = vec![
                    SetElementList::Table(self.table.name.clone()),
                    SetElementList::Set(set.name.clone()),
                ];
                let body = NfTablesMessage::DeleteSetElement(SetElementMessage { attributes });
                self.push(what, vec![], 0, body);
                self.elements(set)?;
            }
            Change::Rules(chain) => {
                let what = self.named("the emptying of chain", &chain.name)?;
                // No handle: all of the chain (nf_tables_delrule).
                let attributes = vec![
                    RuleAttribute::Table(self.table.name.clone()),
                    RuleAttribute::Chain(chain.name.clone()),
                ];
                let body = NfTablesMessage::DeleteRule(RuleMessage { attributes });
                self.push(what, vec![], 0, body);
                self.rules(chain)?;
            }
            Change::DeleteChain(name) => {
                let what = self.named("the deletion of chain", name)?;
                let attributes = vec![
                    ChainAttribute::Table(self.table.name.clone()),
                    ChainAttribute::Name(name.clone()),
                ];
                let body = NfTablesMessage::DeleteChain(ChainMessage { attributes });
                self.push(what, vec![], 0, body);
            }
            Change::DeleteCounter(name) => {
                let what = self.named("the deletion of counter", name)?;
                let body = NfTablesMessage::DeleteObject(vec![
                    text(1, &self.table.name),
                    text(2, name),
                    number(3, OBJECT_COUNTER),
                ]);
                self.push(what, vec![], 0, body);
            }
        }
        Ok(())
    }
}
