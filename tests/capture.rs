//! Captures of real interfaces in real network namespaces, checked from outside with tcpdump and
//! capinfos. Needs root, and ip, tcpdump, capinfos and mount.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use nslab::capture::{Captures, Options, Request, Stats, prepare_dir};

/// Runs a command line and returns what it wrote to stdout; anything but success is a failure.
fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().expect("a command"))
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(
        output.status.success(),
        "{line}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Whole frames at this MTU. The kernel's ring has slots of this length; with the default of
/// 256 KiB libpcap makes them 64 KiB on interfaces that, like these, offload segmentation, and a
/// ring holds only a few.
const ROOMY: Options = Options {
    snaplen: 2048,
    buffer: None,
    owner: None,
};

/// Two namespaces with `pairs` veth pairs between them, all down: `a0`-`b0`, `a1`-`b1` and so on.
/// Pair n has 10.77.n.1 and 10.77.n.2.
struct Lab {
    left: String,
    right: String,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new(pairs: usize) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces and need root: sudo -E cargo test --test capture"
        );
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("nslab-capture-{}-{id}-{side}", std::process::id());
        let lab = Self {
            left: name("a"),
            right: name("b"),
            dir: tempfile::tempdir().expect("a directory"),
        };
        for netns in [&lab.left, &lab.right] {
            run(&format!("ip netns add {netns}"));
            // Nothing shall be sent that the test does not send.
            let sysctl = "sysctl -qw net.ipv6.conf.default.disable_ipv6=1";
            run(&format!("ip netns exec {netns} {sysctl}"));
        }
        let mut batch = String::new();
        for n in 0..pairs {
            let (left, right) = (&lab.left, &lab.right);
            let _ = writeln!(
                batch,
                "link add a{n} netns {left} address 02:00:00:00:{n:02x}:01 type veth \
                 peer name b{n} netns {right} address 02:00:00:00:{n:02x}:02"
            );
        }
        let file = lab.dir.path().join("batch");
        fs::write(&file, batch).expect("a batch");
        run(&format!("ip -batch {}", file.display()));
        lab
    }

    fn up(&self, n: usize) {
        for (netns, interface, host) in [(&self.left, "a", 1), (&self.right, "b", 2)] {
            run(&format!(
                "ip -n {netns} address add 10.77.{n}.{host}/24 dev {interface}{n}"
            ));
            run(&format!("ip -n {netns} link set {interface}{n} up"));
        }
    }

    /// Waits until the kernel sends on both ends of a pair: `noop` drops frames until a work queue
    /// has seen the carrier (net/core/link_watch.c).
    fn wait_up(&self, n: usize) {
        let limit = Instant::now() + Duration::from_mins(1);
        for (netns, interface) in [(&self.left, "a"), (&self.right, "b")] {
            while !run(&format!("ip -n {netns} -br link show {interface}{n}")).contains(" UP ") {
                assert!(Instant::now() < limit, "{interface}{n} never came up");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn requests(&self, n: usize) -> Vec<Request> {
        let request = |node: &str, netns: &str, interface: String| Request {
            node: node.into(),
            netns: netns_fd(netns),
            file: self.dir.path().join(format!("{node}_{interface}.pcap")),
            interface,
        };
        vec![
            request("left", &self.left, format!("a{n}")),
            request("right", &self.right, format!("b{n}")),
        ]
    }

    fn start(&self, n: usize, options: &Options) -> Captures {
        Captures::start(self.requests(n), options).expect("captures")
    }

    /// Sends `count` UDP datagrams over pair n to an address that nobody has, so that nothing
    /// answers, after saying where that address is, so that nothing asks.
    fn send(&self, n: u8, count: usize, payload: usize) {
        self.wait_up(n.into());
        let (left, right_mac) = (&self.left, format!("02:00:00:00:{n:02x}:02"));
        run(&format!(
            "ip -n {left} neigh replace 10.77.{n}.99 lladdr {right_mac} dev a{n}"
        ));
        inside(left, move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
            let to = (Ipv4Addr::new(10, 77, n, 99), 9);
            let data = vec![7; payload];
            for _ in 0..count {
                assert_eq!(socket.send_to(&data, to).expect("sent"), payload);
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for netns in [&self.left, &self.right] {
            let _ = Command::new("ip").args(["netns", "del", netns]).status();
        }
    }
}

fn netns_fd(name: &str) -> Arc<OwnedFd> {
    Arc::new(
        File::open(format!("/run/netns/{name}"))
            .expect("a namespace")
            .into(),
    )
}

/// Runs `f` on a thread of its own inside a network namespace.
fn inside<T: Send + 'static>(netns: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    let fd = netns_fd(netns);
    let thread = thread::spawn(move || {
        setns(&fd, CloneFlags::CLONE_NEWNET).expect("setns");
        f()
    });
    thread.join().expect("the thread in the namespace")
}

/// The inodes of the packet sockets in a namespace.
fn packet_sockets(netns: &str) -> Vec<String> {
    // Each thread sees its own namespace there. The first line is a heading.
    let table = || fs::read_to_string("/proc/thread-self/net/packet").expect("proc");
    let table = inside(netns, table);
    let inode = |line: &str| line.split_whitespace().last().expect("an inode").to_owned();
    table.lines().skip(1).map(inode).collect()
}

/// Says that a lab's captures are closed. The wait is for processes that tests beside this one
/// forked while libpcap had a socket open that it does not mark as close-on-exec.
fn all_closed(lab: &Lab) {
    let limit = Instant::now() + Duration::from_mins(1);
    for netns in [&lab.left, &lab.right] {
        while !packet_sockets(netns).is_empty() {
            assert!(Instant::now() < limit, "{netns} still has packet sockets");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Asks until `good` says so. The limit only keeps a failing test from hanging.
fn until(captures: &Captures, good: impl Fn(&[Stats]) -> bool) -> Vec<Stats> {
    let limit = Instant::now() + Duration::from_mins(1);
    loop {
        let stats = captures.stats();
        if good(&stats) {
            return stats;
        }
        assert!(Instant::now() < limit, "it never came to that: {stats:#?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn tcpdump(file: &Path) -> Vec<String> {
    run(&format!("tcpdump -nn -t -r {}", file.display()))
        .lines()
        .map(Into::into)
        .collect()
}

#[test]
fn the_very_first_frames_are_there_on_both_ends_and_readable_while_it_runs() {
    let lab = Lab::new(1);
    let owner = Some((1234, 4321));
    let folder = lab.dir.path().join("exchange/dsr");
    prepare_dir(&folder, owner).expect("the folder");
    let mut requests = lab.requests(0);
    for request in &mut requests {
        request.file = folder.join(request.file.file_name().expect("a name"));
    }
    let files: Vec<PathBuf> = requests
        .iter()
        .map(|request| request.file.clone())
        .collect();
    let options = Options { owner, ..ROOMY };
    let captures = Captures::start(requests, &options).expect("captures");
    for file in &files {
        assert_eq!(tcpdump(file).len(), 0, "readable before the first frame");
        let meta = fs::metadata(file).expect("the file");
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (1234, 4321, 0o644)
        );
    }
    for made in [lab.dir.path().join("exchange"), folder.clone()] {
        let meta = fs::metadata(made).expect("the folder");
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (1234, 4321, 0o755)
        );
    }
    lab.up(0);
    lab.wait_up(0);
    let listener = inside(&lab.right, || {
        TcpListener::bind("10.77.0.2:80").expect("a port")
    });
    let client = inside(&lab.left, || {
        TcpStream::connect("10.77.0.2:80").expect("a connection")
    });
    let (server, _) = listener.accept().expect("the connection");
    // ARP there and back, SYN, SYN and ACK, ACK.
    until(&captures, |stats| stats.iter().all(|of| of.packets >= 5));
    for file in &files {
        let lines = tcpdump(file);
        assert_eq!(
            lines[0],
            "ARP, Request who-has 10.77.0.2 tell 10.77.0.1, length 28"
        );
        assert_eq!(
            lines[1],
            "ARP, Reply 10.77.0.2 is-at 02:00:00:00:00:02, length 28"
        );
        assert!(
            lines[2].contains("> 10.77.0.2.80: Flags [S], "),
            "{}",
            lines[2]
        );
        assert!(
            lines[3].starts_with("IP 10.77.0.2.80 > 10.77.0.1."),
            "{}",
            lines[3]
        );
        assert!(lines[3].contains("Flags [S.]"), "{}", lines[3]);
        assert!(
            lines[4].contains("> 10.77.0.2.80: Flags [.], "),
            "{}",
            lines[4]
        );
        let info = run(&format!("capinfos {}", file.display()));
        assert!(
            info.contains("Wireshark/tcpdump/... - nanosecond pcap"),
            "{info}"
        );
        assert!(
            info.contains("File timestamp precision:  nanoseconds (9)"),
            "{info}"
        );
        assert!(info.contains("Strict time order:   True"), "{info}");
    }
    drop((client, server));
    let stats = captures.stop();
    for (of, (node, interface)) in stats.iter().zip([("left", "a0"), ("right", "b0")]) {
        assert_eq!((of.node.as_str(), of.interface.as_str()), (node, interface));
        assert_eq!((of.dropped, &of.error), (0, &None));
        assert_eq!(tcpdump(&of.file).len() as u64, of.packets);
    }
    assert_eq!(
        (stats[0].packets, stats[0].bytes),
        (stats[1].packets, stats[1].bytes)
    );
}

/// A process that does not outlive its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn counts_are_those_of_tcpdump_beside_it() {
    let lab = Lab::new(1);
    let captures = lab.start(0, &ROOMY);
    lab.up(0);
    let theirs = lab.dir.path().join("tcpdump.pcap");
    let beside = Command::new("ip")
        .args([
            "netns",
            "exec",
            &lab.right,
            "tcpdump",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
        ])
        .args(["-B", "8192", "-s", "2048", "-i", "b0", "-w"])
        .arg(&theirs)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("tcpdump");
    let mut beside = Ended(beside);
    let written = |length: u64| {
        let limit = Instant::now() + Duration::from_mins(1);
        while fs::metadata(&theirs).map_or(0, |meta| meta.len()) < length {
            assert!(Instant::now() < limit, "tcpdump never wrote {length} bytes");
            thread::sleep(Duration::from_millis(5));
        }
    };
    // Its file has a header once it captures, and it does not empty its ring when it ends.
    written(24);
    lab.send(0, 2000, 700);
    written(24 + 2000 * (16 + 742));
    let stats = until(&captures, |stats| stats.iter().all(|of| of.packets >= 2000));
    let pid = nix::unistd::Pid::from_raw(beside.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("stopped");
    let end = beside.0.wait().expect("tcpdump's end");
    assert!(end.success(), "{end}");
    assert_eq!(tcpdump(&theirs).len(), 2000);
    assert_eq!(tcpdump(&theirs), tcpdump(&stats[1].file));
    assert_eq!(tcpdump(&theirs), tcpdump(&stats[0].file));
    for of in captures.stop() {
        assert_eq!(
            (of.packets, of.bytes, of.dropped, of.error),
            (2000, 2000 * 742, 0, None)
        );
    }
}

#[test]
fn an_interface_that_goes_down_and_up_again_is_still_captured() {
    let lab = Lab::new(1);
    let captures = lab.start(0, &ROOMY);
    for round in 1..=3 {
        if round == 1 {
            lab.up(0);
        } else {
            run(&format!("ip -n {} link set a0 up", lab.left));
        }
        lab.send(0, 10, 100);
        until(&captures, |stats| {
            stats.iter().all(|of| of.packets == 10 * round)
        });
        run(&format!("ip -n {} link set a0 down", lab.left));
        run(&format!("ip -n {} link set b0 down", lab.right));
        run(&format!("ip -n {} link set b0 up", lab.right));
    }
    for of in captures.stop() {
        assert_eq!((of.packets, of.dropped, of.error), (30, 0, None));
    }
}

#[test]
fn a_deleted_interface_is_said_and_stops_no_other() {
    // Pair 0 is deleted while up, pair 1 before it ever was; pair 2 stays.
    let lab = Lab::new(3);
    let requests = (0..3).flat_map(|n| lab.requests(n)).collect();
    let captures = Captures::start(requests, &ROOMY).expect("captures");
    lab.up(0);
    lab.up(2);
    lab.send(0, 5, 100);
    until(&captures, |stats| {
        stats[0].packets == 5 && stats[1].packets == 5
    });
    run(&format!("ip -n {} link del a0", lab.left));
    run(&format!("ip -n {} link del a1", lab.left));
    lab.send(2, 5, 100);
    until(&captures, |stats| {
        stats[4].packets == 5 && stats[5].packets == 5
    });
    let gone = Some("the interface was deleted; its capture ended there".to_owned());
    let stats = captures.stop();
    let seen: Vec<_> = stats.into_iter().map(|of| (of.packets, of.error)).collect();
    let expected = [
        (5, &gone),
        (5, &gone),
        (0, &gone),
        (0, &gone),
        (5, &None),
        (5, &None),
    ];
    assert_eq!(
        seen,
        expected.map(|(packets, error)| (packets, error.clone()))
    );
}

#[test]
fn planted_links_are_replaced_and_never_followed() {
    let lab = Lab::new(1);
    let precious = lab.dir.path().join("precious");
    fs::write(&precious, "keep").expect("a file");
    symlink(&precious, lab.dir.path().join("left_a0.pcap")).expect("a link");
    fs::hard_link(&precious, lab.dir.path().join("right_b0.pcap")).expect("a link");
    let captures = lab.start(
        0,
        &Options {
            owner: Some((1234, 4321)),
            ..ROOMY
        },
    );
    lab.up(0);
    lab.send(0, 3, 100);
    for of in captures.stop() {
        assert!(of.file.symlink_metadata().expect("the file").is_file());
        assert_eq!(tcpdump(&of.file).len(), 3);
    }
    assert_eq!(fs::read_to_string(&precious).expect("the file"), "keep");
    assert_eq!(fs::metadata(&precious).expect("the file").uid(), 0);
}

#[test]
fn files_of_a_former_run_are_replaced_and_others_left_alone() {
    let lab = Lab::new(1);
    fs::write(lab.dir.path().join("left_a0.pcap"), vec![1; 4096]).expect("a file");
    fs::write(lab.dir.path().join("notes.pcap"), "mine").expect("a file");
    lab.start(0, &ROOMY).stop();
    assert_eq!(
        fs::metadata(lab.dir.path().join("left_a0.pcap"))
            .expect("the file")
            .len(),
        24
    );
    assert_eq!(
        fs::read(lab.dir.path().join("notes.pcap")).expect("the file"),
        b"mine"
    );
}

#[test]
fn a_folder_that_became_a_link_is_refused_and_nothing_stays_open() {
    let lab = Lab::new(1);
    let elsewhere = lab.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    let link = lab.dir.path().join("dsr");
    symlink(&elsewhere, &link).expect("a link");
    let mut requests = lab.requests(0);
    let first = requests[0].file.clone();
    requests[1].file = link.join("right_b0.pcap");
    let error = Captures::start(requests, &ROOMY).expect_err("refused");
    let says = format!(
        "capture directory {} is a symbolic link, which is not followed; remove it or name the \
         directory it points to",
        link.display()
    );
    assert_eq!(error.to_string(), says);
    assert_eq!(fs::read_dir(&elsewhere).expect("the folder").count(), 0);
    assert!(!first.exists(), "the file made before the failure is gone");
    all_closed(&lab);
}

#[test]
fn all_or_nothing() {
    let lab = Lab::new(1);
    let refused = |change: fn(&mut Vec<Request>)| {
        let mut requests = lab.requests(0);
        change(&mut requests);
        let error = Captures::start(requests, &ROOMY).expect_err("refused");
        let mut left = fs::read_dir(lab.dir.path()).expect("the folder");
        assert!(left.all(|entry| entry.expect("an entry").file_name() == "batch"));
        all_closed(&lab);
        error.to_string()
    };
    assert_eq!(
        refused(|requests| requests[1].interface = "eth9".into()),
        "capture on right:eth9: the node's network namespace has no such interface"
    );
    assert_eq!(
        refused(|requests| requests[0].interface = "any".into()),
        "capture on left:any: libpcap takes the name `any` for all interfaces at once; give the \
         interface another name"
    );
    let same = refused(|requests| requests[1].file = requests[0].file.clone());
    let file = lab.dir.path().join("left_a0.pcap");
    let says = format!(
        "capture on right:b0: {} is already the file of another interface",
        file.display()
    );
    assert_eq!(same, says);
    // And without such a thing it works, and leaves no socket when merely dropped.
    drop(lab.start(0, &ROOMY));
    all_closed(&lab);
}

/// A tmpfs that is unmounted again.
struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that another test is about to start may hold its files for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_counted_and_the_file_stays_readable() {
    let lab = Lab::new(1);
    let small = lab.dir.path().join("small");
    fs::create_dir(&small).expect("a folder");
    run(&format!(
        "mount -t tmpfs -o size=64k nslab-test {}",
        small.display()
    ));
    let _tmpfs = Tmpfs(small.clone());
    let mut requests = lab.requests(0);
    requests[0].file = small.join("left_a0.pcap");
    let captures = Captures::start(requests, &ROOMY).expect("captures");
    lab.up(0);
    lab.send(0, 300, 1000);
    let stats = until(&captures, |stats| {
        stats.iter().all(|of| of.packets + of.dropped == 300)
    });
    // 64 KiB hold 61 records of 16 + 1042 bytes after the file's header.
    assert_eq!(
        (stats[0].packets, stats[0].dropped, stats[0].bytes),
        (61, 239, 61 * 1042)
    );
    assert_eq!(
        stats[0].error.as_deref(),
        Some("239 frames could not be written: No space left on device (os error 28)")
    );
    assert_eq!((stats[1].packets, &stats[1].error), (300, &None));
    assert_eq!(tcpdump(&stats[0].file).len(), 61);
    let stats = captures.stop();
    assert_eq!((stats[0].packets, stats[0].dropped), (61, 239));
    assert_eq!(tcpdump(&stats[0].file).len(), 61);
}

/// The frames that an interface's own counter says it has received.
fn received(netns: &str, interface: String) -> u64 {
    let table = inside(netns, || {
        fs::read_to_string("/proc/thread-self/net/dev").expect("proc")
    });
    let name = interface + ":";
    let line = table
        .lines()
        .find_map(|line| line.trim().strip_prefix(&name));
    let mut fields = line.expect("the interface's line").split_whitespace();
    fields.nth(1).expect("packets").parse().expect("a number")
}

#[test]
fn under_a_flood_each_frame_is_recorded_or_counted_as_dropped() {
    let lab = Lab::new(2);
    let small = lab.start(
        0,
        &Options {
            buffer: Some(32 << 10),
            ..ROOMY
        },
    );
    let usual = lab.start(1, &ROOMY);
    for (n, captures) in [(0, small), (1, usual)] {
        lab.up(n.into());
        lab.send(n, 100_000, 400);
        let arrived = received(&lab.right, format!("b{n}"));
        let stats = captures.stop();
        for (of, crossed) in stats.iter().zip([100_000, arrived]) {
            assert_eq!(of.packets + of.dropped, crossed, "{of:?}");
            assert_eq!(of.error, None);
            let info = run(&format!("capinfos -c -M {}", of.file.display()));
            let count = format!("Number of packets:   {}\n", of.packets);
            assert!(info.contains(&count), "{of:?}: {info}");
        }
        let lost: u64 = stats.iter().map(|of| of.dropped).sum();
        assert!(
            n == 1 || lost > 0,
            "a ring of ten frames loses some: {stats:?}"
        );
    }
}

#[test]
fn stop_records_what_the_kernel_still_holds() {
    let lab = Lab::new(1);
    for round in 0..20 {
        let captures = lab.start(
            0,
            &Options {
                buffer: Some(8 << 20),
                ..ROOMY
            },
        );
        if round == 0 {
            lab.up(0);
        }
        lab.send(0, 500, 200);
        for of in captures.stop() {
            assert_eq!(
                (of.packets, of.dropped, of.error),
                (500, 0, None),
                "round {round}"
            );
            assert_eq!(of.bytes, 500 * 242);
        }
    }
}

#[test]
fn no_process_inherits_a_sniffer() {
    let lab = Lab::new(1);
    let captures = lab.start(0, &ROOMY);
    for netns in [&lab.left, &lab.right] {
        let sockets = packet_sockets(netns);
        assert_eq!(sockets.len(), 1);
        let target = format!("socket:[{}]", sockets[0]);
        let mut fds = fs::read_dir("/proc/self/fd")
            .expect("proc")
            .filter_map(Result::ok);
        let fd = fds.find(|fd| {
            fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == target.as_str())
        });
        let number = fd.expect("the sniffer").file_name();
        let info = Path::new("/proc/self/fdinfo").join(number);
        let info = fs::read_to_string(info).expect("proc");
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .expect("flags");
        let flags = i32::from_str_radix(flags.trim(), 8).expect("a number");
        assert_ne!(flags & libc::O_CLOEXEC, 0, "{info}");
    }
    captures.stop();
    all_closed(&lab);
}

#[test]
fn a_snapshot_length_cuts_frames_and_not_their_count_of_bytes() {
    let lab = Lab::new(1);
    let captures = lab.start(
        0,
        &Options {
            snaplen: 64,
            ..ROOMY
        },
    );
    lab.up(0);
    lab.send(0, 10, 1000);
    for of in captures.stop() {
        assert_eq!((of.packets, of.bytes), (10, 10 * 1042));
        assert_eq!(
            fs::metadata(&of.file).expect("the file").len(),
            24 + 10 * (16 + 64)
        );
    }
}

#[test]
fn two_hundred_interfaces() {
    let lab = Lab::new(100);
    let requests: Vec<_> = (0..100).flat_map(|n| lab.requests(n)).collect();
    let captures = Captures::start(requests, &ROOMY).expect("captures");
    for n in [0, 42, 99] {
        lab.up(n.into());
        lab.send(n, 50, 300);
    }
    let stats = captures.stop();
    assert_eq!(stats.len(), 200);
    for (at, of) in stats.iter().enumerate() {
        let expected = if [0, 42, 99].contains(&(at / 2)) {
            50
        } else {
            0
        };
        assert_eq!(
            (of.packets, of.dropped, &of.error),
            (expected, 0, &None),
            "{of:?}"
        );
        assert_eq!(tcpdump(&of.file).len() as u64, of.packets);
    }
    all_closed(&lab);
}

#[test]
fn statistics_survive_json() {
    let stats = Stats {
        node: "client".into(),
        interface: "eth1".into(),
        packets: 1,
        bytes: 60,
        dropped: 0,
        file: "exchange/dsr/client_eth1.pcap".into(),
        error: None,
    };
    let text = serde_json::to_string(&stats).expect("JSON");
    assert_eq!(
        text,
        r#"{"node":"client","interface":"eth1","packets":1,"bytes":60,"dropped":0,"file":"exchange/dsr/client_eth1.pcap","error":null}"#
    );
    assert_eq!(serde_json::from_str::<Stats>(&text).expect("back"), stats);
}
