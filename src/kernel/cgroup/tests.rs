use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::*;

/// Debian 12 and Ubuntu 24.04: systemd, version 2 only.
const SYSTEMD: &str = "\
24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
31 24 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
32 24 0:28 / /sys/fs/pstore rw,nosuid,nodev,noexec,relatime shared:10 - pstore pstore rw
";
/// systemd.unified_cgroup_hierarchy=0 there, and older distributions.
const HYBRID: &str = "\
32 24 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,size=4096k,mode=755
33 32 0:29 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
34 32 0:30 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
38 32 0:34 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:16 - cgroup cgroup rw,memory
39 32 0:35 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:17 - cgroup cgroup rw,cpu,cpuacct
40 32 0:36 / /sys/fs/cgroup/pids rw,nosuid,nodev,noexec,relatime shared:18 - cgroup cgroup rw,pids
";
const HYBRID_OWN: &str = "\
12:pids:/user.slice/user-1000.slice/session-2.scope
5:cpu,cpuacct:/user.slice
4:memory:/user.slice/user-1000.slice/session-2.scope
1:name=systemd:/user.slice/user-1000.slice/session-2.scope
0::/user.slice/user-1000.slice/session-2.scope
";
/// What a kernel that has all lists.
const CGROUPS: &str = "\
#subsys_name\thierarchy\tnum_cgroups\tenabled
cpu\t0\t120\t1
memory\t0\t120\t1
pids\t0\t120\t1
";

/// A layout of these texts, and of files by path.
fn layout(mountinfo: &str, own: &str, cgroups: &str, files: &[(&str, &str)]) -> Layout {
    let mut all: HashMap<PathBuf, String> = HashMap::new();
    for mount in mountinfo.lines() {
        let point = Path::new(mount.split(' ').nth(4).unwrap());
        all.insert(point.join("cgroup.procs"), "1\n".to_owned());
    }
    all.extend(files.iter().map(|(p, t)| (p.into(), (*t).to_owned())));
    Layout::parse(mountinfo, own, cgroups, &|path| all.get(path).cloned())
}

fn unified(path: &str) -> Place {
    Place::Unified(path.into())
}

fn own(path: &str) -> Place {
    Place::Own(path.into())
}

fn why(layout: &Layout, controller: Controller) -> String {
    match layout.of(controller) {
        Place::Nowhere(why) => why.to_string(),
        place => panic!("{controller:?} is at {place:?}"),
    }
}

const ALL_CONTROLLERS: (&str, &str) = (
    "/sys/fs/cgroup/cgroup.controllers",
    "cpuset cpu io memory hugetlb pids rdma misc\n",
);

#[test]
fn version_2_of_systemd_is_used_from_its_root() {
    let scope = "0::/user.slice/user-1000.slice/session-2.scope\n";
    let layout = layout(SYSTEMD, scope, CGROUPS, &[ALL_CONTROLLERS]);
    for controller in Controller::ALL {
        assert_eq!(layout.of(controller), &unified("/sys/fs/cgroup"));
    }
}

#[test]
fn in_a_hybrid_controllers_of_version_1_are_used_below_our_own_groups() {
    // The unified hierarchy is there and has none of them.
    let files = [("/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n")];
    let layout = layout(HYBRID, HYBRID_OWN, CGROUPS, &files);
    let scope = "user.slice/user-1000.slice/session-2.scope";
    let at = |dir: &str| own(&format!("/sys/fs/cgroup/{dir}"));
    assert_eq!(
        layout.of(Controller::Memory),
        &at(&format!("memory/{scope}"))
    );
    assert_eq!(layout.of(Controller::Cpu), &at("cpu,cpuacct/user.slice"));
    assert_eq!(layout.of(Controller::Pids), &at(&format!("pids/{scope}")));
}

#[test]
fn a_controller_can_be_in_either_version() {
    let files = [("/sys/fs/cgroup/unified/cgroup.controllers", "cpu pids\n")];
    let memory: Vec<_> = HYBRID
        .lines()
        .filter(|l| l.contains("memory") || l.contains("cgroup2"))
        .collect();
    let layout = layout(&memory.join("\n"), "4:memory:/\n0::/\n", CGROUPS, &files);
    assert_eq!(layout.of(Controller::Memory), &own("/sys/fs/cgroup/memory"));
    assert_eq!(
        layout.of(Controller::Cpu),
        &unified("/sys/fs/cgroup/unified")
    );
    assert_eq!(
        layout.of(Controller::Pids),
        &unified("/sys/fs/cgroup/unified")
    );
}

