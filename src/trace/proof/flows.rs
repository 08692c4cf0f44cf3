//! The matrix, overall and of each connection.

use std::collections::HashMap;

use super::types::{Flow, MatrixRow, Method, Outcome, Role};
use super::view::{ConnView, View};
use crate::trace::collect::Counts;
use crate::trace::follow::{Journey, retransmissions};
use crate::trace::target::protocol_name;

/// Frames at each interface, over all clients' connections, in the order of the points.
pub(super) fn matrix(view: &View<'_>) -> Vec<MatrixRow> {
    let mut sums = vec![Counts::default(); view.trace.points.len()];
    for ((conn, point), counts) in &view.trace.counts {
        if view.conns.get(*conn as usize).is_some_and(|c| !c.own) {
            add(&mut sums[*point as usize], counts);
        }
    }
    (0..sums.len())
        .map(|point| row(view, point, &sums[point]))
        .collect()
}

fn add(sum: &mut Counts, counts: &Counts) {
    sum.to += counts.to;
    sum.from += counts.from;
    sum.wrapped += counts.wrapped;
    sum.to_real += counts.to_real;
    sum.from_real += counts.from_real;
}

fn row(view: &View<'_>, point: usize, counts: &Counts) -> MatrixRow {
    MatrixRow {
        point: view.trace.points[point].name.clone(),
        role: role(view, point),
        to_vip: counts.to,
        from_vip: counts.from,
        wrapped: counts.wrapped,
        to_real: counts.to_real,
        from_real: counts.from_real,
    }
}

/// What the machine of an interface is.
fn role(view: &View<'_>, point: usize) -> Option<Role> {
    if view
        .director
        .as_ref()
        .is_some_and(|d| d.points.contains(&point))
    {
        return Some(Role::Director);
    }
    let station = &view.stations.list[view.stations.of_point(point)?];
    if let Some(service) = view.service
        && service.servers.iter().any(|s| s.node == station.name)
    {
        return Some(Role::Realserver);
    }
    let served = |c: &ConnView| c.servers.contains(&station.name);
    if view.service.is_none() && view.clients().any(|(_, c)| served(c)) {
        return Some(Role::Realserver);
    }
    if view
        .clients()
        .any(|(n, _)| station.addresses.contains(&view.conn(n).flow.client.ip()))
    {
        return Some(Role::Client);
    }
    station.forwards.then_some(Role::Router)
}

/// Every client's connection with its number among the trace's, in the order of time. `expected` is the method that each should have.
pub(super) fn flows(view: &View<'_>, expected: Option<&str>) -> Vec<(usize, Flow)> {
    let again = retransmissions(view.trace, view.journeys);
    let mut points: HashMap<u32, Vec<(u32, Counts)>> = HashMap::new();
    for ((conn, point), counts) in &view.trace.counts {
        points.entry(*conn).or_default().push((*point, *counts));
    }
    let mut flows: Vec<(usize, Flow)> = view
        .clients()
        .map(|(n, conn)| {
            let mut seen = points.remove(&(n as u32)).unwrap_or_default();
            seen.sort_by_key(|(point, _)| *point);
            let matrix = seen
                .iter()
                .map(|(point, counts)| row(view, *point as usize, counts))
                .collect();
            let sent = |to| again.get(&(n as u32, to)).copied().unwrap_or(0);
            let flow = flow(view, n, conn, matrix, sent(true) + sent(false), expected);
            (n, flow)
        })
        .collect();
    flows.sort_by_key(|(_, f)| f.span);
    for (id, (_, flow)) in flows.iter_mut().enumerate() {
        flow.id = id + 1;
    }
    flows
}

fn flow(
    view: &View<'_>,
    n: usize,
    conn: &ConnView,
    matrix: Vec<MatrixRow>,
    retransmissions: u64,
    expected: Option<&str>,
) -> Flow {
    let known = view.conn(n);
    let times = || {
        view.of_conn(n)
            .flat_map(Journey::sights)
            .map(|r| view.record(r).time)
    };
    let span = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let director_ttl = view.of_conn(n).filter(|j| j.to).find_map(|j| {
        let (came, went) = view.at_director(j);
        let (came, went) = (came?.sights.last()?, went?.sights.first()?);
        Some((view.record(*came).ttl, view.record(*went).ttl))
    });
    let method = conn.method.unwrap_or(Method::Unknown);
    let (outcome, remark) = judge(conn, method, expected);
    let http = view
        .trace
        .http
        .get(&(n as u32))
        .cloned()
        .unwrap_or_default();
    let servers: Vec<_> = conn.servers.iter().cloned().collect();
    Flow {
        id: 0,
        client: known.flow.client,
        vip: known.flow.server,
        protocol: protocol_name(known.flow.protocol).to_owned(),
        span,
        opened: known.opened.is_some(),
        server: (!servers.is_empty()).then(|| servers.join("+")),
        method,
        request: http.request,
        status: http.status,
        director_ttl,
        retransmissions,
        matrix,
        outcome,
        remark,
    }
}

fn judge(conn: &ConnView, method: Method, expected: Option<&str>) -> (Outcome, Option<String>) {
    let fail = |why: &str| (Outcome::Fail, Some(why.to_owned()));
    let open = |why: &str| (Outcome::Inconclusive, Some(why.to_owned()));
    if conn.servers.len() > 1 {
        return fail("several realservers");
    }
    match (method.word(), expected) {
        (Some(word), Some(wanted)) if word != wanted => return fail("not the declared method"),
        (Some(_), _) => {}
        (None, _) => {
            return match method {
                Method::Bypassed => fail("bypassed the director"),
                Method::Local => fail("answered by the director"),
                Method::Routed => fail("answered through the director"),
                Method::Mixed => fail("in part past the director"),
                Method::Unbalanced => open("no director seen"),
                _ => open("its way was not captured"),
            };
        }
    }
    if conn.unanswered {
        return fail("no answer");
    }
    if conn.answers == 0 {
        return open("its answers were not captured");
    }
    if conn.servers.is_empty() {
        return open("realserver not captured");
    }
    (Outcome::Pass, None)
}
