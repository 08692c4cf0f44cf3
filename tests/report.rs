//! `nslab report`: of the flagship lab's real packets, looked at in a real browser.

mod common;
#[path = "report/reading.rs"]
mod reading;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::browser::Browser;
use common::{Bench, text, tool};
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A lab that ran: its report, its proof, its captures.
struct Ran {
    dir: tempfile::TempDir,
    proof: Value,
}

impl Ran {
    fn report(&self) -> PathBuf {
        self.dir.path().join("dsr/report.html")
    }
}

/// The flagship with three curls of the client, once for all tests.
fn ran() -> &'static Ran {
    static RAN: OnceLock<Ran> = OnceLock::new();
    RAN.get_or_init(|| {
        let bench = Bench::new();
        bench.up(&Path::new(ROOT).join("labs/dsr.toml"));
        for _ in 0..3 {
            bench.ok("exec client curl -sS -o /dev/null --max-time 20 VIP:8080/thredds -L");
        }
        bench.ok("down");
        let proof = bench.json("proof dsr --json");
        let said = bench
            .nslab()
            .args(["report", "dsr"])
            .env("SUDO_UID", "4711")
            .env("SUDO_GID", "4712")
            .output()
            .unwrap();
        assert!(said.status.success(), "{}", text(&said.stderr));
        assert_eq!(text(&said.stdout), "exchange/dsr/report.html\n");
        let file = std::fs::metadata(bench.path("exchange/dsr/report.html")).unwrap();
        assert_eq!(
            (file.uid(), file.gid(), file.mode() & 0o777),
            (4711, 4712, 0o644)
        );
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (bench.path("exchange/dsr"), dir.path().join("dsr"));
        tool("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
        Ran { dir, proof }
    })
}

fn browser() -> Browser {
    let mut browser = Browser::start();
    browser.window(1000, 900, false);
    browser.medium("screen", "light");
    browser.open_file(&ran().report());
    browser
}

#[test]
fn the_page_needs_nothing_else_and_has_no_complaint() {
    let mut browser = browser();
    let report = ran().report();
    assert_eq!(browser.requests(), [format!("file://{}", report.display())]);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    // Nor does it name anything outside itself that could be asked for.
    let html = std::fs::read_to_string(&report).unwrap();
    for reference in [
        "src=", "http://", "https://", "url(", "@import", "<link", "<iframe",
    ] {
        assert!(!html.contains(reference), "{reference}");
    }
    // Its policy holds: what is put into it later is not run, nor is anything loaded.
    let kept_out = browser.eval(
        "(async () => {
            const violations = [];
            addEventListener('securitypolicyviolation', (e) => violations.push(e.effectiveDirective));
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw=';
            document.body.append(image);
            await new Promise((done) => setTimeout(done, 100));
            return { ran: window.ran === true, violations: violations.sort() };
        })()",
    );
    assert_eq!(
        kept_out,
        json!({ "ran": false, "violations": ["img-src", "script-src-elem"] })
    );
}

