//! One service's packets as its verdicts look at them: journeys, the director, and what each
//! connection did.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::director::Director;
use super::types::Method;
use crate::lab::Mac;
use crate::trace::collect::Trace;
use crate::trace::conns::Conn;
use crate::trace::follow::{Journey, Leg};
use crate::trace::packet::Tunnel;
use crate::trace::record::{Form, Record};
use crate::trace::stations::Stations;
use crate::trace::topology::TopoService;

/// TTLs that packets start with: Linux and BSD, Windows, routers and Solaris. A packet with one of
/// these was sent by the machine that sent the frame.
const INITIAL_TTL: [u8; 3] = [64, 128, 255];

/// What the verdicts look at.
pub(in crate::trace) struct View<'a> {
    pub trace: &'a Trace,
    pub stations: &'a Stations,
    pub journeys: &'a [Journey],
    pub service: Option<&'a TopoService>,
    pub vip: IpAddr,
    pub director: Option<Director>,
    pub conns: Vec<ConnView>,
    /// Journeys of each connection, in the order of time.
    by_conn: Vec<Vec<usize>>,
}

/// What a connection did.
#[derive(Debug, Clone, Default)]
pub(in crate::trace) struct ConnView {
    /// It is a health check, or else the director's own: no client's.
    pub own: bool,
    /// Who served it; several if it was torn apart.
    pub servers: BTreeSet<String>,
    /// How it went.
    pub method: Option<Method>,
    /// Packets to the VIP that the director received, sent on, or had nothing to do with although
    /// they reached a realserver.
    pub received: u64,
    pub passed: u64,
    pub around: u64,
    /// Packets from the VIP, and those that the director had part in.
    pub answers: u64,
    pub answers_by_director: u64,
    /// There is no answer where one would have been captured: at the client or at its realserver.
    pub unanswered: bool,
}

impl<'a> View<'a> {
    pub fn new(
        trace: &'a Trace,
        stations: &'a Stations,
        journeys: &'a [Journey],
        service: Option<&'a TopoService>,
        vip: IpAddr,
        director: Option<Director>,
    ) -> Self {
        let mut by_conn = vec![Vec::new(); trace.conns.list.len()];
        for (n, journey) in journeys.iter().enumerate() {
            by_conn[journey.conn as usize].push(n);
        }
        let mut view = Self {
            trace,
            stations,
            journeys,
            service,
            vip,
            director,
            conns: Vec::new(),
            by_conn,
        };
        view.conns = (0..view.by_conn.len()).map(|n| view.look(n)).collect();
        view
    }

    /// Journeys of a connection, in the order of time.
    pub fn of_conn(&self, n: usize) -> impl Iterator<Item = &'a Journey> + '_ {
        self.by_conn[n].iter().map(|j| &self.journeys[*j])
    }

