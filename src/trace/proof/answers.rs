//! Which way did the answers go, who gave them, and did they all arrive?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::types::{Outcome, Verdict, VerdictId};
use super::verdicts::{firsts, verdict};
use super::view::View;
use crate::trace::follow::{Journey, Leg};
use crate::trace::packet::{FIN, SYN};
use crate::trace::words::{count, list};

/// Which way did the answers go?
pub(super) fn answers(view: &View<'_>, expected: &str) -> Verdict {
    let nat = expected == "nat";
    let question = if nat {
        "Did the answers go back through the director?"
    } else {
        "Did the answers bypass the director?"
    };
    let id = VerdictId::Answers;
    let all: Vec<&Journey> = view.journeys(false).collect();
    if all.is_empty() {
        let answer = "There are no answers in the captures.";
        return verdict(id, question, Outcome::Inconclusive, answer, Vec::new());
    }
    let (through, past): (Vec<&Journey>, Vec<&Journey>) =
        all.iter().partition(|j| view.touches_director(j));
    let (wrong, right) = if nat {
        (past, through)
    } else {
        (through, past)
    };
    if !wrong.is_empty() && view.director.is_some() {
        let answer = format!(
            "No: {} of {} {}.",
            wrong.len(),
            count(all.len() as u64, "answer frame"),
            if nat {
                "were seen, but not at the director"
            } else {
                "passed the director"
            }
        );
        // With NAT an answer may have been captured elsewhere only.
        let captured = view.director.as_ref().is_some_and(|d| d.complete);
        let outcome = if nat && !captured {
            Outcome::Inconclusive
        } else {
            Outcome::Fail
        };
        let evidence = firsts(view, wrong.iter().map(|j| &j.legs[0]));
        return verdict(id, question, outcome, answer, evidence);
    }
    let left: Vec<_> = right
        .iter()
        .filter_map(|j| Some((*j, view.at_server(j)?)))
        .collect();
    let ways = ways(view, &left);
    let evidence = firsts(view, left.iter().map(|(_, (leg, _))| *leg));
    if view.director.is_none() {
        let answer = format!("The director is not known. Answers went {}.", list(&ways));
        return verdict(id, question, Outcome::Inconclusive, answer, evidence);
    }
    let complete = view
        .director
        .as_ref()
        .is_some_and(|d| d.complete && !d.points.is_empty());
    if left.is_empty() && complete {
        let answer = format!(
            "Yes: {} seen, none of them at the director; where they left a realserver was not \
             captured.",
            count(all.len() as u64, "answer frame")
        );
        let evidence = firsts(view, right.iter().map(|j| &j.legs[0]));
        return verdict(id, question, Outcome::Pass, answer, evidence);
    }
    if left.is_empty() {
        let answer = format!(
            "{} seen, but not where they left a realserver.",
            count(all.len() as u64, "answer frame")
        );
        return verdict(id, question, Outcome::Inconclusive, answer, evidence);
    }
    let answer = format!("Yes: {}.", list(&ways));
    verdict(id, question, Outcome::Pass, answer, evidence)
}

/// The ways that answers took, most used first: "12 from server1 to router to client".
fn ways(view: &View<'_>, left: &[(&Journey, (&Leg, String))]) -> Vec<String> {
    let mut ways: BTreeMap<String, u64> = BTreeMap::new();
    for (journey, (first, server)) in left {
        let mut way = format!("from {server}");
        let mut at = None;
        for leg in &journey.legs {
            let name = view.stations.name(leg.into, leg.dst);
            if leg.dst.is_some() && at.as_ref() != Some(&name) && name != *server {
                let _ = write!(way, " to {name}");
            }
            at = Some(name);
        }
        if first.dst.is_none() {
            way += " on";
        }
        *ways.entry(way).or_default() += 1;
    }
    let mut ways: Vec<_> = ways.into_iter().collect();
    ways.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    ways.truncate(6);
    ways.into_iter()
        .map(|(way, n)| format!("{n} {way}"))
        .collect()
}

/// Which realserver served which connection?
pub(super) fn served(view: &View<'_>) -> Verdict {
    let question = "Was each connection served by one realserver?";
    let id = VerdictId::Served;
    let mut by: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut torn, mut unknown, mut total) = (Vec::new(), 0, 0);
    for (n, conn) in view.clients() {
        total += 1;
        match conn.servers.len() {
            0 => unknown += 1,
            1 => {}
            _ => torn.push(n),
        }
        for server in &conn.servers {
            *by.entry(server).or_default() += 1;
        }
    }
    let shares: Vec<_> = by
        .iter()
        .map(|(server, n)| format!("{server} {n}"))
        .collect();
    if let Some(n) = torn.first() {
        let conn = &view.conns[*n];
        let names: Vec<_> = conn.servers.iter().collect();
        let legs = view
            .of_conn(*n)
            .filter_map(|j| view.at_server(j))
            .map(|(leg, name)| (name, leg))
            .collect::<BTreeMap<_, _>>();
        let answer = format!(
            "No: {} had frames at several, as that of {} at {}.",
            count(torn.len() as u64, "connection"),
            view.conn(*n).flow.client,
            list(&names)
        );
        let evidence = firsts(view, legs.into_values());
        return verdict(id, question, Outcome::Fail, answer, evidence);
    }
    let (outcome, answer) = match (total, unknown) {
        (0, _) => (
            Outcome::Inconclusive,
            "There are no connections in the captures.".to_owned(),
        ),
        (_, 0) => (
            Outcome::Pass,
            format!(
                "Yes, {}: {}.",
                count(total, "connection"),
                shares.join(", ")
            ),
        ),
        (_, unknown) => (
            Outcome::Inconclusive,
            format!(
                "Of {} the captures do not tell by whom {unknown} were served{}{}.",
                count(total, "connection"),
                if shares.is_empty() {
                    ""
                } else {
                    "; the others: "
                },
                shares.join(", ")
            ),
        ),
    };
    verdict(id, question, outcome, answer, Vec::new())
}

