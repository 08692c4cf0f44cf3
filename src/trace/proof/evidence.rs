//! Frames that show something, in words.

use std::fmt::Write;

use super::types::Evidence;
use crate::trace::collect::Trace;
use crate::trace::packet::flag_names;
use crate::trace::record::Form;
use crate::trace::stations::Stations;

/// A record of a frame as evidence.
pub(in crate::trace) fn evidence(trace: &Trace, stations: &Stations, record: u32) -> Evidence {
    let r = &trace.records[record as usize];
    let flow = &trace.conns.list[r.conn as usize].flow;
    let (client, server) = match trace.form(r) {
        Form::Rewritten { server, client } => (client, server),
        _ => (flow.client, flow.server),
    };
    let (src, dst) = if r.to {
        (client, server)
    } else {
        (server, client)
    };
    let mut what = format!("{src} > {dst}");
    if r.flags != 0 {
        let _ = write!(what, " {} len {}", flag_names(r.flags), r.len);
    }
    let _ = write!(what, " ttl {}", r.ttl);
    if let Form::Wrapped(kind, from, to) = trace.form(r) {
        what = format!("{} {from} > {to} {{ {what} }}", kind.as_str());
    }
    if r.src.is_some() {
        let name = |mac| stations.name(stations.of_mac(mac), mac);
        let _ = write!(what, ", {} to {}", name(r.src), name(r.dst));
    }
    at(trace, r.point, r.source, r.number, r.time, what)
}

/// A frame that is no record, as evidence.
pub(in crate::trace) fn at(
    trace: &Trace,
    point: u32,
    source: u32,
    frame: u64,
    time_ns: i64,
    what: String,
) -> Evidence {
    Evidence {
        point: trace.points[point as usize].name.clone(),
        file: trace.files[source as usize].path.clone(),
        frame,
        time_ns,
        what,
    }
}
