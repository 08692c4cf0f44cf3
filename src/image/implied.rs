//! Folders that a layer has something in and no entry for.
//!
//! `tmp/x` without `tmp`: applied onto the layers below, as containerd and umoci do, that leaves `tmp` as
//! those have it. Here a layer is unpacked on its own, once for all images that have it, so it has some `tmp`
//! of its own, and overlayfs shows the uppermost folder's owner, mode and time: a /tmp of 0755 that is
//! root's. Where this makes a difference an image gets one layer more, on top, with nothing in it but such
//! folders and those above them, as the layers that do have an entry say.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::beneath::{RelPath, Root};
use super::digest;
use super::error::{Error, IoContext};
use super::export::copy::{self, Copier};
use super::export::merge::{self, Item};
use super::files;
use super::layer::Applied;
use super::unpack;

/// Version of what such a layer is; its name depends on it.
const FORMAT: &str = "nslab folders 1";

/// The name of the layer that would go on top of `layers`, the uppermost first, if one of them has such
/// folders.
pub(super) fn name(store: &Path, layers: &[String]) -> Option<String> {
    let any = layers
        .iter()
        .any(|hex| !unpack::implied(store, hex).is_empty());
    let text = format!("{FORMAT}\n{}", layers.join("\n"));
    let digest = digest::of(text.as_bytes());
    any.then(|| digest::sha256_hex(&digest).map(str::to_owned))?
}

/// Makes that layer, `top`, if it is not there; `false` if it would make no difference.
pub(super) fn complete(store: &Path, top: &str, layers: &[String]) -> Result<bool, Error> {
    if unpack::known(store, top).is_some() {
        return Ok(true);
    }
    let implied: Vec<_> = layers
        .iter()
        .map(|hex| unpack::implied(store, hex))
        .collect();
    let open = |hex: &String| {
        let path = store.join("layers").join(hex);
        open(&path).on("open layer", &path).map(Root::new)
    };
    let roots: Vec<_> = layers.iter().map(open).collect::<Result<_, _>>()?;
    let wrong = |(doing, path, errno): merge::Failed| failed(store, doing, &path, errno.into());
    let sources = sources(&roots, &implied).map_err(wrong)?;
    if sources.is_empty() {
        return Ok(false);
    }
    let _lock = files::lock(&store.join("locks").join(format!("layer-{top}")), || {})?;
    if unpack::known(store, top).is_some() {
        return Ok(true);
    }
    let temp = unpack::begin(store, top)?;
    let made = open_and_make(&temp, &roots, &sources).map(|()| Applied::default());
    unpack::end(store, top, &temp, made)?;
    Ok(true)
}

/// Folders of the new layer, and the layers that they are taken from.
fn sources(
    layers: &[Root],
    implied: &[HashSet<RelPath>],
) -> Result<BTreeMap<RelPath, usize>, merge::Failed> {
    let mut all = BTreeMap::new();
    let mut wanted = Vec::new();
    let mut look = |path: &RelPath, with: &[usize]| {
        let Some(&uppermost) = with.first() else {
            return;
        };
        let mentioned = with.iter().find(|&&layer| !implied[layer].contains(path));
        // Without any it is what the uppermost has: what unpacking gives such a folder.
        let source = mentioned.copied().unwrap_or(uppermost);
        if source != uppermost {
            wanted.push(path.clone());
        }
        all.insert(path.clone(), source);
    };
    look(&RelPath::root(), &merge::shown(layers)?);
    merge::walk(layers, &mut |item: &Item<'_>| {
        look(item.path, item.layers);
        Ok::<(), merge::Failed>(())
    })?;
    let mut sources = BTreeMap::new();
    for path in wanted {
        let mut here = Some(path);
        while let Some(path) = here {
            here = path.split().map(|(parent, _)| parent);
            if let Some(&source) = all.get(&path) {
                sources.insert(path, source);
            }
        }
    }
    Ok(sources)
}

fn open(path: &Path) -> Result<OwnedFd, std::io::Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn open_and_make(
    into: &Path,
    layers: &[Root],
    sources: &BTreeMap<RelPath, usize>,
) -> Result<(), Error> {
    let privileged = rustix::process::geteuid().is_root();
    let mut copier = Copier::new(open(into).on("open", into)?, privileged);
    let wrong = |(doing, source): copy::Failed, path: &RelPath| failed(into, doing, path, source);
    // In the map's order a folder comes before what is in it, and the root first.
    for (path, &layer) in sources {
        let made = match path.split() {
            None => copier.root(layers[layer].as_fd()),
            Some((parent, name)) => layers[layer]
                .folder_nofollow(&parent)
                .and_then(|folder| {
                    let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                        return Err(Errno::NOTDIR);
                    }
                    Ok((folder, stat))
                })
                .map_err(|errno| ("look at", errno.into()))
                .and_then(|(folder, stat)| {
                    let item = Item {
                        path,
                        layer,
                        layers: &[],
                        folder: folder.as_fd(),
                        name,
                        stat: &stat,
                    };
                    copier.item(&item, &mut |_| Ok(()))
                }),
        };
        made.map_err(|e| wrong(e, path))?;
    }
    copier.finish().map_err(|(e, path)| wrong(e, &path))
}

fn failed(below: &Path, doing: &'static str, path: &RelPath, source: std::io::Error) -> Error {
    Error::Io {
        doing,
        path: below.join(OsStr::from_bytes(path.as_bytes())),
        source,
    }
}
