//! The filter of system calls, met by real programs.

use nslab::node::{InitSpec, RestartPolicy};

use super::harness::{Node, options, plain, running};
use super::images::image;

/// Prints the error number of each system call: `NAME=NUMBER,ARG,..` gives `NAME ERRNO`.
const PERL: &str = r#"for (@ARGV) {
    my ($name, $call) = split /=/;
    my ($number, @args) = map { $_ + 0 } split /,/, $call;
    $! = 0;
    my $result = syscall($number, @args);
    print "$name ", ($result == -1 ? $! + 0 : 0), "\n";
}"#;

/// Calls that are harmless even where nothing refuses them: on no file, with no flags.
fn calls() -> Vec<String> {
    [
        ("acct", libc::SYS_acct, "1"),
        ("add_key", libc::SYS_add_key, "1,1"),
        ("bpf", libc::SYS_bpf, "-1,0,0"),
        ("clone-user", libc::SYS_clone, "0x10000000"),
        ("clone3", libc::SYS_clone3, "0,0"),
        ("finit_module", libc::SYS_finit_module, "-1,0,0"),
        ("fsopen", libc::SYS_fsopen, "1,0"),
        ("get_mempolicy", libc::SYS_get_mempolicy, "0,0,0,0,0"),
        ("io_uring_setup", libc::SYS_io_uring_setup, "0,0"),
        ("kcmp", libc::SYS_kcmp, "-1,-1,0,0,0"),
        ("keyctl", libc::SYS_keyctl, "-1"),
        ("kexec_load", libc::SYS_kexec_load, "0,99,0,0"),
        ("mount", libc::SYS_mount, "1,1,1,0,0"),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, "-1,0,0"),
        ("perf_event_open", libc::SYS_perf_event_open, "1,0,0,0,0"),
        ("personality", libc::SYS_personality, "0x0400000"),
        ("pivot_root", libc::SYS_pivot_root, "1,1"),
        ("setns", libc::SYS_setns, "-1,0"),
        ("socket-alg", libc::SYS_socket, "38,5,0"),
        ("socket-inet", libc::SYS_socket, "2,2,0"),
        ("socket-vsock", libc::SYS_socket, "40,1,0"),
        ("swapon", libc::SYS_swapon, "1,0"),
        ("umount2", libc::SYS_umount2, "1,0"),
        ("unshare", libc::SYS_unshare, "0"),
        ("userfaultfd", libc::SYS_userfaultfd, "-1"),
        ("unknown", 1234, "0"),
    ]
    .map(|(name, number, args)| {
        let args: Vec<String> = args.split(',').map(decimal).collect();
        format!("{name}={number},{}", args.join(","))
    })
    .to_vec()
}

fn decimal(text: &str) -> String {
    text.strip_prefix("0x").map_or(text.to_owned(), |hex| {
        u64::from_str_radix(hex, 16).expect("a number").to_string()
    })
}

/// What the calls give in `node`: those that are refused by EPERM, and the others.
fn tried(node: &Node) -> (String, String) {
    let calls = calls();
    let mut argv = vec!["perl", "-e", PERL];
    argv.extend(calls.iter().map(String::as_str));
    let output = node.exec(&argv);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), calls.len(), "{text}");
    let refused = lines
        .iter()
        .filter_map(|line| line.strip_suffix(" 1"))
        .collect::<Vec<_>>();
    let others = lines
        .iter()
        .filter(|line| !line.ends_with(" 1"))
        .copied()
        .collect::<Vec<_>>();
    (refused.join(" "), others.join(", "))
}

#[test]
fn forbidden_calls_are_refused_and_unknown_ones_are_not_there() {
    let node = Node::up(&plain("n"));
    let (refused, others) = tried(&node);
    assert_eq!(
        refused,
        "acct add_key bpf clone-user finit_module fsopen get_mempolicy io_uring_setup kcmp keyctl \
         kexec_load mount open_by_handle_at perf_event_open personality pivot_root setns \
         socket-alg socket-vsock swapon umount2 unshare userfaultfd"
    );
    assert_eq!(others, "clone3 38, socket-inet 0, unknown 38");
}

