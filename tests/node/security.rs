//! A program that tries to get out of its node (`escape.pl`), and what holds it: as main process and
//! by `exec`, with an image and without.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use nslab::node::{ExecOptions, InitEvent, InitSpec, Process, RestartPolicy};

use super::harness::{Image, Node, options, plain, stderr};

/// What becomes of each try in every node with the default rights.
const REFUSED: &str = "\
mount tmpfs EPERM
mount host's disk EPERM
mount cgroup EPERM
remount / writable EPERM
umount EPERM
open_tree EPERM
fsopen EPERM
pivot_root EPERM
unshare user EPERM
unshare mount EPERM
clone user EPERM
setns EPERM
open init's mount namespace EACCES
sethostname EPERM
init_module EPERM
finit_module EPERM
delete_module EPERM
kexec_load EPERM
reboot EPERM
swapon EPERM
settimeofday EPERM
clock_settime EPERM
kernel log EPERM
acct EPERM
bpf EPERM
perf_event_open EPERM
userfaultfd EPERM
io_uring_setup EPERM
keyctl EPERM
add_key EPERM
personality EPERM
socket AF_ALG EPERM
socket AF_VSOCK EPERM
core_pattern EROFS
ip_forward EROFS
irq EROFS
sysfs EROFS
/dev/mem ENOENT
/dev/kmsg ENOENT
/proc/kmsg EPERM
open memory EACCES
open loop disk EACCES
open fuse EACCES
disk in /dev ENOENT
kill a process of the host ESRCH
ptrace init EPERM
read init's memory EPERM
open init's memory EACCES
init's environment EACCES
init's root EACCES
init's binary EACCES
init's output EACCES
kcmp EPERM
pidfd_getfd EPERM
raise own priority EACCES
folder of the host ENOENT
open_by_handle_at EPERM
folder of the host after chroot ENOENT
the same by init's root EACCES
descriptor of nslab's ENOENT
type into the terminal EPERM
the console's clipboard EPERM
";

/// The program with its arguments.
fn argv(secret: &str) -> Vec<String> {
    let numbers = [
        ("acct", libc::SYS_acct),
        ("add_key", libc::SYS_add_key),
        ("bpf", libc::SYS_bpf),
        ("clock_settime", libc::SYS_clock_settime),
        ("clone", libc::SYS_clone),
        ("delete_module", libc::SYS_delete_module),
        ("finit_module", libc::SYS_finit_module),
        ("fsopen", libc::SYS_fsopen),
        ("init_module", libc::SYS_init_module),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("kcmp", libc::SYS_kcmp),
        ("kexec_load", libc::SYS_kexec_load),
        ("keyctl", libc::SYS_keyctl),
        ("mknodat", libc::SYS_mknodat),
        ("mount", libc::SYS_mount),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("open_tree", libc::SYS_open_tree),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("personality", libc::SYS_personality),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("pivot_root", libc::SYS_pivot_root),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("ptrace", libc::SYS_ptrace),
        ("reboot", libc::SYS_reboot),
        ("sethostname", libc::SYS_sethostname),
        ("setns", libc::SYS_setns),
        ("settimeofday", libc::SYS_settimeofday),
        ("socket", libc::SYS_socket),
        ("swapon", libc::SYS_swapon),
        ("syslog", libc::SYS_syslog),
        ("umount2", libc::SYS_umount2),
        ("unshare", libc::SYS_unshare),
        ("userfaultfd", libc::SYS_userfaultfd),
    ];
    // Beyond every pid that a node may have, and of a process that is there.
    let host = std::process::id().to_string();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/escape.pl");
    let escape = fs::read_to_string(path).unwrap();
    ["perl", "-e", &escape, &host, secret]
        .map(str::to_owned)
        .into_iter()
        .chain(numbers.map(|(name, number)| format!("{name}={number}")))
        .collect()
}

