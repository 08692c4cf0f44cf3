//! Captures of a lab while it runs: options of the lab file, what is dropped, stopping and starting,
//! and following. Judged by tcpdump, tshark and capinfos, and by the links' own counters.

#[path = "../common/mod.rs"]
mod common;
mod follow;
mod pair;

use common::{Bench, count, text, tool};
use pair::{packets, seen, send, stats, up};

#[test]
fn the_lab_file_says_how_each_interface_is_recorded() {
    let bench = Bench::new();
    let capture = r#"snaplen = 96
filter = "udp"
[capture.on."b:eth0"]
snaplen = 262144
filter = "udp and greater 500"
rotate = { size = "64KiB", keep = 2 }"#;
    up(&bench, "settings", capture);
    send(&bench, "settings", 50, 100);
    send(&bench, "settings", 300, 1000);
    bench.ok("exec a true");
    let (a, b) = (seen(&bench, "a:eth0", 350), seen(&bench, "b:eth0", 300));
    assert_eq!(a["packets"], 350);
    assert_eq!(b["packets"], 300);
    // 61 records of 16 + 1042 bytes fit beside a file's header.
    assert_eq!((&b["rotated"], &b["deleted"]), (&2.into(), &122.into()));
    let file = |name: &str| bench.path("exchange/settings").join(name);
    let cut = tool(
        "capinfos",
        &["-M", "-l", file("a_eth0.pcap").to_str().unwrap()],
    );
    assert!(cut.contains("file hdr: 96 bytes"), "{cut}");
    let whole: Vec<_> = ["b_eth0.3.pcap", "b_eth0.4.pcap", "b_eth0.pcap"]
        .iter()
        .map(|name| count(&file(name), "udp.length == 1008 && frame.cap_len == 1042"))
        .collect();
    assert_eq!(whole, [61, 61, 56]);
    let listed = bench.ok("capture");
    assert!(
        listed.ends_with(
            "b:eth0: the oldest 122 of its frames went with the files that rotation deleted (`keep`)\n"
        ),
        "{listed}"
    );
    bench.ok("down");
}

#[test]
fn drops_are_told_by_capture_ps_and_down() {
    let bench = Bench::new();
    // 64 KiB hold some thirty frames.
    up(
        &bench,
        "drops",
        "[capture.on.\"b:eth0\"]\nbuffer = \"64KiB\"",
    );
    let crossed = |node: &str, way: &str| -> u64 {
        let links = bench.outside("drops", node, "ip -s -j link show eth0");
        let links: serde_json::Value = serde_json::from_str(&links).unwrap();
        links[0]["stats64"][way]["packets"].as_u64().unwrap()
    };
    // Until some are lost; how fast the readers are is not for this test to say.
    let mut sent = 0;
    let of = loop {
        send(&bench, "drops", 20_000, 200);
        sent += 20_000;
        let of = seen(&bench, "b:eth0", sent);
        if of["dropped"] != 0 {
            break of;
        }
        assert!(sent < 2_000_000, "{of}");
    };
    let number = |key: &str| of[key].as_u64().unwrap();
    assert_eq!(number("packets") + number("dropped"), crossed("b", "rx"));
    assert_eq!((number("unwritten"), crossed("a", "tx")), (0, sent));
    let lost = number("dropped");
    let percent = lost * 10_000 / sent;
    let warning = format!(
        "warning: b:eth0 lost {lost} of {sent} frames ({}.{:02} %), because the kernel's buffer was full: \
         give it a larger `buffer`, or less to record with `filter` or `snaplen`, in [capture] of the lab file\n",
        percent / 100,
        percent % 100
    );
    let listed = bench.ok("capture");
    assert!(listed.ends_with(&warning), "{listed}");
    let a = stats(&bench, "a:eth0");
    let lost = lost + a["dropped"].as_u64().unwrap();
    let ps = bench.ok("ps");
    let says = format!("warning: captures lost {lost} frames; `nslab capture` tells where\n");
    assert!(ps.ends_with(&says), "{ps}");
    let down = bench.run("down");
    assert!(down.status.success());
    assert!(
        text(&down.stderr).contains(&warning),
        "{}",
        text(&down.stderr)
    );
    assert_eq!(
        packets(&bench.capture_file("drops", "b:eth0")),
        number("packets")
    );
}

