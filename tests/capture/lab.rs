//! Two namespaces with veth pairs between them, and the tools to look at them from outside.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, UdpSocket},
    os::fd::OwnedFd,
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
use nslab::capture::{Captures, Options, Request, Stats};

/// Runs a command line and returns what it wrote to stdout; anything but success is a failure.
pub fn run(line: &str) -> String {
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
pub const ROOMY: Options = Options {
    snaplen: 2048,
    buffer: None,
    filter: None,
    rotate: None,
};

/// Two namespaces with `pairs` veth pairs between them, all down: `a0`-`b0`, `a1`-`b1` and so on.
/// Pair n has 10.77.n.1 and 10.77.n.2.
pub struct Lab {
    pub left: String,
    pub right: String,
    pub dir: tempfile::TempDir,
}

impl Lab {
    pub fn new(pairs: usize) -> Self {
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

    pub fn up(&self, n: usize) {
        for (netns, interface, host) in [(&self.left, "a", 1), (&self.right, "b", 2)] {
            run(&format!(
                "ip -n {netns} address add 10.77.{n}.{host}/24 dev {interface}{n}"
            ));
            run(&format!("ip -n {netns} link set {interface}{n} up"));
        }
    }

    /// Waits until the kernel sends on both ends of a pair: `noop` drops frames until a work queue
    /// has seen the carrier (net/core/link_watch.c).
    pub fn wait_up(&self, n: usize) {
        let limit = Instant::now() + Duration::from_mins(1);
        for (netns, interface) in [(&self.left, "a"), (&self.right, "b")] {
            while !run(&format!("ip -n {netns} -br link show {interface}{n}")).contains(" UP ") {
                assert!(Instant::now() < limit, "{interface}{n} never came up");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    pub fn requests(&self, n: usize) -> Vec<Request> {
        let request = |node: &str, netns: &str, interface: String| Request {
            node: node.into(),
            netns: netns_fd(netns),
            file: self.dir.path().join(format!("{node}_{interface}.pcap")),
            interface,
            options: ROOMY,
        };
        vec![
            request("left", &self.left, format!("a{n}")),
            request("right", &self.right, format!("b{n}")),
        ]
    }

    pub fn start(&self, n: usize, options: &Options) -> Captures {
        let mut requests = self.requests(n);
        for request in &mut requests {
            request.options = options.clone();
        }
        Captures::start(requests, None).expect("captures")
    }

    /// Sends `count` UDP datagrams over pair n to an address that nobody has, so that nothing
    /// answers, after saying where that address is, so that nothing asks.
    pub fn send(&self, n: u8, count: usize, payload: usize) {
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

pub fn netns_fd(name: &str) -> Arc<OwnedFd> {
    Arc::new(
        File::open(format!("/run/netns/{name}"))
            .expect("a namespace")
            .into(),
    )
}

/// Runs `f` on a thread of its own inside a network namespace.
pub fn inside<T: Send + 'static>(netns: &str, f: impl FnOnce() -> T + Send + 'static) -> T {
    let fd = netns_fd(netns);
    let thread = thread::spawn(move || {
        setns(&fd, CloneFlags::CLONE_NEWNET).expect("setns");
        f()
    });
    thread.join().expect("the thread in the namespace")
}

/// The inodes of the packet sockets in a namespace.
pub fn packet_sockets(netns: &str) -> Vec<String> {
    // Each thread sees its own namespace there. The first line is a heading.
    let table = || fs::read_to_string("/proc/thread-self/net/packet").expect("proc");
    let table = inside(netns, table);
    let inode = |line: &str| line.split_whitespace().last().expect("an inode").to_owned();
    table.lines().skip(1).map(inode).collect()
}

/// Says that a lab's captures are closed. The wait is for processes that tests beside this one
/// forked while libpcap had a socket open that it does not mark as close-on-exec.
pub fn all_closed(lab: &Lab) {
    let limit = Instant::now() + Duration::from_mins(1);
    for netns in [&lab.left, &lab.right] {
        while !packet_sockets(netns).is_empty() {
            assert!(Instant::now() < limit, "{netns} still has packet sockets");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Asks until `good` says so. The limit only keeps a failing test from hanging.
pub fn until(captures: &Captures, good: impl Fn(&[Stats]) -> bool) -> Vec<Stats> {
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

pub fn tcpdump(file: &Path) -> Vec<String> {
    run(&format!("tcpdump -nn -t -r {}", file.display()))
        .lines()
        .map(Into::into)
        .collect()
}

/// A tmpfs that is unmounted again.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn new(at: &Path, size: &str) -> Self {
        fs::create_dir(at).expect("a folder");
        run(&format!(
            "mount -t tmpfs -o size={size} nslab-test {}",
            at.display()
        ));
        Self(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that another test is about to start may hold its files for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
