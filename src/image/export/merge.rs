//! The tree that layers make together, as overlayfs shows it: walked, not mounted, so that anybody
//! may, and a whiteout needs no privilege to be understood.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::image::beneath::{RelPath, Root};

/// Marks of a folder that hides what lower layers have in its place. Unpacking as root writes the
/// first, as another user the second, and lets no layer bring either of its own.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Something in the merged tree; all but the root.
pub(in crate::image) struct Item<'a> {
    /// Its place.
    pub path: &'a RelPath,
    /// Number of the layer that it comes from, the uppermost is 0.
    pub layer: usize,
    /// Of a folder, all layers that make it up, the uppermost first.
    pub layers: &'a [usize],
    /// That layer's folder with it.
    pub folder: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a [u8],
    /// Of the layer's file, links not followed.
    pub stat: &'a Stat,
}

impl Item<'_> {
    pub(in crate::image) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// What was tried when a walk ended, and where.
pub(in crate::image) type Failed = (&'static str, RelPath, Errno);

/// A folder still to be walked.
struct Place {
    path: RelPath,
    /// Layers with this folder whose content shows, the uppermost first.
    layers: Vec<usize>,
}

/// What the layers have under one name.
struct Merged {
    /// The uppermost layer with it.
    layer: usize,
    stat: Stat,
    /// Layers whose folders make it up; empty for all that is no folder.
    folders: Vec<usize>,
    /// Whether lower layers add to it.
    open: bool,
}

/// Calls `visit` for everything in the tree that `layers` make, the uppermost first, each folder
/// before what is in it.
pub(in crate::image) fn walk<E: From<Failed>>(
    layers: &[Root],
    visit: &mut dyn FnMut(&Item<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut stack = vec![Place {
        path: RelPath::root(),
        layers: shown(layers)?,
    }];
    while let Some(place) = stack.pop() {
        let folders: Vec<(usize, OwnedFd)> = place
            .layers
            .iter()
            .map(|&layer| {
                let fd = layers[layer].folder_nofollow(&place.path);
                Ok((layer, fd.map_err(at("open", &place.path))?))
            })
            .collect::<Result<_, Failed>>()?;
        let names = merge(&folders).map_err(at("read", &place.path))?;
        for (name, merged) in names {
            if is_whiteout(&merged.stat) {
                continue;
            }
            let path = place.path.join(&name);
            let folder = folders
                .iter()
                .find(|(layer, _)| *layer == merged.layer)
                .map(|(_, fd)| fd.as_fd());
            let Some(folder) = folder else { continue };
            visit(&Item {
                path: &path,
                layer: merged.layer,
                layers: &merged.folders,
                folder,
                name: &name,
                stat: &merged.stat,
            })?;
            if !merged.folders.is_empty() {
                stack.push(Place {
                    path,
                    layers: merged.folders,
                });
            }
        }
    }
    Ok(())
}

/// Layers whose root shows: those down to the first opaque one.
pub(in crate::image) fn shown(layers: &[Root]) -> Result<Vec<usize>, Failed> {
    let mut all = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        all.push(number);
        if is_opaque(layer.as_fd()).map_err(at("read", &RelPath::root()))? {
            break;
        }
    }
    Ok(all)
}

/// What is in a folder that several layers make up.
fn merge(folders: &[(usize, OwnedFd)]) -> Result<BTreeMap<Vec<u8>, Merged>, Errno> {
    let mut names: BTreeMap<Vec<u8>, Merged> = BTreeMap::new();
    for (number, (layer, fd)) in folders.iter().enumerate() {
        let last = number + 1 == folders.len();
        for entry in Dir::read_from(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let look = || rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW);
            match names.entry(name.to_owned()) {
                Entry::Vacant(place) => {
                    let stat = look()?;
                    let folder = is_folder(&stat);
                    place.insert(Merged {
                        layer: *layer,
                        stat,
                        folders: if folder { vec![*layer] } else { Vec::new() },
                        open: folder && !last && !named_opaque(fd, name)?,
                    });
                }
                Entry::Occupied(mut place) if place.get().open => {
                    let folder = is_folder(&look()?);
                    let merged = place.get_mut();
                    // A file or a whiteout in between cuts off what is further down.
                    merged.open = folder && !last && !named_opaque(fd, name)?;
                    if folder {
                        merged.folders.push(*layer);
                    }
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    Ok(names)
}

fn at(doing: &'static str, path: &RelPath) -> impl FnOnce(Errno) -> Failed {
    move |errno| (doing, path.clone(), errno)
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn named_opaque(folder: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    is_opaque(fd.as_fd())
}

fn is_opaque(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    for key in OPAQUE {
        let mut value = [0; 1];
        match rustix::fs::fgetxattr(folder, key, &mut value[..]) {
            Ok(1) if value == *b"y" => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}
