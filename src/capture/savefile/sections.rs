//! The blocks of pcapng that describe: sections, interfaces, names, statistics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    About, Interface,
    options::{Budget, Endian, Options, padded},
    reader::State,
    time::Clock,
};

/// `opt_comment` of every block.
const COMMENT: u16 = 1;

/// A Section Header Block: byte-order magic, version, length of the section, options.
pub(super) fn header(endian: Endian, body: &[u8], state: &mut State) -> Result<(), String> {
    const FIXED: usize = 16;
    let (major, minor) = (endian.u16(&body[4..]), endian.u16(&body[6..]));
    // 1.2 is what some writers have put where they meant 1.0 (the draft, "Section Header Block").
    if major != 1 || !matches!(minor, 0 | 2) {
        return Err(format!("a section's version is {major}.{minor}, not 1.0"));
    }
    let mut about = About::default();
    for (code, value) in Options::new(endian, &body[FIXED..]) {
        let text = state.budget.text(value);
        match code {
            COMMENT => about.comments.extend(text),
            2 => about.hardware = text,
            3 => about.os = text,
            4 => about.application = text,
            _ => {}
        }
    }
    if state.interfaces.is_empty() && state.about == About::default() {
        state.about = about;
    }
    Ok(())
}

/// An Interface Description Block: link type, snapshot length, options.
pub(super) fn interface(endian: Endian, body: &[u8], state: &mut State) -> Result<Clock, String> {
    const FIXED: usize = 8;
    if body.len() < FIXED {
        return Err("an interface description is too short".to_owned());
    }
    let mut interface = Interface {
        link_type: u32::from(endian.u16(body)),
        snaplen: endian.u32(&body[4..]),
        ..Interface::default()
    };
    let budget = &mut state.budget;
    if !budget.take(size_of::<Interface>() + size_of::<Clock>()) {
        return Err("the file describes more interfaces than can be kept".to_owned());
    }
    let (mut resolution, mut offset) = (6, 0);
    for (code, value) in Options::new(endian, &body[FIXED..]) {
        match (code, value) {
            (2, name) => interface.name = budget.text(name),
            (3, text) => interface.description = budget.text(text),
            (4, &[a, b, c, d, ref mask @ ..]) if mask.len() == 4 => {
                let prefix =
                    u32::from_be_bytes([mask[0], mask[1], mask[2], mask[3]]).leading_ones();
                let address = Ipv4Addr::new(a, b, c, d);
                add(&mut interface, budget, address.into(), prefix as u8);
            }
            (5, bytes) => {
                if let (Some(address), [prefix]) =
                    (bytes.first_chunk::<16>(), &bytes[bytes.len().min(16)..])
                {
                    add(
                        &mut interface,
                        budget,
                        Ipv6Addr::from(*address).into(),
                        *prefix,
                    );
                }
            }
            (6, mac) => interface.mac = mac.try_into().ok(),
            (9, &[n]) => resolution = n,
            // Its first byte says in which language it is; 0 is libpcap's.
            (11, [0, filter @ ..]) => interface.filter = budget.text(filter),
            (12, os) => interface.os = budget.text(os),
            // In bits.
            (13, &[n]) => interface.fcs = Some(n / 8),
            (14, bytes) if bytes.len() == 8 => offset = endian.u64(bytes).cast_signed(),
            _ => {}
        }
    }
    state.interfaces.push(interface);
    Ok(Clock::new(resolution, offset))
}

fn add(interface: &mut Interface, budget: &mut Budget, address: IpAddr, prefix: u8) {
    if budget.take(2 * size_of::<(IpAddr, u8)>()) {
        interface.addresses.push((address, prefix));
    }
}

/// A Name Resolution Block: records of an address and its names, each closed by a zero.
pub(super) fn names(endian: Endian, body: &[u8], state: &mut State) -> Result<(), String> {
    let mut left = body;
    while left.len() >= 4 {
        let (kind, length) = (endian.u16(left), usize::from(endian.u16(&left[2..])));
        if kind == 0 {
            return Ok(());
        }
        let Some(value) = left.get(4..4 + length) else {
            return Err("a record goes beyond the block".to_owned());
        };
        left = left.get(4 + padded(length)..).unwrap_or_default();
        let (address, names) = match kind {
            1 => match value.split_first_chunk::<4>() {
                Some((address, names)) => (IpAddr::from(*address), names),
                None => return Err("a record is too short for its address".to_owned()),
            },
            2 => match value.split_first_chunk::<16>() {
                Some((address, names)) => (IpAddr::from(*address), names),
                None => return Err("a record is too short for its address".to_owned()),
            },
            // Names of link-layer addresses, and what is to come.
            _ => continue,
        };
        for name in names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            let text = state.budget.text(name);
            match text {
                Some(text) if state.budget.take(2 * size_of::<(IpAddr, String)>()) => {
                    state.names.push((address, text));
                }
                _ => return Err("the file has more names than can be kept".to_owned()),
            }
        }
    }
    Ok(())
}

/// An Interface Statistics Block: interface, time, options.
pub(super) fn statistics(
    endian: Endian,
    body: &[u8],
    base: usize,
    state: &mut State,
) -> Result<(), String> {
    const FIXED: usize = 12;
    if body.len() < FIXED {
        return Err("it is too short".to_owned());
    }
    let interface = find(endian.u32(body), base, state)?;
    let counts = &mut state.interfaces[interface].counts;
    let (mut received, mut dropped) = (None, None::<u64>);
    for (code, value) in Options::new(endian, &body[FIXED..]) {
        if value.len() != 8 {
            continue;
        }
        let count = endian.u64(value);
        match code {
            4 => received = Some(count),
            // isb_ifdrop and isb_osdrop: neither are in the file.
            5 | 7 => dropped = Some(dropped.unwrap_or(0).saturating_add(count)),
            _ => {}
        }
    }
    // Blocks of one interface count from its beginning: the last one holds.
    counts.received = received.or(counts.received);
    counts.dropped = dropped.or(counts.dropped);
    Ok(())
}

/// Number among the file's interfaces of one of the section that began with number `base`.
pub(super) fn find(number: u32, base: usize, state: &State) -> Result<usize, String> {
    let index = base.saturating_add(number as usize);
    if index < state.interfaces.len() {
        return Ok(index);
    }
    Err(format!(
        "it is about interface {number}, and its section has described {}",
        state.interfaces.len() - base
    ))
}
