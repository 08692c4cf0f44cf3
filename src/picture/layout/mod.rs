//! Where everything stands: networks are horizontal bands, one below the other; machines stand in
//! rows between the bands of their networks and reach them by vertical stubs.
//!
//! A network with more machines than fit into the rows beside one band gets more bands, joined by a
//! trunk at the left. A machine on networks that are not neighbours reaches the farther one through a
//! free column of the rows between.
//!
//! Units are SVG user units, pixels at scale 1.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of letters, lines and columns: never negative, far below 2^24"
)]

mod route;
mod shelves;

pub(super) use route::band_label;

use super::markup::wrap;
use super::scene::Scene;

/// Machines side by side; more make the letters small on a screen of usual width.
const PER_ROW: usize = 5;
/// Around everything.
const MARGIN: f32 = 12.0;
/// Between two machines of a row.
const BETWEEN: f32 = 14.0;
/// Advance of a character of the address font: 11 px, 0.6 em.
const MONO: f32 = 6.7;
/// Advance of a character of the names' font: 14 px, bold; wide letters included.
const BOLD: f32 = 8.8;
/// Advance of a character of the small font, 11 px.
const SMALL: f32 = 6.4;
/// Height of a line of the name, and of other lines.
pub(super) const NAME_LINE: f32 = 18.0;
pub(super) const LINE: f32 = 14.0;
/// The line of a band that holds its name.
const BAND_LABEL: f32 = 20.0;

/// What an arrow shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Frames on their way to the VIP.
    Request,
    /// Frames from the VIP.
    Answer,
    /// A director's choice of realservers, as the lab file has it.
    Service,
}

/// An arrow over one network, between interfaces that are on it. Places are (machine, port), as in
/// the [`Scene`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The interface that is left.
    pub from: (usize, usize),
    /// The interface that is reached.
    pub to: (usize, usize),
    /// What it shows.
    pub kind: Kind,
    /// Arrows of different groups do not share a line.
    pub group: usize,
    /// A few characters at its head.
    pub label: String,
    /// What it shows, in a sentence.
    pub title: String,
    /// Which flows it belongs to, for `data-flows`.
    pub flows: String,
}

/// A machine's box.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
    /// Interfaces whose stubs leave at the top, one line each.
    pub above: Vec<String>,
    pub name: Vec<String>,
    pub roles: Vec<String>,
    /// Interfaces whose stubs leave at the bottom.
    pub below: Vec<String>,
}

/// One band of a network.
#[derive(Debug, Clone)]
pub(super) struct Band {
    pub network: usize,
    /// Which of the network's bands it is, from 0, and how many there are.
    pub part: (usize, usize),
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
    /// Where its name begins.
    pub label_x: f32,
}

/// The link of an interface to a band.
#[derive(Debug, Clone)]
pub(super) struct Stub {
    pub x: f32,
    /// At the machine.
    pub y: f32,
    /// Index of the band.
    pub band: usize,
    /// Whether the band is below the machine.
    pub down: bool,
}

/// An arrow's points, from its tail to its head, and where its label stands.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub hop: usize,
    pub points: Vec<(f32, f32)>,
    /// Whether arrows that share its lane meet at the head: it is drawn from there, so that the dashes of
    /// all of them lie on one another.
    pub from_head: bool,
    pub label: (f32, f32),
}

/// The whole layout.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub width: f32,
    pub height: f32,
    /// One for each machine of the scene.
    pub places: Vec<Place>,
    pub bands: Vec<Band>,
    /// x, y, width, height of what joins the bands of one network.
    pub trunks: Vec<(f32, f32, f32, f32)>,
    /// By machine and port.
    pub stubs: Vec<Vec<Stub>>,
    pub routes: Vec<Route>,
}

/// Lays a scene out, with room for these arrows.
pub(super) fn layout(scene: &Scene, hops: &[Hop]) -> Layout {
    let shelves = shelves::build(scene);
    let mut layout = Layout {
        places: places(scene, &shelves),
        ..Layout::default()
    };
    if layout.places.is_empty() {
        return layout;
    }
    let lanes = route::Lanes::new(scene, hops);
    place_columns(scene, &shelves, &mut layout, &lanes);
    place_rows(&shelves, &mut layout, &lanes);
    route::stubs(scene, &shelves, &mut layout);
    route::labels(scene, &lanes, &mut layout);
    route::routes(hops, &lanes, &mut layout);
    layout
}

/// Text and size of each box.
fn places(scene: &Scene, shelves: &shelves::Shelves) -> Vec<Place> {
    let widest = scene
        .machines
        .iter()
        .flat_map(|m| &m.ports)
        .filter_map(|p| Some(p.name.len() + 1 + p.addresses.first()?.len()))
        .filter(|&n| n <= 24)
        .max()
        .unwrap_or(18);
    let width = (widest as f32 * MONO + 16.0).max(146.0).round();
    let columns = |advance: f32| ((width - 14.0) / advance) as usize;
    let boxes = scene.machines.iter().enumerate().map(|(n, machine)| {
        let (mut above, mut below) = (Vec::new(), Vec::new());
        for (p, port) in machine.ports.iter().enumerate() {
            let side = if shelves.down(n, p) {
                &mut below
            } else {
                &mut above
            };
            let first = port.addresses.first().map_or("", String::as_str);
            let line = format!("{} {first}", port.name);
            if line.trim_end().len() <= columns(MONO) {
                side.push(line.trim_end().to_owned());
            } else {
                side.extend(wrap(&port.name, columns(MONO)));
                side.extend(wrap(first, columns(MONO)));
            }
            for more in port.addresses.iter().skip(1) {
                side.extend(wrap(more, columns(MONO)));
            }
        }
        let name = wrap(&machine.name, columns(BOLD));
        let roles: Vec<_> = scene
            .short_roles(n)
            .iter()
            .flat_map(|r| wrap(r, columns(SMALL)))
            .collect();
        let lines = above.len() + below.len() + roles.len();
        let gaps = [&above, &below].iter().filter(|l| !l.is_empty()).count() as f32 * 5.0;
        Place {
            x: 0.0,
            y: 0.0,
            width,
            height: lines as f32 * LINE + name.len() as f32 * NAME_LINE + gaps + 14.0,
            above,
            name,
            roles,
            below,
        }
    });
    boxes.collect()
}

