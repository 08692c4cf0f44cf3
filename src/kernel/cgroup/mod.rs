//! Control groups: limits of memory, processors and tasks (cgroups(7); the kernel's
//! Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/).
//!
//! [`Layout`] says where each controller can be had on this machine, in version 2 or 1 or not at all,
//! and why not. [`Layout::place`] makes of limits the [`Folder`]s that keep them: pure data, which the
//! journal and the plan's recorder take. [`make`] and [`remove`] carry it out, [`Usage`] reads back.
//!
//! In version 2 a node's group is `nslab/<lab>/<node>` below the hierarchy's root: a group that has
//! processes, as the supervisor's own has, cannot give controllers to groups below it. In version 1
//! it is `nslab/<lab>/<node>` below the supervisor's own group, so that what limits nslab limits its
//! nodes as well.

mod folder;
mod layout;
#[cfg(test)]
mod tests;
mod usage;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use folder::{clear, make, remove};
pub use layout::{Lack, Layout, Place};
pub use usage::{OOM_FILES, Usage, entry};

/// Name of the folder that holds all that nslab makes.
pub const TOP: &str = "nslab";

/// The period of `cpu.max` in microseconds, as the kernel has it by default.
const PERIOD_US: u64 = 100_000;
/// The least quota in microseconds that the kernel takes (kernel/sched/core.c,
/// `min_cfs_quota_period`).
const LEAST_QUOTA_US: u64 = 1000;
/// The longest period in microseconds that it takes (`max_cfs_quota_period`).
const LONGEST_PERIOD_US: u64 = 1_000_000;

/// What limits are kept by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Controller {
    /// `memory`: bytes.
    Memory,
    /// `cpu`: time on processors.
    Cpu,
    /// `pids`: processes and threads.
    Pids,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// Its name in the kernel.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    /// The lab file's key below `limits`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpus",
            Self::Pids => "pids",
        }
    }

    /// What builds it into a kernel.
    const fn option(self) -> &'static str {
        match self {
            Self::Memory => "CONFIG_MEMCG",
            Self::Cpu => "CONFIG_CFS_BANDWIDTH",
            Self::Pids => "CONFIG_CGROUP_PIDS",
        }
    }
}

/// What a node may use at most; `None` is as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, of which nothing is swapped out.
    pub memory: Option<u64>,
    /// Thousandths of a processor's time.
    pub cpus_milli: Option<u32>,
    /// Processes and threads, the node's init among them.
    pub pids: Option<u32>,
}

impl Limits {
    /// The controllers that keep them.
    pub fn controllers(&self) -> impl Iterator<Item = Controller> {
        [
            self.memory.map(|_| Controller::Memory),
            self.cpus_milli.map(|_| Controller::Cpu),
            self.pids.map(|_| Controller::Pids),
        ]
        .into_iter()
        .flatten()
    }
}

/// As people write them: `memory 64 MiB, 1.5 CPUs, 200 tasks`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.memory.map(|m| format!("memory {}", bytes(m))));
        parts.extend(self.cpus_milli.map(cpus));
        parts.extend(
            self.pids
                .map(|p| format!("{p} task{}", if p == 1 { "" } else { "s" })),
        );
        f.write_str(&parts.join(", "))
    }
}

/// Bytes in the biggest unit that they are whole numbers of: `64 MiB`, `1000 bytes`.
pub fn bytes(n: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if n >= 1 << shift && n.trailing_zeros() >= shift {
            return format!("{} {unit}", n >> shift);
        }
    }
    format!("{n} bytes")
}

fn cpus(milli: u32) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} CPU{}", if milli == 1000 { "" } else { "s" })
}

/// A group that is to be made: folders below `root` that are made if need be, and what is written
/// into the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// A folder of the cgroup file system that is there.
    pub root: PathBuf,
    /// `nslab/<lab>/<node>`.
    pub group: PathBuf,
    /// Whether this is version 2, where controllers have to be handed down folder by folder.
    pub unified: bool,
    /// What is written, in this order.
    pub settings: Vec<Setting>,
}

impl Folder {
    /// The group's own folder.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.group)
    }
}

