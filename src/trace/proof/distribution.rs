//! Are connections distributed as the scheduler does it?

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::types::{Outcome, Share, Verdict, VerdictId};
use super::verdicts::verdict;
use super::view::View;
use crate::trace::topology::{TopoServer, TopoService};
use crate::trace::words::count;

/// A connection as a scheduler met it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// When the director received its opening.
    pub time: i64,
    /// The client's address.
    pub client: IpAddr,
    /// Who was chosen.
    pub server: String,
}

/// Connections whose opening was seen and whose realserver is known, in the order in which the
/// director met them; whether it was itself captured; and how many others there are.
pub(super) fn choices(view: &View<'_>) -> (Vec<Choice>, bool, u64) {
    let (mut choices, mut at_director, mut others) = (Vec::new(), true, 0);
    for (n, conn) in view.clients() {
        let opening = view
            .of_conn(n)
            .find(|j| j.to && (view.conn(n).isn.is_none() || view.conn(n).isn == isn(view, j)));
        let server = conn
            .servers
            .iter()
            .next()
            .filter(|_| conn.servers.len() == 1);
        let opened = view.conn(n).isn.is_some() || view.conn(n).flow.protocol == 17;
        let (Some(journey), Some(server), true) = (opening, server, opened) else {
            others += 1;
            continue;
        };
        let came = view.at_director(journey).0.and_then(|l| l.sights.last());
        at_director &= came.is_some();
        let record = came.copied().unwrap_or(journey.legs[0].sights[0]);
        choices.push(Choice {
            time: view.record(record).time,
            client: view.conn(n).flow.client.ip(),
            server: server.clone(),
        });
    }
    choices.sort_by_key(|c| c.time);
    (choices, at_director, others)
}

fn isn(view: &View<'_>, journey: &crate::trace::follow::Journey) -> Option<u32> {
    let first = journey.first(view.trace);
    (first.flags & (crate::trace::packet::SYN | crate::trace::packet::ACK)
        == crate::trace::packet::SYN)
        .then_some(first.seq)
}

/// Each realserver's part.
pub(super) fn shares(view: &View<'_>) -> Vec<Share> {
    let mut by: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, conn) in view.clients() {
        for server in &conn.servers {
            *by.entry(server).or_default() += 1;
        }
    }
    let servers = view.service.map_or(&[][..], |s| &s.servers);
    let mut shares: Vec<Share> = servers
        .iter()
        .map(|s| Share {
            server: s.node.clone(),
            weight: Some(s.weight),
            connections: by.remove(s.node.as_str()).unwrap_or(0),
        })
        .collect();
    shares.extend(by.into_iter().map(|(server, connections)| Share {
        server: server.to_owned(),
        weight: None,
        connections,
    }));
    shares
}

