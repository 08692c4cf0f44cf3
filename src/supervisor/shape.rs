//! The lab's shape beside its captures, for those who read them after `down`.

use super::Event;
use super::serve::Supervisor;
use crate::capture::write_beside;
use crate::trace::Topology;

impl Supervisor {
    /// Writes `lab.json` into the folder of captures, which is there. Captures are good without it,
    /// so a failure is a warning.
    pub(super) fn write_topology(&self) {
        let engines = self
            .state
            .borrow()
            .directed
            .iter()
            .flat_map(|d| {
                let engine = d.engine.to_owned();
                d.services
                    .iter()
                    .map(move |s| (s.name.clone(), engine.clone()))
            })
            .collect();
        let topology = Topology::new(&self.lab, &engines);
        let path = self.launch.exchange.join(Topology::FILE);
        let owner = self.launch.owner.map(|o| (o.uid, o.gid));
        if let Err(e) = write_beside(&path, &topology.to_json(), owner) {
            self.event(&Event::Warning {
                text: format!("{e}; `nslab proof` will not know this lab after `down`"),
            });
        }
    }
}