    pub fn conn(&self, n: usize) -> &'a Conn {
        &self.trace.conns.list[n]
    }

    pub fn record(&self, n: u32) -> &'a Record {
        &self.trace.records[n as usize]
    }

    pub fn form(&self, leg: &Leg) -> Form {
        self.trace
            .forms
            .get(leg.form as usize)
            .copied()
            .unwrap_or(Form::Plain)
    }

    /// Connections of clients, which verdicts are about, with their numbers.
    pub fn clients(&self) -> impl Iterator<Item = (usize, &ConnView)> {
        self.conns
            .iter()
            .enumerate()
            .filter(|(n, c)| !c.own && !self.by_conn[*n].is_empty())
    }

    /// Journeys of clients' connections in one direction.
    pub fn journeys(&self, to: bool) -> impl Iterator<Item = &'a Journey> + '_ {
        self.journeys
            .iter()
            .filter(move |j| j.to == to && !self.conns[j.conn as usize].own)
    }

    /// Whether a packet was for a realserver's own address, in place of the VIP.
    pub fn is_real(&self, journey: &Journey, leg: &Leg) -> bool {
        let vip = self.conn(journey.conn as usize).flow.server;
        matches!(self.form(leg), Form::Rewritten { server, .. } if server != vip)
    }

    /// Where the director received and where it sent a packet, as far as either was captured.
    pub fn at_director<'j>(&self, journey: &'j Journey) -> (Option<&'j Leg>, Option<&'j Leg>) {
        let Some(director) = &self.director else {
            return (None, None);
        };
        let into = |l: &&Leg| director.has_mac(l.dst) || self.told(l, false);
        let from = |l: &&Leg| director.has_mac(l.src) || self.told(l, true);
        (
            journey.legs.iter().find(into),
            journey.legs.iter().rfind(from),
        )
    }

    /// A director whose MAC addresses are not known is known by its interfaces: of what passes
    /// there, the capture tells the direction.
    fn told(&self, leg: &Leg, sent: bool) -> bool {
        self.director.as_ref().is_some_and(|d| {
            d.macs.is_empty()
                && leg
                    .sights
                    .iter()
                    .map(|n| self.record(*n))
                    .any(|r| d.points.contains(&(r.point as usize)) && r.sent == Some(sent))
        })
    }

    /// Whether the director had part in a packet: it sent or was to receive it, or an interface of
    /// its own saw it.
    pub fn touches_director(&self, journey: &Journey) -> bool {
        let Some(director) = &self.director else {
            return false;
        };
        journey.legs.iter().any(|leg| {
            director.has_mac(leg.src) || director.has_mac(leg.dst) || {
                director.macs.is_empty()
                    && leg
                        .sights
                        .iter()
                        .any(|n| director.points.contains(&(self.record(*n).point as usize)))
            }
        })
    }

    /// The segment on which a packet reached a realserver, or left it, and the realserver.
    pub fn at_server<'j>(&self, journey: &'j Journey) -> Option<(&'j Leg, String)> {
        if let Some(service) = self.service {
            let named = |station: Option<usize>| {
                let name = &self.stations.list.get(station?)?.name;
                service
                    .servers
                    .iter()
                    .any(|s| s.node == *name)
                    .then(|| name.clone())
            };
            // A realserver may be a router as well: the last that receives is meant.
            return if journey.to {
                let mut leg = journey.legs.iter().rev();
                leg.find_map(|l| Some((l, named(l.into)?)))
            } else {
                let mut leg = journey.legs.iter();
                leg.find_map(|l| Some((l, named(l.from)?)))
            };
        }
        if journey.to {
            self.reached(journey)
        } else {
            self.left(journey)
        }
    }

    /// Without a lab: NAT and tunnels name the realserver by address; what the director sends
    /// goes to one.
    fn reached<'j>(&self, journey: &'j Journey) -> Option<(&'j Leg, String)> {
        let leg = journey.legs.last()?;
        match self.form(leg) {
            Form::Wrapped(_, _, outer) => Some((leg, self.unwraps(journey.conn, leg, outer))),
            Form::Rewritten { server, .. } if self.is_real(journey, leg) => {
                Some((leg, self.by_address(server.ip())))
            }
            _ => {
                let director = self.director.as_ref()?;
                let from_director = director.has_mac(leg.src);
                let answers = leg.dst.is_some() && self.answers_itself(journey.conn, leg);
                (from_director || answers).then(|| (leg, self.stations.name(leg.into, leg.dst)))
            }
        }
    }

    /// Whether the machine that a request reached answers it: its answers have a TTL that nobody
    /// has taken from.
    fn answers_itself(&self, conn: u32, leg: &Leg) -> bool {
        self.of_conn(conn as usize).filter(|j| !j.to).any(|j| {
            j.legs.first().is_some_and(|l| {
                l.src == leg.dst && INITIAL_TTL.contains(&self.record(l.sights[0]).ttl)
            })
        })
    }

    fn left<'j>(&self, journey: &'j Journey) -> Option<(&'j Leg, String)> {
        let leg = journey.legs.first()?;
        if let Form::Rewritten { server, .. } = self.form(leg)
            && self.is_real(journey, leg)
        {
            return Some((leg, self.by_address(server.ip())));
        }
        let first = self.record(leg.sights[0]);
        if !INITIAL_TTL.contains(&first.ttl) {
            return None;
        }
        // Behind a tunnel it is the one that the tunnel leads to, perhaps some routers away.
        let tunnelled = self.of_conn(journey.conn as usize).find_map(|j| {
            let last = j.legs.last().filter(|_| j.to)?;
            match self.form(last) {
                Form::Wrapped(_, _, outer) => Some(self.unwraps(journey.conn, last, outer)),
                _ => None,
            }
        });
        let name = tunnelled.unwrap_or_else(|| self.stations.name(leg.from, leg.src));
        Some((leg, name))
    }

    /// The machine that a tunnel leads to: the one that received it if it answers as well, else
    /// whoever has the address.
    fn unwraps(&self, conn: u32, leg: &Leg, outer: IpAddr) -> String {
        if leg.dst.is_some() && self.answers_itself(conn, leg) {
            return self.stations.name(leg.into, leg.dst);
        }
        self.by_address(outer)
    }

    fn by_address(&self, address: IpAddr) -> String {
        match self.stations.of_address(address) {
            Some(station) => self.stations.name(Some(station), None),
            None => address.to_string(),
        }
    }

    fn look(&self, n: usize) -> ConnView {
        let mut view = ConnView {
            own: self.is_own(n),
            ..ConnView::default()
        };
        let mut tunnel: Option<Tunnel> = None;
        let (mut real, mut local) = (false, false);
        for journey in self.of_conn(n) {
            let (received, sent) = self.at_director(journey);
            let touched = self.touches_director(journey);
            let server = self.at_server(journey);
            if journey.to {
                view.received += u64::from(received.is_some());
                view.passed += u64::from(sent.is_some());
                view.around += u64::from(server.is_some() && !touched);
            } else {
                view.answers += 1;
                view.answers_by_director += u64::from(touched);
                let first = journey.legs.first();
                local |=
                    first.zip(sent).is_some_and(|(a, b)| std::ptr::eq(a, b)) && server.is_none();
            }
            view.servers.extend(server.map(|(_, name)| name));
            for leg in &journey.legs {
                real |= self.is_real(journey, leg);
                if let Form::Wrapped(kind, ..) = self.form(leg) {
                    tunnel = Some(kind);
                }
            }
        }
        view.method = Some(self.method_of(&view, tunnel, real, local));
        view.unanswered = view.answers == 0 && self.of_conn(n).any(|j| self.ends_captured(j));
        view
    }

    /// Whether a request was captured at its client or at its realserver.
    fn ends_captured(&self, journey: &Journey) -> bool {
        let own = |leg: &Leg, mac: Option<Mac>| {
            let station = self.stations.of_mac(mac);
            leg.sights.iter().any(|n| {
                let point = self.record(*n).point as usize;
                station.is_some() && self.stations.of_point(point) == station
            })
        };
        let started = journey.legs.first().is_some_and(|leg| {
            INITIAL_TTL.contains(&self.record(leg.sights[0]).ttl) && own(leg, leg.src)
        });
        started
            || self
                .at_server(journey)
                .is_some_and(|(leg, _)| own(leg, leg.dst))
    }

    /// A connection of the director's own, or of nslab's: a health check goes to the VIP as well.
    fn is_own(&self, n: usize) -> bool {
        let client = self.conn(n).flow.client.ip();
        let known = self.director.as_ref().and_then(|d| d.station);
        client == self.vip
            || self.stations.checkers.contains(&client)
            || known.is_some_and(|s| {
                self.stations.of_lab && self.stations.list[s].addresses.contains(&client)
            })
    }

    fn method_of(
        &self,
        conn: &ConnView,
        tunnel: Option<Tunnel>,
        real: bool,
        local: bool,
    ) -> Method {
        if let Some(kind) = tunnel {
            return Method::Tunnel(kind);
        }
        if real {
            return Method::Nat;
        }
        if conn.passed > 0 {
            return if conn.around > 0 {
                Method::Mixed
            } else if conn.answers_by_director > 0 {
                Method::Routed
            } else {
                Method::Direct
            };
        }
        if self.director.is_none() {
            let served = !conn.servers.is_empty();
            return match (served, self.claimants() > 1) {
                (true, true) => Method::Bypassed,
                (true, false) => Method::Unbalanced,
                (false, _) => Method::Unknown,
            };
        }
        if conn.around > 0 && conn.received == 0 {
            return Method::Bypassed;
        }
        if local {
            return Method::Local;
        }
        Method::Unknown
    }

    /// How many machines said by ARP to have the VIP.
    fn claimants(&self) -> usize {
        let claims = self.trace.survey.claims.get(&self.vip);
        claims.map_or(0, std::collections::BTreeMap::len)
    }
}