/// Did each answer reach its client?
pub(super) fn arrived(view: &View<'_>) -> Verdict {
    let question = "Did every answer of a realserver reach its client?";
    let id = VerdictId::Arrived;
    let unanswered: Vec<usize> = view
        .clients()
        .filter(|(_, c)| c.unanswered)
        .map(|(n, _)| n)
        .collect();
    if let Some(n) = unanswered.first() {
        let answer = format!(
            "No: {} had no answer at all, as that of {}.",
            count(unanswered.len() as u64, "connection"),
            view.conn(*n).flow.client
        );
        let legs = unanswered
            .iter()
            .filter_map(|n| view.of_conn(*n).next())
            .map(|j| &j.legs[0]);
        return verdict(id, question, Outcome::Fail, answer, firsts(view, legs));
    }
    // Where clients are captured: the interfaces whose machine has a client's address, or that
    // saw requests with a TTL that nobody has taken from, at the sender.
    let at_client = client_points(view);
    let (mut reached, mut lost, mut unseen) = (0u64, Vec::new(), BTreeSet::new());
    let mut delivered = BTreeSet::new();
    for journey in view.journeys(false) {
        let r = journey.first(view.trace);
        let client = view.conn(journey.conn as usize).flow.client.ip();
        let Some(points) = at_client.get(&client) else {
            unseen.insert(client.to_string());
            continue;
        };
        let seen = journey
            .sights()
            .any(|n| points.contains(&(view.record(n).point as usize)));
        if seen {
            reached += 1;
            delivered.insert((r.conn, r.seq, r.len, r.flags & (SYN | FIN)));
        } else if view.at_server(journey).is_some() {
            lost.push(journey);
        }
    }
    // What was sent again and arrived then is not lost; what carries nothing needs not arrive.
    let again = lost.len();
    lost.retain(|j| {
        let r = j.first(view.trace);
        let carries = r.flags == 0 || r.len > 0 || r.flags & (SYN | FIN) != 0;
        carries && !delivered.contains(&(r.conn, r.seq, r.len, r.flags & (SYN | FIN)))
    });
    let again = (again - lost.len()) as u64;
    if !lost.is_empty() {
        let answer = format!(
            "No: {} that left a realserver did not arrive.",
            count(lost.len() as u64, "frame")
        );
        let evidence = firsts(view, lost.iter().map(|j| &j.legs[0]));
        return verdict(id, question, Outcome::Fail, answer, evidence);
    }
    let unseen: Vec<_> = unseen.into_iter().collect();
    if reached == 0 {
        let answer = if unseen.is_empty() {
            "There are no answers in the captures.".to_owned()
        } else {
            format!("The client was not captured ({}).", list(&unseen))
        };
        return verdict(id, question, Outcome::Inconclusive, answer, Vec::new());
    }
    let mut answer = format!("Yes: {} arrived", count(reached, "frame"));
    if again > 0 {
        let _ = write!(
            answer,
            "; {} did not, and what they carried was sent again or was nothing",
            count(again, "frame")
        );
    }
    if !unseen.is_empty() {
        let _ = write!(answer, "; what {} received was not captured", list(&unseen));
    }
    verdict(id, question, Outcome::Pass, answer + ".", Vec::new())
}

/// For each client's address the interfaces that it sends and receives by, as far as they were
/// captured.
fn client_points(view: &View<'_>) -> BTreeMap<std::net::IpAddr, BTreeSet<usize>> {
    let mut points: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
    let clients: BTreeSet<_> = view
        .clients()
        .map(|(n, _)| view.conn(n).flow.client.ip())
        .collect();
    for client in clients {
        if let Some(station) = view.stations.of_address(client)
            && !view.stations.list[station].points.is_empty()
        {
            let own = view.stations.list[station].points.iter().copied();
            points.entry(client).or_default().extend(own);
        }
    }
    if view.stations.of_lab {
        return points;
    }
    // Without a lab: interfaces on the first segment of requests, if nobody has taken from the TTL
    // yet. Such a segment may be the director's as well, where no answer is to be expected: then
    // one must have been seen, or the interface be the sender's own.
    let mut answered: BTreeSet<(std::net::IpAddr, u32)> = BTreeSet::new();
    for journey in view.journeys(false) {
        let client = view.conn(journey.conn as usize).flow.client.ip();
        answered.extend(journey.sights().map(|n| (client, view.record(n).point)));
    }
    for journey in view.journeys(true) {
        let client = view.conn(journey.conn as usize).flow.client.ip();
        let Some(leg) = journey.legs.first() else {
            continue;
        };
        for r in leg.sights.iter().map(|n| view.record(*n)) {
            let own = r.src.is_some() && view.trace.points[r.point as usize].mac == r.src;
            let near = matches!(r.ttl, 64 | 128 | 255) && answered.contains(&(client, r.point));
            if own || near {
                points.entry(client).or_default().insert(r.point as usize);
            }
        }
    }
    points
}
