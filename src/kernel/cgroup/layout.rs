//! Where each controller can be had: read from mountinfo and a few files, nothing is changed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::Controller;

/// Where the groups of a controller are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Version 2: below the root of the hierarchy that is to be seen here.
    Unified(PathBuf),
    /// Version 1: below this process's own folder in the controller's hierarchy.
    Own(PathBuf),
    /// Limits of this kind cannot be kept.
    Nowhere(Lack),
}

/// Why a controller cannot be had, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// No cgroup file system is mounted.
    NotMounted,
    /// The kernel was told to leave it out (`cgroup_disable=`), or does so unless told.
    Off(Controller),
    /// The kernel has none.
    NotBuilt(Controller),
    /// It is in a hierarchy of version 1 that is mounted nowhere.
    Hidden(Controller),
    /// The file system is mounted read-only.
    ReadOnly(PathBuf),
    /// This container was not given it.
    NotGiven(Controller, PathBuf),
    /// Version 2, and processes are in the folder itself.
    Inhabited(PathBuf),
    /// The kernel refused when it was asked.
    Refused(String),
}

impl Lack {
    /// Why, and what to do.
    pub fn words(&self) -> (String, String) {
        match self {
            Self::NotMounted => (
                "no cgroup file system is mounted".to_owned(),
                "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
            ),
            Self::Off(c) => (
                format!("this machine's {} controller is switched off", c.name()),
                format!(
                    "boot with cgroup_enable={0}, and without cgroup_disable={0}",
                    c.name()
                ),
            ),
            Self::NotBuilt(c) => (
                format!("this kernel has no {} controller", c.name()),
                format!("run a kernel with {}", c.option()),
            ),
            Self::Hidden(c) => (
                format!(
                    "the {} controller is in a hierarchy that is mounted nowhere",
                    c.name()
                ),
                format!(
                    "mount it: mkdir -p /sys/fs/cgroup/{0} && mount -t cgroup -o {0} cgroup \
                     /sys/fs/cgroup/{0}",
                    c.name()
                ),
            ),
            Self::ReadOnly(path) => (
                format!("{} is mounted read-only", path.display()),
                "a container engine does that: give this container its control groups (docker run \
                 --privileged), or run nslab outside"
                    .to_owned(),
            ),
            Self::NotGiven(c, path) => (
                format!(
                    "{} has no {} controller (cgroup.controllers)",
                    path.display(),
                    c.name()
                ),
                "whoever made this container has to hand it down (cgroup.subtree_control above it)"
                    .to_owned(),
            ),
            Self::Inhabited(path) => (
                format!(
                    "processes run in {} itself, and only groups without any can limit others \
                     below (cgroups(7), \"no internal processes\")",
                    path.display()
                ),
                format!(
                    "move them: mkdir {0}/init && for p in $(cat {0}/cgroup.procs); do echo $p > \
                     {0}/init/cgroup.procs; done",
                    path.display()
                ),
            ),
            Self::Refused(why) => (
                why.clone(),
                "see who else manages this machine's control groups".to_owned(),
            ),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, advice) = self.words();
        write!(f, "{why}; {advice}")
    }
}

/// Where each controller can be had; by default nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    places: Vec<(Controller, Place)>,
}

impl Layout {
    /// This machine's, or this container's.
    pub fn find() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::parse(
            &text("/proc/self/mountinfo"),
            &text("/proc/self/cgroup"),
            &text("/proc/cgroups"),
            &|path| fs::read_to_string(path).ok(),
        )
    }

    /// One of version 2 at this folder, for tests elsewhere.
    #[cfg(test)]
    pub fn unified(root: &str) -> Self {
        let place = |controller| (controller, Place::Unified(root.into()));
        Self {
            places: Controller::ALL.map(place).to_vec(),
        }
    }

    /// From the texts of `/proc/self/mountinfo`, `/proc/self/cgroup` and `/proc/cgroups`. `read`
    /// gives the text of a file of a cgroup file system, if there is such a file.
    pub(super) fn parse(
        mountinfo: &str,
        own: &str,
        cgroups: &str,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Self {
        let mut mounts: Vec<Mount> = Vec::new();
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            // A later mount hides an earlier one at the same place, and what was below it.
            mounts.retain(|m| m.point != mount.point);
            if read(&mount.point.join("cgroup.procs")).is_some() {
                mounts.push(mount);
            }
        }
        let place = |controller: Controller| {
            let name = controller.name();
            let place = version_1(name, &mounts, own)
                .or_else(|| version_2(controller, &mounts, read))
                .unwrap_or_else(|| Place::Nowhere(nowhere(controller, &mounts, cgroups)));
            (controller, place)
        };
        Self {
            places: Controller::ALL.map(place).to_vec(),
        }
    }

    /// Where groups of this controller are made.
    pub fn of(&self, controller: Controller) -> &Place {
        const NONE: &Place = &Place::Nowhere(Lack::NotMounted);
        let mut places = self.places.iter();
        places
            .find(|(c, _)| *c == controller)
            .map_or(NONE, |(_, p)| p)
    }
}

