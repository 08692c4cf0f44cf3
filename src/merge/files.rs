//! Which files are merged, and opening them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Error, Sources, counts, describe, record};
use crate::capture::savefile::{Error as ReadError, Interface, Reader, Series};
use crate::capture::{Stats, rotated_name, split_rotated};
use crate::trace::Topology;

type Stream = Box<dyn Read + Send>;

/// The captures of a lab, by its folder. `stats` is what they have come to; without it what `down`
/// left beside them, and without that all capture files of the folder are taken.
///
/// A file that is missing or cannot be opened is left out and told. What a running lab adds after
/// this is left out, so that all files end at the same moment.
///
/// # Errors
/// The folder or what is known of the lab cannot be read, or there is nothing in it.
pub fn lab(folder: &Path, stats: Option<&[Stats]>) -> Result<Sources, Error> {
    let failed = |source| Error::Folder {
        path: folder.into(),
        source,
    };
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if Path::new(&name).extension().is_some_and(|e| e == "pcap") {
            there.insert(name);
        }
    }
    let path = folder.join(Topology::FILE);
    let topology = if path.exists() {
        Some(Topology::read(&path)?)
    } else {
        None
    };
    let recalled = match stats {
        Some(stats) => Some(stats.to_vec()),
        None => record::recall(folder),
    };
    let wanted = wanted(&there, topology.as_ref(), recalled.as_deref());
    let mut sources = Sources {
        comment: comment(folder, topology.as_ref()),
        names: topology.as_ref().map(describe::names).unwrap_or_default(),
        counts: recalled
            .iter()
            .flatten()
            .map(|s| (s.name(), counts(s)))
            .collect(),
        ..Sources::default()
    };
    let mut rotated = rotated(&there, &wanted);
    for (current, known) in wanted {
        let mut files = Vec::new();
        let full = rotated.remove(&current).unwrap_or_default();
        let names = full
            .into_iter()
            .map(|n| rotated_name(Path::new(&current), n));
        for name in names.chain([current.clone()]) {
            let path = folder.join(&name);
            there.remove(&name);
            match open_own(&path) {
                Ok(stream) => files.push((path.display().to_string(), stream)),
                Err(error) => sources.notes.push(format!("{error}; it was left out")),
            }
        }
        if !files.is_empty() {
            let stem = stem(Path::new(&current));
            sources.series.push(Series {
                known: Some(known),
                stem,
                files,
            });
        }
    }
    for name in there {
        sources.notes.push(format!(
            "{} is of no interface that this lab has captured; it was left out",
            folder.join(name).display()
        ));
    }
    if sources.is_empty() {
        return Err(Error::Nothing(folder.into()));
    }
    Ok(sources)
}

/// Any capture files, each an interface or, if it is pcapng, several.
///
/// # Errors
/// One of them cannot be opened or is no capture file.
pub fn files(paths: &[PathBuf]) -> Result<Sources, Error> {
    let mut series = Vec::with_capacity(paths.len());
    for path in paths {
        let name = path.display().to_string();
        let failed = |source| ReadError::Io {
            op: "open",
            name: name.clone(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let stream: Stream = if meta.is_file() {
            // Better now than when the output is half written. Standard input and other pipes can
            // be read only once.
            Reader::open(path)?;
            Box::new(file.take(meta.len()))
        } else {
            Box::new(file)
        };
        series.push(Series {
            known: None,
            stem: stem(path),
            files: vec![(name, stream)],
        });
    }
    let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    Ok(Sources {
        series,
        comment: format!("merged from {}", names.join(", ")),
        ..Sources::default()
    })
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn comment(folder: &Path, topology: Option<&Topology>) -> String {
    match topology {
        Some(topology) => format!("lab {}", topology.lab),
        None => format!("merged from {}", folder.display()),
    }
}

/// Current files and their interfaces, in the order in which these come in the merged file.
fn wanted(
    there: &BTreeSet<OsString>,
    topology: Option<&Topology>,
    stats: Option<&[Stats]>,
) -> Vec<(OsString, Interface)> {
    let of = |node: &str, interface: &str| {
        let file = OsString::from(format!("{node}_{interface}.pcap"));
        (file, describe::interface(topology, node, interface))
    };
    if let Some(stats) = stats {
        return stats.iter().map(|s| of(&s.node, &s.interface)).collect();
    }
    if let Some(topology) = topology {
        let all = topology.nodes.iter();
        let all = all.flat_map(|n| n.interfaces.iter().map(|i| of(&n.name, &i.name)));
        return all.filter(|(file, _)| there.contains(file)).collect();
    }
    let full = |name: &OsString| {
        split_rotated(Path::new(name)).is_some_and(|(current, _)| there.contains(&current))
    };
    let names = there.iter().filter(|name| !full(name));
    names
        .map(|name| {
            let stem = stem(Path::new(name));
            // Names of nodes have no `_`.
            let interface = match stem.split_once('_') {
                Some((node, interface)) => describe::interface(None, node, interface),
                None => Interface {
                    name: Some(stem),
                    ..Interface::default()
                },
            };
            (name.clone(), interface)
        })
        .collect()
}

/// Numbers of the full files of each current one, oldest first.
fn rotated(
    there: &BTreeSet<OsString>,
    wanted: &[(OsString, Interface)],
) -> BTreeMap<OsString, Vec<u32>> {
    let current: BTreeSet<_> = wanted.iter().map(|(name, _)| name).collect();
    let mut rotated: BTreeMap<OsString, Vec<u32>> = BTreeMap::new();
    for name in there.iter().filter(|name| !current.contains(name)) {
        if let Some((of, n)) = split_rotated(Path::new(name)) {
            rotated.entry(of).or_default().push(n);
        }
    }
    for numbers in rotated.values_mut() {
        numbers.sort_unstable();
    }
    rotated
}

/// Opens a lab's capture file as it is now. Root does this in a folder of its user, who must not
/// have it wait for a FIFO or read something else.
fn open_own(path: &Path) -> Result<Stream, ReadError> {
    let failed = |source| ReadError::Io {
        op: "open",
        name: path.display().to_string(),
        source,
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(ReadError::NotRegular(path.into()));
    }
    Ok(Box::new(file.take(meta.len())))
}