/// Lines that depend on what this kernel has, checked by themselves and taken out.
fn common(text: &str) -> String {
    text.lines()
        .filter(|line| match line.rsplit_once(' ') {
            Some(("sysrq" | "cgroup.procs" | "release_agent", error)) => {
                assert!(["EROFS", "ENOENT"].contains(&error), "{line}");
                false
            }
            // CAP_MKNOD is among the default rights; opening is what is refused.
            Some(("make memory" | "make loop disk" | "make fuse", result)) => {
                assert_eq!(result, "ok", "{line}");
                false
            }
            _ => true,
        })
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Specifications of a node without image and one with.
fn nodes() -> (Image, [InitSpec; 2]) {
    let image = Image::new(&["perl", "sh"]);
    let rootfs = image.rootfs();
    let of_image = InitSpec {
        rootfs,
        ..plain("image")
    };
    (image, [plain("host"), of_image])
}

#[test]
fn a_program_that_tries_to_get_out_is_refused_everything() {
    let secret = tempfile::tempdir().unwrap();
    let argv = argv(secret.path().to_str().unwrap());
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let (_image, specs) = nodes();
    for spec in specs {
        let process = Process {
            argv: argv.clone(),
            restart: RestartPolicy::No,
        };
        let mut node = Node::up(&InitSpec {
            process: Some(process),
            ..spec
        });
        let name = node.target.node.clone();
        let output = node.exec(&words);
        assert!(output.status.success(), "{name}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(common(&text), REFUSED, "by exec in {name}");

        node.started();
        assert!(matches!(
            node.event(),
            Some(InitEvent::Exited { code: Some(0), .. })
        ));
        assert_eq!(node.end(nix::sys::signal::Signal::SIGTERM), 0);
        assert_eq!(common(&node.output()), REFUSED, "as main process of {name}");
    }
}

/// The same program where nothing holds it: what it calls refused is not refused by chance.
#[test]
fn the_same_program_gets_far_without_protection() {
    let secret = tempfile::tempdir().unwrap();
    let argv = argv(secret.path().to_str().unwrap());
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let mut spec = plain("open");
    spec.seccomp = false;
    spec.capabilities
        .extend(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"].map(str::to_owned));
    let node = Node::up(&spec);
    let output = node.exec(&words);
    let text = String::from_utf8(output.stdout).unwrap();
    let results: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.rsplit_once(' ')).collect();
    for worked in [
        "mount tmpfs",
        "open_tree",
        "fsopen",
        "unshare user",
        "unshare mount",
        "open init's mount namespace",
        "sethostname",
        "ptrace init",
        "open init's memory",
        "init's environment",
        "init's root",
        "init's binary",
        "kcmp",
        "personality",
    ] {
        assert_eq!(results.get(worked), Some(&"ok"), "{worked}: {text}");
    }
    // What is at that address, or that nothing is.
    let read = results.get("read init's memory");
    assert!([Some(&"ok"), Some(&"EFAULT")].contains(&read), "{text}");
    // Neither is a matter of the filter.
    for held in [
        "open memory",
        "open loop disk",
        "kill a process of the host",
    ] {
        assert_ne!(results.get(held), Some(&"ok"), "{held}: {text}");
    }
}

#[test]
fn a_working_directory_cannot_be_an_open_folder_of_the_host() {
    // Without FD_CLOEXEC, as a careless caller leaves it.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
    let folder = rustix::fs::open("/usr", flags, rustix::fs::Mode::empty()).unwrap();
    let folder = nix::fcntl::fcntl(&folder, nix::fcntl::FcntlArg::F_DUPFD(100)).unwrap();
    let number = folder;
    let node = Node::up(&plain("n"));
    for cwd in [
        format!("/proc/self/fd/{number}"),
        format!("/proc/self/fd/{number}/bin"),
        format!("/proc/thread-self/fd/{number}/.."),
    ] {
        let leaky = ExecOptions {
            cwd: Some(cwd.clone().into()),
            ..options(&["pwd"])
        };
        let output = node.command(&leaky).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert_eq!(
            stderr(&output),
            format!(
                "nslab: exec: cannot enter working directory {cwd} in node n: No such file or \
                 directory (os error 2)\n"
            )
        );
    }
    // The caller's streams are the command's, and a folder among them is outside.
    let leaky = ExecOptions {
        cwd: Some("/proc/self/fd/0".into()),
        ..options(&["pwd"])
    };
    let mut command = node.command(&leaky);
    command.stdin(Stdio::from(fs::File::open("/usr").unwrap()));
    let output = command.output().unwrap();
    assert_eq!(
        stderr(&output),
        "nslab: exec: cannot enter working directory /proc/self/fd/0 in node n: Invalid \
         cross-device link (os error 18)\n"
    );
}

#[test]
fn a_program_has_its_three_streams_and_no_other_file() {
    let file = rustix::fs::open(
        "/usr",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    let _kept = file.unwrap();
    let script = "for fd in /proc/self/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && readlink $fd; done; \
                  exec sleep 0";
    let node = Node::up(&super::harness::running("n", script, RestartPolicy::No));
    let by_exec = node.exec(&["sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&by_exec.stdout), "");
    let mut node = node;
    node.started();
    node.event();
    node.end(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(node.output(), "");
}

#[test]
fn links_of_an_image_do_not_move_the_kernels_own_folders() {
    let outside = tempfile::tempdir().unwrap();
    for folder in ["proc", "sys", "dev"] {
        let image = Image::new(&["sh"]);
        std::os::unix::fs::symlink(outside.path(), image.path("top").join(folder)).unwrap();
        let node = Node::spawn(&InitSpec {
            rootfs: image.rootfs(),
            ..plain("i")
        });
        let message = format!("cannot mount on /{folder}: the image has a symbolic link there");
        assert_eq!(node.early, [InitEvent::Failed { message }]);
    }
    // Files are replaced, not followed.
    let image = Image::new(&["sh", "cat"]);
    let target = outside.path().join("hosts");
    fs::write(&target, "mine\n").unwrap();
    fs::create_dir_all(image.path("top/etc")).unwrap();
    for name in ["hosts", "hostname"] {
        std::os::unix::fs::symlink(&target, image.path("top/etc").join(name)).unwrap();
    }
    let node = Node::up(&InitSpec {
        rootfs: image.rootfs(),
        ..plain("i")
    });
    assert_eq!(node.sh("cat /etc/hostname"), "i\n");
    assert_eq!(fs::read_to_string(&target).unwrap(), "mine\n");
}

#[test]
fn paths_of_the_kernel_are_masked_or_read_only() {
    let (_image, specs) = nodes();
    for spec in specs {
        let node = Node::up(&spec);
        let mut masked: Vec<String> = nslab::node::masked_paths()
            .iter()
            .map(|&path| path.to_owned())
            .collect();
        for entry in fs::read_dir("/sys/devices/system/cpu").unwrap() {
            let path = entry.unwrap().path().join("thermal_throttle");
            masked.push(path.to_str().unwrap().to_owned());
        }
        let there = |path: &&String| fs::symlink_metadata(path).is_ok();
        let mut seen = 0;
        for path in masked.iter().filter(there) {
            // Neither a byte nor a name.
            let script = format!(
                "if [ -d {path} ]; then set -- {path}/*; [ \"$*\" = '{path}/*' ] && echo empty; \
                 else read -r line < {path}; [ -z \"$line\" ] && echo empty; fi"
            );
            assert_eq!(node.sh(&script), "empty\n", "{path}");
            seen += 1;
        }
        assert!(seen > 1, "this kernel has none of {masked:?}");
        for path in nslab::node::read_only_paths() {
            if fs::symlink_metadata(path).is_err() {
                continue;
            }
            let line = node.sh(&format!(
                "while read -r line; do case $line in *' {path} '*) echo \"$line\"; esac; done \
                 < /proc/self/mountinfo"
            ));
            assert!(line.contains(" ro,"), "{path}: {line}");
        }
    }
}