#[test]
fn a_container_of_version_1_without_a_namespace_finds_its_part() {
    let docker = "\
700 699 0:30 /docker/3f00 /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime master:16 - cgroup cgroup rw,memory
701 699 0:31 /docker/3f00 /sys/fs/cgroup/pids ro,nosuid,nodev,noexec,relatime master:18 - cgroup cgroup rw,pids
";
    let cgroups = "cpu\t5\t1\t1\nmemory\t4\t1\t1\npids\t6\t1\t1\n";
    let paths = "6:pids:/docker/3f00\n5:cpu:/docker/3f00\n4:memory:/docker/3f00/inner\n";
    let layout = layout(docker, paths, cgroups, &[]);
    assert_eq!(
        layout.of(Controller::Memory),
        &own("/sys/fs/cgroup/memory/inner")
    );
    assert_eq!(
        why(&layout, Controller::Pids),
        "/sys/fs/cgroup/pids is mounted read-only; a container engine does that: give this \
         container its control groups (docker run --privileged), or run nslab outside"
    );
    assert_eq!(
        why(&layout, Controller::Cpu),
        "the cpu controller is in a hierarchy that is mounted nowhere; mount it: mkdir -p \
         /sys/fs/cgroup/cpu && mount -t cgroup -o cpu cgroup /sys/fs/cgroup/cpu"
    );
}

/// As `docker run` (cgroupns private) has it, with and without `--privileged`.
fn docker(flags: &str) -> String {
    format!(
        "31 24 0:27 / /sys/fs/cgroup {flags},nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n"
    )
}

#[test]
fn a_container_of_version_2_has_what_it_was_given() {
    let ro = layout(&docker("ro"), "0::/\n", CGROUPS, &[ALL_CONTROLLERS]);
    assert!(
        why(&ro, Controller::Cpu).starts_with("/sys/fs/cgroup is mounted read-only; "),
        "{ro:?}"
    );

    let kind = ("/sys/fs/cgroup/cgroup.type", "domain\n");
    let rw = layout(&docker("rw"), "0::/\n", CGROUPS, &[ALL_CONTROLLERS, kind]);
    assert_eq!(
        why(&rw, Controller::Memory),
        "processes run in /sys/fs/cgroup itself, and only groups without any can limit others \
         below (cgroups(7), \"no internal processes\"); move them: mkdir /sys/fs/cgroup/init && \
         for p in $(cat /sys/fs/cgroup/cgroup.procs); do echo $p > \
         /sys/fs/cgroup/init/cgroup.procs; done"
    );

    // That done.
    let empty = ("/sys/fs/cgroup/cgroup.procs", "");
    let files = [ALL_CONTROLLERS, kind, empty];
    let moved = layout(&docker("rw"), "0::/init\n", CGROUPS, &files);
    assert_eq!(moved.of(Controller::Memory), &unified("/sys/fs/cgroup"));

    // An engine inside has done it, and processes without controllers of their own are all right.
    let given = ("/sys/fs/cgroup/cgroup.subtree_control", "memory pids\n");
    let given = [ALL_CONTROLLERS, kind, given];
    let given = layout(&docker("rw"), "0::/init\n", CGROUPS, &given);
    assert_eq!(given.of(Controller::Pids), &unified("/sys/fs/cgroup"));

    let less = ("/sys/fs/cgroup/cgroup.controllers", "memory pids\n");
    let less = layout(&docker("rw"), "0::/\n", CGROUPS, &[less, kind, empty]);
    assert_eq!(
        why(&less, Controller::Cpu),
        "/sys/fs/cgroup has no cpu controller (cgroup.controllers); whoever made this container \
         has to hand it down (cgroup.subtree_control above it)"
    );
}

