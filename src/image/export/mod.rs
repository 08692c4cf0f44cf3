//! An image as an OCI runtime bundle (runtime-spec, bundle.md): a folder with `config.json` and
//! `rootfs`, for runc, crun, and whatever else runs containers.
//!
//! | file | job |
//! |---|---|
//! | `merge` | the tree that the layers make, walked |
//! | `copy` | one thing of it with all its metadata |
//! | `config` | config.json |
//! | `stage` | all or nothing |

mod config;
pub(super) mod copy;
pub(super) mod merge;
mod stage;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::beneath::{RelPath, Root};
use super::error::{Error, IoContext};
use super::{Image, Progress, Store, layout};
use copy::Copier;
use stage::Stage;

/// The root filesystem's name in a bundle.
const ROOTFS: &str = "rootfs";
/// Most bytes of an image's /etc/passwd and /etc/group.
const MAX_USERS: u64 = 16 << 20;
/// Bytes between two reports.
const REPORT: u64 = 1 << 20;

/// A user, as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleUser {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
}

/// Finds a user by an image's `User` and the texts of its /etc/passwd and /etc/group; an error says
/// in words why there is none.
pub type FindUser = fn(&str, &str, &str) -> Result<BundleUser, String>;

/// What a bundle has from elsewhere than its image: the same that a node has.
#[derive(Debug, Clone)]
pub struct Runtime<'a> {
    /// Capabilities kept, by name (`CAP_CHOWN`).
    pub capabilities: &'a [&'a str],
    /// Paths that are shown empty.
    pub masked: Vec<&'a str>,
    /// Paths that cannot be written to.
    pub read_only: Vec<&'a str>,
    /// `PATH` for an image that sets none.
    pub path: &'a str,
    /// The filter of system calls, as `linux.seccomp` of config.json; `None` filters nothing.
    pub seccomp: Option<serde_json::Value>,
    /// How users are looked up.
    pub find_user: FindUser,
}

/// What [`Store::bundle`] is asked for.
#[derive(Debug, Clone, Default)]
pub struct BundleRequest {
    /// In place of the image's `Cmd`, as `docker run IMAGE ARG...`; empty keeps that.
    pub args: Vec<String>,
    /// In place of the image's `User`.
    pub user: Option<String>,
}

/// A bundle that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its folder, absolute.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Files, folders and all else in its root filesystem.
    pub entries: u64,
    /// How long it took.
    pub took: Duration,
}

