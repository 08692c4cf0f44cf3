//! Connections, one entry each although ports are used again and addresses rewritten.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::record::Form;
use super::survey::{Opening, Survey};
use super::target::{FlowKey, Matched, TCP};

/// A flow with the same addresses and opening as another, no longer apart than this, is the other
/// behind NAT; nanoseconds. Initial sequence numbers are random (RFC 6528).
const NAT_WITHIN: i64 = 3_000_000_000;

/// A connection, or a flow of datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conn {
    pub flow: FlowKey,
    /// The client's initial sequence number, where its opening was captured.
    pub isn: Option<u32>,
    /// When the opening was seen first.
    pub opened: Option<i64>,
}

/// All connections of a trace, and how a packet's is found.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    pub list: Vec<Conn>,
    /// By flow, in the order of time.
    by_flow: HashMap<FlowKey, Vec<usize>>,
    /// NAT's other addresses: from these a flow is found, and the form that its packets have.
    rewritten: HashMap<FlowKey, FlowKey>,
}

/// Which connection a point is at, for each flow: frames of one point are in order.
#[derive(Debug, Default)]
pub(crate) struct Current(HashMap<(usize, FlowKey), usize>);

impl Conns {
    /// `translated` are the addresses of realservers that a NAT director rewrites the VIP to.
    pub fn new(survey: &Survey, translated: &[SocketAddr]) -> Self {
        let mut conns = Self::default();
        let mut openings: Vec<(FlowKey, u32, Opening)> = survey
            .openings
            .iter()
            .map(|((flow, isn), o)| (*flow, *isn, *o))
            .collect();
        // The sight nearest to the client comes first: the others may be behind its NAT.
        openings.sort_by_key(|(flow, isn, o)| (*isn, std::cmp::Reverse(o.ttl), o.time, *flow));
        let mut last: Option<(FlowKey, u32, Opening)> = None;
        let mut kept = Vec::new();
        for (flow, isn, opening) in openings {
            if let Some((first, same, at)) = last
                && same == isn
                && first != flow
                && (at.time - opening.time).abs() <= NAT_WITHIN
            {
                conns.rewritten.insert(flow, first);
                continue;
            }
            last = Some((flow, isn, opening));
            kept.push((flow, isn, opening));
        }
        for (flow, isn, opening) in &kept {
            for (other, seen) in survey.others.get(isn).into_iter().flatten() {
                let near = (seen.time - opening.time).abs() <= NAT_WITHIN;
                if other.client == flow.client || near {
                    conns.rewritten.insert(*other, *flow);
                }
            }
        }
        kept.sort_by_key(|(flow, isn, o)| (o.time, *flow, *isn));
        for (flow, isn, opening) in kept {
            conns.add(Conn {
                flow,
                isn: Some(isn),
                opened: Some(opening.time),
            });
        }
        let mut unopened: Vec<_> = survey
            .flows
            .keys()
            .filter(|f| {
                !conns.by_flow.contains_key(f)
                    && !conns.rewritten.contains_key(f)
                    && !survey.outgoing.contains(f)
            })
            .copied()
            .collect();
        unopened.sort_unstable();
        for flow in unopened {
            conns.add(Conn {
                flow,
                isn: None,
                opened: None,
            });
        }
        for flow in conns.by_flow.keys() {
            for server in translated.iter().filter(|s| **s != flow.server) {
                let other = FlowKey {
                    server: *server,
                    ..*flow
                };
                conns.rewritten.entry(other).or_insert(*flow);
            }
        }
        conns
    }

    fn add(&mut self, conn: Conn) -> usize {
        let n = self.list.len();
        self.by_flow.entry(conn.flow).or_default().push(n);
        self.list.push(conn);
        n
    }

    /// Whether there is anything that NAT's other side could be of.
    pub fn translates(&self) -> bool {
        !self.rewritten.is_empty()
    }

    /// Finds the connection and form of a packet that does not match the target, if it is one
    /// behind NAT. `flow` is given in both directions by the caller.
    pub fn rewritten(&self, flow: FlowKey) -> Option<(FlowKey, Form)> {
        let original = self.rewritten.get(&flow)?;
        let form = Form::Rewritten {
            server: flow.server,
            client: flow.client,
        };
        Some((*original, form))
    }