#[test]
fn captures_stop_and_start_while_the_lab_runs() {
    let bench = Bench::new();
    up(&bench, "turns", "");
    let file = bench.capture_file("turns", "a:eth0");
    send(&bench, "turns", 3, 100);
    assert_eq!(
        bench.ok("capture stop a:eth0"),
        format!(
            "a:eth0 is stopped; 3 frames so far, in {}\n",
            file.display()
        )
    );
    assert_eq!(
        bench.ok("capture stop a:eth0"),
        "a:eth0 was stopped already\n"
    );
    send(&bench, "turns", 4, 200);
    seen(&bench, "b:eth0", 7);
    let listed = bench.ok("capture");
    assert!(
        listed.ends_with(
            "a:eth0 is stopped; what crosses it is missing until `nslab capture start a:eth0`\n"
        ),
        "{listed}"
    );
    assert_eq!(
        bench.ok("capture start a:eth0"),
        format!(
            "a:eth0 is running; 3 frames so far, in {}\n",
            file.display()
        )
    );
    send(&bench, "turns", 5, 300);
    let of = seen(&bench, "a:eth0", 8);
    assert_eq!(of["packets"], 8);
    assert_eq!(count(&file, "udp.length == 108"), 3);
    assert_eq!(count(&file, "udp.length == 208"), 0);
    assert_eq!(count(&file, "udp.length == 308"), 5);
    let note = bench.ok("capture");
    let note = note.lines().last().unwrap();
    assert!(
        note.starts_with("a:eth0 was stopped once, for ")
            && note.ends_with(" s in all; frames of that time are missing"),
        "{note}"
    );
    // All at once, and what is wrong is said by name.
    let both = bench.ok("capture stop all");
    assert_eq!(both.lines().count(), 2, "{both}");
    let changed = bench.json("capture start all --json");
    assert_eq!(changed.as_array().unwrap().len(), 2);
    assert_eq!(
        bench.fails("capture stop a:eth9", 1),
        "error: node a has no interface eth9; it has eth0\n"
    );
    assert_eq!(
        bench.fails("capture stop c:eth0", 1),
        "error: lab turns has no node c; its nodes are a, b\n"
    );
    assert_eq!(
        bench.fails("capture start eth0", 1),
        "error: `eth0` is no interface; write NODE:INTERFACE, such as client:eth1, or all\n"
    );
    let events = bench.ok("events --json");
    let turns: Vec<serde_json::Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &serde_json::Value| {
            event["event"].as_str().unwrap().starts_with("capture-")
        })
        .collect();
    let names: Vec<_> = turns
        .iter()
        .map(|event| {
            (
                event["event"].as_str().unwrap(),
                event["interfaces"].to_string(),
            )
        })
        .collect();
    let (a, both) = (
        r#"["a:eth0"]"#.to_owned(),
        r#"["a:eth0","b:eth0"]"#.to_owned(),
    );
    assert_eq!(
        names,
        [
            ("capture-stopped", a.clone()),
            ("capture-started", a),
            ("capture-stopped", both.clone()),
            ("capture-started", both),
        ]
    );
    bench.ok("down");
}

#[test]
fn a_lab_without_captures_can_begin_one_later() {
    let bench = Bench::new();
    up(&bench, "later", "interfaces = \"off\"");
    assert_eq!(bench.ok("capture"), "lab later captures nothing\n");
    assert_eq!(
        bench.fails("capture stop b:eth0", 1),
        "error: b:eth0 is not captured; `nslab capture` lists those that are\n"
    );
    assert_eq!(bench.ok("capture stop all"), "");
    let file = bench.capture_file("later", "b:eth0");
    assert_eq!(
        bench.ok("capture start b:eth0"),
        format!(
            "b:eth0 is running; 0 frames so far, in {}\n",
            file.display()
        )
    );
    send(&bench, "later", 6, 100);
    seen(&bench, "b:eth0", 6);
    assert!(file.with_file_name("lab.json").exists());
    let down = bench.run("down");
    assert!(down.status.success());
    let said = text(&down.stderr);
    assert!(
        said.starts_with("captured 6 frames on 1 interface\n"),
        "{said}"
    );
    assert_eq!(packets(&file), 6);
}
