//! The same packet at several interfaces: its journey, segment by segment.

use std::collections::{HashMap, HashSet};

use super::collect::Trace;
use super::packet::{FIN, SYN};
use super::record::Record;
use super::stations::Stations;
use crate::lab::Mac;

/// One packet on its way. A retransmission is a packet of its own.
#[derive(Debug, Clone)]
pub(crate) struct Journey {
    pub conn: u32,
    /// Whether it goes towards the server's side.
    pub to: bool,
    /// The segments that it crossed and that were captured, in order.
    pub legs: Vec<Leg>,
}

/// A packet on one segment, as one or more interfaces saw it.
#[derive(Debug, Clone)]
pub(crate) struct Leg {
    pub src: Option<Mac>,
    pub dst: Option<Mac>,
    pub from: Option<usize>,
    pub into: Option<usize>,
    pub form: u32,
    /// Records, the sender's interface first, the receiver's last.
    pub sights: Vec<u32>,
}

impl Journey {
    /// All its records.
    pub fn sights(&self) -> impl Iterator<Item = u32> + '_ {
        self.legs.iter().flat_map(|l| l.sights.iter().copied())
    }

    /// The record that stands for the packet itself: where it was seen first.
    pub fn first<'t>(&self, trace: &'t Trace) -> &'t Record {
        // A journey has a leg and a leg has a sight: they are made around one.
        &trace.records[self.legs[0].sights[0] as usize]
    }
}

/// Packets that look the same among which the one of a record is looked for: a sender that repeats
/// itself without end must not make this quadratic.
const MOST_ALIKE: usize = 64;

/// Groups records of the same packet and orders their segments. Journeys come in the order of time.
pub(crate) fn follow(trace: &Trace, stations: &Stations) -> Vec<Journey> {
    let mut groups: Vec<Vec<u32>> = Vec::new();
    // For each packet those that look the same, in the order of time.
    let mut open: HashMap<(u32, bool, u64), Vec<usize>> = HashMap::new();
    let place = |r: &Record| (r.point, r.src, r.dst, r.form);
    for (n, record) in trace.records.iter().enumerate() {
        let same = open
            .entry((record.conn, record.to, record.ident))
            .or_default();
        // The latest that was not seen here yet: a packet that looks the same and was seen here
        // is another one (a repeated SYN-ACK has identification 0 as the first had).
        let seen_here = |group: &[u32]| {
            let mut places = group.iter().map(|s| place(&trace.records[*s as usize]));
            places.any(|p| p == place(record))
        };
        let found = same
            .iter()
            .rev()
            .take(MOST_ALIKE)
            .find(|g| !seen_here(&groups[**g]))
            .copied();
        let group = found.unwrap_or_else(|| {
            groups.push(Vec::new());
            same.push(groups.len() - 1);
            groups.len() - 1
        });
        groups[group].push(n as u32);
    }
    groups
        .into_iter()
        .map(|group| {
            let first = &trace.records[group[0] as usize];
            Journey {
                conn: first.conn,
                to: first.to,
                legs: legs(trace, stations, &group),
            }
        })
        .collect()
}

/// Sights by segment, in the order in which the packet crossed them.
fn legs(trace: &Trace, stations: &Stations, sights: &[u32]) -> Vec<Leg> {
    let record = |n: u32| &trace.records[n as usize];
    let mut legs: Vec<Leg> = Vec::new();
    for &n in sights {
        let r = record(n);
        let bare = r.src.is_none() && r.dst.is_none();
        let same = |leg: &&mut Leg| {
            let (src, dst) = (leg.src == r.src, leg.dst == r.dst);
            // Without link-layer addresses each interface is taken for a segment.
            let point = !bare || record(leg.sights[0]).point == r.point;
            src && dst && point && leg.form == r.form
        };
        if let Some(leg) = legs.iter_mut().find(same) {
            leg.sights.push(n);
        } else {
            legs.push(Leg {
                src: r.src,
                dst: r.dst,
                from: stations.of_mac(r.src),
                into: stations.of_mac(r.dst),
                form: r.form,
                sights: vec![n],
            });
        }
    }
    for leg in &mut legs {
        // Times may be equal, or clocks differ: who sent it saw it first.
        let rank = |n: &u32| match stations.of_point(record(*n).point as usize) {
            s if s.is_some() && s == leg.from => 0,
            s if s.is_some() && s == leg.into => 2,
            _ => match record(*n).sent {
                Some(true) => 0,
                Some(false) => 2,
                None => 1,
            },
        };
        leg.sights.sort_by_key(|n| (rank(n), record(*n).time));
    }
    // Each router takes one off the TTL, whatever clocks say.
    legs.sort_by_key(|leg| {
        let first = record(leg.sights[0]);
        (std::cmp::Reverse(first.ttl), first.time)
    });
    chain(legs)
}

/// Puts segments in order by who passed the packet on to whom.
fn chain(mut left: Vec<Leg>) -> Vec<Leg> {
    let mut ordered: Vec<Leg> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let last = ordered.last().and_then(|l: &Leg| l.into);
        let goes_on = last.and_then(|at| left.iter().position(|l| l.from == Some(at)));
        let starts = || {
            left.iter()
                .position(|l| l.from.is_none() || !left.iter().any(|o| o.into == l.from))
        };
        let next = goes_on.or_else(starts).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}

/// How many segments of each connection were sent again: (connection, towards the server) to count.
pub(crate) fn retransmissions(trace: &Trace, journeys: &[Journey]) -> HashMap<(u32, bool), u64> {
    let mut seen = HashSet::new();
    let mut again = HashMap::new();
    for journey in journeys {
        let r = journey.first(trace);
        // An empty segment occupies no sequence space, unless it opens or closes.
        if r.len == 0 && r.flags & (SYN | FIN) == 0 {
            continue;
        }
        if r.flags != 0 && !seen.insert((r.conn, r.to, r.seq, r.len, r.flags & (SYN | FIN))) {
            *again.entry((r.conn, r.to)).or_default() += 1;
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use super::super::packet::testframes::mac;
    use super::*;

    fn leg(from: Option<usize>, into: Option<usize>) -> Leg {
        Leg {
            src: Some(mac(1)),
            dst: Some(mac(2)),
            from,
            into,
            form: 0,
            sights: vec![0],
        }
    }

    fn order(legs: Vec<Leg>) -> Vec<(Option<usize>, Option<usize>)> {
        chain(legs).iter().map(|l| (l.from, l.into)).collect()
    }

    #[test]
    fn segments_follow_who_passed_the_packet_on() {
        let (client, router, director, server) = (Some(0), Some(1), Some(2), Some(3));
        let (first, second, third) = ((client, router), (router, director), (director, server));
        let all = [
            [first, second, third],
            [third, second, first],
            [second, third, first],
        ];
        for given in all {
            let legs = given.map(|(from, into)| leg(from, into)).to_vec();
            assert_eq!(order(legs), [first, second, third]);
        }
        // A gap: the one that nothing leads to comes first.
        let legs = vec![leg(director, server), leg(client, router)];
        assert_eq!(order(legs), [(director, server), (client, router)]);
        // A circle does not hang.
        let legs = vec![leg(client, router), leg(router, client)];
        assert_eq!(order(legs).len(), 2);
    }
}
