//! Captures of real interfaces in real network namespaces, checked from outside with tcpdump and
//! capinfos. Needs root, and ip, tcpdump, capinfos and mount.

mod files;
mod lab;
mod options;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nslab::capture::{Captures, Options, prepare_dir};

use lab::{Lab, ROOMY, all_closed, inside, packet_sockets, run, tcpdump, until};

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
    let captures = Captures::start(requests, owner).expect("captures");
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
    let captures = Captures::start(requests, None).expect("captures");
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
    let captures = Captures::start(requests, None).expect("captures");
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