/// The x of every machine.
fn place_columns(
    scene: &Scene,
    shelves: &shelves::Shelves,
    layout: &mut Layout,
    lanes: &route::Lanes,
) {
    let cell = layout.places[0].width + BETWEEN;
    let left = MARGIN + lanes.trunk_width(shelves) + BETWEEN;
    let rows = shelves.rows();
    let most = rows.iter().map(|r| r.machines.len()).max().unwrap_or(1);
    // What has to make way for a stub may need more columns; then all rows are centred anew.
    let columns = place_in(most, left, cell, shelves, &mut layout.places);
    // A name of a network has room beside a stub in the middle.
    let narrow =
        (2.0 * route::widest_label(scene) + BETWEEN - columns as f32 * cell).clamp(0.0, cell);
    let left = left + narrow / 2.0;
    place_in(columns, left, cell, shelves, &mut layout.places);
    layout.width = left + columns as f32 * cell + narrow / 2.0 + MARGIN;
}

/// Places all rows in the middle of this many columns; how many were needed.
fn place_in(
    columns: usize,
    left: f32,
    cell: f32,
    shelves: &shelves::Shelves,
    places: &mut [Place],
) -> usize {
    let mut needed = columns;
    // Stubs of machines above that pass through, with the row where they end.
    let mut passing: Vec<(f32, usize)> = Vec::new();
    for (r, row) in shelves.rows().iter().enumerate() {
        passing.retain(|&(_, until)| until > r);
        let count = row.machines.len();
        let x: Vec<f32> = if passing.is_empty() {
            let first = columns.saturating_sub(count) as f32 / 2.0;
            (0..count)
                .map(|c| left + (first + c as f32) * cell)
                .collect()
        } else {
            let is_free = |x: &f32| {
                let taken = x - BETWEEN / 2.0..x + cell - BETWEEN / 2.0;
                !passing.iter().any(|(p, _)| taken.contains(p))
            };
            let mut free: Vec<f32> = (0..)
                .map(|c| left + c as f32 * cell)
                .filter(is_free)
                .take(columns.max(count))
                .collect();
            let right = left + columns as f32 * cell;
            let inside = free.iter().filter(|x| **x < right).count().max(count);
            free.drain(..(inside - count) / 2);
            free.truncate(count);
            free
        };
        for (&machine, x) in row.machines.iter().zip(x) {
            places[machine].x = x;
            needed = needed.max(((x - left) / cell).ceil() as usize + 1);
            if let Some(until) = shelves.passes_until(machine, r) {
                let stubs = shelves.stub_offsets(machine, true, places[machine].width);
                passing.extend(stubs.map(|(_, offset)| (x + offset, until)));
            }
        }
    }
    needed
}

/// The y of every machine and band.
fn place_rows(shelves: &shelves::Shelves, layout: &mut Layout, lanes: &route::Lanes) {
    let gap = lanes.gap();
    let trunk = MARGIN;
    let mut y = MARGIN;
    // What the shelf above leaves: a row that stands on nothing, or a band, needs a distance.
    let (mut after_row, mut apart) = (false, false);
    for shelf in &shelves.list {
        match shelf {
            shelves::Shelf::Row(row) => {
                if after_row || (apart && !row.hangs) {
                    y += BETWEEN;
                }
                let height = row
                    .machines
                    .iter()
                    .map(|&m| layout.places[m].height)
                    .fold(0.0, f32::max);
                let start = if row.hangs { y + gap } else { y };
                for &m in &row.machines {
                    let place = &mut layout.places[m];
                    place.y = start;
                    // All of a row are of one height: the stubs of its machines are as long.
                    place.height = height;
                }
                y = start + height + if row.stands { gap } else { 0.0 };
                after_row = true;
                apart = !row.stands;
            }
            &shelves::Shelf::Band { network, part } => {
                if apart {
                    y += 2.0 * BETWEEN;
                }
                let height = BAND_LABEL + lanes.band(network);
                layout.bands.push(Band {
                    network,
                    part,
                    x: trunk,
                    y,
                    width: layout.width - MARGIN - trunk,
                    height,
                    label_x: 0.0,
                });
                y += height;
                after_row = false;
                apart = true;
            }
        }
    }
    layout.height = y + MARGIN;
    for first in (0..layout.bands.len()).filter(|&b| layout.bands[b].part.0 == 0) {
        let network = layout.bands[first].network;
        let last = layout.bands.iter().rfind(|b| b.network == network);
        if let Some(last) = last.filter(|b| b.part.0 > 0) {
            let top = layout.bands[first].y;
            let width = 10.0 + lanes.band(network);
            layout
                .trunks
                .push((trunk, top, width, last.y + last.height - top));
        }
    }
}
