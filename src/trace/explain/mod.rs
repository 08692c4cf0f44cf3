//! The way of one request and its answer, hop by hop.

mod decide;
mod ends;
mod types;
mod way;

use std::net::SocketAddr;

pub use types::{Explanation, Hop, Way};

use super::collect::Trace;
use super::follow::{Journey, follow};
use super::packet::{ACK, RST, SYN, flag_names};
use super::proof::director;
use super::proof::view::View;
use super::stations::Stations;
use super::target::protocol_name;
use super::topology::{TopoService, Topology};
use super::words::{count, list};
use super::{Error, Source, Target};
use decide::Decider;
use ends::End;

/// Explains the latest connection from one end to the other that was answered, or the latest.
/// `topology` is the lab's, if the captures are of one.
///
/// # Errors
/// The ends are not known, no capture can be read, or nothing passed between them.
pub fn explain(
    from: &str,
    to: Option<&str>,
    topology: Option<&Topology>,
    sources: &[Source],
) -> Result<Explanation, Error> {
    let from = End::parse(from, topology)?;
    let to = to.map(|to| End::parse(to, topology)).transpose()?;
    let target = ends::target(&from, to.as_ref(), topology)?;
    let asked = format!(
        "{} and {}",
        from.name,
        to.as_ref().map_or("any VIP", |to| &to.name)
    );
    if let Some(found) = between(&target, None, topology, sources)? {
        return Ok(found);
    }
    // A realserver is rarely asked directly: what it was asked through the VIP is meant then.
    if let (Some(topology), Some(to)) = (topology, &to)
        && let Some(node) = topology.node(&to.name)
    {
        let served = topology
            .services
            .iter()
            .filter(|s| s.servers.iter().any(|server| server.node == node.name));
        for service in served {
            let target = Target {
                server: vec![service.vip],
                port: Some(service.port),
                echo: false,
                ..target.clone()
            };
            if let Some(mut found) = between(&target, Some(&node.name), Some(topology), sources)? {
                found.notes.push(format!(
                    "nothing was captured from {} to {} directly; this is a request through the VIP \
                     that {} served",
                    from.name, to.name, node.name
                ));
                return Ok(found);
            }
        }
    }
    Err(Error::NothingToExplain(format!(
        "no packet between {asked} was captured; send some while the lab is up, as in \
         `sudo nslab exec {} curl -sS {}`, then ask again",
        node_or(&from.name, topology, "NODE"),
        to.as_ref()
            .map_or_else(|| "VIP".to_owned(), |to| host(to, topology))
    )))
}

fn node_or<'n>(name: &'n str, topology: Option<&Topology>, otherwise: &'n str) -> &'n str {
    match topology.and_then(|t| t.node(name)) {
        Some(_) => name,
        None => otherwise,
    }
}

fn host(to: &End, topology: Option<&Topology>) -> String {
    let port = to.port.or_else(|| {
        let services = &topology?.services;
        let node = services
            .iter()
            .find(|s| s.servers.iter().any(|server| server.node == to.name));
        node.map(|s| s.port)
    });
    match port {
        Some(port) if !to.name.contains(':') => format!("{}:{port}", to.name),
        _ => to.name.clone(),
    }
}

/// The service whose VIP the target is.
fn service_of<'t>(target: &Target, topology: &'t Topology) -> Option<&'t TopoService> {
    topology
        .services
        .iter()
        .find(|s| target.server.contains(&s.vip) && target.port.is_none_or(|port| port == s.port))
}

fn between(
    target: &Target,
    served_by: Option<&str>,
    topology: Option<&Topology>,
    sources: &[Source],
) -> Result<Option<Explanation>, Error> {
    let service = topology.and_then(|t| service_of(target, t));
    let translated: Vec<_> = service
        .into_iter()
        .flat_map(|s| &s.servers)
        .map(|s| SocketAddr::new(s.address, s.port))
        .collect();
    let trace = Trace::read(sources, target, &translated)?;
    let stations = Stations::new(&trace, topology);
    let journeys = follow(&trace, &stations);
    // A node's own address, like the VIP of the director, is no balanced one without a service.
    let about = service.map(|s| {
        let interfaces = topology.and_then(|t| t.node(&s.director));
        (s, interfaces.map_or(0, |n| n.interfaces.len()))
    });
    let director = if topology.is_some() && service.is_none() {
        None
    } else {
        director::find(&trace, &stations, &journeys, about, &[])
    };
    let vip = target.server.first().copied();
    let vip = service.map(|s| s.vip).or(vip);
    let Some(vip) = vip else { return Ok(None) };
    let view = View::new(&trace, &stations, &journeys, service, vip, director);
    let wanted: Vec<usize> = (0..view.conns.len())
        .filter(|n| view.of_conn(*n).any(|j| j.to))
        .filter(|n| served_by.is_none_or(|name| view.conns[*n].servers.contains(name)))
        .collect();
    let answered = wanted.iter().rev().find(|n| view.conns[**n].answers > 0);
    let Some(chosen) = answered.or(wanted.last()) else {
        return Ok(None);
    };
    Ok(one(&view, topology, *chosen, wanted.len()))
}

