//! What a node sees: namespaces, root filesystem, devices, capabilities.

use std::fs;
use std::path::PathBuf;

use nslab::node::{InitEvent, InitSpec, MountTemplate};

use super::harness::{Node, options, plain, stderr};
use super::images::image;

const DEFAULT_MASK: &str = "00000000a80425fb";

#[test]
fn a_node_has_namespaces_of_its_own() {
    let node = Node::up(&plain("lb"));
    assert_eq!(node.sh("hostname"), "lb\n");
    assert_eq!(node.sh("cat /proc/1/comm"), "nslab-init\n");
    // In the node's PID namespace there is init, and what exec started.
    assert_eq!(node.sh("set -- /proc/[0-9]*; echo $#"), "2\n");
    let init = node.init.pid;
    for kind in ["pid", "mnt", "uts", "ipc", "net"] {
        let inside = node.sh(&format!("readlink /proc/self/ns/{kind}"));
        let of_init = fs::read_link(format!("/proc/{init}/ns/{kind}")).unwrap();
        let here = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(inside.trim(), of_init.to_str().unwrap());
        assert_ne!(of_init, here, "{kind}");
    }
    // sysfs shows the node's network.
    assert_eq!(node.sh("ls /sys/class/net"), "lo\n");
    assert_eq!(node.sh("ipcs -q | grep -c ^0x || true").trim(), "0");
}

#[test]
fn the_hosts_root_is_read_only_with_an_own_tmp_and_run() {
    let secret = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    let node = Node::up(&plain("n"));
    let failed = node.exec(&["touch", "/usr/nslab-test"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        stderr(&failed).contains("Read-only file system"),
        "{}",
        stderr(&failed)
    );

    assert_eq!(node.sh("ls -A /tmp /run"), "/run:\n\n/tmp:\n");
    node.sh("echo here > /tmp/of-the-node; echo here > /run/of-the-node");
    assert_eq!(
        node.sh("cat /tmp/of-the-node /run/of-the-node"),
        "here\nhere\n"
    );
    assert!(secret.path().exists());
    for path in ["/tmp/of-the-node", "/run/of-the-node"] {
        assert!(!PathBuf::from(path).exists(), "{path} leaked to the host");
    }
    assert_eq!(node.sh("stat -c %a /tmp /run"), "1777\n755\n");
    // Bounded: tmpfs without a size would take half of the memory.
    assert_eq!(
        node.sh("df -B1M --output=size /tmp /run | tail -n 2 | tr -d ' '"),
        "512\n64\n"
    );
}

#[test]
fn every_mount_is_read_only_or_the_nodes_own_and_none_takes_devices() {
    let (_image, rootfs) = image();
    for spec in [
        plain("n"),
        InitSpec {
            rootfs,
            ..plain("i")
        },
    ] {
        let overlay = spec.rootfs != nslab::node::Rootfs::Host;
        let node = Node::up(&spec);
        let own = [
            "/tmp",
            "/run",
            "/proc",
            "/dev",
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
        ];
        for line in node.sh("cat /proc/self/mountinfo").lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (point, flags) = (fields[4], fields[5]);
            let dash = fields.iter().position(|&field| field == "-").unwrap();
            let kind = fields[dash + 1];
            assert_eq!(fields[6], "-", "propagates: {line}");
            let read_only = flags.split(',').any(|flag| flag == "ro");
            let of_own = own.contains(&point)
                || (point.starts_with("/dev/") && kind != "devtmpfs")
                || (overlay && point == "/");
            assert!(read_only || of_own, "writable: {line}");
            let device = kind == "devpts" || kind == "devtmpfs";
            assert_eq!(
                flags.split(',').any(|flag| flag == "nodev"),
                !device,
                "{line}"
            );
            assert!(flags.split(',').any(|flag| flag == "nosuid"), "{line}");
        }
    }
}

#[test]
fn the_hosts_mount_table_stays_as_it_is() {
    // In a namespace where everything is shared, as on a host with systemd: what an init mounts or
    // unmounts would show here, if it let it. Others on this machine may still take a mount away
    // by removing its mount point, so what must stay is what nobody removes.
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SHARED;
        nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
        let table = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let before = table();
        let node = Node::up(&plain("n"));
        let during = table();
        drop(node);
        (before, during, table())
    });
    let (before, during, after) = thread.join().unwrap();
    let before: Vec<&str> = before.lines().collect();
    for table in [&during, &after] {
        let added: Vec<&str> = table
            .lines()
            .filter(|line| !before.contains(line))
            .collect();
        assert!(added.is_empty(), "{added:#?}");
        for point in ["/", "/proc", "/sys", "/dev"] {
            let at = |line: &&&str| line.split(' ').nth(4) == Some(point);
            let line = before.iter().find(at).expect("it is mounted");
            assert!(table.lines().any(|other| other == *line), "{point} is gone");
        }
    }
}

