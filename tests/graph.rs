//! `nslab graph`: judged by Graphviz, by mermaid itself, and by a browser that draws the SVG.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::browser::{Browser, npm};
use common::{text, tool};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// All that layout has to cope with: networks side by side and one in another's way, machines on up
/// to three, one whose route passes other rows, IPv6, an alias, the host on two networks, a long name,
/// and an image whose name is markup in every language.
const MESH: &str = r#"
name = "mesh"
networks.a = { subnet = "10.1.0.0/24", host = "10.1.0.254" }
networks.b = { subnet = "10.2.0.0/24" }
networks.c = { subnet = "10.3.0.0/24", host = "10.3.0.254" }
networks.d = { subnet = "fd00:12::/64" }
networks.apart = { subnet = "10.9.0.0/24" }
[nodes.c1]
interfaces.eth0 = { network = "a", address = "10.1.0.1" }
gateway = "r1"
[nodes.c2]
interfaces.eth0 = { network = "a", address = "10.1.0.2" }
[nodes.r1]
forward = true
interfaces.eth0 = { network = "a", address = "10.1.0.3" }
interfaces.eth1 = { network = "b", address = "10.2.0.3" }
[nodes.r2]
forward = true
interfaces.eth0 = { network = "b", address = "10.2.0.4" }
interfaces.eth1 = { network = "c", address = "10.3.0.4" }
interfaces.eth2 = { network = "d", address = "fd00:12::4" }
[nodes.bypass]
forward = true
interfaces.eth0 = { network = "a", address = "10.1.0.5" }
interfaces.eth1 = { network = "c", address = "10.3.0.5" }
[nodes.s1]
interfaces.eth0 = { network = "c", address = "10.3.0.6" }
gateway = "r2"
[nodes.s2]
interfaces.eth0 = { network = "c", address = "10.3.0.7", aliases = ["10.3.0.77"] }
gateway = "r2"
[nodes.six-with-a-rather-long-name-that-has-to-be-broken-somewhere]
image = 'r.example/<b>"q"&amp;#35;`x`|}]\N\n--><script>alert(1)</script>'
interfaces.eth0 = { network = "d", address = "fd00:12::aaaa:bbbb:cccc:dddd" }
[nodes.lonely]
interfaces.eth0 = { network = "apart", address = "10.9.0.1" }
[services.web]
vip = "10.3.0.77"
port = 80
director = "s2"
scheduler = "wrr"
servers = [{ node = "s1", weight = 3 }, { node = "r2", weight = 0 }]
[services.more]
vip = "10.3.0.77"
port = 8080
director = "s2"
servers = ["s1"]
"#;

/// The name that is markup, as people should see it.
const HOSTILE: &str = r#"r.example/<b>"q"&amp;#35;`x`|}]\N\n--><script>alert(1)</script>"#;

fn graph(file: &Path, format: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_nslab"))
        .args(["graph", "--format", format])
        .arg(file)
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// A star: one network of many nodes, and a service on all but the first if asked for.
fn star(nodes: usize, service: bool) -> String {
    let mut lab = String::from("name = \"star\"\nnetworks.lan.subnet = \"10.0.0.0/16\"\n");
    let address = |n: usize| format!("10.0.{}.{}", n / 250, n % 250 + 1);
    for n in 0..nodes {
        let address = address(n);
        let _ = writeln!(
            lab,
            "nodes.n{n}.interfaces.eth0 = {{ network = \"lan\", address = \"{address}\" }}"
        );
    }
    if service {
        let servers: Vec<_> = (1..nodes).map(|n| format!("\"n{n}\"")).collect();
        let _ = writeln!(
            lab,
            "[services.web]\nvip = \"10.0.0.1\"\nport = 80\ndirector = \"n0\"\nservers = [{}]",
            servers.join(",")
        );
    }
    lab
}

/// Every lab file that is shipped, and the hard ones.
fn labs(dir: &Path) -> Vec<PathBuf> {
    let shipped = std::fs::read_dir(Path::new(ROOT).join("labs")).unwrap();
    let mut labs: Vec<_> = shipped
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    labs.sort();
    assert!(labs.len() >= 3, "{labs:?}");
    for (name, lab) in [
        ("mesh", MESH.to_owned()),
        ("star", star(50, false)),
        ("star-service", star(50, true)),
        ("one", star(1, false)),
        ("six", star(6, true)),
        ("thousand", star(1000, false)),
    ] {
        let path = dir.join(format!("{name}.toml"));
        std::fs::write(&path, lab).unwrap();
        labs.push(path);
    }
    labs
}

fn lab_of(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap();
    let lab = nslab::lab::load(file, &text).unwrap();
    serde_json::to_value(lab).unwrap()
}

fn list<'a>(lab: &'a Value, key: &str) -> &'a [Value] {
    lab[key].as_array().unwrap()
}