impl Store {
    /// Writes an image, with its layers unpacked in this store, as an OCI runtime bundle to `to`,
    /// which must not exist or be an empty folder. The bundle is there whole or not at all; between
    /// the two it is `.NAME.nslab-export` beside its place.
    ///
    /// Root's bundle has owners and devices; another user's is for a user namespace of their own
    /// in which they are root, and no image that wants to run as somebody else can be one.
    ///
    /// `interrupted` is asked every few megabytes whether to stop.
    ///
    /// # Errors
    /// [`Error::Bundle`] if there is something at `to`, or the image has no program or no such
    /// user; [`Error::Interrupted`]; [`Error::Io`] for what cannot be read or written.
    pub fn bundle(
        &self,
        image: &Image,
        to: &Path,
        request: &BundleRequest,
        runtime: &Runtime<'_>,
        progress: &mut dyn FnMut(Progress),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Bundle, Error> {
        let start = Instant::now();
        let about = layout::configuration(&self.layout_of(image)?, &image.digest)?;
        let cmd = match &request.args[..] {
            [] => &image.config.cmd,
            args => args,
        };
        let args: Vec<String> = image.config.entrypoint.iter().chain(cmd).cloned().collect();
        let stage = Stage::new(to)?;
        let refuse = |why: String| Error::Bundle {
            path: stage.to().to_owned(),
            why: format!("image `{}`: {why}", image.reference),
        };
        if args.first().is_none_or(String::is_empty) {
            return Err(refuse(
                "it names no program to run; give one behind `--`".into(),
            ));
        }
        progress(Progress::Stage {
            text: format!("exporting {}", image.reference),
            step: 1,
            of: 1,
        });
        let privileged = rustix::process::geteuid().is_root();
        let rootfs = stage.folder(ROOTFS)?;
        let root = rootfs.try_clone().on("open", &stage.shown(ROOTFS))?;
        let copied = tree(image, rootfs, privileged, &stage, progress, interrupted)?;
        let who = request.user.as_ref().unwrap_or(&image.config.user);
        let text = |name| users_text(&root, name, &stage);
        let user = (runtime.find_user)(who, &text("etc/passwd")?, &text("etc/group")?);
        let user = user.map_err(&refuse)?;
        if !privileged && (user.uid, user.gid) != (0, 0) {
            return Err(refuse(format!(
                "it runs as user {}:{}, which a bundle made without root does not have; export it \
                 as root, or with `--user 0:0`",
                user.uid, user.gid
            )));
        }
        let (json, left_out) = config::text(&config::Parts {
            about: &about,
            run: &image.config,
            args,
            user: &user,
            hostname: config::hostname(&image.reference),
            runtime,
            rootless: (!privileged).then(|| {
                (
                    rustix::process::geteuid().as_raw(),
                    rustix::process::getegid().as_raw(),
                )
            }),
        })
        .map_err(|e| refuse(e.to_string()))?;
        for line in copied.skipped.iter().chain(&left_out) {
            progress(Progress::Log(format!("left out {line}")));
        }
        stage.file("config.json", &json)?;
        let path = stage.to().to_owned();
        stage.done()?;
        Ok(Bundle {
            path,
            bytes: copied.bytes,
            entries: copied.entries,
            took: start.elapsed(),
        })
    }
}

/// Copies the tree of the image's layers.
fn tree(
    image: &Image,
    into: OwnedFd,
    privileged: bool,
    stage: &Stage,
    progress: &mut dyn FnMut(Progress),
    interrupted: &dyn Fn() -> bool,
) -> Result<Copier, Error> {
    let layers = image
        .layers
        .iter()
        .map(|path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::open(path, flags, Mode::empty()).on("open layer", path)?;
            Ok(Root::new(fd))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let within = |path: &RelPath| stage.shown(ROOTFS).join(copy::shown(path));
    let stopped = Cell::new(false);
    let wrong = |(doing, source): copy::Failed, path: &RelPath| {
        if stopped.get() {
            return Error::Interrupted {
                path: stage.to().to_owned(),
            };
        }
        Error::Io {
            doing,
            path: within(path),
            source,
        }
    };
    let total = measure(&layers).map_err(|e| e.at(&within))?;
    let mut copier = Copier::new(into, privileged);
    if let Some(top) = layers.first() {
        let root = RelPath::root();
        copier.root(top.as_fd()).map_err(|e| wrong(e, &root))?;
    }
    let mut told = 0;
    let mut tell = |done: u64| {
        if interrupted() {
            stopped.set(true);
            return Err(io::ErrorKind::Interrupted.into());
        }
        if done - told >= REPORT || done == total && told < total {
            told = done;
            progress(Progress::Bytes {
                what: "files",
                done,
                total: Some(total),
            });
        }
        Ok(())
    };
    merge::walk(&layers, &mut |item| {
        // Also between files that have no content.
        tell(copier.bytes)
            .map_err(|e| ("copy", e))
            .and_then(|()| copier.item(item, &mut tell))
            .map_err(|e| Walk::Ours(wrong(e, item.path)))
    })
    .map_err(|e| e.at(&within))?;
    copier.finish().map_err(|(e, path)| wrong(e, &path))?;
    Ok(copier)
}

/// Bytes of all files of the tree, each once.
fn measure(layers: &[Root]) -> Result<u64, Walk> {
    let mut bytes = 0;
    let mut seen = std::collections::HashSet::new();
    merge::walk(layers, &mut |item| {
        let stat = item.stat;
        let again = stat.st_nlink > 1 && !seen.insert((item.layer, stat.st_ino));
        if item.kind() == rustix::fs::FileType::RegularFile && !again {
            bytes += u64::try_from(stat.st_size).unwrap_or_default();
        }
        Ok::<(), Walk>(())
    })?;
    Ok(bytes)
}

/// Why a walk ended: by what it met itself, or by what was done with it.
enum Walk {
    Met(merge::Failed),
    Ours(Error),
}

impl From<merge::Failed> for Walk {
    fn from(met: merge::Failed) -> Self {
        Self::Met(met)
    }
}

impl Walk {
    fn at(self, within: &dyn Fn(&RelPath) -> PathBuf) -> Error {
        match self {
            Self::Met((doing, path, errno)) => Error::Io {
                doing,
                path: within(&path),
                source: errno.into(),
            },
            Self::Ours(error) => error,
        }
    }
}

/// Content of a file of the new root, whose links lead where they do in a container: never out. A
/// missing file is an empty one.
fn users_text(root: &OwnedFd, name: &str, stage: &Stage) -> Result<String, Error> {
    let shown = stage.shown(ROOTFS).join(name);
    // A fifo would be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(fd) = rustix::fs::openat2(root, name, flags, Mode::empty(), resolve) else {
        return Ok(String::new());
    };
    let file = File::from(fd);
    if !file.metadata().on("look at", &shown)?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_USERS).read_to_end(&mut bytes);
    read.on("read", &shown)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
