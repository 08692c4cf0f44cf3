//! A lab as SVG: readable without a viewer's help in light and dark, text as text, and described for
//! those who do not see it.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts of letters and lines, far below 2^24"
)]

use std::fmt::Write;

use super::layout::{self, Hop, Kind, Layout, Place, band_label};
use super::markup::{Element, element};
use super::scene::Scene;

/// The style of a picture; pages that hold one need it too.
pub const STYLE: &str = include_str!("picture.css");

/// Corners of arrows.
const RADIUS: f32 = 6.0;

/// A lab's picture as a document of its own.
pub fn svg(scene: &Scene) -> String {
    let title = format!("Lab {}", scene.name);
    let mut root = picture(
        scene,
        &service_hops(scene),
        "lab",
        &title,
        &scene.description(),
    );
    root = root.with("xmlns", "http://www.w3.org/2000/svg");
    root.insert(0, element("style").raw(STYLE));
    root.to_xml()
}

/// An arrow from each director to each of its realservers, labelled with the weight.
pub fn service_hops(scene: &Scene) -> Vec<Hop> {
    let mut hops = Vec::new();
    for (group, service) in scene.services.iter().enumerate() {
        for server in &service.servers {
            let Some((from, to)) = server.link else {
                continue;
            };
            hops.push(Hop {
                from: (service.director, from),
                to: (server.machine, to),
                kind: Kind::Service,
                group,
                label: format!("w{}", server.weight),
                title: format!(
                    "{} at {}: {} to {}, weight {}, scheduler {}, method {}",
                    service.name,
                    service.address,
                    scene.machines[service.director].name,
                    scene.machines[server.machine].name,
                    server.weight,
                    service.scheduler,
                    service.method
                ),
                flows: String::new(),
            });
        }
    }
    hops
}

/// A lab's picture with arrows on it, as an element. `id` begins the ids in it: a page may hold several.
pub fn picture(scene: &Scene, hops: &[Hop], id: &str, title: &str, description: &str) -> Element {
    let layout = layout::layout(scene, hops);
    let (width, height) = (layout.width.max(1.0), layout.height.max(1.0));
    let mut root = element("svg")
        .class("picture")
        .with("viewBox", format!("0 0 {width} {height}"))
        .with("width", width)
        .with("height", height)
        .with("role", "img")
        .with("aria-labelledby", format!("{id}-title"))
        .with("aria-describedby", format!("{id}-desc"))
        .child(
            element("title")
                .with("id", format!("{id}-title"))
                .text(title),
        )
        .child(
            element("desc")
                .with("id", format!("{id}-desc"))
                .text(description),
        )
        .child(
            element("rect")
                .class("paper")
                .with("width", width)
                .with("height", height),
        );
    for stub in layout.stubs.iter().flatten() {
        root.push(line("wire", stub.x, stub.y, edge(&layout, stub)));
    }
    for &(x, y, width, height) in &layout.trunks {
        root.push(rect("band", x, y, width, height).with("rx", 5));
    }
    for band in &layout.bands {
        let network = &scene.networks[band.network];
        let name = element("text")
            .class("network")
            .with("x", band.label_x)
            .with("y", band.y + 14.5)
            .child(element("tspan").class("name").text(&network.name));
        let rest = band_label(scene, band.network, band.part);
        root.push(
            element("g")
                .child(element("title").text(format!("network {rest}")))
                .child(rect("band", band.x, band.y, band.width, band.height).with("rx", 5))
                .child(name.text(rest.strip_prefix(&network.name).unwrap_or_default())),
        );
    }
    for stub in layout.stubs.iter().flatten() {
        root.push(
            element("circle")
                .class("plug")
                .with("cx", stub.x)
                .with("cy", edge(&layout, stub))
                .with("r", 3),
        );
    }
    for (n, place) in layout.places.iter().enumerate() {
        root.push(machine(scene, n, place));
    }
    for route in &layout.routes {
        root.push(arrow(&hops[route.hop], route));
    }
    root
}

/// The edge of a stub's band that it ends at.
fn edge(layout: &Layout, stub: &layout::Stub) -> f32 {
    let band = &layout.bands[stub.band];
    if stub.down {
        band.y
    } else {
        band.y + band.height
    }
}

fn line(class: &str, x: f32, from: f32, to: f32) -> Element {
    element("line")
        .class(class)
        .with("x1", x)
        .with("y1", from)
        .with("x2", x)
        .with("y2", to)
}