/// What a picture has to hold, from the lab as such: names of networks and machines, how many links
/// there are, and the services' arrows.
fn expected(lab: &Value) -> (BTreeSet<String>, usize, usize) {
    let name = |v: &Value| v["name"].as_str().unwrap().to_owned();
    let mut names: BTreeSet<_> = list(lab, "networks").iter().map(name).collect();
    names.extend(list(lab, "nodes").iter().map(name));
    let hosts = list(lab, "networks")
        .iter()
        .filter(|n| !n["host"].is_null())
        .count();
    if hosts > 0 {
        names.insert("host".to_owned());
    }
    let links: usize = list(lab, "nodes")
        .iter()
        .map(|n| list(n, "interfaces").len())
        .sum();
    let served = list(lab, "services")
        .iter()
        .map(|s| list(s, "servers").len())
        .sum();
    (names, links + hosts, served)
}

/// Servers on a network of their director's: the ones that the picture draws arrows to. Behind a
/// tunnel or NAT a server may be some hops away.
fn next_door(lab: &Value) -> usize {
    let network = |node: &Value, interface: &Value| {
        let nodes = list(lab, "nodes");
        let node = nodes.iter().find(|n| n["name"] == *node).unwrap();
        let mut interfaces = list(node, "interfaces").iter();
        let found = interfaces.find(|i| i["name"] == *interface).unwrap();
        found["network"].as_str().unwrap().to_owned()
    };
    list(lab, "services")
        .iter()
        .flat_map(|s| list(s, "servers").iter().map(move |server| (s, server)))
        .filter(|(s, server)| {
            network(&s["director"], &server["via"])
                == network(&server["node"], &server["interface"])
        })
        .count()
}

fn gateways(lab: &Value) -> usize {
    list(lab, "nodes")
        .iter()
        .filter(|n| !n["gateway"].is_null())
        .count()
}

#[test]
fn the_flagships_graphs_are_these() {
    for (format, file) in [
        ("mermaid", "dsr.mmd"),
        ("dot", "dsr.dot"),
        ("svg", "dsr.svg"),
    ] {
        let path = Path::new(ROOT).join("tests/graph").join(file);
        let got = graph(Path::new("labs/dsr.toml"), format);
        assert_eq!(
            got,
            graph(Path::new("labs/dsr.toml"), format),
            "two runs differ"
        );
        if std::env::var_os("NSLAB_BLESS").is_some() {
            std::fs::write(&path, &got).unwrap();
        }
        assert_eq!(
            got,
            std::fs::read_to_string(&path).unwrap_or_default(),
            "where the new graph is right: NSLAB_BLESS=1 cargo test --test graph"
        );
    }
}

#[test]
fn a_file_is_written_where_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nslab"))
        .args(["graph", "labs/dsr.toml", "-f", "dot", "-o"])
        .arg(dir.path().join("x.dot"))
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        std::fs::read_to_string(dir.path().join("x.dot")).unwrap(),
        graph(Path::new("labs/dsr.toml"), "dot")
    );
}

#[test]
fn graphviz_draws_every_part() {
    let dir = tempfile::tempdir().unwrap();
    // Graphviz lays a thousand nodes out in minutes; it has been asked for fifty.
    for file in labs(dir.path())
        .iter()
        .filter(|f| !f.ends_with("thousand.toml"))
    {
        let dot = dir.path().join("x.dot");
        std::fs::write(&dot, graph(file, "dot")).unwrap();
        let drawn: Value =
            serde_json::from_str(&tool("dot", &["-Tjson", dot.to_str().unwrap()])).unwrap();
        let lab = lab_of(file);
        let (names, links, served) = expected(&lab);
        let labels: Vec<_> = list(&drawn, "objects")
            .iter()
            .map(|o| o["label"].as_str().unwrap().to_owned())
            .collect();
        let first: BTreeSet<_> = labels
            .iter()
            .map(|l| l.split("\\n").next().unwrap().to_owned())
            .collect();
        assert_eq!(first, names, "{}", file.display());
        let edges = drawn["edges"].as_array().map_or(0, Vec::len);
        assert_eq!(edges, links + served + gateways(&lab), "{}", file.display());
        if file.ends_with("mesh.toml") {
            let svg = tool("dot", &["-Tsvg", dot.to_str().unwrap()]);
            let path = dir.path().join("dot.svg");
            std::fs::write(&path, svg).unwrap();
            let seen = tool(
                "xmllint",
                &[
                    "--xpath",
                    "//*[local-name()='text']/text()",
                    path.to_str().unwrap(),
                ],
            );
            let want = nslab::picture::markup::escape(&format!("image {HOSTILE}"));
            let want = want.replace("&quot;", "\"").replace("&#39;", "'");
            assert!(seen.contains(&want), "{want}\n{seen}");
        }
    }
}

