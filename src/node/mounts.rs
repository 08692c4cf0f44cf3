//! Carries out a root filesystem's plan, inside the node's own mount namespace.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags as Attr, MountFlags, MountPropagationFlags,
    MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, mount, mount_change, move_mount, open_tree, unmount,
};

use super::Error;
use super::mountinfo::host_mounts;
use super::rootfs::{MountOp, Need, overlay_options};

/// A page: as long as mount(2) takes its options.
const OPTIONS_MAX: usize = 4095;

/// What is done with an error of a step: `action` as in "cannot ACTION PATH".
fn failed(action: impl Into<String>, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let action = action.into();
    move |source| {
        let hint = match source.raw_os_error() {
            Some(libc::EROFS) => {
                "a node without image has the host's root read-only: use a place below /tmp or \
                 /run, or make the mount point on the host"
            }
            Some(libc::ENOSYS) => "nslab needs Linux 5.12 or later",
            _ => "",
        };
        Error::Rootfs {
            action,
            path: path.to_owned(),
            source,
            hint,
        }
    }
}

/// State while a plan runs.
#[derive(Default)]
struct Run {
    taken: HashMap<String, OwnedFd>,
    /// Holds files of the node's own; it hangs below the old root and goes away with it.
    scratch: Option<OwnedFd>,
    root: Option<OwnedFd>,
    /// Where an empty folder is mounted.
    empty: Option<PathBuf>,
    warnings: Vec<String>,
}

/// Carries out `plan`. Afterwards `/` is the node's. Returns what had to be left out, one sentence
/// each.
///
/// The calling process must be alone in a mount namespace of its own.
pub(super) fn run(plan: Vec<MountOp>) -> Result<Vec<String>, Error> {
    let mut run = Run::default();
    for op in plan {
        run.step(op)?;
    }
    Ok(run.warnings)
}