/// Are connections distributed as the scheduler does it?
pub(super) fn distribution(view: &View<'_>) -> Option<Verdict> {
    let service = view.service?;
    let (choices, at_director, others) = choices(view);
    let scheduler = service.scheduler.as_str();
    let question = format!("Are connections distributed as the scheduler, {scheduler}, does it?");
    let id = VerdictId::Distribution;
    let shown: Vec<_> = shares(view)
        .iter()
        .map(|s| format!("{} {}", s.server, s.connections))
        .collect();
    let shown = shown.join(", ");
    let inconclusive = |why: String| {
        verdict(
            id,
            question.as_str(),
            Outcome::Inconclusive,
            why,
            Vec::new(),
        )
    };
    if view.director.is_some() && view.clients().all(|(_, c)| c.passed == 0) {
        let why = format!("{shown}, but no connection was seen passing the director.");
        return Some(inconclusive(why));
    }
    if choices.is_empty() {
        let why = "No connection's opening and realserver were captured.".to_owned();
        return Some(inconclusive(why));
    }
    let judged = judge(service, &choices);
    let changed = service.changed.as_deref().or_else(|| {
        let broken = matches!(judged, Judged::Broken(_));
        (broken && service.checked).then_some("health checks may have changed weights")
    });
    let total = count(choices.len() as u64, "connection");
    Some(match (judged, changed) {
        (Judged::Kept(how), None) => {
            let answer = format!("Yes, {total}: {shown}{how}.");
            verdict(id, question, Outcome::Pass, answer, Vec::new())
        }
        (Judged::Broken(how), None) if at_director && others == 0 => {
            let answer = format!("No, {total}: {shown}; {how}.");
            verdict(id, question, Outcome::Fail, answer, Vec::new())
        }
        (Judged::Broken(how), None) => {
            let why = if at_director {
                format!("{} more could not be told", count(others, "connection"))
            } else {
                "the order in which the director met them was not captured".to_owned()
            };
            inconclusive(format!("{total}: {shown}; {how}, but {why}."))
        }
        (Judged::Depends(why), None) => inconclusive(format!("{total}: {shown}. {why}")),
        (_, Some(why)) => inconclusive(format!("{total}: {shown}, but {why}.")),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Kept(String),
    Broken(String),
    Depends(String),
}

/// Holds the choices against what ipvsadm(8) says of the scheduler.
fn judge(service: &TopoService, choices: &[Choice]) -> Judged {
    let scheduler = service.scheduler.as_str();
    if let Some(prefix) = service.persistent {
        return by_source(choices, prefix);
    }
    let weight = |s: &TopoServer| {
        if scheduler == "rr" {
            s.weight.min(1)
        } else {
            s.weight
        }
    };
    match scheduler {
        "rr" | "wrr" => in_turn(
            &service
                .servers
                .iter()
                .map(|s| (s.node.as_str(), weight(s)))
                .collect::<Vec<_>>(),
            choices,
        ),
        "sh" if service.scheduler_flags.iter().any(|f| f == "sh-port") => Judged::Depends(
            "With sh-port each connection of a client may go elsewhere, so only the shares can be \
             told."
                .to_owned(),
        ),
        "sh" => by_source(choices, 128),
        other => Judged::Depends(format!(
            "What {other} chooses depends on what packets do not show, so only the shares can be \
             told."
        )),
    }
}

/// Round robin: of as many connections in a row as the weights add up to, each realserver gets
/// exactly its weight, wherever one begins to count.
fn in_turn(servers: &[(&str, u32)], choices: &[Choice]) -> Judged {
    let divisor = servers.iter().fold(0, |g, (_, w)| gcd(g, *w)).max(1);
    let turn: Vec<(&str, usize)> = servers
        .iter()
        .map(|(name, w)| (*name, (w / divisor) as usize))
        .collect();
    let length: usize = turn.iter().map(|(_, n)| n).sum();
    if length == 0 {
        return Judged::Depends("All weights are 0.".to_owned());
    }
    let had = |window: &[Choice], name: &str| window.iter().filter(|c| c.server == name).count();
    if let Some(other) = choices
        .iter()
        .find(|c| !turn.iter().any(|(name, n)| *name == c.server && *n > 0))
    {
        return Judged::Broken(format!("{} is not to be chosen", other.server));
    }
    let whole = choices.len() >= length;
    let size = length.min(choices.len());
    for (start, window) in choices.windows(size).enumerate() {
        for (name, due) in &turn {
            let got = had(window, name);
            if got > *due || (whole && got != *due) {
                return Judged::Broken(format!(
                    "of connections {} to {} {name} got {got} instead of {due}",
                    start + 1,
                    start + size
                ));
            }
        }
    }
    Judged::Kept(match (whole, turn.iter().all(|(_, n)| *n <= 1)) {
        (false, _) => " (fewer than one turn)".to_owned(),
        (true, true) => ", strictly in turn".to_owned(),
        (true, false) => {
            let weights: Vec<_> = turn.iter().map(|(_, n)| n.to_string()).collect();
            format!(", in turns of {}", weights.join(" to "))
        }
    })
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Source hashing and persistence: one client, or one network of clients, one realserver.
fn by_source(choices: &[Choice], prefix: u8) -> Judged {
    let mut of: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for choice in choices {
        let most = if choice.client.is_ipv4() { 32 } else { 128 };
        let network = IpNet::new(choice.client, prefix.min(most));
        let client = network.map_or(choice.client, |n| n.network());
        let first = of.entry(client).or_insert(&choice.server);
        if *first != choice.server {
            return Judged::Broken(format!(
                "{client} was given to {first} and to {}",
                choice.server
            ));
        }
    }
    Judged::Kept(format!(
        ", each of {} always at the same",
        count(of.len() as u64, "client")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(scheduler: &str, weights: &[(&str, u32)]) -> TopoService {
        let servers = weights.iter().map(|(node, weight)| TopoServer {
            node: (*node).to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            port: 80,
            weight: *weight,
        });
        TopoService {
            name: "web".into(),
            vip: "10.0.0.9".parse().unwrap(),
            port: 80,
            protocol: "tcp".into(),
            method: "dr".into(),
            accept: None,
            scheduler: scheduler.into(),
            scheduler_flags: Vec::new(),
            persistent: None,
            checked: false,
            changed: None,
            engine: None,
            director: "lb".into(),
            servers: servers.collect(),
        }
    }

    /// One letter a connection, all of one client.
    fn chosen(letters: &str) -> Vec<Choice> {
        letters
            .chars()
            .zip(0..)
            .map(|(c, time)| Choice {
                time,
                client: "10.9.9.9".parse().unwrap(),
                server: c.to_string(),
            })
            .collect()
    }

    fn broken(how: &str) -> Judged {
        Judged::Broken(how.to_owned())
    }

    fn kept(how: &str) -> Judged {
        Judged::Kept(how.to_owned())
    }

    #[test]
    fn round_robin_alternates_whoever_begins() {
        let two = service("rr", &[("a", 1), ("b", 1)]);
        let rr = |letters| judge(&two, &chosen(letters));
        assert_eq!(rr("abab"), kept(", strictly in turn"));
        assert_eq!(rr("baba"), kept(", strictly in turn"));
        assert_eq!(rr("a"), kept(" (fewer than one turn)"));
        assert_eq!(
            rr("abba"),
            broken("of connections 2 to 3 a got 0 instead of 1")
        );
        assert_eq!(rr("abac"), broken("c is not to be chosen"));
        // rr knows no weights but 0 (ip_vs_rr.c).
        let heavy = service("rr", &[("a", 5), ("b", 1), ("c", 0)]);
        assert_eq!(judge(&heavy, &chosen("abab")), kept(", strictly in turn"));
    }

    #[test]
    fn weighted_round_robin_gives_each_its_weight_in_every_turn() {
        let weights = service("wrr", &[("a", 6), ("b", 2)]);
        let wrr = |letters| judge(&weights, &chosen(letters));
        assert_eq!(wrr("aaabaaab"), kept(", in turns of 3 to 1"));
        assert_eq!(wrr("abaaabaaa"), kept(", in turns of 3 to 1"));
        assert_eq!(wrr("aab"), kept(" (fewer than one turn)"));
        assert_eq!(
            wrr("bb"),
            broken("of connections 1 to 2 b got 2 instead of 1")
        );
        assert_eq!(
            wrr("aaabaaaab"),
            broken("of connections 5 to 8 a got 4 instead of 3")
        );
    }

    #[test]
    fn source_hashing_is_stable() {
        let mut hashed = service("sh", &[("a", 1), ("b", 1)]);
        let sh = |choices: &[Choice]| judge(&hashed, choices);
        assert_eq!(
            sh(&chosen("aaa")),
            kept(", each of 1 client always at the same")
        );
        assert_eq!(
            sh(&chosen("aab")),
            broken("10.9.9.9 was given to a and to b")
        );
        let mut other = chosen("ab");
        other[1].client = "10.9.9.8".parse().unwrap();
        assert_eq!(sh(&other), kept(", each of 2 clients always at the same"));
        hashed.scheduler_flags = vec!["sh-port".into()];
        assert!(matches!(judge(&hashed, &other), Judged::Depends(_)));
        // Persistence for a network: both clients are of it.
        hashed.scheduler = "rr".into();
        hashed.persistent = Some(24);
        assert_eq!(
            judge(&hashed, &other),
            broken("10.9.9.0 was given to a and to b")
        );
        hashed.persistent = Some(32);
        assert_eq!(
            judge(&hashed, &other),
            kept(", each of 2 clients always at the same")
        );
    }

    #[test]
    fn other_schedulers_show_shares_only() {
        let judged = judge(&service("lc", &[("a", 1)]), &chosen("aaa"));
        assert!(matches!(judged, Judged::Depends(why) if why.starts_with("What lc chooses")));
    }
}
