//! Whiteouts: what hides files of lower layers.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::super::beneath::{self, There};
use super::super::error::LayerError;
use super::super::tarread::Entry;
use super::applier::Applier;
use super::metadata::times;
use super::{failed, refuse};

impl Applier {
    /// An entry `.wh.HIDDEN` (image-spec, layer.md, "Whiteouts").
    pub(super) fn whiteout(
        &mut self,
        parent: &OwnedFd,
        hidden: &[u8],
        entry: &Entry,
    ) -> Result<(), LayerError> {
        match hidden {
            b".wh..opq" => return self.opaque(parent).map_err(failed("mark as opaque", entry)),
            // AUFS' own bookkeeping, which the specification has consumers ignore.
            _ if hidden.starts_with(b".wh.") => return Ok(()),
            b"" | b"." | b".." => return Err(refuse(entry, "a whiteout of no file")),
            _ => {}
        }
        // What this layer itself brings stays (image-spec, "whiteouts apply to lower layers").
        match beneath::look(parent.as_fd(), hidden).map_err(failed("look at", entry))? {
            There::Folder => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, hidden, flags, Mode::empty())
                    .map_err(failed("open", entry))?;
                return self.opaque(&fd).map_err(failed("mark as opaque", entry));
            }
            There::Whiteout | There::Other => return Ok(()),
            There::Nothing => {}
        }
        // Allowed to anybody since Linux 5.8 (mknod(2)).
        rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(failed("make whiteout", entry))?;
        // Nobody sees it, but the same layer is the same folder.
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(parent, hidden, &times((0, 0)), flags)
            .map_err(failed("set mtime of", entry))
    }

    /// Hides what lower layers have in a folder.
    pub(super) fn opaque(&self, folder: &OwnedFd) -> Result<(), Errno> {
        let key = if self.privileged {
            "trusted.overlay.opaque"
        } else {
            "user.overlay.opaque"
        };
        rustix::fs::fsetxattr(folder, key, b"y", XattrFlags::empty())
    }
}