#[test]
fn a_node_from_a_template_does_not_copy_later_mounts() {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let mount = |source, target, kind, flags| {
            nix::mount::mount(source, target, kind, flags, None::<&str>).unwrap();
        };
        let none = None::<&str>;
        mount(
            none,
            "/",
            none,
            nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SHARED,
        );
        let (image, rootfs) = image();
        let template = std::sync::Arc::new(MountTemplate::new().unwrap());
        let later = tempfile::tempdir_in("/var/tmp").unwrap();
        let later = later.path().to_str().unwrap();
        mount(
            Some("tmpfs"),
            later,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
        );
        fs::write(format!("{later}/file"), "").unwrap();
        let looks = |node: &Node| {
            assert_eq!(node.early, [InitEvent::Up]);
            node.sh(&format!(
                "cat /proc/self/mountinfo; ls -A {later} 2> /dev/null || true"
            ))
        };
        let from = Node::spawn_from(&plain("n"), Some(template.clone()));
        assert!(!looks(&from).contains(later) && !looks(&from).contains("file\n"));
        let without = Node::spawn(&plain("n"));
        assert!(looks(&without).contains(later) && looks(&without).contains("file\n"));
        let overlay = Node::spawn_from(
            &InitSpec {
                rootfs,
                ..plain("i")
            },
            Some(template),
        );
        assert_eq!(overlay.sh("cat /etc/layer"), "top\n");
        drop((overlay, image));
        nix::mount::umount2(later, nix::mount::MntFlags::MNT_DETACH).unwrap();
    });
    thread.join().unwrap();
}

#[test]
fn dev_has_exactly_what_a_container_has() {
    let node = Node::up(&plain("n"));
    assert_eq!(
        node.sh("ls -1 /dev"),
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
    );
    assert_eq!(
        node.sh("cd /dev; stat -c '%n %t:%T %a' full null random tty urandom zero"),
        "full 1:7 666\nnull 1:3 666\nrandom 1:8 666\ntty 5:0 666\nurandom 1:9 666\nzero 1:5 666\n"
    );
    assert_eq!(
        node.sh("echo x > /dev/null; head -c 3 /dev/zero | od -An -tx1"),
        " 00 00 00\n"
    );
    assert_eq!(node.sh("echo x > /dev/full || echo full"), "full\n");
    assert_eq!(node.sh("head -c 16 /dev/urandom | wc -c"), "16\n");
    assert_eq!(
        node.sh("readlink /dev/ptmx; ls /dev/pts; echo a > /dev/shm/b; cat /dev/fd/0"),
        "pts/ptmx\nptmx\n"
    );
    // The device is the host's: its mode must not be the node's to change.
    let failed = node.exec(&["chmod", "600", "/dev/null"]);
    assert!(
        stderr(&failed).contains("Read-only file system"),
        "{}",
        stderr(&failed)
    );
}

#[test]
fn a_device_that_a_node_makes_is_dead() {
    let (image, rootfs) = image();
    for (spec, places) in [
        (plain("n"), ["/tmp", "/run", "/dev", "/dev/shm"].as_slice()),
        (
            InitSpec {
                rootfs,
                ..plain("i")
            },
            ["/", "/tmp", "/dev", "/dev/shm"].as_slice(),
        ),
    ] {
        let node = Node::up(&spec);
        for place in places {
            // Null, so that nothing is harmed when it works.
            node.sh(&format!(
                "mknod {place}/dead c 1 3; mknod {place}/disk b 7 0"
            ));
            for (name, how) in [("dead", ">"), ("disk", "<")] {
                let output = node.exec(&["sh", "-c", &format!(": {how} {place}/{name}")]);
                assert!(
                    stderr(&output).contains("Permission denied"),
                    "{place}/{name}: {}",
                    stderr(&output)
                );
            }
        }
    }
    drop(image);
}