fn rect(class: &str, x: f32, y: f32, width: f32, height: f32) -> Element {
    element("rect")
        .class(class)
        .with("x", x)
        .with("y", y)
        .with("width", width)
        .with("height", height)
}

fn machine(scene: &Scene, n: usize, place: &Place) -> Element {
    let m = &scene.machines[n];
    let class = match m {
        m if m.host => "machine host",
        m if m.forward => "machine router",
        _ if scene.services.iter().any(|s| s.director == n) => "machine director",
        _ => "machine",
    };
    let mut said = vec![m.name.clone()];
    said.extend(scene.roles(n));
    said.extend(
        m.ports
            .iter()
            .map(|p| format!("{} {}", p.name, p.addresses.join(" "))),
    );
    said.extend(
        m.gateway
            .as_ref()
            .map(|g| format!("gateway {}", scene.gateway_name(g))),
    );
    let mut group = element("g")
        .class(class)
        .child(element("title").text(said.join(", ")))
        .child(rect("box", place.x, place.y, place.width, place.height).with("rx", 7));
    let middle = place.x + place.width / 2.0;
    let mut put = |class: &str, y: f32, text: &str| {
        group.push(
            element("text")
                .class(class)
                .with("x", middle)
                .with("y", y)
                .text(text),
        );
    };
    let mut y = place.y + 16.0;
    for text in &place.above {
        put("port", y, text);
        y += layout::LINE;
    }
    // The name stands in the middle of what is left, ports at their edges.
    let below = place.y + place.height - 7.0 - layout::LINE * place.below.len() as f32;
    let inner =
        layout::NAME_LINE * place.name.len() as f32 + layout::LINE * place.roles.len() as f32;
    y += ((below - y + 8.0 - inner) / 2.0).max(0.0) + 5.0;
    for text in &place.name {
        put("name", y, text);
        y += layout::NAME_LINE;
    }
    for text in &place.roles {
        put("role", y - 2.0, text);
        y += layout::LINE;
    }
    y = below + 10.0;
    for text in &place.below {
        put("port", y, text);
        y += layout::LINE;
    }
    group
}

fn arrow(hop: &Hop, route: &layout::Route) -> Element {
    let class = match hop.kind {
        Kind::Request => "hop request",
        Kind::Answer => "hop answer",
        Kind::Service => "hop service",
    };
    let mut points = route.points.clone();
    let head = points[points.len() - 1];
    let before = points[points.len() - 2];
    let down = if head.1 >= before.1 { 1.0 } else { -1.0 };
    // The line ends inside the head, which is drawn over its end.
    if let Some(last) = points.last_mut() {
        last.1 -= 6.0 * down;
    }
    if route.from_head {
        points.reverse();
    }
    let mut group = element("g").class(class);
    if !hop.flows.is_empty() {
        group = group.with("data-flows", &hop.flows);
    }
    let (x, y) = head;
    let width = hop.label.chars().count() as f32 * 6.5 + 9.0;
    let (label_x, label_y) = route.label;
    group
        .child(element("title").text(&hop.title))
        .child(element("path").class("line").with("d", rounded(&points)))
        .child(
            element("path")
                .class("head")
                .with("d", format!("M{x} {y}l-5 {0}h10z", -9.0 * down)),
        )
        .child(rect("pill", label_x - width / 2.0, label_y - 8.0, width, 16.0).with("rx", 8))
        .child(
            element("text")
                .class("label")
                .with("x", label_x)
                .with("y", label_y + 3.8)
                .text(&hop.label),
        )
}

/// A path along points, its corners rounded.
fn rounded(points: &[(f32, f32)]) -> String {
    let mut d = String::new();
    for (n, &(x, y)) in points.iter().enumerate() {
        if n == 0 {
            let _ = write!(d, "M{x} {y}");
        } else if n + 1 == points.len() {
            let _ = write!(d, "L{x} {y}");
        } else {
            let toward = |(tx, ty): (f32, f32)| {
                let (dx, dy) = (tx - x, ty - y);
                let length = dx.hypot(dy);
                let part = RADIUS.min(length / 2.0) / length.max(f32::EPSILON);
                (x + dx * part, y + dy * part)
            };
            let (a, b) = (toward(points[n - 1]), toward(points[n + 1]));
            let _ = write!(d, "L{} {}Q{x} {y} {} {}", a.0, a.1, b.0, b.1);
        }
    }
    d
}
