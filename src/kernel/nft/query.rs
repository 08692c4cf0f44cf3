//! What the kernel counts.

use std::time::Duration;

use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, Nla, NlasIterator, Parseable,
    parse_string, parse_u64_be,
};
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementList, SetElementMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage};
use serde::Serialize;

use super::encode::{OBJECT_COUNTER, number, proto, text};
use super::error::{Error, hint};
use super::{Family, batch, socket};

/// `NLM_F_DUMP_INTR`: the ruleset changed while it was read.
const DUMP_INTR: u16 = 0x10;
/// Bytes of a `struct nfgenmsg` before the attributes.
const NFGENMSG: usize = 4;
/// What of an attribute's type is its number (`NLA_TYPE_MASK`).
const KIND: u16 = 0x3fff;
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

/// An element of a map whose values are marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// Its value.
    pub mark: u32,
    /// How long it will live if nothing renews it; `None` if it stays.
    pub left: Option<Duration>,
}

/// The named counters of a table in the network namespace of the calling thread, by name. A table
/// that is not there has none.
pub fn counters(family: Family, table: &str) -> Result<Vec<CounterValue>, Error> {
    // NFTA_OBJ_TABLE, _TYPE.
    let body = NfTablesMessage::GetObject(vec![text(1, table), number(3, OBJECT_COUNTER)]);
    let what = format!("the counters of table {family} {table}");
    let mut counters = dump(family, &body, &what, |attributes, out| {
        // The kernel filters by table as well; trust is not needed here.
        out.extend(counter(attributes)?.filter(|c| c.0 == table).map(|c| c.1));
        Ok(())
    })?;
    counters.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(counters)
}

/// The elements of a map whose values are marks, in no order. A map that is not there has none;
/// one that rules write to meanwhile may show an element twice or not at all.
pub fn mapped(family: Family, table: &str, map: &str) -> Result<Vec<Mapped>, Error> {
    let attributes = vec![
        SetElementList::Table(table.to_owned()),
        SetElementList::Set(map.to_owned()),
    ];
    let body = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    let what = format!("the elements of map {map} in table {family} {table}");
    dump(family, &body, &what, elements)
}

/// Reads until nothing changed meanwhile. `read` takes the attributes of one message.
fn dump<T>(
    family: Family,
    body: &NfTablesMessage,
    what: &str,
    read: impl Fn(&[u8], &mut Vec<T>) -> Result<(), DecodeError>,
) -> Result<Vec<T>, Error> {
    for _ in 0..TRIES {
        if let Some(all) = dump_once(family, body, what, &read)? {
            return Ok(all);
        }
    }
    let why = format!("the ruleset changed each of the {TRIES} times that it was read");
    Err(Error::Answer {
        what: what.to_owned(),
        why,
    })
}

/// Reads once; `None` if the ruleset changed meanwhile.
fn dump_once<T>(
    family: Family,
    body: &NfTablesMessage,
    what: &str,
    read: &impl Fn(&[u8], &mut Vec<T>) -> Result<(), DecodeError>,
) -> Result<Option<Vec<T>>, Error> {
    let socket = socket::open()?;
    let header = NetfilterHeader::new(proto(family), 0, 0);
    let mut bytes = Vec::new();
    batch::append(
        &mut bytes,
        NetfilterMessage::new(header, body.clone()),
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
                            what: what.to_owned(),
                            source: std::io::Error::from_raw_os_error(answer.errno),
                            detail: answer.detail,
                            hint: hint(answer.errno, &[]),
                        });
                    }
                    return Ok(consistent.then_some(out));
                }
                _ => {
                    let attributes = payload.get(NFGENMSG..).unwrap_or_default();
                    read(attributes, &mut out).map_err(|e| Error::Answer {
                        what: what.to_owned(),
                        why: e.to_string(),
                    })?;
                }
            }
        }
    }
}

/// Reads the attributes of one NFT_MSG_NEWSETELEM.
fn elements(attributes: &[u8], out: &mut Vec<Mapped>) -> Result<(), DecodeError> {
    for nla in NlasIterator::new(attributes) {
        let nla = nla?;
        // NFTA_SET_ELEM_LIST_ELEMENTS.
        if nla.kind() & KIND != 3 {
            continue;
        }
        for element in NlasIterator::new(nla.value()) {
            out.extend(element_of(element?.value())?);
        }
    }
    Ok(())
}

fn element_of(attributes: &[u8]) -> Result<Option<Mapped>, DecodeError> {
    let (mut mark, mut left) = (None, None);
    for nla in NlasIterator::new(attributes) {
        let nla = nla?;
        // NFTA_SET_ELEM_DATA with NFTA_DATA_VALUE in it; NFTA_SET_ELEM_EXPIRATION.
        match nla.kind() & KIND {
            2 => {
                for value in NlasIterator::new(nla.value()) {
                    let value = value?;
                    let bytes = (value.kind() & KIND == 1).then(|| value.value().try_into());
                    mark = mark.or(bytes.and_then(Result::ok).map(u32::from_ne_bytes));
                }
            }
            5 => left = Some(Duration::from_millis(parse_u64_be(nla.value())?)),
            _ => {}
        }
    }
    Ok(mark.map(|mark| Mapped { mark, left }))
}

/// Reads the attributes of one NFT_MSG_NEWOBJ: its table and the counter.
fn counter(attributes: &[u8]) -> Result<Option<(String, CounterValue)>, DecodeError> {
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
