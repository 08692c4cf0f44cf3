//! Messages as the bytes of one batch, which the kernel takes whole or not at all
//! (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c).

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::encode::Message;

/// `NFNL_SUBSYS_NFTABLES`, which a batch's first message names.
const SUBSYS_NFTABLES: u16 = 10;

/// A batch ready to be sent.
#[derive(Debug)]
pub(super) struct Batch {
    /// All messages, each aligned to four bytes.
    pub bytes: Vec<u8>,
    /// Sequence number of the last message, the only one that asks for an acknowledgement: the
    /// kernel answers errors unasked, and thousands of acknowledgements would overrun the socket.
    pub last: u32,
}

/// Sequence number of the message that begins the batch. The kernel answers to it when the commit
/// fails although each message was right.
pub(super) const BEGIN: u32 = 1;

/// The message that a sequence number stands for.
pub(super) fn of_sequence(messages: &[Message], sequence: u32) -> Option<&Message> {
    messages.get(sequence.checked_sub(BEGIN + 1)? as usize)
}

/// Frames the messages: sequence 1 begins the batch, 2 is the first message.
pub(super) fn frame(messages: &[Message]) -> Batch {
    let control = |message| {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYS_NFTABLES);
        NetfilterMessage::new(header, message)
    };
    let mut bytes = Vec::new();
    append(&mut bytes, control(ControlMessage::BatchBegin), BEGIN, 0);
    let last = BEGIN + messages.len() as u32;
    for (sequence, message) in (BEGIN + 1..).zip(messages) {
        let header = NetfilterHeader::new(message.family, 0, 0);
        let ack = if sequence == last { NLM_F_ACK } else { 0 };
        let body = NetfilterMessage::new(header, message.body.clone());
        append(&mut bytes, body, sequence, message.flags | ack);
    }
    append(&mut bytes, control(ControlMessage::BatchEnd), last + 1, 0);
    Batch { bytes, last }
}

/// Appends one message in wire format.
pub(super) fn append(bytes: &mut Vec<u8>, message: NetfilterMessage, sequence: u32, flags: u16) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize((start + message.buffer_len()).next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}