#[test]
fn mermaid_draws_every_part() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let script = npm("mermaid.min.js");
    std::fs::write(
        &page,
        format!(
            "<!DOCTYPE html><meta charset=\"utf-8\"><title>x</title><script src=\"file://{}\"></script>",
            script.display()
        ),
    )
    .unwrap();
    let mut browser = Browser::start();
    for file in labs(dir.path()) {
        // A thousand nodes are above mermaid's own limit of text.
        if file.ends_with("thousand.toml") {
            continue;
        }
        browser.open_file(&page);
        let chart = Value::from(graph(&file, "mermaid"));
        let drawn = browser.eval(&format!(
            "(async () => {{
                mermaid.initialize({{ startOnLoad: false }});
                const {{ svg }} = await mermaid.render('g', {chart});
                document.body.innerHTML = svg;
                const all = (what) => [...document.querySelectorAll(what)].map((e) => e.innerText ?? e.textContent);
                return {{
                    nodes: all('.node .nodeLabel'),
                    edges: document.querySelectorAll('path.flowchart-link').length,
                    title: document.querySelector('svg > title')?.textContent,
                    scripts: document.querySelectorAll('svg script').length,
                }};
            }})()"
        ));
        let lab = lab_of(&file);
        let (names, links, served) = expected(&lab);
        let labels: Vec<_> = list(&drawn, "nodes")
            .iter()
            .map(|l| l.as_str().unwrap())
            .collect();
        let first: BTreeSet<_> = labels
            .iter()
            .map(|l| l.lines().next().unwrap().to_owned())
            .collect();
        assert_eq!(first, names, "{}", file.display());
        assert_eq!(
            drawn["edges"],
            links + served + gateways(&lab),
            "{}",
            file.display()
        );
        assert_eq!(
            drawn["title"],
            format!("Lab {}", lab["name"].as_str().unwrap())
        );
        if file.ends_with("mesh.toml") {
            // See `entities` in src/picture/mermaid.rs.
            let want = format!("image {}", HOSTILE.replace('\\', "\\\u{2060}"));
            assert!(
                labels.iter().any(|l| l.lines().any(|l| l == want)),
                "{labels:#?}"
            );
            assert_eq!(drawn["scripts"], 0);
        }
    }
}

#[test]
fn a_browser_draws_the_svg_and_nothing_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut browser = Browser::start();
    for file in labs(dir.path()) {
        let svg = dir.path().join("x.svg");
        std::fs::write(&svg, graph(&file, "svg")).unwrap();
        tool("xmllint", &["--noout", svg.to_str().unwrap()]);
        for scheme in ["light", "dark"] {
            browser.medium("screen", scheme);
            browser.open_file(&svg);
            let judge = include_str!("graph/geometry.js");
            let wrong = browser.eval(&format!("{judge}(document.documentElement)"));
            assert_eq!(wrong, serde_json::json!([]), "{} {scheme}", file.display());
        }
        let lab = lab_of(&file);
        let (names, links, _) = expected(&lab);
        let drawn = browser.eval(
            "(() => {
                const all = (what) => [...document.querySelectorAll(what)].map((e) => e.textContent);
                return {
                    names: [...document.querySelectorAll('.machine')].map((m) =>
                        [...m.querySelectorAll('.name')].map((t) => t.textContent).join(''))
                        .concat(all('.network .name')),
                    titles: all('.machine > title'),
                    wires: document.querySelectorAll('.wire').length,
                    arrows: all('.hop.service > title'),
                    described: ['labelledby', 'describedby']
                        .map((how) => document.documentElement.getAttribute(`aria-${how}`))
                        .map((id) => document.getElementById(id).textContent),
                };
            })()",
        );
        let got: BTreeSet<_> = list(&drawn, "names")
            .iter()
            .map(|n| n.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(got, names, "{}", file.display());
        assert_eq!(drawn["wires"], links, "{}", file.display());
        let arrows = list(&drawn, "arrows").len();
        assert_eq!(arrows, next_door(&lab), "{}", file.display());
        let described = list(&drawn, "described");
        assert_eq!(
            described[0],
            format!("Lab {}", lab["name"].as_str().unwrap())
        );
        // Who cannot see the picture is told every address.
        for node in list(&lab, "nodes") {
            for i in list(node, "interfaces") {
                let said = format!(
                    "({} {}",
                    i["name"].as_str().unwrap(),
                    i["address"].as_str().unwrap()
                );
                assert!(described[1].as_str().unwrap().contains(&said), "{said}");
            }
        }
        if file.ends_with("mesh.toml") {
            let titles = list(&drawn, "titles");
            let want = format!("image {HOSTILE}");
            assert!(
                titles.iter().any(|t| t.as_str().unwrap().contains(&want)),
                "{titles:#?}"
            );
        }
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
}
