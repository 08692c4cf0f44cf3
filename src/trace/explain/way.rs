//! The hops of one packet.

use std::net::SocketAddr;

use super::types::{Hop, Way};
use crate::trace::follow::{Journey, Leg};
use crate::trace::proof::evidence::evidence;
use crate::trace::proof::view::View;
use crate::trace::record::{Form, Record};

/// Every sight of a packet, in the order of its way. Times count from `start`.
pub(super) fn hops(view: &View<'_>, journey: &Journey, start: i64) -> Vec<Hop> {
    let mut hops = Vec::new();
    for leg in &journey.legs {
        for n in &leg.sights {
            hops.push(hop(view, leg, *n, start));
        }
    }
    hops
}

/// Source and destination of a packet, and the tunnel that it is in.
pub(super) fn addressed(view: &View<'_>, r: &Record) -> (SocketAddr, SocketAddr, Option<String>) {
    let flow = view.conn(r.conn as usize).flow;
    let form = view.trace.form(r);
    let (client, server) = match form {
        Form::Rewritten { server, client } => (client, server),
        _ => (flow.client, flow.server),
    };
    let tunnel = match form {
        Form::Wrapped(kind, from, to) => Some(format!("{} {from} > {to}", kind.as_str())),
        _ => None,
    };
    if r.to {
        (client, server, tunnel)
    } else {
        (server, client, tunnel)
    }
}

fn hop(view: &View<'_>, leg: &Leg, n: u32, start: i64) -> Hop {
    let r = view.record(n);
    let station = view.stations.of_point(r.point as usize);
    let point = view.trace.points[r.point as usize].name.clone();
    let direction = match station {
        s if s.is_some() && s == leg.from => Some(Way::Out),
        s if s.is_some() && s == leg.into => Some(Way::In),
        _ => r.sent.map(|sent| if sent { Way::Out } else { Way::In }),
    };
    let (src, dst, tunnel) = addressed(view, r);
    let name = |s: Option<usize>| s.map(|s| view.stations.name(Some(s), None));
    Hop {
        node: name(station).unwrap_or_else(|| point.clone()),
        point,
        direction,
        from_mac: leg.src.map(|m| m.to_string()),
        from: name(leg.from),
        to_mac: leg.dst.map(|m| m.to_string()),
        to: name(leg.into),
        src,
        dst,
        tunnel,
        ttl: r.ttl,
        since_ns: r.time.saturating_sub(start),
        evidence: evidence(view.trace, view.stations, n),
        decision: None,
    }
}
