//! The topology with the ways of requests and answers drawn on it.

use std::collections::BTreeSet;

use super::{MOST_ROWS, Part, more, paragraph, scroll};
use crate::lab::Mac;
use crate::picture::markup::{Element, element};
use crate::picture::{Hop, Kind, Machine, Port, Scene, Segment, picture};
use crate::trace::proof::Passage;
use crate::trace::words::count;

/// A passage with its place in the picture.
struct Step<'a> {
    /// Requests are numbered from 1 along their way, answers on from there.
    number: usize,
    from: (usize, usize),
    to: (usize, usize),
    passage: &'a Passage,
}

/// Machines that are drawn of captures that no lab file belongs to.
const MOST_MACHINES: usize = 100;

/// The section's body.
pub(super) fn path(part: &Part<'_>) -> Vec<Element> {
    let (steps, unplaced) = steps(part);
    if steps.is_empty() {
        let mut body = vec![paragraph(
            "No packet of the service was seen between two known machines, so there is no path to draw.",
        )];
        if !part.scene.machines.is_empty() {
            body.push(drawing(part, &[]));
        }
        return body;
    }
    let shown = &steps[..steps.len().min(MOST_ROWS)];
    let mut body = vec![legend(), drawing(part, shown)];
    body.push(paragraph(
        "Step by step, with the frames of all connections:",
    ));
    body.push(element("ol").class("steps").children(shown.iter().map(|s| {
        element("li")
            .with("value", s.number)
            .text(sentence(part.scene, s))
    })));
    body.extend(more(
        steps.len() - shown.len(),
        "step",
        "nslab report with the captures of fewer interfaces shows the others.",
    ));
    if unplaced > 0 {
        body.push(paragraph(format!(
            "Not drawn: {} whose sender or receiver has no place in the picture.",
            count(unplaced, "frame")
        )));
    }
    body
}

fn drawing(part: &Part<'_>, steps: &[Step<'_>]) -> Element {
    let hops: Vec<_> = steps
        .iter()
        .map(|s| Hop {
            from: s.from,
            to: s.to,
            kind: if s.passage.to_vip {
                Kind::Request
            } else {
                Kind::Answer
            },
            group: 0,
            label: s.number.to_string(),
            title: sentence(part.scene, s),
            flows: s
                .passage
                .flows
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        })
        .collect();
    let way = |to_vip: bool| {
        let sentences: Vec<_> = steps
            .iter()
            .filter(|s| s.passage.to_vip == to_vip)
            .map(|s| sentence(part.scene, s))
            .collect();
        sentences.join("; ")
    };
    let description = format!(
        "{} Requests: {}. Answers: {}.",
        part.scene.description(),
        way(true),
        way(false)
    );
    let id = format!("topology-{}", part.n);
    let svg = picture(
        part.scene,
        &hops,
        &id,
        "Topology with the paths of requests and answers",
        &description,
    );
    element("figure").child(scroll("Topology; scrolls sideways", svg))
}

fn legend() -> Element {
    let sample = |class: &str, text: &str| {
        element("span")
            .class("sample")
            .child(
                element("svg")
                    .class("picture key")
                    .with("viewBox", "0 0 46 12")
                    .with("width", 46)
                    .with("height", 12)
                    .with("aria-hidden", "true")
                    .child(
                        element("g")
                            .class(format!("hop {class}"))
                            .child(element("path").class("line").with("d", "M2 6H38"))
                            .child(element("path").class("head").with("d", "M45 6l-9 -5v10z")),
                    ),
            )
            .text(text)
    };
    element("p")
        .class("legend")
        .child(sample("request", "requests, to the VIP (solid)"))
        .child(sample("answer", "answers, from the VIP (dashed)"))
        .child(
            element("button")
                .class("all-paths")
                .with("type", "button")
                .with("hidden", "")
                .text("Show the paths of all connections"),
        )
}

fn sentence(scene: &Scene, step: &Step<'_>) -> String {
    let name = |(machine, port): (usize, usize)| {
        let m = &scene.machines[machine];
        match m.ports[port].name.as_str() {
            name if m.name.contains(name) => m.name.clone(),
            name => format!("{} ({name})", m.name),
        }
    };
    format!(
        "{} from {} to {}: {}",
        if step.passage.to_vip {
            "request"
        } else {
            "answer"
        },
        name(step.from),
        name(step.to),
        count(step.passage.frames, "frame")
    )
}

/// The passages that have a place in the picture, in the order of steps, and how many frames have
/// none.
fn steps<'a>(part: &Part<'a>) -> (Vec<Step<'a>>, u64) {
    let ports = part.scene.ports_by_mac();
    let find = |mac: Option<Mac>| ports.get(&mac?).copied();
    let mut steps = Vec::new();
    let mut unplaced = 0;
    for passage in &part.drawing.passages {
        match (find(passage.from.mac), find(passage.into.mac)) {
            (Some(from), Some(to)) => steps.push(Step {
                number: passage.leg + 1,
                from,
                to,
                passage,
            }),
            _ => unplaced += passage.frames,
        }
    }
    let last = steps
        .iter()
        .filter(|s| s.passage.to_vip)
        .map(|s| s.number)
        .max()
        .unwrap_or(0);
    for step in steps.iter_mut().filter(|s| !s.passage.to_vip) {
        step.number += last;
    }
    steps.sort_by_key(|s| (s.number, s.from, s.to));
    (steps, unplaced)
}

/// What foreign captures tell of a topology: MAC addresses that exchange frames are on one segment.
pub(super) fn scene_of(passages: &[Passage]) -> Scene {
    let mut scene = Scene::default();
    let mut segments: Vec<BTreeSet<Mac>> = Vec::new();
    let mut machines: Vec<(&str, Vec<Mac>)> = Vec::new();
    for passage in passages {
        let (Some(from), Some(into)) = (passage.from.mac, passage.into.mac) else {
            continue;
        };
        for (end, mac) in [(&passage.from, from), (&passage.into, into)] {
            let found = machines.iter().position(|(name, _)| *name == end.machine);
            if found.is_none() && machines.len() >= MOST_MACHINES {
                continue;
            }
            let n = found.unwrap_or_else(|| {
                machines.push((&end.machine, Vec::new()));
                machines.len() - 1
            });
            if !machines[n].1.contains(&mac) {
                machines[n].1.push(mac);
            }
        }
        // Segments that turn out to be one are joined.
        let (mut joined, apart): (Vec<_>, Vec<_>) = std::mem::take(&mut segments)
            .into_iter()
            .partition(|s| s.contains(&from) || s.contains(&into));
        let mut segment = joined.pop().unwrap_or_default();
        segment.extend(joined.into_iter().flatten());
        segment.extend([from, into]);
        segments = apart;
        segments.push(segment);
    }
    // In the order in which requests pass them.
    segments.sort_by_key(|s| {
        machines
            .iter()
            .position(|(_, macs)| macs.iter().any(|m| s.contains(m)))
    });
    for n in 0..segments.len() {
        scene.networks.push(Segment {
            name: format!("segment {}", n + 1),
            subnet: String::new(),
        });
    }
    for (name, macs) in machines {
        let ports = macs.into_iter().map(|mac| Port {
            name: mac.to_string(),
            network: segments.iter().position(|s| s.contains(&mac)).unwrap_or(0),
            addresses: Vec::new(),
            mac: Some(mac),
        });
        scene.machines.push(Machine {
            name: name.to_owned(),
            host: false,
            forward: false,
            image: None,
            ports: ports.collect(),
            gateway: None,
        });
    }
    scene
}