#[test]
fn the_numbers_are_those_of_the_proof() {
    let mut browser = browser();
    let service = &ran().proof["services"][0];
    let rows = browser.eval(
        "[...document.querySelectorAll('#matrix tr[data-point]')].map((r) => ({
            point: r.dataset.point,
            numbers: [...r.querySelectorAll('.number')].map((c) => Number(c.textContent)),
        }))",
    );
    let want: Vec<_> = service["matrix"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| json!({ "point": r["point"], "numbers": [r["to_vip"], r["from_vip"]] }))
        .collect();
    assert_eq!(want.len(), 6);
    assert!(want[0]["numbers"][0].as_u64().unwrap() > 0, "{want:?}");
    assert_eq!(rows, Value::from(want));

    let shares = browser.eval(
        "[...document.querySelectorAll('tr[data-server]')].map((r) => ({
            server: r.dataset.server,
            connections: Number(r.querySelectorAll('.number')[1].textContent),
            width: r.querySelector('.bar rect').getBoundingClientRect().width > 0,
        }))",
    );
    let want: Vec<_> = service["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| json!({ "server": s["server"], "connections": s["connections"], "width": true }))
        .collect();
    assert_eq!(shares, Value::from(want));

    let verdicts = browser.eval(
        "[...document.querySelectorAll('.verdict')].map((v) => ({
            id: v.dataset.verdict,
            question: v.querySelector('h3 > span').textContent,
            passed: v.querySelector('.badge').classList.contains('pass'),
            answer: v.querySelector('p').textContent,
            evidence: v.querySelectorAll('tbody tr').length,
        }))",
    );
    let want: Vec<_> = service["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| {
            json!({
                "id": v["id"],
                "question": v["question"],
                "passed": v["outcome"] == "pass",
                "answer": v["answer"],
                "evidence": v["evidence"].as_array().unwrap().len(),
            })
        })
        .collect();
    assert!(want.len() >= 6, "{want:?}");
    assert_eq!(verdicts, Value::from(want));
    let headline = browser.eval("document.querySelector('.conclusion').textContent");
    let headline = headline.as_str().unwrap();
    assert!(
        headline.contains(service["conclusion"].as_str().unwrap()),
        "{headline}"
    );
}

