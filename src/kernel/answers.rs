//! Reading what the kernel answers on any netlink socket: datagrams to messages, and what an
//! acknowledgement says.

use netlink_packet_core::{DecodeError, NetlinkBuffer, NlasIterator, parse_string};

/// `NLM_F_CAPPED` and `NLM_F_ACK_TLVS` (linux/netlink.h): what follows the errno in an answer.
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const ATTR_MSG: u16 = 1;
const NLMSG_HEADER: usize = 16;

/// A netlink message in a datagram.
#[derive(Debug)]
pub struct Raw<'a> {
    /// `NLMSG_*`, or what the family makes of it.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// Sequence number of what it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// Takes a datagram apart into messages.
pub fn split(bytes: &[u8]) -> Result<Vec<Raw<'_>>, DecodeError> {
    let mut rest = bytes;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest)?;
        let length = message.length() as usize;
        out.push(Raw {
            kind: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            payload: rest
                .get(NLMSG_HEADER..length)
                .ok_or_else(|| DecodeError::from("cut short"))?,
        });
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(out)
}

/// An answer to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message's sequence number.
    pub sequence: u32,
    /// 0 or a positive errno.
    pub errno: i32,
    /// The kernel's own words.
    pub detail: Option<String>,
}

/// Reads a `struct nlmsgerr` with what may follow it.
pub fn answer(flags: u16, sequence: u32, payload: &[u8]) -> Result<Answer, DecodeError> {
    let word = |at: usize| payload.get(at..at + 4).and_then(|b| b.try_into().ok());
    let code = word(0)
        .map(i32::from_ne_bytes)
        .ok_or_else(|| DecodeError::from("no errno"))?;
    let mut detail = None;
    if flags & ACK_TLVS != 0 {
        // Behind the errno stands the header of the message in question, and, unless the kernel
        // was told to leave it out, the message.
        let copied = word(4).map_or(0, |len| u32::from_ne_bytes(len) as usize);
        let skip = 4 + if flags & CAPPED == 0 {
            copied.next_multiple_of(4)
        } else {
            NLMSG_HEADER
        };
        detail = NlasIterator::new(payload.get(skip..).unwrap_or_default())
            .filter_map(Result::ok)
            .find(|nla| nla.kind() == ATTR_MSG)
            .and_then(|nla| parse_string(nla.value()).ok());
    }
    Ok(Answer {
        sequence,
        errno: code.saturating_neg(),
        detail,
    })
}
