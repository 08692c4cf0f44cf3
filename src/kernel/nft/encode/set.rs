//! Types and elements of sets, as the kernel and nft(8) want them.

use netlink_packet_netfilter::nftables::{DataAttribute, SetElementAttribute};

use super::super::error::Error;
use super::super::expr::Value;
use super::super::{Element, ElementData, Set, Type};
use super::verdict;

/// `NFTNL_UDATA_SET_KEYBYTEORDER` and `NFTNL_UDATA_SET_DATABYTEORDER`.
const UDATA_KEYBYTEORDER: u8 = 0;
const UDATA_DATABYTEORDER: u8 = 1;

/// An element of a set.
pub(super) fn element(
    what: &str,
    set: &Set,
    element: &Element,
) -> Result<Vec<SetElementAttribute>, Error> {
    let invalid = |why: &str| Error::Invalid {
        what: what.to_owned(),
        why: why.to_owned(),
    };
    if element.key.len() != set.key.len() {
        return Err(invalid(
            "have keys with more or fewer parts than the set's type",
        ));
    }
    let mut key = Vec::new();
    for (value, kind) in element.key.iter().zip(&set.key) {
        let bytes = kind
            .bytes(*value)
            .ok_or_else(|| invalid("do not have the set's key type"))?;
        key.extend_from_slice(&bytes);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key.truncate(key_len(&set.key) as usize);
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key))];
    match (&element.data, set.data) {
        (None, None) => {}
        (Some(ElementData::Verdict(v)), Some(Type::Verdict)) => {
            attributes.push(SetElementAttribute::Data(verdict(v)));
        }
        (Some(ElementData::Value(v)), Some(kind)) => {
            let bytes = kind
                .bytes(*v)
                .ok_or_else(|| invalid("do not have the map's data type"))?;
            attributes.push(SetElementAttribute::Data(DataAttribute::Value(bytes)));
        }
        _ => return Err(invalid("do not have the map's data type")),
    }
    Ok(attributes)
}

impl Type {
    /// nft's own number for it (`enum datatypes` in its datatype.h): the kernel keeps it for nft.
    pub(super) const fn id(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Port => 13,
            Self::Mark => 19,
            Self::Verdict => 0xffff_ff00, // NFT_DATA_VERDICT
        }
    }

    /// Bytes of a value; what a verdict takes is the kernel's business.
    pub(super) const fn len(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Mark => 4,
            Self::Ipv6 => 16,
            Self::Port => 2,
            Self::Verdict => 0,
        }
    }

    /// nft's `enum byteorder`: 0 none, 1 the host's, 2 the network's.
    const fn byte_order(self) -> u32 {
        match self {
            Self::Verdict => 0,
            Self::Mark => 1,
            Self::Ipv4 | Self::Ipv6 | Self::Port => 2,
        }
    }

    /// A value's bytes as the packet or the register has them.
    fn bytes(self, value: Value) -> Option<Vec<u8>> {
        use std::net::IpAddr::{V4, V6};
        match (self, value) {
            (Self::Ipv4, Value::Address(V4(a))) => Some(a.octets().to_vec()),
            (Self::Ipv6, Value::Address(V6(a))) => Some(a.octets().to_vec()),
            (Self::Port, Value::Number(n)) => Some(u16::try_from(n).ok()?.to_be_bytes().to_vec()),
            (Self::Mark, Value::Number(n)) => Some(n.to_ne_bytes().to_vec()),
            _ => None,
        }
    }
}

/// What nft(8) has to be told to show elements with their bytes in the right order; the kernel
/// keeps it for nft: type, length, value, twice.
pub(super) fn byte_orders(set: &Set) -> Vec<u8> {
    let key = match set.key.as_slice() {
        [one] => one.byte_order(),
        _ => 0,
    };
    let data = set
        .data
        .map(|data| (UDATA_DATABYTEORDER, data.byte_order()));
    let orders = [Some((UDATA_KEYBYTEORDER, key)), data];
    orders
        .into_iter()
        .flatten()
        .flat_map(|(kind, order): (u8, u32)| {
            let [a, b, c, d] = order.to_ne_bytes();
            [kind, 4, a, b, c, d]
        })
        .collect()
}

/// Bytes of a key. Each part but a lonely one fills whole 4-byte registers.
pub(super) fn key_len(key: &[Type]) -> u32 {
    match key {
        [one] => one.len(),
        parts => parts.iter().map(|t| t.len().next_multiple_of(4)).sum(),
    }
}
