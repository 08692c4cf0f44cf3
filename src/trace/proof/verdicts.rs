//! Did requests pass the director, and did answers? And who said to have the VIP?

use super::conclude::named;
use super::evidence::{at, evidence};
use super::types::{Evidence, Method, Outcome, Verdict, VerdictId};
use super::view::View;
use crate::trace::follow::{Journey, Leg};
use crate::trace::words::{count, list};

/// Frames that a verdict shows at most.
pub(super) const MOST_EVIDENCE: usize = 4;

pub(super) fn verdict(
    id: VerdictId,
    question: impl Into<String>,
    outcome: Outcome,
    answer: impl Into<String>,
    evidence: Vec<Evidence>,
) -> Verdict {
    Verdict {
        id,
        question: question.into(),
        outcome,
        answer: answer.into(),
        evidence,
    }
}

/// Sights of some packets, as evidence: the director's own where it has one.
pub(super) fn firsts<'a>(view: &View<'_>, legs: impl Iterator<Item = &'a Leg>) -> Vec<Evidence> {
    let at_director = |n: &&u32| {
        let point = view.record(**n).point as usize;
        let director = view.director.as_ref();
        director.is_some_and(|d| d.points.contains(&point))
    };
    legs.take(MOST_EVIDENCE)
        .map(|leg| {
            let own = leg.sights.iter().find(at_director);
            evidence(view.trace, view.stations, *own.unwrap_or(&leg.sights[0]))
        })
        .collect()
}

/// Is it the declared method?
pub(super) fn method(view: &View<'_>, declared: &str, found: Method) -> Verdict {
    let question = format!("Is it {}, as declared?", named(declared));
    let (outcome, answer) = match found.word() {
        Some(word) if word == declared => (Outcome::Pass, "Yes.".to_owned()),
        _ => match found {
            Method::Nothing => (
                Outcome::Inconclusive,
                "There are no packets of the service in the captures.".to_owned(),
            ),
            Method::Unknown => (
                Outcome::Inconclusive,
                "The captures do not tell.".to_owned(),
            ),
            other => (
                Outcome::Fail,
                format!("No, it is {}.", describe(view, other)),
            ),
        },
    };
    verdict(VerdictId::Method, question, outcome, answer, Vec::new())
}

/// A method as a noun phrase.
pub(super) fn describe(view: &View<'_>, method: Method) -> String {
    let director = view.director.as_ref().map_or("the director", |d| &d.name);
    match method {
        Method::Direct => "Direct Routing".to_owned(),
        Method::Nat => "NAT".to_owned(),
        Method::Tunnel(kind) => format!("tunnelling ({})", kind.as_str()),
        Method::Bypassed => format!("no balancing at all: packets bypass {director}"),
        Method::Local => format!("{director} answering itself"),
        Method::Routed => format!("{director} passing on requests and answers alike"),
        Method::Unbalanced => "one machine that has the address and answers".to_owned(),
        Method::Mixed => "not the same for all connections".to_owned(),
        Method::Nothing => "nothing: there are no packets".to_owned(),
        Method::Unknown => "not to be told from these captures".to_owned(),
    }
}