/// A mounted cgroup file system (proc_pid_mountinfo(5)).
struct Mount {
    /// What of the hierarchy is mounted.
    root: PathBuf,
    point: PathBuf,
    read_only: bool,
    unified: bool,
    /// Options of the file system: in version 1 its controllers.
    options: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point, flags) = (mount.next()?, mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let unified = match system.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let options: Vec<_> = system.nth(1)?.split(',').map(str::to_owned).collect();
        Some(Self {
            root: root.into(),
            // A blank in the path would be `\040`; nobody mounts them there.
            point: point.into(),
            read_only: flags.split(',').any(|f| f == "ro") || options.iter().any(|o| o == "ro"),
            unified,
            options,
        })
    }

    fn has(&self, controller: &str) -> bool {
        !self.unified && self.options.iter().any(|o| o == controller)
    }
}

fn version_1(controller: &str, mounts: &[Mount], own: &str) -> Option<Place> {
    let all = || mounts.iter().filter(|m| m.has(controller));
    let mount = all().find(|m| !m.read_only).or_else(|| all().next())?;
    if mount.read_only {
        return Some(Place::Nowhere(Lack::ReadOnly(mount.point.clone())));
    }
    // Lines of cgroups(7): hierarchy, controllers, path.
    let own = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers.split(',').find(|c| *c == controller)?;
        fields.next()
    });
    // A container without a namespace of its own sees its path from the host's root, of which only
    // the container's part may be mounted.
    let below = own
        .map(Path::new)
        .and_then(|own| own.strip_prefix(&mount.root).ok());
    Some(Place::Own(match below {
        Some(below) if !below.as_os_str().is_empty() => mount.point.join(below),
        _ => mount.point.clone(),
    }))
}

fn version_2(
    controller: Controller,
    mounts: &[Mount],
    read: &dyn Fn(&Path) -> Option<String>,
) -> Option<Place> {
    let word = |path: PathBuf| {
        let text = read(&path).unwrap_or_default();
        text.split_ascii_whitespace()
            .any(|c| c == controller.name())
    };
    let all = || {
        let unified = mounts.iter().filter(|m| m.unified);
        unified.filter(|m| word(m.point.join("cgroup.controllers")))
    };
    let mount = all().find(|m| !m.read_only).or_else(|| all().next())?;
    let root = mount.point.clone();
    if mount.read_only {
        return Some(Place::Nowhere(Lack::ReadOnly(root)));
    }
    // The root of the whole hierarchy has no type, and may do what others may not.
    let whole = read(&root.join("cgroup.type")).is_none();
    let inhabited = || read(&root.join("cgroup.procs")).is_some_and(|p| !p.trim().is_empty());
    if !whole && !word(root.join("cgroup.subtree_control")) && inhabited() {
        return Some(Place::Nowhere(Lack::Inhabited(root)));
    }
    Some(Place::Unified(root))
}

/// Why a controller is in no hierarchy that is mounted.
fn nowhere(controller: Controller, mounts: &[Mount], cgroups: &str) -> Lack {
    // Columns: name, hierarchy, number of groups, enabled. New kernels leave out what has no version 1.
    let row: Option<Vec<_>> = cgroups
        .lines()
        .map(|l| l.split_ascii_whitespace().collect::<Vec<_>>())
        .find(|row| row.first() == Some(&controller.name()));
    let field = |n: usize| row.as_ref().and_then(|row| row.get(n).copied());
    match (field(1), field(3)) {
        (_, Some("0")) => return Lack::Off(controller),
        (Some(hierarchy), _) if hierarchy != "0" => return Lack::Hidden(controller),
        _ => {}
    }
    match mounts.iter().find(|m| m.unified) {
        None if mounts.is_empty() => Lack::NotMounted,
        Some(mount) if row.is_some() => Lack::NotGiven(controller, mount.point.clone()),
        None if row.is_some() => Lack::Hidden(controller),
        _ => Lack::NotBuilt(controller),
    }
}
