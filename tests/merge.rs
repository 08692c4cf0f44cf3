//! The merged file of real labs, as `down` and `nslab capture merge` write it, judged by Wireshark's
//! tools. Needs root.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{Bench, count, frames, text, tool};

const DUO: &str = r#"name = "duo"
[networks.lan]
subnet = "10.1.0.0/24"
[nodes.a]
interfaces.eth0 = { network = "lan", address = "10.1.0.1" }
[nodes.b]
interfaces.eth0 = { network = "lan", address = "10.1.0.2" }
"#;

fn ping(bench: &Bench) {
    bench.ok("exec a ping -c 2 -i 0.2 10.1.0.2");
}

/// The captures' frames in the order of time, which is what the merged file has to hold.
fn sum(bench: &Bench) -> Vec<String> {
    let mut all = Vec::new();
    for interface in ["a:eth0", "b:eth0"] {
        let file = bench.capture_file("duo", interface);
        let of = frames(
            &file,
            "frame",
            &["frame.time_epoch", "frame.len", "eth.src", "eth.dst"],
        );
        all.extend(of.into_iter().map(|line| format!("{line}\t{interface}")));
    }
    all.sort();
    all
}

fn merged(file: &Path) -> Vec<String> {
    let fields = [
        "frame.time_epoch",
        "frame.len",
        "eth.src",
        "eth.dst",
        "frame.interface_name",
    ];
    frames(file, "frame", &fields)
}

#[test]
fn down_leaves_one_file_of_all_captures() {
    let bench = Bench::new();
    let lab = bench.lab(DUO);
    let sudo = |words: &str| {
        let output = bench
            .nslab()
            .args(words.split(' '))
            .env("SUDO_UID", "1234")
            .env("SUDO_GID", "4321")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {}", text(&output.stderr));
        text(&output.stderr)
    };
    sudo(&format!("up {}", lab.display()));
    ping(&bench);
    // While it runs, to a program.
    let piped = tool(
        "sh",
        &[
            "-c",
            &format!(
                "cd {} && NSLAB_RUN={} {} capture merge -o - 2>/dev/null | tshark -n -r - -Y icmp",
                bench.dir.path().display(),
                bench.path("run").display(),
                env!("CARGO_BIN_EXE_nslab")
            ),
        ],
    );
    assert_eq!(piped.lines().count(), 8, "{piped}");
    let said = sudo("down");
    let file = bench.path("exchange/duo/duo.pcapng");
    let all = sum(&bench);
    let says = format!(
        "merged {} frames of 2 interfaces into {} (",
        all.len(),
        file.display()
    );
    assert!(said.contains(&says), "{said}");
    let meta = fs::metadata(&file).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1234, 4321, 0o644)
    );
    let in_file = merged(&file);
    assert_eq!(in_file.len(), all.len());
    let mut sorted = in_file.clone();
    sorted.sort();
    assert_eq!(sorted, all, "nothing is added, nothing is lost");
    let info = tool("capinfos", &[file.to_str().unwrap()]);
    assert!(info.contains("Strict time order:   True"), "{info}");
    assert!(info.contains("Capture comment:     lab duo"), "{info}");
    // Requests leave a and reach b; replies leave b and reach a.
    for (kind, from, to) in [(8, "a:eth0", "b:eth0"), (0, "b:eth0", "a:eth0")] {
        for (way, at) in [(2, from), (1, to)] {
            let filter = format!(
                "icmp.type == {kind} && frame.packet_flags_direction == {way} && \
                 frame.interface_name == \"{at}\""
            );
            assert_eq!(count(&file, &filter), 2, "{filter}");
        }
    }
    let names = tool(
        "tshark",
        &[
            "-N",
            "n",
            "-r",
            file.to_str().unwrap(),
            "-Y",
            "icmp.type == 8",
        ],
    );
    assert!(names.contains(" a → b "), "{names}");
    // And once more afterwards, by name and by file names: the same frames.
    for words in [
        "capture merge",
        "capture merge duo",
        "capture merge exchange/duo",
    ] {
        fs::remove_file(&file).unwrap();
        bench.ok(words);
        assert_eq!(merged(&file), in_file, "{words}");
    }
    let by_files = "capture merge exchange/duo/a_eth0.pcap exchange/duo/b_eth0.pcap -o x.pcapng";
    bench.ok(by_files);
    let anonymous: Vec<_> = in_file
        .iter()
        .map(|l| l.replace(":eth0", "_eth0"))
        .collect();
    assert_eq!(merged(&bench.path("x.pcapng")), anonymous);
    let left = fs::read_dir(bench.path("exchange/duo")).unwrap();
    let hidden = left.filter(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    });
    assert_eq!(hidden.count(), 0);
}

#[test]
fn a_lab_may_do_without() {
    let bench = Bench::new();
    let lab = bench.lab(&format!("{DUO}[capture]\nmerge = false\n"));
    bench.up(&lab);
    bench.ok("down");
    assert!(!bench.path("exchange/duo/duo.pcapng").exists());
    assert!(bench.path("exchange/duo/capture.json").exists());
}

#[test]
fn a_merge_that_fails_is_told_and_stops_nothing() {
    let bench = Bench::new();
    let lab = bench.lab(DUO);
    bench.up(&lab);
    fs::create_dir(bench.path("exchange/duo/duo.pcapng")).unwrap();
    let output = bench.run("down");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let says = format!(
        "warning: the captures were not merged: replace the capture file {}: Is a directory (os \
         error 21); they are there each, and `nslab capture merge` tries again",
        bench.path("exchange/duo/duo.pcapng").display()
    );
    assert!(said.contains(&says), "{said}");
    assert!(said.contains("lab duo is down"), "{said}");
}

#[test]
fn what_cannot_be_merged_is_told() {
    let bench = Bench::new();
    assert_eq!(
        bench.fails("capture merge", 2),
        "error: no lab is up, and none has left captures in exchange; name a lab's folder of \
         captures, or capture files\n"
    );
    assert_eq!(
        bench.fails("capture merge nowhere", 2),
        "error: nowhere is neither a lab that is up, nor has it captures in exchange/nowhere, nor \
         is it a file; give the lab's folder of captures if that is elsewhere\n"
    );
    fs::write(bench.path("x.txt"), "hello").unwrap();
    assert_eq!(
        bench.fails("capture merge x.txt", 2),
        "error: say with -o FILE where the merged capture shall go (`-` is standard output)\n"
    );
    assert_eq!(
        bench.fails("capture merge x.txt -o y.pcapng", 1),
        "error: x.txt is not a capture file: it begins with the bytes 68 65 6c 6c, which neither \
         pcap nor pcapng does\n"
    );
    assert!(!bench.path("y.pcapng").exists());
}