/// The same calls meet the kernel itself where no filter is: the test above can fail.
#[test]
fn without_a_filter_the_kernel_decides() {
    let node = Node::up(&InitSpec {
        seccomp: false,
        ..plain("n")
    });
    let (refused, others) = tried(&node);
    // These need a capability, or are unknown to this kernel, or another error comes first.
    assert!(!refused.contains("keyctl"), "{refused}");
    assert!(!refused.contains("unshare"), "{refused}");
    assert!(!refused.contains("personality"), "{refused}");
    assert!(others.contains("unshare 0, "), "{others}");
    assert!(others.contains("personality 0, "), "{others}");
    // EINVAL.
    assert!(others.contains("clone3 22, "), "{others}");
}

#[test]
fn a_capability_opens_its_calls() {
    for (capability, name) in [
        ("CAP_SYS_ADMIN", "unshare"),
        ("CAP_SYS_ADMIN", "setns"),
        ("CAP_SYS_ADMIN", "umount2"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_SYS_NICE", "get_mempolicy"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ] {
        let mut spec = plain("n");
        let without = tried(&Node::up(&spec));
        spec.capabilities.push(capability.to_owned());
        let with = tried(&Node::up(&spec));
        let open = |(refused, others): &(String, String)| {
            let refused = refused.split(' ').any(|word| word == name);
            !refused && !others.contains(&format!("{name} 38"))
        };
        assert!(!open(&without), "{name} without {capability}: {without:?}");
        assert!(open(&with), "{name} with {capability}: {with:?}");
    }
}

#[test]
fn every_process_of_a_node_is_filtered_once() {
    let script = "grep -E '^(NoNewPrivs|Seccomp)' /proc/self/status | tr -d '\\n'; echo";
    let (_image, rootfs) = image();
    let of_image = InitSpec {
        rootfs,
        ..running(
            "i",
            "while read l; do case $l in Seccomp*) echo $l;; esac; done < /proc/self/status; \
                   exec sleep inf",
            RestartPolicy::No,
        )
    };
    let of_image = Node::up(&of_image);
    assert_eq!(of_image.output_line(), "Seccomp: 2");
    assert_eq!(of_image.output_line(), "Seccomp_filters: 1");
    let filtered = "NoNewPrivs:\t1Seccomp:\t2Seccomp_filters:\t1\n";
    for (seccomp, expected) in [
        (true, filtered),
        (false, "NoNewPrivs:\t1Seccomp:\t0Seccomp_filters:\t0\n"),
    ] {
        let node = Node::up(&InitSpec {
            seccomp,
            ..running("n", &format!("{script}; exec sleep inf"), RestartPolicy::No)
        });
        assert_eq!(node.output_line(), expected.trim_end());
        assert_eq!(node.sh(script), expected);
        let nobody = nslab::node::ExecOptions {
            user: Some("65534:65534".to_owned()),
            ..options(&["sh", "-c", script])
        };
        let output = node.command(&nobody).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}

/// What people use in a lab, each doing its work.
#[test]
fn tools_work_under_the_filter() {
    let mut spec = plain("n");
    spec.capabilities.push("CAP_NET_ADMIN".to_owned());
    let node = Node::up(&spec);
    node.sh("ip link set lo up");
    assert!(node.sh("ping -c 1 127.0.0.1").contains(" 0% packet loss"));
    node.sh("ip addr add 10.9.9.9/32 dev lo; ip route; nft add table ip t; nft list tables");
    let caught = node.sh(
        "timeout 20 tcpdump -c 1 -nn -i lo icmp > /tmp/out 2> /tmp/err & \
         until grep -q listening /tmp/err; do sleep 0.1; done; ping -c 2 10.9.9.9 > /dev/null; \
         wait; cat /tmp/out",
    );
    assert!(caught.contains("ICMP echo request"), "{caught}");
    let served = node.sh("cd /tmp; echo hello > file; \
         /usr/bin/python3 -m http.server 8000 > /dev/null 2>&1 & \
         curl -s --retry 40 --retry-connrefused --retry-delay 1 http://10.9.9.9:8000/file; kill $!");
    assert_eq!(served, "hello\n");
    let threads = "import threading, subprocess, multiprocessing as m\n\
        t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n\
        print(subprocess.run(['echo', 'child'], capture_output=True).stdout.decode(), end='')\n\
        p = m.get_context('fork').Process(target=print, args=('process',)); p.start(); p.join()";
    let output = node.exec(&["/usr/bin/python3", "-c", threads]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "thread\nchild\nprocess\n"
    );
}