#[test]
fn what_is_nowhere_says_why() {
    let nothing = layout("", "", "", &[]);
    for controller in Controller::ALL {
        assert_eq!(
            why(&nothing, controller),
            "no cgroup file system is mounted; mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        );
    }

    // As Raspberry Pi OS boots.
    let off = CGROUPS.replace("memory\t0\t120\t1", "memory\t0\t1\t0");
    let controllers = ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
    let off = layout(SYSTEMD, "0::/\n", &off, &[controllers]);
    assert_eq!(
        why(&off, Controller::Memory),
        "this machine's memory controller is switched off; boot with cgroup_enable=memory, and \
         without cgroup_disable=memory"
    );
    assert_eq!(off.of(Controller::Pids), &unified("/sys/fs/cgroup"));

    let without = CGROUPS.replace("pids\t0\t120\t1\n", "");
    let controllers = ("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    let without = layout(SYSTEMD, "0::/\n", &without, &[controllers]);
    assert_eq!(
        why(&without, Controller::Pids),
        "this kernel has no pids controller; run a kernel with CONFIG_CGROUP_PIDS"
    );
}

#[test]
fn a_mount_that_another_one_hides_is_none() {
    let hidden = format!("{SYSTEMD}40 31 0:50 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n");
    let found = Layout::parse(&hidden, "0::/\n", CGROUPS, &|_| None);
    assert_eq!(found, Layout::parse("", "", CGROUPS, &|_| None));

    // The same file system again, now read-only.
    let over = SYSTEMD
        .replace("31 24", "41 31")
        .replace(" rw,nosuid", " ro,nosuid");
    let over = layout(
        &format!("{SYSTEMD}{over}"),
        "0::/\n",
        CGROUPS,
        &[ALL_CONTROLLERS],
    );
    assert!(
        why(&over, Controller::Pids).contains("read-only"),
        "{over:?}"
    );
}

fn some() -> Limits {
    Limits {
        memory: Some(64 << 20),
        cpus_milli: Some(1500),
        pids: Some(20),
    }
}

fn settings_of(placement: &Placement) -> Vec<String> {
    let lines = placement.folders.iter().flat_map(|folder| {
        let path = folder.path();
        let line = move |s: &Setting| format!("{} = {}", path.join(s.file).display(), s.value);
        folder.settings.iter().map(line)
    });
    lines.collect()
}

#[test]
fn one_folder_in_version_2() {
    let layout = layout(SYSTEMD, "0::/x\n", CGROUPS, &[ALL_CONTROLLERS]);
    let placement = layout.place(&group_of("web", "server1"), &some());
    assert_eq!(
        settings_of(&placement),
        [
            "/sys/fs/cgroup/nslab/web/server1/memory.max = 67108864",
            "/sys/fs/cgroup/nslab/web/server1/memory.swap.max = 0",
            "/sys/fs/cgroup/nslab/web/server1/cpu.max = 150000 100000",
            "/sys/fs/cgroup/nslab/web/server1/pids.max = 20",
        ]
    );
    assert_eq!(placement.folders.len(), 1);
    assert!(placement.lacking.is_empty());
}

#[test]
fn one_folder_a_hierarchy_in_version_1() {
    let layout = layout(HYBRID, HYBRID_OWN, CGROUPS, &[]);
    let placement = layout.place("nslab/web/server1", &some());
    let scope = "user.slice/user-1000.slice/session-2.scope";
    assert_eq!(
        settings_of(&placement),
        [
            format!(
                "/sys/fs/cgroup/memory/{scope}/nslab/web/server1/memory.limit_in_bytes = 67108864"
            ),
            format!(
                "/sys/fs/cgroup/memory/{scope}/nslab/web/server1/memory.memsw.limit_in_bytes = 67108864"
            ),
            "/sys/fs/cgroup/cpu,cpuacct/user.slice/nslab/web/server1/cpu.cfs_period_us = 100000"
                .to_owned(),
            "/sys/fs/cgroup/cpu,cpuacct/user.slice/nslab/web/server1/cpu.cfs_quota_us = 150000"
                .to_owned(),
            format!("/sys/fs/cgroup/pids/{scope}/nslab/web/server1/pids.max = 20"),
        ]
    );
}

#[test]
fn what_cannot_be_kept_is_named_and_the_rest_is_kept() {
    let mut limits = some();
    limits.cpus_milli = None;
    let controllers = ("/sys/fs/cgroup/cgroup.controllers", "cpu pids\n");
    let layout = layout(SYSTEMD, "0::/\n", "", &[controllers]);
    let placement = layout.place("nslab/a/b", &limits);
    assert_eq!(
        settings_of(&placement),
        ["/sys/fs/cgroup/nslab/a/b/pids.max = 20"]
    );
    assert_eq!(
        placement.lacking,
        [(Controller::Memory, Lack::NotBuilt(Controller::Memory))]
    );
    assert_eq!(
        layout.place("nslab/a/b", &Limits::default()),
        Placement::default()
    );
}

#[test]
fn a_small_share_of_a_processor_takes_a_longer_period() {
    for (milli, quota, period) in [
        (1, 1000, 1_000_000),
        (5, 1000, 200_000),
        (9, 1000, 111_111),
        (10, 1000, 100_000),
        (200, 20_000, 100_000),
        (1000, 100_000, 100_000),
        (64_000, 6_400_000, 100_000),
    ] {
        assert_eq!(bandwidth(milli), (quota, period), "{milli}");
    }
}

#[test]
fn limits_in_words() {
    assert_eq!(some().to_string(), "memory 64 MiB, 1.5 CPUs, 20 tasks");
    for (n, text) in [
        (1000, "1000 bytes"),
        (1 << 10, "1 KiB"),
        (1536 << 20, "1536 MiB"),
        (2 << 30, "2 GiB"),
        (0, "0 bytes"),
    ] {
        assert_eq!(bytes(n), text);
    }
    for (milli, text) in [(1000, "1 CPU"), (250, "0.25 CPUs"), (12_000, "12 CPUs")] {
        assert_eq!(cpus(milli), text);
    }
}