/// Frames of each step are the director's and the servers' of the matrix, and each step is an arrow.
#[test]
fn paths_are_drawn_in_two_colours_and_two_patterns() {
    let mut browser = browser();
    let drawn = browser.eval(
        "(() => {
            const svg = document.querySelector('#path svg.picture:not(.key)');
            const arrows = (what) => [...svg.querySelectorAll(`.hop.${what}`)].map((a) => ({
                title: a.querySelector('title').textContent,
                step: a.querySelector('.label').textContent,
                stroke: getComputedStyle(a.querySelector('.line')).stroke,
                dashes: getComputedStyle(a.querySelector('.line')).strokeDasharray,
                length: a.querySelector('.line').getTotalLength() > 40,
            }));
            return {
                requests: arrows('request'),
                answers: arrows('answer'),
                machines: [...svg.querySelectorAll('.machine .name')].map((t) => t.textContent),
                steps: [...document.querySelectorAll('#path .steps li')].map((l) => l.textContent),
                wrong: [],
            };
        })()",
    );
    let all = |what: &str, key: &str| -> Vec<String> {
        let arrows = drawn[what].as_array().unwrap().iter();
        arrows
            .map(|a| a[key].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(all("requests", "step"), ["1", "2", "3", "3"]);
    assert_eq!(all("answers", "step"), ["4", "4", "5"]);
    let titles = [all("requests", "title"), all("answers", "title")].concat();
    assert_eq!(drawn["steps"], json!(titles));
    let row = |point: &str| {
        let rows = ran().proof["services"][0]["matrix"].as_array().unwrap();
        rows.iter().find(|r| r["point"] == point).unwrap().clone()
    };
    let client = row("client:eth1");
    assert_eq!(
        [&titles[0], &titles[1], &titles[6]],
        [
            &format!(
                "request from client (eth1) to router (eth1): {} frames",
                client["to_vip"]
            ),
            &format!(
                "request from router (eth2) to lb (eth1): {} frames",
                client["to_vip"]
            ),
            &format!(
                "answer from router (eth1) to client (eth1): {} frames",
                client["from_vip"]
            ),
        ]
    );
    for (n, server) in [(2, "server1"), (3, "server2")] {
        let row = row(&format!("{server}:eth1"));
        assert_eq!(
            titles[n],
            format!(
                "request from lb (eth1) to {server} (eth1): {} frames",
                row["to_vip"]
            )
        );
        assert_eq!(
            titles[n + 2],
            format!(
                "answer from {server} (eth1) to router (eth2): {} frames",
                row["from_vip"]
            )
        );
    }
    for (key, what) in [("stroke", "colour"), ("dashes", "pattern")] {
        let (mut requests, mut answers) = (all("requests", key), all("answers", key));
        requests.dedup();
        answers.dedup();
        assert_eq!((requests.len(), answers.len()), (1, 1), "one {what} each");
        assert_ne!(requests, answers, "the same {what}");
    }
    for name in ["client", "router", "lb", "server1", "server2", "host"] {
        assert!(
            drawn["machines"].as_array().unwrap().contains(&json!(name)),
            "{name}"
        );
    }
    let judge = include_str!("graph/geometry.js");
    let wrong = browser.eval(&format!(
        "{judge}(document.querySelector('#path svg.picture:not(.key)'))"
    ));
    assert_eq!(wrong, json!([]));
}

#[test]
fn a_connection_is_chosen_and_its_frames_are_in_the_order_of_time() {
    let mut browser = browser();
    let flows = ran().proof["services"][0]["flows"].as_array().unwrap();
    assert_eq!(flows.len(), 3);
    let state = "(() => ({
        shown: [...document.querySelectorAll('.flow')].filter((f) => f.checkVisibility()).map((f) => f.id),
        faded: document.querySelectorAll('#path .hop.faded').length,
        hash: location.hash,
        all: document.querySelector('.all-paths').checkVisibility(),
    }))()";
    assert_eq!(
        browser.eval(state),
        json!({ "shown": ["flow-1-1"], "faded": 0, "hash": "", "all": false })
    );
    browser.eval(
        "(() => {
            const choose = document.querySelector('.chooser select');
            choose.value = 'flow-1-2';
            choose.dispatchEvent(new Event('change', { bubbles: true }));
        })()",
    );
    // The other server's arrows fade: one there, one back.
    assert_eq!(
        browser.eval(state),
        json!({ "shown": ["flow-1-2"], "faded": 2, "hash": "#flow-1-2", "all": true })
    );
    browser.eval("document.querySelector('.all-paths').click()");
    assert_eq!(browser.eval(state)["faded"], 0);

    for (n, flow) in flows.iter().enumerate() {
        let id = format!("flow-1-{}", n + 1);
        let drawn = browser.eval(&format!(
            "(() => {{
                const flow = document.getElementById('{id}');
                return {{
                    arrows: [...flow.querySelectorAll('.sequence .hop')].map((a) => a.classList.contains('request')),
                    rows: [...flow.querySelectorAll('.frames tbody tr')].map((r) => r.querySelector('th').textContent),
                    machines: [...new Set([...flow.querySelectorAll('.sequence .name')].map((t) => t.textContent))],
                    heading: flow.querySelector('summary').textContent,
                }};
            }})()"
        ));
        let server = flow["server"].as_str().unwrap();
        assert_eq!(drawn["machines"], json!(["client", "router", "lb", server]));
        let heading = drawn["heading"].as_str().unwrap();
        assert!(
            heading.contains(&format!("served by {server}, GET /thredds")),
            "{heading}"
        );
        // Three segments there, two back.
        let at = |point: &str, key: &str| {
            let rows = flow["matrix"].as_array().unwrap().iter();
            rows.filter(|r| r["point"] == point)
                .map(|r| r[key].as_u64().unwrap())
                .sum::<u64>()
        };
        let (to, from) = (at("client:eth1", "to_vip"), at("client:eth1", "from_vip"));
        let arrows = drawn["arrows"].as_array().unwrap();
        let there = arrows.iter().filter(|a| **a == json!(true)).count() as u64;
        assert_eq!((there, arrows.len() as u64 - there), (3 * to, 2 * from));
        assert_eq!(drawn["rows"].as_array().unwrap().len(), arrows.len());
        assert_eq!(drawn["rows"][0], "0 ns");
    }

    // A link to a connection opens it, from elsewhere and from the page itself.
    browser.open("about:blank");
    browser.open(&format!("file://{}#flow-1-3", ran().report().display()));
    assert_eq!(browser.eval(state)["shown"], json!(["flow-1-3"]));
    browser.eval(
        "new Promise((done) => {
            addEventListener('hashchange', () => done());
            location.hash = 'flow-1-2';
        })",
    );
    assert_eq!(browser.eval(state)["shown"], json!(["flow-1-2"]));
}

