//! The machine without its network: privileges, kernel, limits, disk, leftovers.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Check, State};
use crate::image::Store;
use crate::kernel::cgroup::{self, Controller, Layout, Place};
use crate::kernel::probe;
use crate::supervisor::{RunDir, running_labs};

/// What nslab does with them: namespaces and mounts, links and rules, captures.
const CAPABILITIES: [caps::Capability; 3] = [
    caps::Capability::CAP_SYS_ADMIN,
    caps::Capability::CAP_NET_ADMIN,
    caps::Capability::CAP_NET_RAW,
];
/// The oldest kernel whose calls are all there: close_range(2).
const OLDEST: (u32, u32) = (5, 9);
/// Free bytes of the store's filesystem below which it is told: the Tomcat image takes 90 MB.
const ROOM: u64 = 512 << 20;
/// Descriptors that a node takes at most: namespace, pidfd, pipes, a capture of each interface.
const FILES_A_NODE: u64 = 8;

/// Root, and its capabilities.
pub(super) fn privileges() -> Vec<Check> {
    if !nix::unistd::geteuid().is_root() {
        return vec![Check::new(
            "root",
            State::Missing,
            "this is an ordinary user; only check, plan, graph and image build work",
            Some("run it with sudo"),
        )];
    }
    let held = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
    let lost: Vec<_> = CAPABILITIES
        .iter()
        .filter(|c| !held.contains(c))
        .map(ToString::to_string)
        .collect();
    vec![if lost.is_empty() {
        Check::ok("root", "with all capabilities that nslab uses")
    } else {
        Check::new(
            "root",
            State::Missing,
            format!("root without {}", lost.join(", ")),
            Some("a container runs with less than root has: give it these, or run nslab outside"),
        )
    }]
}

/// The kernel's version.
pub(super) fn kernel() -> Check {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    let version = (next().unwrap_or(0), next().unwrap_or(0));
    if version >= OLDEST {
        Check::ok("kernel", format!("Linux {release}"))
    } else {
        Check::new(
            "kernel",
            State::Missing,
            format!("Linux {release} is older than {}.{}", OLDEST.0, OLDEST.1),
            Some("run a newer kernel"),
        )
    }
}

/// Overlays, of which images are made.
pub(super) fn overlay() -> Check {
    let outcome = tempfile::tempdir()
        .map_err(|e| format!("cannot make a folder to try it in: {e}"))
        .and_then(|dir| probe::overlay(dir.path()).map_err(|e| e.to_string()));
    Check::of(
        "overlayfs",
        outcome,
        "images can be the roots of nodes",
        State::Missing,
        "load it with `modprobe overlay`, or run a kernel with CONFIG_OVERLAY_FS",
    )
}

/// Where limits of nodes are kept. Only looked at: trying would hand controllers down for good.
pub(super) fn limits() -> impl Iterator<Item = Check> {
    let layout = Layout::find();
    Controller::ALL.into_iter().map(move |controller| {
        let subject = format!("limits.{}", controller.key());
        let kept = |version, folder: &Path| {
            let folder = folder.join(cgroup::TOP);
            let detail = format!("cgroup version {version}, in {}", folder.display());
            Check::ok(&subject, detail)
        };
        match layout.of(controller) {
            Place::Unified(root) => kept(2, root),
            Place::Own(folder) => kept(1, folder),
            Place::Nowhere(why) => {
                let (why, advice) = why.words();
                let detail = format!("not kept: {why}");
                Check::new(&subject, State::Lacking, detail, Some(&advice))
            }
        }
    })
}

/// How many nodes the limit of open files bears.
pub(super) fn open_files() -> Check {
    use nix::sys::resource::{Resource, getrlimit};
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let nodes = hard / FILES_A_NODE;
    let detail = format!("{hard} at most, enough for some {nodes} nodes in a lab");
    if nodes >= 100 {
        Check::ok("open files", detail)
    } else {
        Check::new(
            "open files",
            State::Lacking,
            detail,
            Some("raise the hard limit (`ulimit -Hn`, limits.conf(5)) for bigger labs"),
        )
    }
}

/// Whether ordinary users can build images.
pub(super) fn user_namespaces() -> Check {
    let value = |key: &str| {
        let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
        fs::read_to_string(path).ok().map(|v| v.trim().to_owned())
    };
    let barred = [
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("user.max_user_namespaces", "0", "10000"),
    ];
    let subject = "user namespaces";
    if value("user.max_user_namespaces").is_none() {
        return Check::new(
            subject,
            State::Lacking,
            "this kernel has none: `nslab image build` needs root",
            Some("run it with sudo, or run a kernel with CONFIG_USER_NS"),
        );
    }
    for (key, bad, good) in barred {
        if value(key).as_deref() == Some(bad) {
            return Check::new(
                subject,
                State::Lacking,
                format!(
                    "{key} is {bad}: ordinary users cannot make any, so `nslab image build` needs root"
                ),
                Some(&format!("run it with sudo, or `sysctl -w {key}={good}`")),
            );
        }
    }
    Check::ok(subject, "ordinary users can build images")
}

/// Room for images and for what nodes write.
pub(super) fn disk() -> Check {
    let store = Store::default_root();
    let mut there = store.as_path();
    while !there.exists() {
        match there.parent() {
            Some(parent) => there = parent,
            None => break,
        }
    }
    let store = store.display();
    match rustix::fs::statvfs(there) {
        Ok(state) => {
            let free = state.f_bavail.saturating_mul(state.f_frsize);
            let detail = format!("{} MiB free for images in {store}", free >> 20);
            if free >= ROOM {
                Check::ok("disk", detail)
            } else {
                Check::new(
                    "disk",
                    State::Lacking,
                    detail,
                    Some(
                        "make room, let `nslab image prune --all` remove what is not used, or set NSLAB_STORE to another disk",
                    ),
                )
            }
        }
        Err(e) => Check::new(
            "disk",
            State::Lacking,
            format!("cannot look at {}: {e}", there.display()),
            Some("set NSLAB_STORE to a folder on a disk"),
        ),
    }
}

/// Labs whose supervisors have died.
pub(super) fn leftovers() -> Check {
    let dead: Vec<_> = running_labs()
        .into_iter()
        .filter(|lab| {
            let state = RunDir::of(lab).state();
            !state.is_some_and(|s| s.supervisor.is_alive())
        })
        .collect();
    if dead.is_empty() {
        return Check::ok("leftovers", "no lab whose supervisor has died");
    }
    let downs: Vec<_> = dead.iter().map(|l| format!("`nslab down {l}`")).collect();
    Check::new(
        "leftovers",
        State::Lacking,
        format!(
            "the supervisors of these labs have died: {}",
            dead.join(", ")
        ),
        Some(&format!("{} removes what they left", downs.join(", "))),
    )
}
