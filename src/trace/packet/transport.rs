//! TCP, UDP, SCTP and ICMP.

use super::{Icmp, Payload, Tcp, Udp, be16, be32, ip};

/// Characters kept of an HTTP request or status line.
const LINE_MAX: usize = 120;

/// `bytes` is what was captured of the segment, `wire` how long it is.
pub(super) fn tcp(bytes: &[u8], wire: u32) -> Payload {
    let read = || {
        let offset = *bytes.get(12)? >> 4;
        Some(Tcp {
            sport: be16(bytes, 0)?,
            dport: be16(bytes, 2)?,
            seq: be32(bytes, 4)?,
            ack: be32(bytes, 8)?,
            flags: *bytes.get(13)?,
            window: be16(bytes, 14)?,
            len: wire.saturating_sub(u32::from(offset) * 4),
            http: None,
            header: usize::from(offset) * 4,
        })
    };
    let Some(mut tcp) = read() else {
        return cut("TCP header", bytes);
    };
    // The options may be cut where the fixed header is whole; a data offset below 5 is garbage.
    if tcp.header >= 20
        && let Some(data) = bytes.get(tcp.header..)
    {
        tcp.http = http(data);
    }
    Payload::Tcp(tcp)
}

/// The first line, if it is one of HTTP/1 (RFC 9112).
fn http(data: &[u8]) -> Option<String> {
    const STARTS: [&[u8]; 10] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"TRACE ",
        b"CONNECT ",
        b"HTTP/1.",
    ];
    if !STARTS.iter().any(|start| data.starts_with(start)) {
        return None;
    }
    let line = data.split(|b| matches!(b, b'\r' | b'\n')).next()?;
    let shown = line.get(..LINE_MAX).unwrap_or(line);
    let text = shown.iter().map(|b| {
        if b.is_ascii_graphic() || *b == b' ' {
            char::from(*b)
        } else {
            '.'
        }
    });
    let text: String = text.collect();
    Some(text.trim_end().to_owned())
}

pub(super) fn udp(bytes: &[u8]) -> Payload {
    let read = || {
        Some(Udp {
            sport: be16(bytes, 0)?,
            dport: be16(bytes, 2)?,
            len: u32::from(be16(bytes, 4)?).saturating_sub(8),
        })
    };
    read().map_or_else(|| cut("UDP header", bytes), Payload::Udp)
}

pub(super) fn sctp(bytes: &[u8]) -> Payload {
    match (be16(bytes, 0), be16(bytes, 2)) {
        (Some(sport), Some(dport)) => Payload::Sctp { sport, dport },
        _ => cut("SCTP header", bytes),
    }
}

/// ICMP at `at`, whose packet ends at `end`. Errors quote the packet that they are about
/// (RFC 792; RFC 4443: types below 128).
pub(super) fn icmp(frame: &[u8], at: usize, end: usize, v6: bool, depth: usize) -> Payload {
    let bytes = frame.get(at..end).unwrap_or_default();
    let (Some(&kind), Some(&code)) = (bytes.first(), bytes.get(1)) else {
        return Payload::cut("ICMP header");
    };
    let (error, echo) = if v6 {
        (kind < 128, matches!(kind, 128 | 129))
    } else {
        (matches!(kind, 3 | 4 | 5 | 11 | 12), matches!(kind, 0 | 8))
    };
    let echo = if echo {
        be16(bytes, 4).zip(be16(bytes, 6))
    } else {
        None
    };
    // One quotation, no quotation of a quotation.
    let quoted = if error && depth == 0 {
        let wire = end.saturating_sub(at + 8) as u32;
        ip::read(&frame[..end], at + 8, wire, 1).map(Box::new)
    } else {
        None
    };
    Payload::Icmp(Icmp {
        kind,
        code,
        echo,
        quoted,
    })
}

/// All three have their ports first.
fn cut(what: &'static str, bytes: &[u8]) -> Payload {
    Payload::Cut {
        what,
        ports: be16(bytes, 0).zip(be16(bytes, 2)),
    }
}
