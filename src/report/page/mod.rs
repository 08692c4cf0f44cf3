//! A report: one HTML file that needs nothing else.
//!
//! It works without network and without JavaScript, and its policy (Content-Security-Policy) forbids
//! the browser to load or run anything but what is in it. What it shows comes from captures that may
//! be anybody's, so all text goes through [`crate::picture::markup`].

mod flows;
mod head;
mod path;
mod sequence;
mod tables;
mod verdicts;

use crate::picture::Scene;
use crate::picture::markup::{Element, element};
use crate::trace::Topology;
use crate::trace::proof::{Draw, Drawing};
use crate::trace::proof::{Outcome, Proof, ServiceProof};

/// Rows of any table.
const MOST_ROWS: usize = 500;

/// How much a report draws; with it a page stays below 8 MiB, however big the captures are.
pub const fn extent(flow: Option<usize>) -> Draw {
    Draw {
        flow,
        flows: 24,
        frames: 150,
    }
}

/// What a report is made of.
#[derive(Debug)]
pub struct Report<'a> {
    /// What the captures prove, with its drawings ([`extent`]).
    pub proof: &'a Proof,
    /// The lab's topology, where there is one.
    pub topology: Option<&'a Topology>,
    /// The connection that is shown first, by its number; the first one if none.
    pub flow: Option<usize>,
}

/// One service with what is drawn of it.
struct Part<'a> {
    /// Its number among the services: ids of one page must differ.
    n: usize,
    proof: &'a ServiceProof,
    drawing: &'a Drawing,
    scene: &'a Scene,
    flow: Option<usize>,
}

/// The report as an HTML document.
pub fn html(report: &Report<'_>) -> String {
    let proof = report.proof;
    let title = match &proof.lab {
        Some(lab) => format!("Lab {lab}: what its captures show"),
        None => "What the captures show".to_owned(),
    };
    let known = report.topology.map(Scene::from);
    let mut main = element("main").with("id", "main");
    let mut contents = Vec::new();
    for (n, service) in proof.services.iter().enumerate() {
        let nothing = Drawing::default();
        let drawing = service.drawing.as_ref().unwrap_or(&nothing);
        let seen;
        let scene = if let Some(scene) = &known {
            scene
        } else {
            seen = path::scene_of(&drawing.passages);
            &seen
        };
        let part = Part {
            n: n + 1,
            proof: service,
            drawing,
            scene,
            flow: report.flow,
        };
        part.write(&mut main, &mut contents, proof.services.len() > 1);
    }
    let files = "files";
    contents.push((files.to_owned(), "Files and notes".to_owned()));
    main.push(section(files, "Files and notes", 2, tables::files(proof)));
    element("html")
        .with("lang", "en")
        .child(head::head(&title))
        .child(
            element("body")
                .child(
                    element("a")
                        .class("skip")
                        .with("href", "#main")
                        .text("Skip to the content"),
                )
                .child(header(&title, proof))
                .child(navigation(&contents))
                .child(main)
                .child(element("footer").child(element("p").text(format!(
                    "Made by nslab {} from capture files; every number is a count of frames in \
                             them. Frame numbers are those of Wireshark and tshark.",
                    env!("CARGO_PKG_VERSION")
                ))))
                .child(element("script").raw(head::SCRIPT)),
        )
        .to_html()
}

impl Part<'_> {
    /// Adds the sections of this service to the page.
    fn write(&self, main: &mut Element, contents: &mut Vec<(String, String)>, several: bool) {
        let name = service_name(self.proof);
        let level = if several { 3 } else { 2 };
        let mut sections = vec![
            ("path", "Path of request and answer", path::path(self)),
            ("matrix", "Frames at each interface", tables::matrix(self)),
            ("verdicts", "Verdicts", verdicts::verdicts(self, level + 1)),
            ("shares", "Servers' shares", tables::shares(self)),
            ("flows", "Connections", flows::flows(self, level + 1)),
        ];
        if !self.proof.notes.is_empty() {
            sections.push(("notes", "Notes", vec![list(&self.proof.notes)]));
        }
        let id = |what: &str| {
            if several {
                format!("{what}-{}", self.n)
            } else {
                what.to_owned()
            }
        };
        let drawn = sections
            .into_iter()
            .map(|(what, heading, body)| {
                if !several {
                    contents.push((what.to_owned(), heading.to_owned()));
                }
                section(&id(what), heading, level, body)
            })
            .collect::<Vec<_>>();
        if several {
            contents.push((id("service"), name.clone()));
            let mut body = vec![conclusion(self.proof)];
            body.extend(drawn);
            main.push(section(&id("service"), &name, 2, body));
        } else {
            for section in drawn {
                main.push(section);
            }
        }
    }
}