#[test]
fn the_kernels_own_files_are_masked_or_read_only() {
    let node = Node::up(&plain("n"));
    assert_eq!(
        node.sh("cat /proc/kcore /proc/keys /proc/timer_list 2> /dev/null | wc -c"),
        "0\n"
    );
    // Not every kernel has this one (CONFIG_MAGIC_SYSRQ).
    let sysrq = Some("/proc/sysrq-trigger").filter(|path| PathBuf::from(path).exists());
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sys/net/ipv4/ip_forward",
        "/sys/class/net/lo/mtu",
    ]
    .into_iter()
    .chain(sysrq)
    {
        let output = node.exec(&["sh", "-c", &format!(": > {path}")]);
        assert!(
            stderr(&output).contains("Read-only file system"),
            "{path}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_network_administrator_may_set_network_sysctls_of_the_node_alone() {
    let mut spec = plain("n");
    spec.capabilities.push("CAP_NET_ADMIN".to_owned());
    let node = Node::up(&spec);
    let path = "/proc/sys/net/ipv4/conf/lo/rp_filter";
    let host = fs::read_to_string(path).unwrap();
    assert_eq!(node.sh(&format!("echo 2 > {path}; cat {path}")), "2\n");
    assert_eq!(fs::read_to_string(path).unwrap(), host);
    let output = node.exec(&["sh", "-c", ": > /proc/sys/kernel/core_pattern"]);
    assert!(
        stderr(&output).contains("Read-only file system"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn names_are_the_labs() {
    let node = Node::up(&plain("client"));
    assert_eq!(
        node.sh("cat /etc/hosts"),
        "127.0.0.1 localhost\n10.0.0.3 VIP\n"
    );
    assert_eq!(node.sh("getent hosts VIP"), "10.0.0.3        VIP\n");
    if PathBuf::from("/etc/hostname").exists() {
        assert_eq!(node.sh("cat /etc/hostname"), "client\n");
    }
    assert!(!fs::read_to_string("/etc/hosts").unwrap().contains("VIP"));
}

#[test]
fn capabilities_are_exactly_the_given_ones() {
    let status = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\n'";
    let node = Node::up(&plain("n"));
    let expected = |mask: &str| {
        format!(
            "CapInh:\t0000000000000000CapPrm:\t{mask}CapEff:\t{mask}CapBnd:\t{mask}\
             CapAmb:\t0000000000000000NoNewPrivs:\t1Seccomp:\t2"
        )
    };
    assert_eq!(node.sh(status), expected(DEFAULT_MASK));
    // Another user has none, and the bounding set still.
    let nobody = nslab::node::ExecOptions {
        user: Some("65534:65534".to_owned()),
        ..options(&["sh", "-c", status])
    };
    let output = node.command(&nobody).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let zero = "0000000000000000";
    assert_eq!(
        text,
        expected(DEFAULT_MASK)
            .replace(
                &format!("CapPrm:\t{DEFAULT_MASK}"),
                &format!("CapPrm:\t{zero}")
            )
            .replace(
                &format!("CapEff:\t{DEFAULT_MASK}"),
                &format!("CapEff:\t{zero}")
            )
    );
    // Init itself has let go as well.
    let init = fs::read_to_string(format!("/proc/{}/status", node.init.pid)).unwrap();
    assert!(
        init.contains(&format!("CapEff:\t{DEFAULT_MASK}\n")),
        "{init}"
    );
    assert!(init.contains("NoNewPrivs:\t1\n"), "{init}");
    // ...and nobody inside can look into it.
    for path in ["/proc/1/exe", "/proc/1/fd/1", "/proc/1/root"] {
        let output = node.exec(&["readlink", "-v", path]);
        assert!(
            stderr(&output).contains("Permission denied"),
            "{path}: {output:?}"
        );
    }
}

#[test]
fn a_main_process_has_the_same_capabilities() {
    let script = "grep -E '^Cap(Prm|Bnd)' /proc/self/status | tr -d '\\n'; echo";
    let mut spec = super::harness::running("n", script, nslab::node::RestartPolicy::No);
    spec.capabilities = vec!["CAP_NET_RAW".to_owned()];
    let node = Node::up(&spec);
    assert_eq!(
        node.output_line(),
        "CapPrm:\t0000000000002000CapBnd:\t0000000000002000"
    );
}

#[test]
fn a_capability_that_nobody_has_is_an_error() {
    let mut spec = plain("n");
    spec.capabilities = vec!["CAP_SUPERPOWER".to_owned()];
    let node = Node::spawn(&spec);
    let message = "unknown capability `CAP_SUPERPOWER`; capabilities look like CAP_NET_ADMIN, see \
                   capabilities(7)";
    assert_eq!(
        node.early,
        [InitEvent::Failed {
            message: message.to_owned()
        }]
    );
}

#[test]
fn a_capability_that_nslab_lacks_is_told() {
    let thread = std::thread::spawn(|| {
        // This thread's only, from which the init is cloned.
        caps::drop(None, caps::CapSet::Bounding, caps::Capability::CAP_SYS_TIME).unwrap();
        caps::drop(
            None,
            caps::CapSet::Effective,
            caps::Capability::CAP_SYS_TIME,
        )
        .unwrap();
        caps::drop(
            None,
            caps::CapSet::Permitted,
            caps::Capability::CAP_SYS_TIME,
        )
        .unwrap();
        let mut spec = plain("n");
        spec.capabilities = ["CAP_KILL", "CAP_SYS_TIME"].map(str::to_owned).to_vec();
        let node = Node::spawn(&spec);
        let message = "nslab itself has not CAP_SYS_TIME, so the node goes without".to_owned();
        assert_eq!(node.early, [InitEvent::Warning { message }, InitEvent::Up]);
        assert_eq!(
            node.sh("grep CapEff /proc/self/status"),
            "CapEff:\t0000000000000020\n"
        );
    });
    thread.join().unwrap();
}
