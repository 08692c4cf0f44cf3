//! A lab's folder of captures.

use std::path::{Path, PathBuf};

use super::{Error, Source, Topology};

/// A lab's topology and captures, from the folder that `up` made for them.
#[derive(Debug)]
pub struct LabFolder {
    /// The lab.
    pub topology: Topology,
    /// Its captures, interface by interface, rotated files before the current one.
    pub sources: Vec<Source>,
}

impl LabFolder {
    /// The file that `nslab report` makes there.
    pub const REPORT: &str = "report.html";

    /// Reads `lab.json` and finds the captures that belong to it.
    ///
    /// # Errors
    /// There is no readable `lab.json`, or no capture.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let topology = Topology::read(&folder.join(Topology::FILE))?;
        let mut sources = Vec::new();
        let names = names(folder);
        for node in &topology.nodes {
            for interface in &node.interfaces {
                let stem = format!("{}_{}", node.name, interface.name);
                for file in of_interface(&names, &stem) {
                    sources.push(Source::of(&folder.join(file), &node.name, &interface.name));
                }
            }
        }
        if sources.is_empty() {
            return Err(Error::NoCaptures(folder.to_owned()));
        }
        Ok(Self { topology, sources })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        let first = self.sources.first().and_then(|s| s.path().parent());
        first.unwrap_or(Path::new("."))
    }

    /// The lab that files are of, if they all lie in its folder and are captures of its interfaces.
    pub fn around(files: &[PathBuf]) -> Option<Self> {
        let folder = files.first()?.parent()?;
        let topology = Topology::read(&folder.join(Topology::FILE)).ok()?;
        let interfaces: Vec<(&str, &str)> = topology
            .nodes
            .iter()
            .flat_map(|n| {
                n.interfaces
                    .iter()
                    .map(|i| (n.name.as_str(), i.name.as_str()))
            })
            .collect();
        let merged = format!("{}.pcapng", topology.lab);
        let mut sources = Vec::new();
        for file in files.iter().filter(|f| !is_companion(f)) {
            // All of them once more, merged.
            if file.file_name().is_some_and(|n| n == merged.as_str()) {
                continue;
            }
            if file.parent() != Some(folder) {
                return None;
            }
            let name = file.file_name()?.to_str()?;
            let (node, interface) = interfaces
                .iter()
                .find(|(node, interface)| number(name, &format!("{node}_{interface}")).is_some())?;
            sources.push(Source::of(file, node, interface));
        }
        (!sources.is_empty()).then_some(Self { topology, sources })
    }
}

/// Whether a file lies beside a lab's captures without being one, as its topology or its report:
/// `exchange/dsr/*` names these as well.
pub fn is_companion(file: &Path) -> bool {
    let is = |extension| file.extension().is_some_and(|e| e == extension);
    is("json") || is("html")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Files of an interface in the order of time: `<stem>.<n>.pcap` by number, then `<stem>.pcap`.
fn of_interface<'a>(names: &'a [String], stem: &str) -> Vec<&'a str> {
    let mut files: Vec<(u64, &str)> = names
        .iter()
        .filter_map(|name| Some((number(name, stem)?, name.as_str())))
        .collect();
    files.sort_unstable();
    files.into_iter().map(|(_, name)| name).collect()
}

/// The number of a rotated file, greater than any for the current one; `None` for other files.
fn number(name: &str, stem: &str) -> Option<u64> {
    let rest = name.strip_prefix(stem)?.strip_suffix(".pcap")?;
    match rest.strip_prefix('.') {
        None if rest.is_empty() => Some(u64::MAX),
        Some(n) => n.parse().ok(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_come_in_the_order_of_time() {
        let names = [
            "lb_eth1.10.pcap",
            "lb_eth1.2.pcap",
            "lb_eth1.pcap",
            "lb_eth10.pcap",
            "lb_eth1.pcapng",
            "lb_eth1.x.pcap",
            "lab.json",
        ]
        .map(str::to_owned);
        assert_eq!(
            of_interface(&names, "lb_eth1"),
            ["lb_eth1.2.pcap", "lb_eth1.10.pcap", "lb_eth1.pcap"]
        );
    }
}