/// `thredds at 172.28.128.3:8080/tcp`, as far as it is known.
fn service_name(service: &ServiceProof) -> String {
    let address = match service.port {
        Some(port) => std::net::SocketAddr::new(service.vip, port).to_string(),
        None => service.vip.to_string(),
    };
    let protocol = match &service.protocol {
        Some(protocol) => format!("/{protocol}"),
        None => String::new(),
    };
    match &service.name {
        Some(name) => format!("Service {name} at {address}{protocol}"),
        None => format!("Service at {address}{protocol}"),
    }
}

fn header(title: &str, proof: &Proof) -> Element {
    let mut header = element("header").child(element("h1").text(title));
    if let [only] = &proof.services[..] {
        header.push(
            element("p")
                .class("what")
                .text(format!("{}.", service_name(only))),
        );
        header.push(conclusion(only));
    } else {
        header.push(
            element("p")
                .class("conclusion")
                .child(badge(proof.outcome))
                .text(format!(
                    " {} services were looked at.",
                    proof.services.len()
                )),
        );
    }
    header
}

fn conclusion(service: &ServiceProof) -> Element {
    element("p")
        .class("conclusion")
        .child(badge(service.outcome))
        .text(format!(" {}", service.conclusion))
}

fn navigation(contents: &[(String, String)]) -> Element {
    let items = contents.iter().map(|(id, text)| {
        element("li").child(element("a").with("href", format!("#{id}")).text(text))
    });
    element("nav")
        .with("aria-label", "Sections")
        .child(element("ul").children(items))
}

/// A section with its heading, which names it.
fn section(id: &str, heading: &str, level: u8, body: Vec<Element>) -> Element {
    element("section")
        .with("id", id)
        .with("aria-labelledby", format!("{id}-h"))
        .child(
            heading_of(level)
                .with("id", format!("{id}-h"))
                .text(heading),
        )
        .children(body)
}

fn heading_of(level: u8) -> Element {
    element(match level {
        2 => "h2",
        3 => "h3",
        _ => "h4",
    })
}

/// A word and a sign: colour alone tells nothing to many.
fn badge(outcome: Outcome) -> Element {
    let (class, sign) = match outcome {
        Outcome::Pass => ("pass", "\u{2713}"),
        Outcome::Fail => ("fail", "\u{2717}"),
        Outcome::Inconclusive => ("open", "?"),
    };
    element("strong")
        .class(format!("badge {class}"))
        .child(element("span").with("aria-hidden", "true").text(sign))
        .text(format!(" {}", outcome.as_str()))
}

/// What may be wider than a phone: it scrolls by itself, also by keyboard.
fn scroll(label: &str, content: Element) -> Element {
    element("div")
        .class("scroll")
        .with("role", "group")
        .with("aria-label", label)
        .with("tabindex", 0)
        .child(content)
}

fn list(lines: &[String]) -> Element {
    element("ul").children(lines.iter().map(|l| element("li").text(l)))
}

fn paragraph(text: impl std::fmt::Display) -> Element {
    element("p").text(text)
}

/// "and 7 more connections ..." where something was left out.
fn more(left_out: usize, what: &str, where_else: &str) -> Option<Element> {
    (left_out > 0).then(|| {
        element("p").class("more").text(format!(
            "{left_out} more {what}{} not shown. {where_else}",
            if left_out == 1 { " is" } else { "s are" }
        ))
    })
}

#[cfg(test)]
mod tests;
