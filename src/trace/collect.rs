//! The second reading: a record of each frame of the traced flows, and counts of all of them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::conns::{Conns, Current};
use super::error::Error;
use super::packet::{Ip, Payload, Tcp};
use super::proof::FileRead;
use super::record::{Form, Record, digests};
use super::source::{Point, Points, Sight, Source};
use super::survey::Survey;
use super::target::{self, FlowKey, Matched, Target};

/// Frames that are followed one by one, about 100 bytes of memory each. Of what goes beyond, whole
/// connections are only counted.
const MOST_RECORDS: u64 = 4 << 20;
/// First fragments whose later ones are waited for.
const MOST_FRAGMENTS: usize = 1 << 14;
/// ICMP errors that are kept.
const MOST_ERRORS: usize = 64;

/// Everything that was read of the traced flows.
#[derive(Debug)]
pub(crate) struct Trace {
    pub points: Vec<Point>,
    pub files: Vec<FileRead>,
    pub survey: Survey,
    pub conns: Conns,
    pub forms: Vec<Form>,
    /// In the order of time.
    pub records: Vec<Record>,
    /// Frames of each connection at each point.
    pub counts: HashMap<(u32, u32), Counts>,
    /// First request and status line of each connection.
    pub http: HashMap<u32, Http>,
    /// ICMP errors about traced flows.
    pub errors: Vec<IcmpError>,
    /// What was left out.
    pub notes: Vec<String>,
}

/// Frames of a connection at a point.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// To the address that the client uses, wrapped ones among them.
    pub to: u64,
    /// From it.
    pub from: u64,
    /// Of these, wrapped.
    pub wrapped: u64,
    /// To a realserver's own address in place of it.
    pub to_real: u64,
    /// From a realserver's own address.
    pub from_real: u64,
}

/// What was said in HTTP.
#[derive(Debug, Default, Clone)]
pub(crate) struct Http {
    pub request: Option<String>,
    pub status: Option<String>,
}

/// An ICMP error about a traced flow.
#[derive(Debug, Clone)]
pub(crate) struct IcmpError {
    pub point: u32,
    pub number: u64,
    pub text: String,
}

/// A first fragment's connection, direction and form, by what its later ones have in common.
type Fragments = HashMap<(usize, IpAddr, IpAddr, u32), (usize, bool, u32)>;

impl Trace {
    /// Reads the sources, twice: to know the connections, and to follow them.
    ///
    /// # Errors
    /// None of them can be read.
    pub fn read(
        sources: &[Source],
        target: &Target,
        translated: &[SocketAddr],
    ) -> Result<Self, Error> {
        let mut points = Points::default();
        let mut survey = Survey::default();
        let mut files = Vec::new();
        let mut notes = Vec::new();
        let mut failed = None;
        for (n, source) in sources.iter().enumerate() {
            match points.read(n, source, u64::MAX, |sight| survey.see(sight, target)) {
                Ok(read) => files.push(read),
                Err(error) => {
                    files.push(FileRead {
                        path: source.path().to_owned(),
                        frames: 0,
                        notes: vec![format!("left out: {error}")],
                    });
                    failed.get_or_insert(error);
                }
            }
        }
        let (mut list, mut points) = points.finish(sources);
        if let (true, Some(error)) = (list.is_empty(), failed) {
            return Err(error.into());
        }
        survey.points.resize_with(list.len(), Default::default);
        for (point, seen) in list.iter_mut().zip(&survey.points) {
            point.mac = point.mac.or(seen.mac());
            (point.frames, point.cut, point.span) = (seen.frames, seen.cut, seen.span);
        }
        let conns = Conns::new(&survey, translated);
        let followed = affordable(&conns, &survey);
        if followed < conns.list.len() {
            notes.push(format!(
                "only the first {followed} of {} connections were followed frame by frame, as many \
                 as have {MOST_RECORDS} frames; counts are of all",
                conns.list.len()
            ));
        }
        if survey.overflow {
            notes
                .push("there are too many connections to remember each; some were left out".into());
        }
        let mut collector = Collector {
            target,
            conns,
            current: Current::default(),
            forms: vec![Form::Plain],
            form_index: HashMap::from([(Form::Plain, 0)]),
            fragments: HashMap::new(),
            records: Vec::new(),
            counts: HashMap::new(),
            http: HashMap::new(),
            errors: Vec::new(),
            followed,
        };
        for (n, (source, read)) in sources.iter().zip(&files).enumerate() {
            if read.frames > 0 {
                points.read(n, source, read.frames, |sight| collector.see(sight))?;
            }
        }
        let mut records = collector.records;
        records.sort_by_key(|r| r.time);
        Ok(Self {
            points: list,
            files,
            survey,
            conns: collector.conns,
            forms: collector.forms,
            records,
            counts: collector.counts,
            http: collector.http,
            errors: collector.errors,
            notes,
        })
    }

    /// The form of a record.
    pub fn form(&self, record: &Record) -> Form {
        self.forms
            .get(record.form as usize)
            .copied()
            .unwrap_or(Form::Plain)
    }
}

/// How many connections, in the order of time, have no more frames than can be held.
fn affordable(conns: &Conns, survey: &Survey) -> usize {
    let mut frames = 0;
    conns
        .list
        .iter()
        .take_while(|conn| {
            frames += survey.flows.get(&conn.flow).copied().unwrap_or(0);
            frames <= MOST_RECORDS
        })
        .count()
}