    /// Which connection of a flow a packet belongs to. `tcp` has sequence number, acknowledgement
    /// and whether it opens a connection.
    pub fn find(
        &mut self,
        current: &mut Current,
        point: usize,
        matched: Matched,
        tcp: Option<(u32, u32, bool)>,
    ) -> Option<usize> {
        let flow = matched.flow;
        let those = self.by_flow.get(&flow)?;
        let Some((seq, ack, opens)) = tcp.filter(|_| flow.protocol == TCP) else {
            return those.first().copied();
        };
        if opens && matched.to {
            let found = those
                .iter()
                .find(|n| self.list[**n].isn == Some(seq))
                .copied();
            if let Some(n) = found {
                current.0.insert((point, flow), n);
            }
            return found;
        }
        if let Some(n) = current.0.get(&(point, flow)) {
            return Some(*n);
        }
        // The opening is not in this file. Sequence numbers of the client's side tell which one
        // it is: what came after an opening, within 256 MiB.
        let position = if matched.to { seq } else { ack };
        let after = |isn: Option<u32>| isn.is_some_and(|isn| position.wrapping_sub(isn) < 1 << 28);
        let found = those
            .iter()
            .rev()
            .find(|n| after(self.list[**n].isn))
            .or_else(|| those.iter().find(|n| self.list[**n].isn.is_none()))
            .copied();
        Some(found.unwrap_or_else(|| {
            self.add(Conn {
                flow,
                isn: None,
                opened: None,
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(client: &str, server: &str) -> FlowKey {
        FlowKey {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
            protocol: TCP,
        }
    }

    fn opening(time: i64, ttl: u8) -> Opening {
        Opening { time, ttl }
    }

    fn to(flow: FlowKey) -> Matched {
        Matched { to: true, flow }
    }

    #[test]
    fn a_port_used_again_is_another_connection() {
        let key = flow("10.0.0.1:4000", "10.0.0.9:80");
        let mut survey = Survey::default();
        survey.flows.insert(key, 1);
        survey.openings.insert((key, 1000), opening(0, 64));
        survey.openings.insert((key, 900_000_000), opening(9, 64));
        let mut conns = Conns::new(&survey, &[]);
        assert_eq!(conns.list.len(), 2);
        let mut at = Current::default();
        // A file that has both from their openings on.
        assert_eq!(
            conns.find(&mut at, 0, to(key), Some((1000, 0, true))),
            Some(0)
        );
        assert_eq!(
            conns.find(&mut at, 0, to(key), Some((1001, 5, false))),
            Some(0)
        );
        assert_eq!(
            conns.find(&mut at, 0, to(key), Some((900_000_000, 0, true))),
            Some(1)
        );
        assert_eq!(
            conns.find(&mut at, 0, to(key), Some((900_000_001, 5, false))),
            Some(1)
        );
        // One that began in the middle of the first.
        assert_eq!(
            conns.find(&mut at, 1, to(key), Some((1500, 5, false))),
            Some(0)
        );
        let back = Matched {
            to: false,
            flow: key,
        };
        assert_eq!(
            conns.find(&mut at, 1, back, Some((77, 900_000_100, false))),
            Some(1)
        );
        // And one that is neither: it began before all captures.
        assert_eq!(
            conns.find(&mut at, 2, to(key), Some((2_900_000_000, 5, false))),
            Some(2)
        );
        assert_eq!(conns.list[2].isn, None);
    }

    #[test]
    fn nat_is_recognised_by_the_opening() {
        let key = flow("10.0.0.1:4000", "10.0.0.9:80");
        let real = flow("10.0.0.1:4000", "10.1.0.4:8080");
        let hidden = flow("172.16.0.1:555", "10.0.0.9:80");
        let stranger = flow("10.0.0.7:4000", "10.1.0.4:8080");
        let mut survey = Survey::default();
        survey.flows.extend([(key, 1), (hidden, 1)]);
        survey.openings.insert((key, 1000), opening(10, 64));
        survey.openings.insert((hidden, 1000), opening(11, 63));
        survey.others.insert(1000, vec![(real, opening(12, 62))]);
        survey.others.insert(77, vec![(stranger, opening(12, 62))]);
        let conns = Conns::new(&survey, &[]);
        assert_eq!(conns.list.len(), 1);
        assert_eq!(conns.list[0].flow, key);
        assert_eq!(conns.rewritten(hidden).unwrap().0, key);
        let form = Form::Rewritten {
            server: real.server,
            client: real.client,
        };
        assert_eq!(conns.rewritten(real), Some((key, form)));
        assert_eq!(conns.rewritten(stranger), None);
    }

    #[test]
    fn without_an_opening_a_labs_realservers_tell() {
        let key = flow("10.0.0.1:4000", "10.0.0.9:80");
        let real: SocketAddr = "10.1.0.4:8080".parse().unwrap();
        let mut survey = Survey::default();
        survey.flows.insert(key, 1);
        let conns = Conns::new(&survey, &[real]);
        assert_eq!(
            conns
                .rewritten(flow("10.0.0.1:4000", "10.1.0.4:8080"))
                .unwrap()
                .0,
            key
        );
    }
}
