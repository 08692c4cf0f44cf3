//! Rates out of counters, for engines whose kernel side only counts: two samples make a rate.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::director::live::{Counters, ServiceState};

/// Least time between two samples that make a rate.
pub(super) const APART: Duration = Duration::from_millis(500);
/// A sample this old is no use: the rate would be the average of a time that nobody asked about.
const STALE: Duration = Duration::from_secs(10);

/// The last samples of a director. Several who watch share them.
#[derive(Debug, Default)]
pub(super) struct Samples {
    older: Option<Sample>,
    newer: Option<Sample>,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    /// By service; by server and port in it, the sum under no name.
    counted: HashMap<(String, String, u16), Counters>,
}

impl Samples {
    /// Fills in the rates of a table that was read at `now`, and keeps it as a sample. False if
    /// there is no sample yet that is old enough: ask again after [`APART`].
    pub(super) fn fill(&mut self, now: Instant, table: &mut [ServiceState]) -> bool {
        let age = |s: &Sample| now.saturating_duration_since(s.at);
        self.newer.take_if(|s| age(s) > STALE);
        self.older.take_if(|s| age(s) > STALE);
        // One that is renewed at each call would never be old enough for those who ask often.
        if self.newer.as_ref().is_some_and(|s| age(s) >= APART) {
            self.older = self.newer.take();
        }
        let base = self.older.as_ref();
        if let Some(base) = base {
            let seconds = age(base).as_secs_f64();
            each(table, |key, counters, rates| {
                let before = base.counted.get(&key).copied().unwrap_or_default();
                *rates = Some(counters.rates(&before, seconds));
            });
        }
        let filled = base.is_some();
        if self.newer.is_none() {
            let mut counted = HashMap::new();
            each(table, |key, counters, _| {
                counted.insert(key, *counters);
            });
            self.newer = Some(Sample { at: now, counted });
        }
        filled
    }
}

/// Calls `job` for each service and each server.
fn each(
    table: &mut [ServiceState],
    mut job: impl FnMut((String, String, u16), &Counters, &mut Option<crate::director::live::Rates>),
) {
    for service in table {
        let key = (service.name.clone(), String::new(), 0);
        job(key, &service.counters, &mut service.rates);
        for server in &mut service.servers {
            let key = (service.name.clone(), server.name.clone(), server.port);
            job(key, &server.counters, &mut server.rates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::live::ServerState;

    fn table(packets: u64) -> Vec<ServiceState> {
        let counters = Counters {
            packets_in: packets,
            bytes_in: packets * 100,
            ..Counters::default()
        };
        let address = "10.0.0.1".parse().unwrap();
        vec![ServiceState {
            name: "web".into(),
            vip: address,
            port: 80,
            protocol: "tcp".into(),
            scheduler: "rr".into(),
            counters,
            rates: None,
            servers: vec![ServerState {
                name: "a".into(),
                address,
                port: 80,
                weight: 1,
                active: 0,
                inactive: 0,
                counters,
                rates: None,
            }],
        }]
    }

    #[test]
    fn two_samples_make_a_rate() {
        let mut samples = Samples::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rate = |ms, packets| {
            let mut table = table(packets);
            let filled = samples.fill(at(ms), &mut table);
            assert_eq!(table[0].rates, table[0].servers[0].rates);
            let rates = table[0].rates.map(|r| (r.packets_in, r.bytes_in));
            assert_eq!(filled, rates.is_some());
            rates
        };
        assert_eq!(rate(0, 100), None);
        assert_eq!(rate(100, 150), None, "too close");
        assert_eq!(rate(500, 200), Some((200.0, 20_000.0)));
        assert_eq!(
            rate(1000, 200),
            Some((0.0, 0.0)),
            "since the sample at 500 ms"
        );
        // Somebody who asks ten times a second sees what happened in half a second to one.
        assert_eq!(
            rate(1100, 220),
            Some((200.0 / 6.0 / 10.0 * 10.0, 2000.0 / 0.6))
        );
        assert_eq!(rate(20_000, 500), None, "the last sample is too old");
        assert_eq!(rate(21_000, 600), Some((100.0, 10_000.0)));
        assert_eq!(
            rate(22_000, 7),
            Some((7.0, 700.0)),
            "counters that began anew"
        );
    }
}