/// Who answered ARP for the VIP?
pub(super) fn arp(view: &View<'_>) -> Option<Verdict> {
    let claims = view.trace.survey.claims.get(&view.vip)?;
    let name = |mac| {
        view.stations
            .name(view.stations.of_mac(Some(mac)), Some(mac))
    };
    let known = view
        .director
        .as_ref()
        .filter(|d| !d.macs.is_empty())
        .map(|d| (d, d.name.as_str()));
    let strangers: Vec<_> = claims
        .iter()
        .filter(|(mac, _)| !known.is_some_and(|(d, _)| d.has_mac(Some(**mac))))
        .collect();
    let show = |claims: &[(&crate::lab::Mac, &crate::trace::survey::Claim)]| {
        claims
            .iter()
            .take(MOST_EVIDENCE)
            .map(|(mac, c)| {
                let said = if c.reply {
                    "is at"
                } else {
                    "asks, and says it is at"
                };
                let what = format!("ARP {} {said} {mac} ({})", view.vip, name(**mac));
                at(view.trace, c.point, c.source, c.number, c.time, what)
            })
            .collect::<Vec<_>>()
    };
    let all: Vec<_> = claims.iter().collect();
    let (outcome, answer, evidence) = match (known, &strangers[..], claims.len()) {
        (Some((_, director)), [], _) => (
            Outcome::Pass,
            format!("Only the director, {director}."),
            show(&all),
        ),
        (Some((_, director)), others, _) => {
            let others_named: Vec<_> = others.iter().map(|(mac, _)| name(**mac)).collect();
            let too = if claims.len() > others.len() {
                " as well as"
            } else {
                " instead of"
            };
            (
                Outcome::Fail,
                format!(
                    "{} said to have the VIP,{too} the director, {director}: who believes it sends \
                     past the director. Realservers with the VIP on an interface need arp_ignore=1 \
                     and arp_announce=2.",
                    list(&others_named)
                ),
                show(others),
            )
        }
        (None, _, 1) => {
            let one = all.first().map(|(mac, _)| name(**mac)).unwrap_or_default();
            (
                Outcome::Inconclusive,
                format!("One machine, {one}; whether it is the director the captures do not tell."),
                show(&all),
            )
        }
        (None, ..) => {
            let names: Vec<_> = all.iter().map(|(mac, _)| name(**mac)).collect();
            (
                Outcome::Fail,
                format!(
                    "{} machines: {}. Only the director may.",
                    claims.len(),
                    list(&names)
                ),
                show(&all),
            )
        }
    };
    Some(verdict(
        VerdictId::Arp,
        "Who said by ARP to have the VIP?",
        outcome,
        answer,
        evidence,
    ))
}

/// Did every request reach a realserver through the director?
pub(super) fn passed_on(view: &View<'_>) -> Verdict {
    let requests: Vec<&Journey> = view.journeys(true).collect();
    let (mut received, mut sent, mut kept, mut around) = (0, 0, Vec::new(), Vec::new());
    for journey in &requests {
        let (came, went) = view.at_director(journey);
        received += u64::from(came.is_some());
        sent += u64::from(went.is_some());
        match (came, went) {
            (Some(came), None) => kept.push(came),
            (None, None) if !view.touches_director(journey) => {
                around.extend(view.at_server(journey).map(|(leg, _)| leg));
            }
            _ => {}
        }
    }
    let name = view.director.as_ref().map_or("the director", |d| &d.name);
    let question = "Did every frame to the VIP pass the director?";
    let id = VerdictId::PassedOn;
    if !around.is_empty() && view.director.is_some() {
        let answer = format!(
            "No: {} of {} reached a realserver without passing {name}.",
            around.len(),
            count(requests.len() as u64, "frame")
        );
        let evidence = firsts(view, around.into_iter());
        return verdict(id, question, Outcome::Fail, answer, evidence);
    }
    if received == 0 || sent == 0 {
        let answer = if view.director.is_none() {
            "No machine was seen that passes frames to the VIP on.".to_owned()
        } else {
            format!(
                "The captures do not tell: {} and {} seen.",
                seen_at(received, "coming to", name),
                seen_at(sent, "going on from", name)
            )
        };
        return verdict(id, question, Outcome::Inconclusive, answer, Vec::new());
    }
    if kept.is_empty() {
        let answer = format!(
            "Yes: {name} passed on each of {}{}.",
            count(received, "frame"),
            if received == sent {
                String::new()
            } else {
                format!(" that were seen coming, and {sent} were seen going on")
            }
        );
        let shown = requests.iter().filter_map(|j| {
            let (came, went) = view.at_director(j);
            Some([came?, went?])
        });
        let evidence = firsts(view, shown.flatten());
        return verdict(id, question, Outcome::Pass, answer, evidence);
    }
    let answer = format!(
        "No: {name} received {} and passed on {sent}; {} it did not.",
        count(received, "frame"),
        kept.len()
    );
    verdict(
        id,
        question,
        Outcome::Fail,
        answer,
        firsts(view, kept.into_iter()),
    )
}

