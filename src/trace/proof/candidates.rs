//! Which address may be the VIP? Asked when nobody says.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use crate::lab::Mac;
use crate::trace::packet::{Ip, Payload};
use crate::trace::source::Points;
use crate::trace::words::count;
use crate::trace::{Error, Source, target};

/// Candidates that are named.
const MOST: usize = 5;
/// Ends that are counted; a port scan cannot make it more.
const MOST_ENDS: usize = 1 << 16;

#[derive(Default)]
struct Seen {
    connections: HashSet<(SocketAddr, u32)>,
    /// Destination MAC addresses of its frames at each interface.
    macs: HashMap<usize, HashSet<Mac>>,
}

/// Names the addresses that connections were opened to, the likeliest first: frames to a VIP go to
/// more than one MAC address at an interface of its director.
pub(super) fn candidates(sources: &[Source]) -> Result<String, Error> {
    let mut points = Points::default();
    let mut ends: HashMap<SocketAddr, Seen> = HashMap::new();
    let mut failed = None;
    for (n, source) in sources.iter().enumerate() {
        let read = points.read(n, source, u64::MAX, |sight| {
            let Some(ip) = sight.packet.ip().map(Ip::innermost) else {
                return;
            };
            let (Payload::Tcp(tcp), Some(both)) = (&ip.payload, target::ends(ip)) else {
                return;
            };
            if !tcp.opens() || ends.len() >= MOST_ENDS && !ends.contains_key(&both.dst) {
                return;
            }
            let seen = ends.entry(both.dst).or_default();
            if seen.connections.len() < MOST_ENDS {
                seen.connections.insert((both.src, tcp.seq));
            }
            if let Some(mac) = sight.packet.link.dst {
                seen.macs.entry(sight.point).or_default().insert(mac);
            }
        });
        if let Err(error) = read {
            failed.get_or_insert(error);
        }
    }
    if ends.is_empty() {
        return match failed {
            Some(error) => Err(error.into()),
            None => Ok("no connection is opened in these captures".to_owned()),
        };
    }
    let mut all: Vec<(SocketAddr, Seen)> = ends.into_iter().collect();
    let passed = |s: &Seen| s.macs.values().any(|macs| macs.len() > 1);
    all.sort_by_key(|(end, s)| (Reverse(passed(s)), Reverse(s.connections.len()), *end));
    let named: Vec<_> = all
        .iter()
        .take(MOST)
        .map(|(end, s)| {
            let on = if passed(s) { ", passed on" } else { "" };
            format!(
                "{end} ({}{on})",
                count(s.connections.len() as u64, "connection")
            )
        })
        .collect();
    let first: IpAddr = all[0].0.ip();
    Ok(format!(
        "connections are opened to {}, so perhaps --vip {first}",
        named.join(", ")
    ))
}