fn one(
    view: &View<'_>,
    topology: Option<&Topology>,
    conn: usize,
    of: usize,
) -> Option<Explanation> {
    let (request, answer) = packets(view, conn)?;
    let flow = view.conn(conn).flow;
    let start = view.record(request.legs[0].sights[0]).time;
    let opens = |journey: &Journey| journey.first(view.trace).flags & (SYN | ACK) == SYN;
    let way = |journey: &Journey| {
        let mut hops = way::hops(view, journey, start);
        let decider = Decider {
            view,
            topology,
            to: journey.to,
            opens: opens(journey),
        };
        decider.decide(&mut hops);
        hops
    };
    let there = way(request);
    let back = answer.map(way).unwrap_or_default();
    let http = view.trace.http.get(&(conn as u32));
    let named = |journey: &Journey| {
        let r = journey.first(view.trace);
        let line = http.and_then(|h| {
            if journey.to {
                h.request.clone()
            } else {
                h.status.clone()
            }
        });
        // The line is the connection's first of its kind.
        let first = view
            .of_conn(conn)
            .filter(|j| j.to == journey.to)
            .find(|j| j.first(view.trace).len > 0);
        match line.filter(|_| first.is_some_and(|f| std::ptr::eq(f, journey))) {
            Some(line) => format!("\"{line}\""),
            None if r.flags != 0 => format!("{} of {} bytes", flag_names(r.flags), r.len),
            None => format!("{} bytes", r.len),
        }
    };
    let mut explanation = Explanation {
        lab: topology.map(|t| t.lab.clone()),
        client: flow.client,
        server: flow.server,
        protocol: protocol_name(flow.protocol).to_owned(),
        of,
        request: named(request),
        answer: answer.map(named),
        prose: Vec::new(),
        notes: notes(view, topology, &there, &back, answer.is_some()),
        there,
        back,
    };
    explanation.prose = explanation
        .there
        .iter()
        .chain(&explanation.back)
        .filter_map(|h| h.decision.clone())
        .collect();
    explanation.prose.extend(moral(view, conn, &explanation));
    Some(explanation)
}

/// The request that is followed, and its answer: the first that carry something, else the first.
fn packets<'v>(view: &View<'v>, conn: usize) -> Option<(&'v Journey, Option<&'v Journey>)> {
    let carries = |j: &&Journey| {
        let r = j.first(view.trace);
        r.len > 0 && r.flags & (SYN | RST) == 0
    };
    let towards = |to: bool| view.of_conn(conn).filter(move |j| j.to == to);
    let longest = |to: bool| {
        // Of those, one that was seen along all of its way.
        let most = towards(to).filter(carries).map(|j| j.legs.len()).max();
        towards(to)
            .filter(carries)
            .find(|j| Some(j.legs.len()) == most)
    };
    match (longest(true), longest(false)) {
        (Some(request), answer) => Some((request, answer.or_else(|| towards(false).next()))),
        (None, _) => Some((towards(true).next()?, towards(false).next())),
    }
}

/// What could not be seen on the way.
fn notes(
    view: &View<'_>,
    topology: Option<&Topology>,
    there: &[Hop],
    back: &[Hop],
    answered: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    if !answered {
        notes.push("no answer was captured".to_owned());
    }
    let seen = |node: &str| there.iter().chain(back).any(|h| h.node == node);
    let mut unseen: Vec<&str> = there
        .iter()
        .chain(back)
        .flat_map(|h| [h.from.as_deref(), h.to.as_deref()])
        .flatten()
        .filter(|node| !seen(node))
        .collect();
    unseen.sort_unstable();
    unseen.dedup();
    if !unseen.is_empty() {
        notes.push(format!(
            "{} had part in it and {} not captured",
            list(&unseen),
            if unseen.len() == 1 { "was" } else { "were" }
        ));
    }
    if there.iter().chain(back).any(|h| h.since_ns < 0) {
        notes.push("the clocks of the captures differ: times are not in order".to_owned());
    }
    if topology.is_none() && view.director.is_none() {
        notes.push("no machine was seen that balances".to_owned());
    }
    notes
}

/// What the way shows, when there is a director.
fn moral(view: &View<'_>, conn: usize, explanation: &Explanation) -> Option<String> {
    let director = view.director.as_ref()?;
    let answer = view.of_conn(conn).filter(|j| !j.to).count();
    if answer == 0 || explanation.back.is_empty() {
        return None;
    }
    let touched = view
        .of_conn(conn)
        .filter(|j| !j.to && view.touches_director(j))
        .count();
    Some(match touched {
        0 => format!(
            "{} had no part in the way back: it saw none of this connection's {}",
            director.name,
            count(answer as u64, "answer frame")
        ),
        _ => format!("the way back leads through {} as well", director.name),
    })
}