fn seen_at(n: u64, how: &str, name: &str) -> String {
    match n {
        0 => format!("none was seen {how} {name}"),
        n => format!("{} {how} {name}", count(n, "frame")),
    }
}

/// Did the director see both directions?
pub(super) fn both_directions(view: &View<'_>, expected: &str) -> Verdict {
    let nat = expected == "nat";
    let question = if nat {
        "Did the director see both directions, as NAT needs it?"
    } else {
        "Did the director see one direction only?"
    };
    let id = VerdictId::BothDirections;
    let Some(director) = &view.director else {
        let answer = "It is not known which machine the director is; --director names its capture.";
        return verdict(id, question, Outcome::Inconclusive, answer, Vec::new());
    };
    let name = &director.name;
    let (to, from) = at_points(view);
    let touched = |to: bool| -> Vec<&Leg> {
        view.journeys(to)
            .filter(|j| view.touches_director(j))
            .filter_map(|j| {
                let mac = |l: &&Leg| director.has_mac(l.src) || director.has_mac(l.dst);
                j.legs.iter().find(mac).or(j.legs.first())
            })
            .collect()
    };
    let (requests, answers) = (touched(true), touched(false));
    let evidence = |answers: Vec<&Leg>| firsts(view, answers.into_iter());
    if nat {
        let (outcome, answer) = match (requests.is_empty(), answers.is_empty()) {
            (false, false) => (
                Outcome::Pass,
                format!(
                    "Yes: {name} had part in {} and {}.",
                    count(requests.len() as u64, "request frame"),
                    count(answers.len() as u64, "answer frame")
                ),
            ),
            (_, true) if director.points.is_empty() => (
                Outcome::Inconclusive,
                format!("{name} was not captured, and no answer was seen there."),
            ),
            _ => (
                Outcome::Fail,
                format!("No: {name} saw {to} frames to the VIP and {from} answers."),
            ),
        };
        return verdict(id, question, outcome, answer, evidence(answers));
    }
    if !answers.is_empty() {
        let answer = format!(
            "No: {name} had part in {} from the VIP, too.",
            count(answers.len() as u64, "frame")
        );
        return verdict(id, question, Outcome::Fail, answer, evidence(answers));
    }
    let total = view.journeys(false).count() as u64;
    if director.points.is_empty() {
        let answer = format!(
            "{name} was not captured; of {} that others saw, none came from it or went to it.",
            count(total, "answer frame")
        );
        return verdict(id, question, Outcome::Inconclusive, answer, Vec::new());
    }
    let points: Vec<_> = director
        .points
        .iter()
        .map(|p| view.trace.points[*p].name.as_str())
        .collect();
    let answer = format!(
        "{} {to} frames to the VIP and {from} from it.",
        if points == [name.as_str()] {
            format!("Yes: {name} saw")
        } else {
            format!("Yes: {name} saw (at {})", list(&points))
        }
    );
    let (outcome, answer) = if to == 0 {
        (
            Outcome::Inconclusive,
            format!("Neither: {name} saw no frame of the service at all."),
        )
    } else if total == 0 {
        (
            Outcome::Inconclusive,
            format!("{answer} But no answer was seen anywhere."),
        )
    } else if director.complete {
        (Outcome::Pass, answer)
    } else {
        (
            Outcome::Inconclusive,
            format!("{answer} But not all of its interfaces were captured."),
        )
    };
    let shown = requests.into_iter().take(2).collect();
    verdict(id, question, outcome, answer, evidence(shown))
}

/// Frames to and from the VIP at the director's interfaces, clients' only.
pub(super) fn at_points(view: &View<'_>) -> (u64, u64) {
    let Some(director) = &view.director else {
        return (0, 0);
    };
    let (mut to, mut from) = (0, 0);
    for ((conn, point), counts) in &view.trace.counts {
        let own = view.conns.get(*conn as usize).is_some_and(|c| c.own);
        if !own && director.points.contains(&(*point as usize)) {
            to += counts.to + counts.to_real;
            from += counts.from + counts.from_real;
        }
    }
    (to, from)
}
