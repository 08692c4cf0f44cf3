//! `nslab capture follow`: live and from the beginning, one and all, for programs and for people.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Bench, Terminal, frames, text, until};
use crate::pair::{seen, send, send_all, stats, up};

/// `nslab capture follow` with these words, its output to be read.
fn follow(bench: &Bench, words: &str) -> Child {
    bench
        .nslab()
        .args(["capture", "follow"])
        .args(words.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a child that ends well has written to its standard error.
fn ends(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stderr)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// tshark reading a follower's output, one line of these fields a frame.
fn tshark(how: &[&str], from: &mut Child, fields: &[&str]) -> Child {
    let mut command = Command::new("tshark");
    command.args(["-n", "-l"]).args(how).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    command
        .stdin(from.stdout.take().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn one_capture_goes_live_into_tshark_from_its_first_frame_until_the_lab_is_down() {
    let bench = Bench::new();
    up(&bench, "live", "");
    send(&bench, "live", 3, 100);
    let mut follower = follow(&bench, "a:eth0");
    // As `wireshark -k -i -` reads it.
    let mut judge = tshark(
        &["-i", "-"],
        &mut follower,
        &["udp.length", "frame.interface_name"],
    );
    let mut lines = BufReader::new(judge.stdout.take().unwrap()).lines();
    let mut next = || lines.next().expect("a line").unwrap();
    for _ in 0..3 {
        assert_eq!(next(), "108\ta:eth0");
    }
    send(&bench, "live", 2, 300);
    for _ in 0..2 {
        assert_eq!(next(), "308\ta:eth0");
    }
    // What is recorded last is there, too.
    send(&bench, "live", 1, 500);
    bench.ok("down");
    assert_eq!(next(), "508\ta:eth0");
    assert!(lines.next().is_none());
    assert_eq!(ends(follower), "");
    assert!(judge.wait().unwrap().success());
}

#[test]
fn all_captures_are_one_stream_in_the_order_of_time() {
    let bench = Bench::new();
    up(&bench, "merged", "");
    send_all(&bench, "merged", "range(1, 41)");
    for interface in ["a:eth0", "b:eth0"] {
        seen(&bench, interface, 40);
    }
    let mut follower = follow(&bench, "all -c 80");
    let fields = [
        "frame.time_epoch",
        "frame.interface_name",
        "udp.length",
        "frame.len",
        "frame.packet_flags_direction",
    ];
    let judge = tshark(&["-r", "-"], &mut follower, &fields);
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(ends(follower), "");
    let merged = text(&output.stdout);
    // The same frames with the same times as in the files, each of its interface.
    let mut expected = Vec::new();
    // Sent by the one and received by the other.
    for (interface, direction) in [("a:eth0", "0x00000002"), ("b:eth0", "0x00000001")] {
        let of = frames(
            &bench.capture_file("merged", interface),
            "udp",
            &["frame.time_epoch", "udp.length", "frame.len"],
        );
        expected.extend(of.iter().map(|line| {
            let (time, rest) = line.split_once('\t').unwrap();
            format!("{time}\t{interface}\t{rest}\t{direction}")
        }));
    }
    expected.sort();
    assert_eq!(merged.lines().collect::<Vec<_>>(), expected);
    // A datagram leaves a before it reaches b.
    let names: Vec<_> = merged
        .lines()
        .map(|l| l.split('\t').nth(1).unwrap())
        .collect();
    assert_eq!(names, ["a:eth0", "b:eth0"].repeat(40));
    bench.ok("down");
}

#[test]
fn lines_for_people_say_when_where_and_what() {
    let bench = Bench::new();
    up(&bench, "lines", "");
    send(&bench, "lines", 1, 100);
    let net = format!("--net={}", bench.ns("lines", "a").display());
    let ping = Command::new("nsenter")
        .args([&net, "ping", "-c1", "-W1", "10.84.0.2"])
        .output()
        .unwrap();
    let ping = text(&ping.stdout);
    assert!(ping.contains("1 packets transmitted, 0 received"), "{ping}");
    seen(&bench, "b:eth0", 2);
    let file = bench.capture_file("lines", "b:eth0");
    let fields = frames(
        &file,
        "ip",
        &["frame.time_epoch", "udp.srcport", "ip.id", "icmp.ident"],
    );
    let number = |text: &str| {
        let hex = text
            .strip_prefix("0x")
            .map(|hex| u32::from_str_radix(hex, 16).unwrap());
        hex.unwrap_or_else(|| text.parse().unwrap())
    };
    let of = |n: usize| -> Vec<String> { fields[n].split('\t').map(str::to_owned).collect() };
    let time = |epoch: &str| {
        let (seconds, nanos) = epoch.split_once('.').unwrap();
        let second = seconds.parse::<u64>().unwrap() % 86_400;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        format!("{hour:02}:{minute:02}:{:02}.{}", second % 60, &nanos[..6])
    };
    let (udp, icmp) = (of(0), of(1));
    let expected = format!(
        "{} b:eth0 10.84.0.1:{} > 10.84.0.2:9 UDP len 100 ttl 64 id {}\n\
         {} b:eth0 10.84.0.1 > 10.84.0.2 ICMP echo request id {} seq 1 ttl 64 id {}\n",
        time(&udp[0]),
        udp[1],
        number(&udp[2]),
        time(&icmp[0]),
        number(&icmp[3]),
        number(&icmp[2]),
    );
    assert_eq!(bench.ok("capture follow --print b:eth0 -c 2"), expected);
    // Coloured only where it is wanted or seen.
    let coloured = bench.ok("capture follow --print --color always -f icmp b:eth0 -c 1");
    assert!(coloured.starts_with("\u{1b}[2m"), "{coloured:?}");
    let plain = coloured
        .replace("\u{1b}[2m", "")
        .replace("\u{1b}[36m", "")
        .replace("\u{1b}[0m", "");
    assert_eq!(plain, expected.lines().last().unwrap().to_owned() + "\n");
    let macs = bench.ok("capture follow --print -e b:eth0 -c 1");
    let ends = frames(&file, "udp", &["eth.src", "eth.dst"])[0].replace('\t', " > ");
    assert!(
        macs.contains(&format!(" b:eth0 {ends} 10.84.0.1:")),
        "{macs}"
    );
    bench.ok("down");
}

#[test]
fn from_now_on_with_a_filter_until_it_is_enough() {
    let bench = Bench::new();
    up(&bench, "now", "");
    send(&bench, "now", 5, 100);
    seen(&bench, "a:eth0", 5);
    let mut follower = bench
        .nslab()
        .args([
            "capture",
            "follow",
            "--print",
            "--from-now",
            "--filter",
            "greater 200",
            "all",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    // How long it takes to begin is not told, so it is sent until something comes.
    let (first, sent) = std::thread::scope(|scope| {
        let line = scope.spawn(|| lines.next().unwrap().unwrap());
        let mut sent = 0;
        until("a frame is followed", || {
            send(&bench, "now", 1, 150);
            send(&bench, "now", 1, 250);
            sent += 1;
            line.is_finished()
        });
        (line.join().unwrap(), sent)
    });
    assert!(
        sent > 0 && first.contains(" a:eth0 ") && first.contains("len 250"),
        "{first}"
    );
    let second = lines.next().unwrap().unwrap();
    assert!(
        second.contains(" b:eth0 ") && second.contains("len 250"),
        "{second}"
    );
    kill(pid(&follower), Signal::SIGINT).unwrap();
    assert!(lines.all(|line| line.unwrap().contains("len 250")));
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    bench.ok("down");
}

#[test]
fn it_ends_well_when_its_reader_goes_and_at_an_interrupt_also_where_nobody_reads() {
    let bench = Bench::new();
    up(&bench, "ends", "");
    // With nothing to write it notices all the same.
    let mut follower = follow(&bench, "all");
    let mut head = [0; 28];
    let mut out = follower.stdout.take().unwrap();
    out.read_exact(&mut head).unwrap();
    assert_eq!(head[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    drop(out);
    assert_eq!(ends(follower), "");
    // A reader that does not read: the pipe is full, and ^C is heard.
    send(&bench, "ends", 500, 1000);
    seen(&bench, "a:eth0", 500);
    let mut follower = follow(&bench, "a:eth0");
    let out = follower.stdout.take().unwrap();
    until("the pipe is full", || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", follower.id())).unwrap();
        state.contains(") S ") && waiting(&out) >= 60 << 10
    });
    kill(pid(&follower), Signal::SIGTERM).unwrap();
    assert_eq!(ends(follower), "");
    drop(out);
    bench.ok("down");
}

/// Bytes that wait in a pipe (FIONREAD).
fn waiting(pipe: &impl std::os::fd::AsRawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which is live and writable.
    let done = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    assert_eq!(done, 0);
    bytes.try_into().unwrap()
}

#[test]
fn a_slow_reader_holds_nobody_up_loses_its_own_frames_and_is_told() {
    let bench = Bench::new();
    let capture = "buffer = \"32MiB\"\nrotate = { size = \"64KiB\", keep = 3 }";
    up(&bench, "slow", capture);
    send(&bench, "slow", 100, 1000);
    seen(&bench, "a:eth0", 100);
    let mut follower = follow(&bench, "--print a:eth0");
    let mut out = BufReader::new(follower.stdout.take().unwrap());
    let mut line = String::new();
    // It has begun, and then it is not read for as long as it takes to fill many files.
    out.read_line(&mut line).unwrap();
    assert!(line.contains("UDP len 1000"), "{line}");
    kill(pid(&follower), Signal::SIGSTOP).unwrap();
    for _ in 0..20 {
        send(&bench, "slow", 100, 1000);
    }
    let of = seen(&bench, "a:eth0", 2100);
    assert_eq!(
        (&of["packets"], &of["unwritten"]),
        (&2100.into(), &0.into())
    );
    kill(pid(&follower), Signal::SIGCONT).unwrap();
    send(&bench, "slow", 1, 77);
    let mut read = 1;
    loop {
        line.clear();
        out.read_line(&mut line).unwrap();
        read += 1;
        if line.contains("UDP len 77") {
            break;
        }
    }
    bench.ok("down");
    let told = ends(follower);
    // 61 records of 16 + 1042 bytes a file.
    let missed: u64 = told.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(
        told.starts_with("a:eth0: ")
            && told.contains(" full files went before they were read here"),
        "{told}"
    );
    assert_eq!(read + missed * 61, 2101, "{told}");
}

#[test]
fn a_terminal_gets_help_instead_of_bytes_and_lines_in_colour() {
    let bench = Bench::new();
    up(&bench, "tty", "");
    send(&bench, "tty", 1, 100);
    seen(&bench, "a:eth0", 1);
    let nslab = env!("CARGO_BIN_EXE_nslab");
    let run = bench.path("run");
    let terminal = |words: &str| {
        Terminal::start(&format!(
            "export NSLAB_RUN={}; unset NO_COLOR; {nslab} capture follow {words}; echo code $?",
            run.display()
        ))
    };
    let shown = terminal("a:eth0");
    shown.wait_for("error: `capture follow` writes pcapng, which a terminal cannot show");
    shown.wait_for("nslab capture follow client:eth1 | wireshark -k -i -");
    shown.wait_for("code 2");
    shown.code();
    let shown = terminal("--print a:eth0 -c 1");
    shown.wait_for("\u{1b}[36ma:eth0\u{1b}[0m 10.84.0.1:");
    shown.wait_for("code 0");
    shown.code();
    bench.ok("down");
}

#[test]
fn what_is_not_captured_is_said_with_what_is() {
    let bench = Bench::new();
    up(&bench, "names", "interfaces = [\"a:eth0\"]");
    assert_eq!(
        bench.fails("capture follow --print b:eth0", 1),
        "error: `b:eth0` is not captured in lab names; captured are a:eth0\n"
    );
    let output = bench
        .nslab()
        .args(["capture", "follow", "a:eth0", "--filter", "tcp prot 80"])
        .output()
        .unwrap();
    let wrong = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{wrong}");
    assert!(
        wrong.starts_with("error: `tcp prot 80` is no capture filter (pcap-filter(7)): "),
        "{wrong}"
    );
    bench.ok("capture stop a:eth0");
    let mut follower = follow(&bench, "a:eth0");
    let told = {
        let mut line = String::new();
        BufReader::new(follower.stderr.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        line
    };
    assert_eq!(
        told,
        "a:eth0 is stopped; `nslab capture start a:eth0` goes on\n"
    );
    assert_eq!(stats(&bench, "a:eth0")["state"], "stopped");
    bench.ok("down");
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}