impl Run {
    fn step(&mut self, op: MountOp) -> Result<(), Error> {
        match op {
            MountOp::Private => {
                let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                let path = Path::new("/");
                mount_change(path, flags)
                    .map_err(|e| failed("make private all mounts below", path)(e.into()))
            }
            MountOp::Take { key, source, attrs } => {
                let fd = take(&source, attrs).map_err(failed("take", &source))?;
                self.taken.insert(key, fd);
                Ok(())
            }
            MountOp::TakeText { key, text } => {
                let fd = self
                    .take_text(&key, &text)
                    .map_err(failed("prepare", Path::new(&key)))?;
                self.taken.insert(key, fd);
                Ok(())
            }
            MountOp::HostRoot { without, attrs } => self.host_root(without, attrs),
            MountOp::OverlayRoot {
                lower,
                upper,
                work,
                target,
                attrs,
                kept,
            } => {
                let options = |lower: &[PathBuf]| overlay_options(lower, &upper, &work, kept);
                let fd = overlay(&lower, options, &target, attrs)
                    .map_err(failed("mount an overlay on", &target))?;
                self.root = Some(fd);
                Ok(())
            }
            MountOp::Pivot => self
                .pivot()
                .map_err(failed("change to the new", Path::new("/"))),
            MountOp::Folder { path, mode } => {
                let path = Path::new("/").join(path);
                folder(&path, mode).map_err(failed("make folder", &path))
            }
            MountOp::Text {
                path,
                text,
                replace,
            } => write_text(&path, &text, replace).map_err(failed("write", &path)),
            MountOp::Link { path, target } => {
                symlink(target, &path).map_err(failed("make symbolic link", &path))
            }
            MountOp::Mount {
                kind,
                target,
                options,
                attrs,
                need,
            } => {
                let done = filesystem(kind, &options, attrs).and_then(|fd| attach(&fd, &target));
                optional(done, need).map_err(failed(format!("mount {kind} on"), &target))
            }
            MountOp::Show { key, target, need } => self.show(&key, &target, need),
            MountOp::NoLink(path) => match path.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => Err(failed("mount on", &path)(
                    io::Error::other("the image has a symbolic link there"),
                )),
                _ => Ok(()),
            },
            MountOp::Mask(path) => {
                let done = self.mask(&path);
                optional(done, Need::IfPossible).map_err(failed("mask", &path))
            }
            MountOp::MaskEach { folder, name } => {
                // No folder, nothing to mask.
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    let path = entry.path().join(name);
                    let done = self.mask(&path);
                    optional(done, Need::IfPossible).map_err(failed("mask", &path))?;
                }
                Ok(())
            }
            MountOp::Remount { path, set, clear } => {
                let done = clone_tree(&path)
                    .and_then(|fd| set_attributes(fd.as_fd(), set, clear).map(|()| fd))
                    .and_then(|fd| attach(&fd, &path));
                optional(done, Need::IfPossible).map_err(failed("change the flags of", &path))
            }
        }
    }

    fn mask(&mut self, path: &Path) -> io::Result<()> {
        if !path.symlink_metadata()?.is_dir() {
            let null = take(Path::new("/dev/null"), Attr::MOUNT_ATTR_RDONLY)?;
            return attach(&null, path);
        }
        // One empty folder for all.
        if let Some(empty) = &self.empty {
            return attach(&clone_tree(empty)?, path);
        }
        let attrs = Attr::MOUNT_ATTR_RDONLY
            | Attr::MOUNT_ATTR_NOSUID
            | Attr::MOUNT_ATTR_NODEV
            | Attr::MOUNT_ATTR_NOEXEC;
        attach(&filesystem("tmpfs", "mode=555,nr_inodes=1", attrs)?, path)?;
        self.empty = Some(path.to_owned());
        Ok(())
    }

    fn take_text(&mut self, key: &str, text: &str) -> io::Result<OwnedFd> {
        if self.scratch.is_none() {
            let quiet = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
            let fd = filesystem("tmpfs", "mode=755,size=1m", quiet)?;
            // Only what is mounted somewhere can be cloned (before Linux 6.15). Not on `/`: what is
            // stacked there would be in the way of the new root and of `pivot`.
            attach(&fd, Path::new("/dev"))?;
            self.scratch = Some(fd);
        }
        let Some(scratch) = &self.scratch else {
            return Err(Errno::NOENT.into());
        };
        let name = Path::new(key).file_name().unwrap_or_default();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::openat(scratch, name, flags, Mode::from_raw_mode(0o644))?;
        File::from(file).write_all(text.as_bytes())?;
        Ok(open_tree(
            scratch,
            name,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )?)
    }

    /// Mounts are taken one by one instead of all at once: the copy of a host with a thousand
    /// namespaces pinned below /run would cost each node a thousand mounts.
    fn host_root(&mut self, without: &[&str], attrs: Attr) -> Result<(), Error> {
        let path = Path::new("/");
        let list = "/proc/self/mountinfo";
        let mountinfo = fs::read_to_string(list).map_err(failed("read", Path::new(list)))?;
        let id = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
            .map_err(|e| failed("find the mount of", path)(e.into()))?
            .stx_mnt_id;
        let root = clone_tree(path).map_err(failed("take", path))?;
        set_attributes(root.as_fd(), attrs, Attr::empty())
            .map_err(failed("make read-only", path))?;
        let mut below = Vec::new();
        for point in host_mounts(&mountinfo, id, without) {
            match take(&point, attrs) {
                Ok(fd) => below.push((point, fd)),
                // Nothing is lost in safety: what is not taken cannot be seen.
                Err(error) => self.left_out(&point, &error),
            }
        }
        attach(&root, path).map_err(failed("mount the node's root on", path))?;
        for (point, fd) in below {
            let relative: PathBuf = point.iter().skip(1).collect();
            let done = move_mount(
                &fd,
                c"",
                &root,
                &relative,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            );
            if let Err(error) = done {
                self.left_out(&point, &error.into());
            }
        }
        self.root = Some(root);
        Ok(())
    }

    fn left_out(&mut self, point: &Path, error: &io::Error) {
        self.warnings.push(format!(
            "the host's mount {} is not visible in the node: {error}",
            point.display()
        ));
    }

    /// The idiom of pivot_root(2), "pivot_root(\".\", \".\")": the old root ends up on top of the
    /// new one and is then taken off, with all that hangs below it.
    fn pivot(&mut self) -> io::Result<()> {
        let root = self.root.take().ok_or(Errno::NOENT)?;
        rustix::process::fchdir(root)?;
        rustix::process::pivot_root(c".", c".")?;
        unmount(c".", UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")?;
        self.scratch = None;
        Ok(())
    }

    fn show(&mut self, key: &str, target: &Path, need: Need) -> Result<(), Error> {
        let done = self
            .taken
            .remove(key)
            .ok_or_else(|| Errno::NOENT.into())
            .and_then(|fd| {
                if need == Need::Create {
                    let stat = rustix::fs::fstat(&fd)?;
                    mount_point(
                        target,
                        FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
                    )?;
                }
                attach(&fd, target)
            });
        optional(done, need).map_err(failed("mount on", target))
    }
}

