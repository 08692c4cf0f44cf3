//! The first reading: who is there, and which connections there are. Nothing is kept of single
//! frames, except the openings of connections.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::packet::{Net, Payload};
use super::source::Sight;
use super::target::{self, FlowKey, Target};
use crate::lab::Mac;

/// Openings that are remembered, over all files; further connections are followed by their
/// addresses alone.
const MOST_OPENINGS: usize = 1 << 20;
/// MAC addresses and claims that are remembered; a flood of forged ones cannot take more.
const MOST_MACS: usize = 1 << 16;

/// What the first reading finds.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Frames at each point, of whatever kind.
    pub points: Vec<PointSurvey>,
    /// Flows to and from the target, and the frames of each.
    pub flows: HashMap<FlowKey, u64>,
    /// Openings of connections to the target: (flow, initial sequence number).
    pub openings: HashMap<(FlowKey, u32), Opening>,
    /// Flows whose opening came from the server's side: not served ones.
    pub outgoing: HashSet<FlowKey>,
    /// Openings of other connections by initial sequence number: NAT's other side may be there.
    pub others: HashMap<u32, Vec<(FlowKey, Opening)>>,
    /// Who said by ARP to have an address, and the first frame that says so.
    pub claims: BTreeMap<IpAddr, BTreeMap<Mac, Claim>>,
    /// Addresses and ports that connections were opened to, and how many.
    pub served: HashMap<(SocketAddr, u8), u64>,
    /// More was there than is remembered.
    pub overflow: bool,
}

/// A connection's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    /// When it was seen first.
    pub time: i64,
    /// Its greatest TTL: nearest to where it came from.
    pub ttl: u8,
}

/// The first frame that claims an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub source: u32,
    pub point: u32,
    pub number: u64,
    pub time: i64,
    /// A reply; a request tells its sender's address on the way.
    pub reply: bool,
}

/// What was seen at one point.
#[derive(Debug, Default, Clone)]
pub(crate) struct PointSurvey {
    pub frames: u64,
    pub cut: u64,
    pub span: Option<(i64, i64)>,
    /// Unicast frames with MAC addresses.
    pub unicast: u64,
    /// How many of them each address sent or received.
    pub macs: HashMap<Mac, u64>,
    /// Addresses that sent what the interface's machine sent.
    pub own: BTreeSet<Mac>,
    /// Larger frames than Ethernet has: segmentation is left to the device there.
    pub giants: u64,
}

impl PointSurvey {
    /// The MAC address of the interface: what it sends bears it, or else it is the only one that
    /// has part in nearly every unicast frame.
    pub fn mac(&self) -> Option<Mac> {
        if self.own.len() == 1 {
            return self.own.first().copied();
        }
        // Flooded frames of others are few; 1 in 50 is taken for many.
        let enough = |count: u64| count * 50 >= self.unicast * 49;
        let mut always = self.macs.iter().filter(|(_, n)| enough(**n));
        match (always.next(), always.next()) {
            (Some((mac, _)), None) if self.unicast > 0 => Some(*mac),
            _ => None,
        }
    }
}

/// The largest frame of Ethernet without jumbo frames, with two VLAN tags.
const ETHERNET_MOST: u32 = 1522;

impl Survey {
    pub fn see(&mut self, sight: &Sight<'_>, target: &Target) {
        if self.points.len() <= sight.point {
            self.points.resize(sight.point + 1, PointSurvey::default());
        }
        self.count(sight);
        self.claim(sight);
        let Some(outer) = sight.packet.ip() else {
            return;
        };
        let ip = outer.innermost();
        let opening = match &ip.payload {
            Payload::Tcp(tcp) if tcp.opens() => Some(tcp.seq),
            _ => None,
        };
        if opening.is_some()
            && let Some(ends) = target::ends(ip)
            && self.served.len() < MOST_OPENINGS
        {
            *self.served.entry((ends.dst, ends.protocol)).or_default() += 1;
        }
        let seen = Opening {
            time: sight.time,
            ttl: ip.ttl,
        };
        match (target.matches(ip), opening) {
            (Some(matched), Some(isn)) if matched.to => {
                self.flow(matched.flow);
                self.open(matched.flow, isn, seen);
            }
            (Some(matched), Some(_)) => {
                self.outgoing.insert(matched.flow);
            }
            (Some(matched), None) => self.flow(matched.flow),
            (None, Some(isn)) => self.open_other(ip, isn, seen),
            (None, None) => {}
        }
    }

    fn flow(&mut self, flow: FlowKey) {
        if let Some(frames) = self.flows.get_mut(&flow) {
            *frames += 1;
        } else if self.flows.len() < MOST_OPENINGS {
            self.flows.insert(flow, 1);
        } else {
            self.overflow = true;
        }
    }

    fn open(&mut self, flow: FlowKey, isn: u32, seen: Opening) {
        if self.openings.len() >= MOST_OPENINGS {
            self.overflow = true;
            return;
        }
        let opening = self.openings.entry((flow, isn)).or_insert(seen);
        opening.time = opening.time.min(seen.time);
        opening.ttl = opening.ttl.max(seen.ttl);
    }

    fn open_other(&mut self, ip: &super::packet::Ip, isn: u32, seen: Opening) {
        let Some(ends) = target::ends(ip) else {
            return;
        };
        let flow = FlowKey {
            client: ends.src,
            server: ends.dst,
            protocol: ends.protocol,
        };
        if self.others.len() >= MOST_OPENINGS {
            self.overflow = true;
            return;
        }
        let same = self.others.entry(isn).or_default();
        match same.iter_mut().find(|(f, _)| *f == flow) {
            Some((_, opening)) => {
                opening.time = opening.time.min(seen.time);
                opening.ttl = opening.ttl.max(seen.ttl);
            }
            None => same.push((flow, seen)),
        }
    }

    fn count(&mut self, sight: &Sight<'_>) {
        let (packet, time) = (&sight.packet, sight.time);
        let point = &mut self.points[sight.point];
        point.frames += 1;
        point.cut += u64::from(packet.is_cut());
        point.giants += u64::from(packet.wire > ETHERNET_MOST);
        let (from, to) = point.span.unwrap_or((time, time));
        point.span = Some((from.min(time), to.max(time)));
        let (Some(src), Some(dst)) = (packet.link.src, packet.link.dst) else {
            return;
        };
        if sight.sent == Some(true) && point.own.len() < 8 {
            point.own.insert(src);
        }
        let group = |mac: Mac| mac.octets()[0] & 1 == 1;
        if group(dst) || point.macs.len() >= MOST_MACS {
            return;
        }
        point.unicast += 1;
        *point.macs.entry(src).or_default() += 1;
        *point.macs.entry(dst).or_default() += 1;
    }

    /// ARP: requests tell as well where their sender is, but an address conflict probe has none
    /// (RFC 5227).
    fn claim(&mut self, sight: &Sight<'_>) {
        if let Net::Arp(arp) = &sight.packet.net
            && matches!(arp.operation, 1 | 2)
            && !arp.sender.1.is_unspecified()
            && self.claims.len() < MOST_MACS
        {
            let claim = Claim {
                source: sight.source as u32,
                point: sight.point as u32,
                number: sight.number,
                time: sight.time,
                reply: arp.operation == 2,
            };
            let claims = self.claims.entry(arp.sender.1).or_default();
            let first = claims.entry(arp.sender.0).or_insert(claim);
            if claim.reply && !first.reply {
                *first = claim;
            }
        }
    }
}
