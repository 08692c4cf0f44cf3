//! /proc and /sys of a node, and what of them it does not see or may not change.

use rustix::mount::MountAttrFlags as Attr;

use super::InitSpec;
use super::rootfs::MountOp;

/// Shown empty: they tell about the host. What runc and Docker have, all of it
/// (runc `libcontainer/specconv/example.go`, moby `daemon/pkg/oci/defaults.go`); what a kernel has not
/// is left out.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// As well, of each processor: how it is throttled tells what others compute (GHSA-6fw5-f8r9-fgfm).
const PROCESSORS: &str = "/sys/devices/system/cpu";
const OF_PROCESSOR: &str = "thermal_throttle";

/// Not to be written: they change the host (the same sources).
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Paths of a node that are shown empty.
pub fn masked_paths() -> Vec<&'static str> {
    MASKED.to_vec()
}

/// Paths of a node that cannot be written to. With `CAP_NET_ADMIN` /proc/sys/net can.
pub fn read_only_paths() -> Vec<&'static str> {
    READ_ONLY.to_vec()
}

/// What mounts them.
pub(super) fn mounted(spec: &InitSpec) -> Vec<MountOp> {
    let quiet = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
    let mut ops = vec![
        MountOp::mount("proc", "/proc", "", quiet),
        // Shows the devices of the network namespace that it is mounted in.
        MountOp::mount("sysfs", "/sys", "", quiet | Attr::MOUNT_ATTR_RDONLY),
    ];
    for path in READ_ONLY {
        ops.push(MountOp::Remount {
            path: path.into(),
            set: Attr::MOUNT_ATTR_RDONLY,
            clear: Attr::empty(),
        });
    }
    // The sysctls of the node's own network: whoever may set addresses may set these.
    if spec.capabilities.iter().any(|name| name == "CAP_NET_ADMIN") {
        ops.push(MountOp::Remount {
            path: "/proc/sys/net".into(),
            set: Attr::empty(),
            clear: Attr::MOUNT_ATTR_RDONLY,
        });
    }
    ops
}

/// What hides parts of them, once /dev/null is there.
pub(super) fn masked() -> impl Iterator<Item = MountOp> {
    let each = MountOp::MaskEach {
        folder: PROCESSORS,
        name: OF_PROCESSOR,
    };
    let single = MASKED.iter().map(|path| MountOp::Mask(path.into()));
    single.chain([each])
}
