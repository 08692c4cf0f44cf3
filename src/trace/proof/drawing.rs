//! Packets segment by segment, as `report` draws them.

use std::collections::{BTreeMap, HashMap};

use super::evidence::evidence;
use super::types::{Evidence, Flow, Outcome};
use super::view::View;
use crate::lab::Mac;
use crate::trace::follow::{Journey, Leg};
use crate::trace::packet::flag_names;
use crate::trace::record::Form;

/// How much is to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// A connection that has to be among those drawn, by its number.
    pub flow: Option<usize>,
    /// Connections that are drawn frame by frame.
    pub flows: usize,
    /// Frames that are drawn of each.
    pub frames: usize,
}

/// What is drawn of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drawing {
    /// Where packets passed, over all connections.
    pub passages: Vec<Passage>,
    /// Connections frame by frame, in the order of their numbers.
    pub sequences: Vec<Sequence>,
}

/// A segment that packets of the service crossed in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Whether these go towards the VIP.
    pub to_vip: bool,
    /// Who sent them there.
    pub from: End,
    /// Who was to receive them.
    pub into: End,
    /// The least number of segments that one of them had crossed before.
    pub leg: usize,
    /// How many packets; each is counted once, wherever it was seen.
    pub frames: u64,
    /// The connections, among those that are drawn, that have part.
    pub flows: Vec<usize>,
}

/// A machine at the end of a segment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Its name, or what is known of it.
    pub machine: String,
    /// The MAC address in the frame.
    pub mac: Option<Mac>,
}

/// A connection, frame by frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The connection's number.
    pub flow: usize,
    /// In the order of time.
    pub crossings: Vec<Crossing>,
    /// How many more there are.
    pub left_out: usize,
}

/// A packet on one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Which packet of the connection, from 0 in the order of time.
    pub packet: usize,
    /// Whether it goes towards the VIP.
    pub to_vip: bool,
    /// Who sent the frame.
    pub from: End,
    /// Who was to receive it.
    pub into: End,
    /// TTL of the packet on this segment.
    pub ttl: u8,
    /// The packet in a few words: flags, size, what HTTP says.
    pub what: String,
    /// Where it was seen first.
    pub evidence: Evidence,
}

/// What is to be drawn of a service. `flows` are its connections with their numbers among the
/// trace's, in the order of theirs.
pub(super) fn drawing(view: &View<'_>, flows: &[(usize, Flow)], draw: Draw) -> Drawing {
    let drawn = chosen(flows, draw);
    let sequences = drawn
        .iter()
        .map(|&n| sequence(view, &flows[n], draw.frames))
        .filter(|s| !s.crossings.is_empty())
        .collect();
    let shown: HashMap<usize, usize> = drawn.iter().map(|&n| (flows[n].0, flows[n].1.id)).collect();
    Drawing {
        passages: passages(view, flows, &shown),
        sequences,
    }
}

/// Which connections are drawn: the one asked for, those that went wrong, and the first ones.
fn chosen(flows: &[(usize, Flow)], draw: Draw) -> Vec<usize> {
    let asked = draw
        .flow
        .and_then(|id| flows.iter().position(|(_, f)| f.id == id));
    let wrong = (0..flows.len()).filter(|&n| flows[n].1.outcome == Outcome::Fail);
    let mut drawn: Vec<usize> = asked.into_iter().collect();
    // Where all goes wrong, the first ones are as good as any.
    drawn.extend(wrong.take(draw.flows / 2));
    drawn.extend(0..flows.len().min(draw.flows));
    let mut seen = vec![false; flows.len()];
    drawn.retain(|&n| !std::mem::replace(&mut seen[n], true));
    drawn.truncate(draw.flows);
    drawn.sort_unstable();
    drawn
}

fn passages(
    view: &View<'_>,
    flows: &[(usize, Flow)],
    shown: &HashMap<usize, usize>,
) -> Vec<Passage> {
    // Machines have names of their own only at the end: there may be millions of packets.
    type Place = (bool, Option<Mac>, Option<Mac>, Option<usize>, Option<usize>);
    let mut passages: BTreeMap<Place, Passage> = BTreeMap::new();
    for (conn, _) in flows {
        for journey in view.of_conn(*conn) {
            for (n, leg) in journey.legs.iter().enumerate() {
                let place = (!journey.to, leg.src, leg.dst, leg.from, leg.into);
                let passage = passages.entry(place).or_insert_with(|| Passage {
                    to_vip: journey.to,
                    from: end(view, leg.from, leg.src),
                    into: end(view, leg.into, leg.dst),
                    leg: n,
                    frames: 0,
                    flows: Vec::new(),
                });
                passage.frames += 1;
                passage.leg = passage.leg.min(n);
                if let Some(id) = shown.get(conn)
                    && passage.flows.last() != Some(id)
                {
                    passage.flows.push(*id);
                }
            }
        }
    }
    passages.into_values().collect()
}

fn end(view: &View<'_>, station: Option<usize>, mac: Option<Mac>) -> End {
    End {
        machine: view.stations.name(station, mac),
        mac,
    }
}

fn sequence(view: &View<'_>, (conn, flow): &(usize, Flow), most: usize) -> Sequence {
    // What HTTP says is known of the first segment with payload in each direction.
    let mut said = [flow.status.as_deref(), flow.request.as_deref()];
    let mut crossings = Vec::new();
    let mut left_out = 0;
    for (packet, journey) in view.of_conn(*conn).enumerate() {
        // Journeys are in the order of time: beyond twice the bound none can come before it.
        if crossings.len() > 2 * most {
            left_out += journey.legs.len();
            continue;
        }
        let what = what(view, journey, &mut said);
        for leg in &journey.legs {
            crossings.push(crossing(view, packet, journey, leg, &what));
        }
    }
    crossings.sort_by_key(|c| c.evidence.time_ns);
    left_out += crossings.len().saturating_sub(most);
    crossings.truncate(most);
    Sequence {
        flow: flow.id,
        crossings,
        left_out,
    }
}

fn crossing(view: &View<'_>, packet: usize, journey: &Journey, leg: &Leg, what: &str) -> Crossing {
    // A leg is made around a sight.
    let first = leg.sights[0];
    let wrapped = match view.form(leg) {
        Form::Wrapped(kind, src, dst) => format!("{} {src} > {dst}: {what}", kind.as_str()),
        _ => what.to_owned(),
    };
    Crossing {
        packet,
        to_vip: journey.to,
        from: end(view, leg.from, leg.src),
        into: end(view, leg.into, leg.dst),
        ttl: view.record(first).ttl,
        what: wrapped,
        evidence: evidence(view.trace, view.stations, first),
    }
}

/// `SYN`, or `ACK+PSH 92 bytes: GET /thredds HTTP/1.1`.
fn what(view: &View<'_>, journey: &Journey, said: &mut [Option<&str>; 2]) -> String {
    let r = journey.first(view.trace);
    let mut what = flag_names(r.flags);
    if r.len > 0 || r.flags == 0 {
        if !what.is_empty() {
            what.push(' ');
        }
        what.push_str(&crate::trace::words::count(r.len.into(), "byte"));
        if let Some(line) = said[usize::from(journey.to)].take() {
            what.push_str(": ");
            what.push_str(line);
        }
    }
    what
}
