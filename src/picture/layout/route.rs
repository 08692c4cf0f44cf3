//! Stubs, and the ways of arrows along them and through the bands.
//!
//! Arrows of one group that leave one interface (requests, services) or reach one (answers) share a
//! lane of the band and a track of each stub.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::super::scene::Scene;
use super::shelves::Shelves;
use super::{BAND_LABEL, Hop, Kind, Layout, Route, SMALL, Stub};

/// Between two lanes of a band.
const LANE: f32 = 13.0;

/// A machine and one of its ports.
type Place = (usize, usize);

/// Who uses which lane and track.
pub(super) struct Lanes {
    /// By hop: the number of its lane among the lanes of its network; `None` if it crosses none.
    lane: Vec<Option<usize>>,
    /// By network: how many lanes there are.
    count: BTreeMap<usize, usize>,
    /// By interface: the lanes that use its stub, in the order of their tracks.
    tracks: BTreeMap<Place, Vec<usize>>,
    /// Between two tracks of a stub.
    pitch: f32,
}

impl Lanes {
    pub fn new(scene: &Scene, hops: &[Hop]) -> Self {
        let network = |(m, p): Place| Some(scene.machines.get(m)?.ports.get(p)?.network);
        let mut users: BTreeMap<usize, Vec<(Kind, usize, Place)>> = BTreeMap::new();
        let mut lanes = Self {
            lane: Vec::new(),
            count: BTreeMap::new(),
            tracks: BTreeMap::new(),
            pitch: 0.0,
        };
        for hop in hops {
            let (Some(from), Some(to)) = (network(hop.from), network(hop.to)) else {
                lanes.lane.push(None);
                continue;
            };
            if from != to || hop.from == hop.to {
                lanes.lane.push(None);
                continue;
            }
            let root = if from_head(hop) { hop.to } else { hop.from };
            let list = users.entry(from).or_default();
            let found = list.iter().position(|g| *g == (hop.kind, hop.group, root));
            let lane = found.unwrap_or_else(|| {
                list.push((hop.kind, hop.group, root));
                list.len() - 1
            });
            lanes.lane.push(Some(lane));
            for end in [hop.from, hop.to] {
                let tracks = lanes.tracks.entry(end).or_default();
                if !tracks.contains(&lane) {
                    tracks.push(lane);
                }
            }
            let label = hop.label.chars().count() as f32;
            lanes.pitch = lanes.pitch.max(label * 6.5 + 14.0);
        }
        lanes.count = users.iter().map(|(n, g)| (*n, g.len())).collect();
        lanes
    }

    /// Height of a band below its name, and width of a trunk beside 10.
    pub fn band(&self, network: usize) -> f32 {
        match self.count.get(&network) {
            Some(&lanes) => lanes as f32 * LANE + 4.0,
            None => 0.0,
        }
    }

    /// Room for the trunks at the left.
    pub fn trunk_width(&self, shelves: &Shelves) -> f32 {
        shelves
            .wraps()
            .map(|n| 10.0 + self.band(n))
            .fold(0.0, f32::max)
    }

    /// Between a machine and its band: arrowheads and labels need more.
    pub fn gap(&self) -> f32 {
        if self.tracks.is_empty() { 24.0 } else { 46.0 }
    }

    /// Where a track runs, beside the middle of its stub.
    fn offset(&self, end: Place, lane: usize, room: f32) -> f32 {
        let Some(tracks) = self.tracks.get(&end) else {
            return 0.0;
        };
        let at = tracks.iter().position(|t| *t == lane).unwrap_or_default();
        let last = tracks.len() as f32 - 1.0;
        let pitch = self.pitch.min(room / (last + 1.0));
        (at as f32 - last / 2.0) * pitch
    }
}

fn from_head(hop: &Hop) -> bool {
    hop.kind == Kind::Answer
}

/// The stubs of all machines.
pub(super) fn stubs(scene: &Scene, shelves: &Shelves, layout: &mut Layout) {
    for n in 0..scene.machines.len() {
        let place = &layout.places[n];
        let mut stubs: Vec<_> = (0..scene.machines[n].ports.len())
            .map(|port| Stub {
                x: 0.0,
                y: 0.0,
                band: shelves.band(n, port),
                down: shelves.down(n, port),
            })
            .collect();
        for down in [false, true] {
            for (port, offset) in shelves.stub_offsets(n, down, place.width) {
                stubs[port].x = place.x + offset;
                stubs[port].y = if down {
                    place.y + place.height
                } else {
                    place.y
                };
            }
        }
        layout.stubs.push(stubs);
    }
}