/// Files with names that are markup, as interfaces: without a lab, in a real browser.
#[test]
fn foreign_captures_with_hostile_names_have_a_report() {
    let ran = ran();
    let dir = tempfile::tempdir().unwrap();
    let name = |node: &str| format!("<img src=x onerror=alert('{node}')>\u{202e}&\"{node}");
    let mut args = vec![
        "report".to_owned(),
        "--vip".to_owned(),
        "172.28.128.3:8080".to_owned(),
    ];
    for (node, file) in [
        ("client", "client_eth1"),
        ("router", "router_eth1"),
        ("router-in", "router_eth2"),
        ("lb", "lb_eth1"),
        ("server1", "server1_eth1"),
        ("server2", "server2_eth1"),
    ] {
        let to = dir.path().join(format!("{}.cap", name(node)));
        std::fs::copy(ran.dir.path().join(format!("dsr/{file}.pcap")), &to).unwrap();
        args.push(to.to_str().unwrap().to_owned());
    }
    let page = dir.path().join("x.html");
    args.extend([
        "-o".to_owned(),
        page.to_str().unwrap().to_owned(),
        "--flow".to_owned(),
        "2".to_owned(),
    ]);
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    tool(env!("CARGO_BIN_EXE_nslab"), &words);
    let mut browser = Browser::start();
    browser.open_file(&page);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(browser.requests(), [format!("file://{}", page.display())]);
    let seen = browser.eval(
        "(() => ({
            images: document.querySelectorAll('img').length,
            points: [...document.querySelectorAll('#matrix tbody th')].map((t) => t.textContent),
            steps: [...document.querySelectorAll('#path .steps li')].length,
            networks: document.querySelectorAll('#path .network').length,
            shown: [...document.querySelectorAll('.flow')].filter((f) => f.checkVisibility()).map((f) => f.id),
        }))()",
    );
    assert_eq!(seen["images"], 0);
    let shown = |node: &str| name(node).replace('\u{202e}', "\\u{202e}");
    assert_eq!(
        seen["points"],
        json!(["client", "router", "router-in", "lb", "server1", "server2"].map(shown))
    );
    assert_eq!((&seen["steps"], &seen["networks"]), (&json!(7), &json!(2)));
    assert_eq!(seen["shown"], json!(["flow-1-2"]));
}

#[test]
fn what_cannot_be_reported_is_said() {
    // First: it needs a bench of its own.
    let ran = ran();
    let bench = Bench::new();
    let said = bench.fails("report", 2);
    assert!(said.contains("no lab is up"), "{said}");
    // Not all files of a lab's folder are captures, and one is all of them again.
    let all = ran.dir.path().join("dsr");
    let names = std::fs::read_dir(&all).unwrap().map(|e| e.unwrap().path());
    let words: Vec<_> = names.map(|p| p.display().to_string()).collect();
    for beside in ["lab.json", "report.html", "dsr.pcapng"] {
        assert!(words.iter().any(|w| w.ends_with(beside)), "{words:?}");
    }
    bench.ok(&format!("proof {}", words.join(" ")));
    let lb = ran.dir.path().join("dsr/lb_eth1.pcap");
    std::fs::copy(lb, bench.path("lb.cap")).unwrap();
    let said = bench.fails("report lb.cap", 2);
    assert!(
        said.contains("which address is the VIP? give it with --vip"),
        "{said}"
    );
    let said = bench.fails("report lb.cap --vip 172.28.128.3:8080 --flow 9", 2);
    assert_eq!(
        said,
        "error: there is no connection 9; they are numbered 1 to 3\n"
    );
}
