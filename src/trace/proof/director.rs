//! Which machine balances.

use std::collections::{BTreeMap, BTreeSet};

use super::types::Known;
use crate::lab::Mac;
use crate::trace::collect::Trace;
use crate::trace::follow::Journey;
use crate::trace::record::Form;
use crate::trace::stations::Stations;
use crate::trace::topology::TopoService;

/// The director as verdicts need it.
#[derive(Debug, Clone)]
pub(in crate::trace) struct Director {
    pub name: String,
    pub station: Option<usize>,
    /// None if they are not known: then what its interfaces saw counts.
    pub macs: BTreeSet<Mac>,
    /// Its captured interfaces.
    pub points: Vec<usize>,
    pub known: Known,
    /// Whether its captured interfaces are all that it has, or at least those that requests came
    /// in and went out by.
    pub complete: bool,
}

impl Director {
    pub fn has_mac(&self, mac: Option<Mac>) -> bool {
        mac.is_some_and(|mac| self.macs.contains(&mac))
    }

    /// The lab's director.
    fn of_lab(service: &TopoService, stations: &Stations, interfaces: usize) -> Option<Self> {
        let n = stations.named(&service.director)?;
        let station = &stations.list[n];
        Some(Self {
            name: station.name.clone(),
            station: Some(n),
            macs: station.macs.clone(),
            points: station.points.clone(),
            known: Known::Lab,
            complete: interfaces > 0 && station.points.len() >= interfaces,
        })
    }

    /// The one that the user named by its captures.
    fn told(trace: &Trace, stations: &Stations, points: &[usize]) -> Self {
        let macs = points.iter().filter_map(|p| trace.points[*p].mac);
        let names: Vec<_> = points
            .iter()
            .map(|p| trace.points[*p].name.as_str())
            .collect();
        Self {
            name: names.join("+"),
            station: points.first().and_then(|p| stations.of_point(*p)),
            macs: macs.collect(),
            points: points.to_vec(),
            known: Known::Told,
            complete: true,
        }
    }

    /// From what it did: it was sent packets for the VIP, and sent the same ones on, changed or to
    /// another machine of the same segment. A router sends them on as well, but from another
    /// interface, or it comes earlier on the way.
    fn inferred(trace: &Trace, stations: &Stations, journeys: &[Journey]) -> Option<Self> {
        let form = |n: u32| trace.forms.get(n as usize).copied().unwrap_or(Form::Plain);
        let mut votes: BTreeMap<BTreeSet<Mac>, u64> = BTreeMap::new();
        for journey in journeys.iter().filter(|j| j.to) {
            let passes = journey.legs.windows(2).rev().find_map(|pair| {
                let (came, went) = (&pair[0], &pair[1]);
                let macs = BTreeSet::from([came.dst?, went.src?]);
                let changed = form(came.form) == Form::Plain && form(went.form) != Form::Plain;
                (changed || came.dst == went.src).then_some(macs)
            });
            if let Some(macs) = passes {
                *votes.entry(macs).or_default() += 1;
            }
        }
        let (macs, _) = votes.into_iter().max_by_key(|(_, n)| *n)?;
        let station = macs.iter().find_map(|mac| stations.of_mac(Some(*mac)));
        let mut points: Vec<usize> = (0..trace.points.len())
            .filter(|p| trace.points[*p].mac.is_some_and(|mac| macs.contains(&mac)))
            .collect();
        if points.is_empty() && macs.len() == 1 {
            points = saw_both(trace, journeys, &macs);
        }
        let name = points.first().map_or_else(
            || stations.name(station, macs.first().copied()),
            |p| trace.points[*p].name.clone(),
        );
        let owned: BTreeSet<_> = points.iter().filter_map(|p| trace.points[*p].mac).collect();
        let complete = !points.is_empty() && (owned == macs || macs.len() == 1);
        Some(Self {
            name,
            station,
            macs,
            points,
            known: Known::Inferred,
            complete,
        })
    }
}

/// Interfaces that saw packets both going to a machine and coming from it.
fn saw_both(trace: &Trace, journeys: &[Journey], macs: &BTreeSet<Mac>) -> Vec<usize> {
    let (mut came, mut went) = (BTreeSet::new(), BTreeSet::new());
    let has = |mac: Option<Mac>| mac.is_some_and(|mac| macs.contains(&mac));
    for leg in journeys.iter().filter(|j| j.to).flat_map(|j| &j.legs) {
        let points = leg
            .sights
            .iter()
            .map(|n| trace.records[*n as usize].point as usize);
        if has(leg.dst) {
            came.extend(points);
        } else if has(leg.src) {
            went.extend(points);
        }
    }
    came.intersection(&went).copied().collect()
}

/// Finds the director: the lab's, the user's, or the one that packets show.
pub(in crate::trace) fn find(
    trace: &Trace,
    stations: &Stations,
    journeys: &[Journey],
    service: Option<(&TopoService, usize)>,
    told: &[usize],
) -> Option<Director> {
    if !told.is_empty() {
        return Some(Director::told(trace, stations, told));
    }
    match service {
        Some((service, interfaces)) => Director::of_lab(service, stations, interfaces),
        None => Director::inferred(trace, stations, journeys),
    }
}