/// Puts the name of each band where no stub crosses it: it is in the band's first line, which only
/// stubs from above cross.
pub(super) fn labels(scene: &Scene, lanes: &Lanes, layout: &mut Layout) {
    // By band: from where to where it is crossed.
    let mut crossed: Vec<Vec<(f32, f32)>> = vec![Vec::new(); layout.bands.len()];
    for (m, stubs) in layout.stubs.iter().enumerate() {
        for (p, stub) in stubs.iter().enumerate().filter(|(_, s)| s.down) {
            let tracks = lanes.tracks.get(&(m, p)).map_or(0, Vec::len);
            let half = (tracks as f32 * lanes.pitch / 2.0).max(4.0);
            let first = layout.bands.partition_point(|b| b.y < stub.y);
            for band in crossed.iter_mut().take(stub.band + 1).skip(first) {
                band.push((stub.x - half, stub.x + half));
            }
        }
    }
    let mut missing: f32 = 0.0;
    for (n, spans) in crossed.iter_mut().enumerate() {
        let band = &layout.bands[n];
        let width = label_width(scene, band.network, band.part);
        let right = band.x + band.width;
        spans.push((right, right));
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The first gap that is wide enough; there may be room to make on the right only.
        let mut left = band.x + 4.0;
        for &(from, to) in spans.iter() {
            if from - left >= width {
                break;
            }
            if from < right {
                left = left.max(to);
            }
        }
        layout.bands[n].label_x = left + 6.0;
        missing = missing.max(left + width - right);
    }
    layout.width += missing;
    for band in &mut layout.bands {
        band.width += missing;
    }
}

/// What the name of a band takes, with a distance on both sides.
fn label_width(scene: &Scene, network: usize, part: (usize, usize)) -> f32 {
    band_label(scene, network, part).chars().count() as f32 * SMALL + 14.0
}

/// The widest name of a network in one band.
pub(super) fn widest_label(scene: &Scene) -> f32 {
    (0..scene.networks.len())
        .map(|n| label_width(scene, n, (0, 1)))
        .fold(0.0, f32::max)
}

/// The text of a band.
pub(in super::super) fn band_label(scene: &Scene, network: usize, part: (usize, usize)) -> String {
    let network = &scene.networks[network];
    let mut text = network.name.clone();
    if !network.subnet.is_empty() {
        text.push_str("  ");
        text.push_str(&network.subnet);
    }
    if part.1 > 1 {
        let _ = write!(text, "  ({} of {})", part.0 + 1, part.1);
    }
    text
}

/// The ways of all arrows.
pub(super) fn routes(hops: &[Hop], lanes: &Lanes, layout: &mut Layout) {
    for (n, hop) in hops.iter().enumerate() {
        let Some(lane) = lanes.lane[n] else { continue };
        // Where the arrow touches the machine, and where it turns into the band.
        let end = |(m, p): Place| {
            let stub = &layout.stubs[m][p];
            let ports = layout.stubs[m]
                .iter()
                .filter(|s| s.down == stub.down)
                .count();
            let room = layout.places[m].width / ports as f32 - 10.0;
            let x = stub.x + lanes.offset((m, p), lane, room);
            let y = layout.bands[stub.band].y + BAND_LABEL + (lane as f32 + 0.5) * LANE;
            [(x, stub.y), (x, y)]
        };
        let ([tail, enter], [head, leave]) = (end(hop.from), end(hop.to));
        let mut points = vec![tail, enter];
        let stub = |(m, p): Place| &layout.stubs[m][p];
        if stub(hop.from).band != stub(hop.to).band {
            let trunk = layout.bands[stub(hop.from).band].x;
            let x = trunk + 7.0 + (lane as f32 + 0.5) * LANE;
            points.extend([(x, enter.1), (x, leave.1)]);
        }
        points.extend([leave, head]);
        let away = if stub(hop.to).down { 20.0 } else { -20.0 };
        layout.routes.push(Route {
            hop: n,
            points,
            from_head: from_head(hop),
            label: (head.0, head.1 + away),
        });
    }
}
