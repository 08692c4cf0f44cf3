//! Capture files by hand, in either byte order: what a test says of a file is said here a second
//! time, independently of nslab's own writer.

/// Byte order of what is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

pub const BOTH: [Order; 2] = [Order::Little, Order::Big];

impl Order {
    pub fn u16(self, n: u16) -> [u8; 2] {
        match self {
            Self::Little => n.to_le_bytes(),
            Self::Big => n.to_be_bytes(),
        }
    }

    pub fn u32(self, n: u32) -> [u8; 4] {
        match self {
            Self::Little => n.to_le_bytes(),
            Self::Big => n.to_be_bytes(),
        }
    }

    pub fn u64(self, n: u64) -> [u8; 8] {
        match self {
            Self::Little => n.to_le_bytes(),
            Self::Big => n.to_be_bytes(),
        }
    }
}

/// Magic numbers of pcap.
pub const MICRO: u32 = 0xa1b2_c3d4;
pub const NANO: u32 = 0xa1b2_3c4d;
pub const MODIFIED: u32 = 0xa1b2_cd34;

/// Header of a pcap file, version 2.4.
pub fn pcap(order: Order, magic: u32, snaplen: u32, network: u32) -> Vec<u8> {
    [
        &order.u32(magic)[..],
        &order.u16(2),
        &order.u16(4),
        &[0; 8],
        &order.u32(snaplen),
        &order.u32(network),
    ]
    .concat()
}

/// A record of a pcap file, with what the variant has between its header and its data.
pub fn record(
    order: Order,
    (seconds, fraction): (u32, u32),
    wire: u32,
    extra: &[u8],
    data: &[u8],
) -> Vec<u8> {
    [
        &order.u32(seconds)[..],
        &order.u32(fraction),
        &order.u32(data.len() as u32),
        &order.u32(wire),
        extra,
        data,
    ]
    .concat()
}

/// A block of pcapng around a body, which is padded.
pub fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = order.u32(body.len() as u32 + 12);
    [&order.u32(kind)[..], &length, &body, &length].concat()
}

/// Options, each padded, and their end.
pub fn options(order: Order, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, value) in options {
        bytes.extend(order.u16(*code));
        bytes.extend(order.u16(value.len() as u16));
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes.extend([0; 4]);
    bytes
}

/// A Section Header Block of unknown section length.
pub fn section(order: Order, opts: &[(u16, &[u8])]) -> Vec<u8> {
    let body = [
        &order.u32(0x1a2b_3c4d)[..],
        &order.u16(1),
        &order.u16(0),
        &order.u64(u64::MAX),
        &options(order, opts),
    ];
    block(order, 0x0a0d_0d0a, &body.concat())
}

/// An Interface Description Block.
pub fn interface(order: Order, link: u16, snaplen: u32, opts: &[(u16, &[u8])]) -> Vec<u8> {
    let body = [
        &order.u16(link)[..],
        &[0; 2],
        &order.u32(snaplen),
        &options(order, opts),
    ];
    block(order, 1, &body.concat())
}

/// An Enhanced Packet Block.
pub fn packet(
    order: Order,
    interface: u32,
    ticks: u64,
    wire: u32,
    data: &[u8],
    opts: &[(u16, &[u8])],
) -> Vec<u8> {
    let mut body = [
        &order.u32(interface)[..],
        &order.u32((ticks >> 32) as u32),
        &order.u32(ticks as u32),
        &order.u32(data.len() as u32),
        &order.u32(wire),
        data,
    ]
    .concat();
    body.resize(body.len().next_multiple_of(4), 0);
    if !opts.is_empty() {
        body.extend(options(order, opts));
    }
    block(order, 6, &body)
}

/// A Simple Packet Block.
pub fn simple(order: Order, wire: u32, data: &[u8]) -> Vec<u8> {
    block(order, 3, &[&order.u32(wire)[..], data].concat())
}

/// A Packet Block, as older drafts had it.
pub fn old_packet(
    order: Order,
    interface: u16,
    drops: u16,
    ticks: u64,
    wire: u32,
    data: &[u8],
) -> Vec<u8> {
    let body = [
        &order.u16(interface)[..],
        &order.u16(drops),
        &order.u32((ticks >> 32) as u32),
        &order.u32(ticks as u32),
        &order.u32(data.len() as u32),
        &order.u32(wire),
        data,
    ];
    block(order, 2, &body.concat())
}