struct Collector<'a> {
    target: &'a Target,
    conns: Conns,
    current: Current,
    forms: Vec<Form>,
    form_index: HashMap<Form, u32>,
    fragments: Fragments,
    records: Vec<Record>,
    counts: HashMap<(u32, u32), Counts>,
    http: HashMap<u32, Http>,
    errors: Vec<IcmpError>,
    followed: usize,
}

impl Collector<'_> {
    fn see(&mut self, sight: &Sight<'_>) {
        let Some(outer) = sight.packet.ip() else {
            return;
        };
        let ip = outer.innermost();
        self.icmp(sight, ip);
        let Some((conn, to, form)) = self.whose(sight, outer, ip) else {
            return;
        };
        self.count(conn, sight.point, to, form);
        let tcp = match &ip.payload {
            Payload::Tcp(tcp) => Some(tcp),
            _ => None,
        };
        if let Some(line) = tcp.and_then(|t| t.http.as_ref()) {
            let http = self.http.entry(conn as u32).or_default();
            let place = if to {
                &mut http.request
            } else {
                &mut http.status
            };
            place.get_or_insert_with(|| line.clone());
        }
        // Those that came up on the way, without an opening, are few.
        if conn < self.followed || self.records.len() < MOST_RECORDS as usize {
            self.records.push(record(sight, ip, tcp, conn, to, form));
        }
    }

    /// Connection, direction and form of a packet.
    fn whose(&mut self, sight: &Sight<'_>, outer: &Ip, ip: &Ip) -> Option<(usize, bool, u32)> {
        let fragment = ip
            .fragment
            .map(|f| (f, (sight.source, ip.src, ip.dst, ip.id.unwrap_or(0))));
        if let Some((f, key)) = fragment
            && f.offset > 0
        {
            return self.fragments.get(&key).copied();
        }
        let (matched, form) = self.matched(outer, ip)?;
        let tcp = match &ip.payload {
            Payload::Tcp(tcp) => Some((tcp.seq, tcp.ack, tcp.opens())),
            _ => None,
        };
        let conn = self
            .conns
            .find(&mut self.current, sight.point, matched, tcp)?;
        let form = self.form(form);
        let whose = (conn, matched.to, form);
        if let Some((_, key)) = fragment {
            if self.fragments.len() >= MOST_FRAGMENTS {
                self.fragments.clear();
            }
            self.fragments.insert(key, whose);
        }
        Some(whose)
    }

    fn matched(&self, outer: &Ip, ip: &Ip) -> Option<(Matched, Form)> {
        let form = match &outer.payload {
            Payload::Tunnel { kind, .. } => Form::Wrapped(*kind, outer.src, outer.dst),
            _ => Form::Plain,
        };
        if let Some(matched) = self.target.matches(ip) {
            return Some(match self.conns.rewritten(matched.flow) {
                Some((flow, form)) => (Matched { flow, ..matched }, form),
                None => (matched, form),
            });
        }
        if !self.conns.translates() {
            return None;
        }
        let ends = target::ends(ip)?;
        let flow = |client, server| FlowKey {
            client,
            server,
            protocol: ends.protocol,
        };
        let there = self.conns.rewritten(flow(ends.src, ends.dst));
        let back = || self.conns.rewritten(flow(ends.dst, ends.src));
        let (to, (flow, form)) = match there {
            Some(found) => (true, found),
            None => (false, back()?),
        };
        Some((Matched { to, flow }, form))
    }

    fn form(&mut self, form: Form) -> u32 {
        if let Some(n) = self.form_index.get(&form) {
            return *n;
        }
        let n = self.forms.len() as u32;
        self.forms.push(form);
        self.form_index.insert(form, n);
        n
    }

    fn count(&mut self, conn: usize, point: usize, to: bool, form: u32) {
        let counts = self.counts.entry((conn as u32, point as u32)).or_default();
        let real = match self.forms.get(form as usize) {
            Some(Form::Rewritten { server, .. }) => *server != self.conns.list[conn].flow.server,
            Some(Form::Wrapped(..)) => {
                counts.wrapped += 1;
                false
            }
            _ => false,
        };
        let place = match (to, real) {
            (true, false) => &mut counts.to,
            (false, false) => &mut counts.from,
            (true, true) => &mut counts.to_real,
            (false, true) => &mut counts.from_real,
        };
        *place += 1;
    }

    fn icmp(&mut self, sight: &Sight<'_>, ip: &Ip) {
        if let Payload::Icmp(icmp) = &ip.payload
            && let Some(quoted) = &icmp.quoted
            && self.errors.len() < MOST_ERRORS
            && self.target.matches(quoted.innermost()).is_some()
        {
            self.errors.push(IcmpError {
                point: sight.point as u32,
                number: sight.number,
                text: sight.packet.to_string(),
            });
        }
    }
}

fn record(
    sight: &Sight<'_>,
    ip: &Ip,
    tcp: Option<&Tcp>,
    conn: usize,
    to: bool,
    form: u32,
) -> Record {
    let link = &sight.packet.link;
    let (ident, digest, digested) = digests(sight.bytes, ip);
    let payload = || ip.length.saturating_sub(ip.header as u32);
    Record {
        time: sight.time,
        point: sight.point as u32,
        source: sight.source as u32,
        number: sight.number,
        conn: conn as u32,
        to,
        form,
        src: link.src,
        dst: link.dst,
        sent: sight.sent,
        ttl: ip.ttl,
        ident,
        digest,
        digested,
        whole: digested >= ip.length,
        spoilt: ip.checksum == Some(false),
        seq: tcp.map_or(0, |t| t.seq),
        flags: tcp.map_or(0, |t| t.flags),
        len: tcp.map_or_else(payload, |t| t.len),
    }
}
