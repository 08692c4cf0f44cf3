//! What the kernel counts.

use netlink_packet_core::{
    DefaultNla, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, Nla, NlasIterator, Parseable, parse_string,
    parse_u64_be,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage};
use serde::Serialize;

use super::encode::{OBJECT_COUNTER, number, proto, text};
use super::error::{Error, hint};
use super::{Family, batch, socket};

/// `NLM_F_DUMP_INTR`: the ruleset changed while it was read.
const DUMP_INTR: u16 = 0x10;
/// Bytes of a `struct nfgenmsg` before the attributes.
const NFGENMSG: usize = 4;
/// How often a dump that was interrupted is taken again.
const TRIES: usize = 10;

/// A named counter's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CounterValue {
    /// Its name.
    pub name: String,
    /// Packets.
    pub packets: u64,
    /// Bytes from the network header on.
    pub bytes: u64,
}

/// The named counters of a table in the network namespace of the calling thread, by name. A table
/// that is not there has none.
pub fn counters(family: Family, table: &str) -> Result<Vec<CounterValue>, Error> {
    for _ in 0..TRIES {
        if let Some(mut counters) = dump(family, table)? {
            counters.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(counters);
        }
    }
    let why = format!("the ruleset changed each of the {TRIES} times that it was read");
    Err(Error::Answer {
        what: what(family, table),
        why,
    })
}

fn what(family: Family, table: &str) -> String {
    format!("the counters of table {family} {table}")
}

/// Reads once; `None` if the ruleset changed meanwhile.
fn dump(family: Family, table: &str) -> Result<Option<Vec<CounterValue>>, Error> {
    let socket = socket::open()?;
    // NFTA_OBJ_TABLE, _TYPE.
    let body = NfTablesMessage::GetObject(vec![text(1, table), number(3, OBJECT_COUNTER)]);
    let header = NetfilterHeader::new(proto(family), 0, 0);
    let mut bytes = Vec::new();
    batch::append(
        &mut bytes,
        NetfilterMessage::new(header, body),
        batch::BEGIN,
        NLM_F_DUMP,
    );
    socket::send(&socket, &bytes)?;
    let mut out = Vec::new();
    let mut consistent = true;
    loop {
        let (bytes, _) = socket.recv_from_full().map_err(socket::receive_error)?;
        for socket::Raw {
            kind,
            flags,
            sequence,
            payload,
        } in socket::split(&bytes)?
        {
            consistent &= flags & DUMP_INTR == 0;
            match kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    let answer = socket::answer(flags, sequence, payload)?;
                    if answer.errno != 0 && answer.errno != libc::ENOENT {
                        return Err(Error::Refused {
                            what: what(family, table),
                            source: std::io::Error::from_raw_os_error(answer.errno),
                            detail: answer.detail,
                            hint: hint(answer.errno, &[]),
                        });
                    }
                    return Ok(consistent.then_some(out));
                }
                _ => {
                    let why = |why: String| Error::Answer {
                        what: what(family, table),
                        why,
                    };
                    let attributes = payload.get(NFGENMSG..).unwrap_or_default();
                    let counter = parse(attributes).map_err(|e| why(e.to_string()))?;
                    // The kernel filters by table as well; trust is not needed here.
                    out.extend(counter.filter(|c| c.0 == table).map(|c| c.1));
                }
            }
        }
    }
}

/// Reads the attributes of one NFT_MSG_NEWOBJ: its table and the counter.
fn parse(
    attributes: &[u8],
) -> Result<Option<(String, CounterValue)>, netlink_packet_core::DecodeError> {
    let (mut table, mut name, mut data) = (None, None, None);
    for nla in NlasIterator::new(attributes) {
        let nla = nla?;
        // NFTA_OBJ_TABLE, _NAME, _DATA.
        match nla.kind() {
            1 => table = Some(parse_string(nla.value())?),
            2 => name = Some(parse_string(nla.value())?),
            4 => data = Some(DefaultNla::parse(&nla)?),
            _ => {}
        }
    }
    let (Some(table), Some(name), Some(data)) = (table, name, data) else {
        return Ok(None);
    };
    let mut counter = CounterValue {
        name,
        packets: 0,
        bytes: 0,
    };
    let mut value = vec![0; data.value_len()];
    data.emit_value(&mut value);
    for nla in NlasIterator::new(value.as_slice()) {
        let nla = nla?;
        // NFTA_COUNTER_BYTES, _PACKETS.
        match nla.kind() {
            1 => counter.bytes = parse_u64_be(nla.value())?,
            2 => counter.packets = parse_u64_be(nla.value())?,
            _ => {}
        }
    }
    Ok(Some((table, counter)))
}
