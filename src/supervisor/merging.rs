//! What is left of a lab's captures when they have ended: their counts, and one file of all of them.

use super::Event;
use super::event::CaptureStats;
use super::serve::Supervisor;
use crate::merge::{self, Merged, Output};

impl Supervisor {
    /// Keeps the final counts beside the captures and merges these, unless the lab file says
    /// `merge = false`. What goes wrong is a warning: the captures themselves are there.
    pub(super) async fn merged(&self, stats: Vec<CaptureStats>) -> Vec<Event> {
        let folder = self.launch.exchange.clone();
        let owner = self.launch.owner.map(|o| (o.uid, o.gid));
        let wanted = self.lab.capture().merge() && !stats.is_empty();
        let output = Output::File {
            path: folder.join(format!("{}.pcapng", self.lab.name())),
            owner,
        };
        // Not on this thread, which answers everybody.
        let work = tokio::task::spawn_blocking(move || {
            let mut events = Vec::new();
            if let Err(e) = merge::remember(&folder, &stats, owner) {
                events.push(warning(&format!(
                    "{e}; a later merge will not know these counts"
                )));
            }
            if wanted {
                let merged = merge::lab(&folder, Some(&stats))
                    .and_then(|sources| merge::merge(sources, output));
                events.push(told(merged));
            }
            events
        });
        work.await
            .unwrap_or_else(|_| vec![warning("the merge of the captures panicked")])
    }
}

fn told(merged: Result<Merged, merge::Error>) -> Event {
    match merged {
        Ok(merged) => Event::Merged(merged),
        Err(e) => warning(&format!(
            "the captures were not merged: {e}; they are there each, and `nslab capture merge` tries \
             again"
        )),
    }
}

fn warning(text: &str) -> Event {
    Event::Warning {
        text: text.to_owned(),
    }
}