/// One file of a group and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The controller that has the file.
    pub controller: Controller,
    /// The file's name.
    pub file: &'static str,
    /// Its value.
    pub value: String,
    /// Whether the kernel may be without it (swap that is not accounted for).
    pub optional: bool,
}

/// Where limits are kept, and which are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// One in version 2, one for each hierarchy in version 1.
    pub folders: Vec<Folder>,
    /// Limits that nothing keeps here, and why.
    pub lacking: Vec<(Controller, Lack)>,
}

impl Layout {
    /// The folders for a group of this name, `nslab/<lab>/<node>`.
    pub fn place(&self, group: &str, limits: &Limits) -> Placement {
        let mut placement = Placement::default();
        for controller in limits.controllers() {
            let (root, unified) = match self.of(controller) {
                Place::Unified(root) => (root, true),
                Place::Own(folder) => (folder, false),
                Place::Nowhere(why) => {
                    placement.lacking.push((controller, why.clone()));
                    continue;
                }
            };
            // Version 1 controllers may share a hierarchy, as `cpu,cpuacct` do.
            let known = placement.folders.iter().position(|f| f.root == *root);
            let n = known.unwrap_or_else(|| {
                placement.folders.push(Folder {
                    root: root.clone(),
                    group: group.into(),
                    unified,
                    settings: Vec::new(),
                });
                placement.folders.len() - 1
            });
            placement.folders[n]
                .settings
                .extend(settings(controller, limits, unified));
        }
        placement
    }
}

fn settings(controller: Controller, limits: &Limits, unified: bool) -> Vec<Setting> {
    let setting = |file, value: String| Setting {
        controller,
        file,
        value,
        optional: false,
    };
    match controller {
        // A node that is over its memory is to be killed, here as there: with swap it would become slow
        // instead, and so would the machine.
        Controller::Memory => {
            let bytes = limits.memory.unwrap_or(u64::MAX).to_string();
            let (file, swap, at_most) = if unified {
                ("memory.max", "memory.swap.max", "0".to_owned())
            } else {
                // Memory and swap together, which must not be below the first one.
                let both = "memory.memsw.limit_in_bytes";
                ("memory.limit_in_bytes", both, bytes.clone())
            };
            let swap = Setting {
                optional: true,
                ..setting(swap, at_most)
            };
            vec![setting(file, bytes), swap]
        }
        Controller::Cpu => {
            let (quota, period) = bandwidth(limits.cpus_milli.unwrap_or(u32::MAX));
            if unified {
                vec![setting("cpu.max", format!("{quota} {period}"))]
            } else {
                vec![
                    setting("cpu.cfs_period_us", period.to_string()),
                    setting("cpu.cfs_quota_us", quota.to_string()),
                ]
            }
        }
        Controller::Pids => {
            let tasks = limits.pids.unwrap_or(u32::MAX);
            vec![setting("pids.max", tasks.to_string())]
        }
    }
}

/// Quota and period in microseconds. A small share takes a longer period, for the kernel has a least
/// quota.
fn bandwidth(cpus_milli: u32) -> (u64, u64) {
    let milli = u64::from(cpus_milli.max(1));
    let quota = PERIOD_US * milli / 1000;
    if quota >= LEAST_QUOTA_US {
        return (quota, PERIOD_US);
    }
    let period = LEAST_QUOTA_US * 1000 / milli;
    (LEAST_QUOTA_US, period.min(LONGEST_PERIOD_US))
}

/// The name of a node's group below [`Folder::root`].
pub fn group_of(lab: &str, node: &str) -> String {
    format!("{TOP}/{lab}/{node}")
}

/// The file that a process writes `0` to so as to be in a group.
///
/// In version 1 that is `tasks`: a process with one thread then moves without the lock of all forks
/// on the machine (kernel/cgroup/cgroup.c, `cgroup_attach_lock`). Version 2 has no such file.
pub fn entrance(folder: &Path) -> PathBuf {
    let tasks = folder.join("tasks");
    if tasks.exists() {
        tasks
    } else {
        folder.join("cgroup.procs")
    }
}
