//! What it comes to: the method, in plain words.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{Method, Outcome, Verdict, VerdictId};
use super::verdicts::{at_points, describe};
use super::view::View;
use crate::trace::words::{count, list};

/// The lab file's word for a method, spelt out.
pub(super) fn named(word: &str) -> &str {
    match word {
        "dr" => "Direct Routing",
        "nat" => "NAT",
        "tun" => "tunnelling",
        other => other,
    }
}

/// The method of all clients' connections together. Those that tell nothing do not count.
pub(super) fn overall(view: &View<'_>) -> Method {
    let methods: BTreeSet<String> = view
        .clients()
        .filter_map(|(_, c)| c.method)
        .filter(|m| *m != Method::Unknown)
        .map(|m| format!("{m:?}"))
        .collect();
    let first = view
        .clients()
        .filter_map(|(_, c)| c.method)
        .find(|m| *m != Method::Unknown);
    match (first, methods.len()) {
        (Some(method), 1) => method,
        (Some(_), _) => Method::Mixed,
        (None, _) if view.clients().next().is_some() => Method::Unknown,
        (None, _) => Method::Nothing,
    }
}

/// The whole in one or two sentences.
pub(super) fn conclusion(view: &View<'_>, method: Method, verdicts: &[Verdict]) -> String {
    let director = view.director.as_ref().map_or("the director", |d| &d.name);
    let requests = view.journeys(true).count() as u64;
    let answers = view.journeys(false).count() as u64;
    let (to, from) = at_points(view);
    let captured = view.director.as_ref().is_some_and(|d| !d.points.is_empty());
    let outcome = |id| {
        verdicts
            .iter()
            .find(|v| v.id == id)
            .map_or(Outcome::Inconclusive, |v| v.outcome)
    };
    let passed = outcome(VerdictId::PassedOn) == Outcome::Pass;
    let saw_none = outcome(VerdictId::BothDirections) == Outcome::Pass;
    match method {
        Method::Direct if answers == 0 => format!(
            "Requests are passed on as by Direct Routing, but there are no answers in the captures: \
             {director} received {to} frames to the VIP, in and out."
        ),
        Method::Direct if passed && saw_none && captured => format!(
            "Direct Routing: {director} passed on each of the clients' {} (in and out: {to}) and saw \
             none from the VIP: the realservers answered the clients themselves.",
            count(requests, "frame")
        ),
        Method::Direct => {
            let open = if captured {
                format!("{director} saw {to} frames to the VIP and {from} from it.")
            } else {
                format!(
                    "{director} passes requests on unchanged, and of {} none passed it; but it was \
                     not captured itself, so that is not proven.",
                    count(answers, "answer frame")
                )
            };
            format!("Direct Routing, as far as the captures show: {open}")
        }
        Method::Nat => format!(
            "NAT: director saw both directions. {director} sent the clients' requests on to the \
             realservers' own addresses and put the VIP back into their answers{}.",
            if captured {
                format!(" ({to} request and {from} answer frames, in and out)")
            } else {
                String::new()
            }
        ),
        Method::Tunnel(kind) => format!(
            "Tunnel: {director} wrapped the clients' {} in {} and {}the realservers unwrapped them \
             and answered the clients themselves.",
            count(requests, "frame"),
            kind.as_str(),
            if saw_none {
                "saw none from the VIP: "
            } else {
                "sent them on: "
            }
        ),
        Method::Bypassed => bypassed(view, director, captured),
        Method::Local => format!(
            "No realserver: {director} answered the clients itself ({to} frames to the VIP, {from} \
             from it)."
        ),
        Method::Routed => format!(
            "Not Direct Routing as it should be: {director} passed on requests unchanged, but the \
             answers passed it, too ({to} frames to the VIP, {from} from it). Is it the \
             realservers' gateway?"
        ),
        Method::Unbalanced => format!(
            "No director in sight: {} the VIP and answers for it. If there is a director, it was \
             bypassed; --director names its capture.",
            match &servers(view)[..] {
                [one] => format!("{one} has"),
                many => format!("{} have", list(many)),
            }
        ),
        Method::Mixed => {
            let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
            for (_, conn) in view.clients() {
                let method = conn.method.unwrap_or(Method::Unknown);
                *kinds.entry(describe(view, method)).or_default() += 1;
            }
            let kinds: Vec<_> = kinds
                .iter()
                .map(|(what, n)| format!("{}: {what}", count(*n, "connection")))
                .collect();
            format!("Not all connections go the same way: {}.", kinds.join("; "))
        }
        Method::Nothing => "There are no packets of the service in the captures.".to_owned(),
        Method::Unknown => format!(
            "The captures do not tell: {} to the VIP and {} from it were seen, but not what became \
             of them on the way.",
            count(requests, "frame"),
            answers
        ),
    }
}

fn servers(view: &View<'_>) -> Vec<String> {
    let all: BTreeSet<_> = view
        .clients()
        .flat_map(|(_, c)| c.servers.iter().cloned())
        .collect();
    all.into_iter().collect()
}

/// A realserver has taken the VIP, and everything seems to work.
fn bypassed(view: &View<'_>, director: &str, captured: bool) -> String {
    let clients: Vec<_> = view.clients().map(|(n, _)| n as u32).collect();
    let http = clients
        .iter()
        .any(|n| view.trace.http.get(n).is_some_and(|h| h.status.is_some()));
    let answered = if http { "HTTP" } else { "the service" };
    let saw = if captured {
        format!("{director} saw no frame of it")
    } else {
        "no director had part in it".to_owned()
    };
    let takers = servers(view);
    let claims = view.trace.survey.claims.get(&view.vip);
    let claimed: Vec<_> = claims
        .into_iter()
        .flatten()
        .map(|(mac, _)| {
            view.stations
                .name(view.stations.of_mac(Some(*mac)), Some(*mac))
        })
        .filter(|name| takers.contains(name))
        .collect();
    let (leak, how) = if claimed.is_empty() {
        ("", format!("{} took the frames to the VIP", list(&takers)))
    } else {
        (
            " (ARP leak)",
            format!("{} said by ARP to have the VIP", list(&claimed)),
        )
    };
    format!("Director bypassed{leak}: {answered} answered though {saw}; {how}.")
}

/// What the verdicts and the method come to.
pub(super) fn outcome(method: Method, declared: Option<&str>, verdicts: &[Verdict]) -> Outcome {
    if verdicts.iter().any(|v| v.outcome == Outcome::Fail) {
        return Outcome::Fail;
    }
    // What the method rests on has to be shown; shares and ARP need not.
    let core = [
        VerdictId::PassedOn,
        VerdictId::BothDirections,
        VerdictId::Answers,
    ];
    let shown = verdicts
        .iter()
        .filter(|v| core.contains(&v.id))
        .all(|v| v.outcome == Outcome::Pass);
    match method.word() {
        Some(word) if declared.is_none_or(|d| d == word) && shown => Outcome::Pass,
        Some(_) => Outcome::Inconclusive,
        None => match method {
            Method::Nothing | Method::Unknown | Method::Unbalanced => Outcome::Inconclusive,
            _ => Outcome::Fail,
        },
    }
}