/// Forgives that a mount point or a filesystem type is not there, if that may be.
fn optional(done: io::Result<()>, need: Need) -> io::Result<()> {
    match done {
        Err(error)
            if need == Need::IfPossible
                && matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ENODEV)
                ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// A copy of the mount at `path`, attached nowhere.
fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    Ok(open_tree(CWD, path, flags)?)
}

/// A copy of the mounts at and below `path`, attached nowhere, all with `attrs`. A device node keeps
/// its function: nobody can make a second one below a mount that is a single file.
fn take(path: &Path, mut attrs: Attr) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT
        | OpenTreeFlags::AT_RECURSIVE;
    let fd = open_tree(CWD, path, flags)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    let clear = if kind == FileType::CharacterDevice {
        attrs.remove(Attr::MOUNT_ATTR_NODEV);
        Attr::MOUNT_ATTR_NODEV
    } else {
        Attr::empty()
    };
    set_attributes(fd.as_fd(), attrs, clear)?;
    Ok(fd)
}

/// Sets and clears flags of a detached mount and all below it.
pub(super) fn set_attributes(mount: BorrowedFd, set: Attr, clear: Attr) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: u64::from(clear.bits()),
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string, the structure is alive and its size is given; the kernel only
    // reads both (mount_setattr(2)).
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn attach(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(move_mount(mount, c"", CWD, target, flags)?)
}

/// A new filesystem, attached nowhere; `options` as in fstab(5).
fn filesystem(kind: &str, options: &str, attrs: Attr) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", kind)?;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value)?,
            None => fsconfig_set_flag(&context, option)?,
        }
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attrs)?)
}

/// Mounts an overlay by mount(2): fsconfig(2) takes at most 255 bytes a value, too few for the
/// layers of an image (until `lowerdir+`, Linux 6.7).
fn overlay(
    lower: &[PathBuf],
    options_with: impl Fn(&[PathBuf]) -> Vec<u8>,
    target: &Path,
    attrs: Attr,
) -> io::Result<OwnedFd> {
    let mut options = options_with(lower);
    let mut layers = Vec::new();
    if options.len() > OPTIONS_MAX {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut short = Vec::new();
        for layer in lower {
            let fd = rustix::fs::open(layer, flags, Mode::empty())?;
            short.push(PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())));
            layers.push(fd);
        }
        options = options_with(&short);
    }
    let options = CString::new(options)?;
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::NODEV, attrs.contains(Attr::MOUNT_ATTR_NODEV));
    flags.set(MountFlags::NOSUID, attrs.contains(Attr::MOUNT_ATTR_NOSUID));
    mount(c"overlay", target, c"overlay", flags, options.as_c_str())?;
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(target, path, Mode::empty())?)
}

fn folder(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
    {
        // A link to a folder is as good; `recursive` looks through it already.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

fn mount_point(path: &Path, is_folder: bool) -> io::Result<()> {
    if is_folder {
        return folder(path, 0o755);
    }
    if let Some(parent) = path.parent() {
        folder(parent, 0o755)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

fn write_text(path: &Path, text: &str, replace: bool) -> io::Result<()> {
    if !replace && path.symlink_metadata().is_ok() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(path, text)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o644))?;
    Ok(())
}
