//! What `nslab check` says about lab files, word for word.
//!
//! Each `tests/lab/*.toml` is read; what comes out must be the `.txt` beside it. A file's name
//! begins with the code that it is about. `NSLAB_BLESS=1 cargo test --test diagnostics` writes the
//! `.txt` files anew: read the difference before committing it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nslab::lab;
use nslab::spec::{Code, SCHEMA, Severity, keys};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixtures() -> Vec<PathBuf> {
    let mut list: Vec<PathBuf> = fs::read_dir(root().join("tests/lab"))
        .expect("tests/lab is there")
        .map(|e| e.expect("readable").path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    list.sort();
    assert!(!list.is_empty(), "tests/lab has no fixtures");
    list
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// Path as it is printed in the expected texts.
fn shown(path: &Path) -> PathBuf {
    path.strip_prefix(root())
        .expect("below the root")
        .to_owned()
}

/// The first line in which two texts differ, with both versions.
fn difference(expected: &str, found: &str) -> String {
    let mut lines = (1..)
        .zip(expected.lines().map(Some).chain(std::iter::repeat(None)))
        .zip(found.lines().map(Some).chain(std::iter::repeat(None)));
    match lines.find(|((_, e), f)| e != f || (e.is_none() && f.is_none())) {
        Some(((n, e), f)) => format!("line {n}:\n  expected {e:?}\n  found    {f:?}"),
        None => String::new(),
    }
}

#[test]
fn every_text_is_as_expected() {
    let bless = std::env::var_os("NSLAB_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in fixtures() {
        let (lab, diagnostics) = lab::check(&shown(&path), &read(&path));
        assert_eq!(
            lab.is_some(),
            !diagnostics.has_errors(),
            "{}",
            path.display()
        );
        let found = format!("{}\n", diagnostics.render(false));
        let wanted = path.with_extension("txt");
        if bless {
            fs::write(&wanted, &found).expect("written");
            continue;
        }
        let expected = fs::read_to_string(&wanted).unwrap_or_default();
        if expected != found {
            wrong.push(format!(
                "{}: {}\nin full:\n{found}",
                wanted.display(),
                difference(&expected, &found)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_fixture_shows_its_own_code_and_nothing_else() {
    for path in fixtures() {
        let name = path.file_stem().and_then(|s| s.to_str()).expect("a name");
        let (_, diagnostics) = lab::check(&shown(&path), &read(&path));
        let codes: BTreeSet<&str> = diagnostics.iter().map(|d| d.code().as_str()).collect();
        if let Some(code) = name.get(..6).filter(|c| c.starts_with("NSL")) {
            assert_eq!(codes, BTreeSet::from([code]), "{name}");
        } else {
            assert!(
                codes.len() > 1,
                "{name} begins with no code and is not about several"
            );
        }
    }
}

#[test]
fn every_code_has_a_fixture_and_is_documented() {
    let docs = read(&root().join("docs/errors.md"));
    let names: Vec<String> = fixtures()
        .iter()
        .filter_map(|p| Some(p.file_stem()?.to_str()?.to_owned()))
        .collect();
    for code in Code::ALL {
        let prefix = format!("{code}-");
        assert!(
            names.iter().any(|n| n.starts_with(&prefix)),
            "no tests/lab/{prefix}*.toml"
        );
        let mark = if code.severity() == Severity::Error {
            ""
        } else {
            " (warning)"
        };
        let row = format!("| {code}{mark} | {} |", code.title());
        assert!(docs.contains(&row), "docs/errors.md has no row {row:?}");
    }
    assert_eq!(
        docs.matches("\n| NSL").count(),
        Code::ALL.len(),
        "docs/errors.md has other rows"
    );
}

#[test]
fn every_diagnostic_has_all_its_parts() {
    for path in fixtures() {
        let text = read(&path);
        let (_, diagnostics) = lab::check(&shown(&path), &text);
        for d in &diagnostics {
            let at = format!("{} {:?}", path.display(), d);
            assert!(
                !d.message().is_empty() && !d.label().is_empty() && !d.help().is_empty(),
                "{at}"
            );
            assert!(
                d.span().start <= d.span().end && d.span().end <= text.len(),
                "{at}"
            );
            for s in [d.message(), d.label(), d.help()] {
                assert!(!s.ends_with('.') && !s.contains('\n'), "{at}");
            }
        }
    }
}

#[test]
fn the_labs_that_come_with_nslab_are_valid() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("labs")).expect("labs/ is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "toml") {
            let (lab, diagnostics) = lab::check(&shown(&path), &read(&path));
            assert!(diagnostics.is_empty(), "{diagnostics}");
            assert!(lab.is_some());
            seen += 1;
        }
    }
    assert!(seen >= 3, "only {seen} labs");
}

/// All that a lab file can say about a node's process.
const PROCESS: &str = r#"name = "process"
[nodes.a]
image = "web"
entrypoint = ["run", "-v"]
command = ["x"]
user = "web:1000"
workdir = "/srv/x"
env = { A = "1" }
env_file = ["a.env", "b.env"]
volumes = ["./a:/a:ro", { source = "b", target = "/b", read_only = true }]
tmpfs = ["/run", "/c:size=64m,mode=755,exec", { target = "/d", size = "1GiB", mode = "0700", exec = true }]
keep = true
stop_signal = "SIGRTMIN+3"
stop_grace = "10s"
limits = { memory = "512m", cpus = 1.5, pids = 200 }
cap_add = ["SYS_PTRACE"]
cap_drop = ["ALL", "CAP_MKNOD"]
seccomp = "unconfined"
[nodes.b]
command = ["sleep", "9"]
user = 7
stop_signal = 3
"#;

#[test]
fn a_node_with_all_keys_is_valid() {
    let (lab, d) = lab::check(Path::new("process.toml"), PROCESS);
    assert!(lab.is_some() && d.is_empty(), "{d}");
}

/// Nothing that is taken out of a valid file makes the program panic, and there is a lab exactly
/// if there is no error.
#[test]
fn no_deletion_panics() {
    let text = read(&root().join("labs/dsr.toml"));
    let loopback = read(&root().join("labs/dsr-loopback.toml"));
    let mut tried = 0;
    for text in [text, loopback, PROCESS.to_owned()] {
        let mut try_it = |mutant: &str| {
            let (lab, diagnostics) = lab::check(Path::new("mutant.toml"), mutant);
            assert_eq!(lab.is_some(), !diagnostics.has_errors(), "{mutant}");
            let _ = diagnostics.render(true);
            let _ = diagnostics.to_json();
            tried += 1;
        };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for n in 0..lines.len() {
            let rest: String = lines[..n].iter().chain(&lines[n + 1..]).copied().collect();
            try_it(&rest);
            try_it(&lines[..n].concat());
        }
        for (at, c) in text.char_indices() {
            try_it(&format!("{}{}", &text[..at], &text[at + c.len_utf8()..]));
        }
        for (at, _) in text
            .char_indices()
            .filter(|(_, c)| c.is_ascii_punctuation())
        {
            for with in ["\"", "[", "{", "\u{e9}"] {
                try_it(&format!("{}{with}{}", &text[..at], &text[at..]));
            }
        }
    }
    assert!(tried > 1000, "only {tried} mutants");
}

#[test]
fn a_deleted_line_of_the_flagship_says_what_it_was_for() {
    let text = read(&root().join("labs/dsr.toml"));
    let without = |line: &str| {
        assert!(text.contains(line), "{line}");
        let (_, d) = lab::check(Path::new("dsr.toml"), &text.replace(line, ""));
        d.iter()
            .map(|d| format!("{} {}", d.code(), d.message()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        without("name = \"dsr\"\n"),
        ["NSL004 a lab file lacks `name`"]
    );
    assert_eq!(
        without("subnet = \"172.28.128.0/24\"\n"),
        ["NSL004 network `servers` lacks `subnet`"]
    );
    assert_eq!(
        without("director = \"lb\"\n"),
        ["NSL004 service `thredds` lacks `director`"]
    );
    assert_eq!(
        without("forward = true\n"),
        ["NSL025 gateway `router` does not forward"]
    );
}

/// Places are right whatever stands before them: tabs, wide characters, Windows line ends, a byte
/// order mark.
#[test]
fn places_are_counted_in_lines_and_characters() {
    let text = "\u{feff}name = \"x\"\r\n[nodes.a]\r\n\timage = \"\u{e9}\u{4e2d}\" # \u{1f600}\r\n\tgateway = \"b\"\r\n";
    let (_, d) = lab::check(Path::new("x.toml"), text);
    let json = d.to_json();
    let place = &json["diagnostics"][0]["place"];
    let start = text.find("\"b\"").expect("there");
    assert_eq!(json["diagnostics"][0]["code"], "NSL021");
    assert_eq!(
        (
            &place["line"],
            &place["column"],
            &place["end_line"],
            &place["end_column"]
        ),
        (&4.into(), &12.into(), &4.into(), &15.into())
    );
    assert_eq!(
        (&place["start"], &place["end"]),
        (&start.into(), &(start + 3).into())
    );
    let expected = "\
error[NSL021]: gateway `b` is no node of the lab
 --> x.toml:4:12
  |
4 |     gateway = \"b\"
  |               ^^^ no such node
  |
  = help: the lab has the nodes `a`";
    assert_eq!(d.render(false), expected);

    let text = "name = \"x\"\n[nodes.a]\nenv = { K = \"\u{e9}\u{4e2d}\", L = 5 }\n";
    let (_, d) = lab::check(Path::new("x.toml"), text);
    assert!(d.render(false).contains(" --> x.toml:3:23\n"), "{d}");
}

#[test]
fn json_has_all_that_the_text_has() {
    let text = "name = \"x\"\n[networks.n]\nsubnet = \"10.0.0.0/24\"\nhost = \"10.0.0.1\"\n\
                [nodes.a]\ninterfaces.e = { network = \"n\", address = \"10.0.0.1\" }\n";
    let (_, d) = lab::check(Path::new("dir/x.toml"), text);
    assert_eq!(
        d.to_json(),
        serde_json::json!({
            "file": "dir/x.toml", "errors": 1, "warnings": 0,
            "diagnostics": [{
                "code": "NSL017", "severity": "error", "title": "address given twice",
                "message": "address 10.0.0.1 is given twice",
                "label": "taken by the host",
                "help": "each address of a lab is one interface's only; take another one",
                "place": { "line": 6, "column": 43, "end_line": 6, "end_column": 53,
                           "start": 117, "end": 127 },
                "related": [{
                    "label": "first given here",
                    "place": { "line": 4, "column": 8, "end_line": 4, "end_column": 18,
                               "start": 54, "end": 64 },
                }],
            }],
        })
    );
}

#[test]
fn colour_adds_escapes_only() {
    let (_, d) = lab::check(Path::new("x.toml"), "name = 5\n");
    let coloured = d.render(true);
    assert!(coloured.contains("\u{1b}["), "{coloured}");
    assert!(!d.render(false).contains('\u{1b}'));
    assert_eq!(d.to_string(), d.render(false));
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let text = "name = \"\\u001b[2J\"\n[nodes.a]\n# \u{1b}[2J\n\"\\u001b]0;x\\u0007\" = 1\n";
    let (_, d) = lab::check(Path::new("x.toml"), text);
    assert!(d.len() > 1);
    assert!(
        !d.render(false).contains(['\u{1b}', '\u{7}']),
        "{}",
        d.render(false).escape_debug()
    );
}

fn schema() -> serde_json::Value {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

#[test]
fn the_schema_has_the_parsers_keys() {
    let schema = schema();
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let tables: [(&str, &[keys::Key]); 14] = [
        ("", keys::LAB),
        ("/$defs/network", keys::NETWORK),
        ("/$defs/node", keys::NODE),
        ("/$defs/interface", keys::INTERFACE),
        ("/$defs/volume", keys::VOLUME),
        ("/$defs/tmpfs", keys::TMPFS),
        ("/$defs/limits", keys::LIMITS),
        ("/$defs/ready", keys::READY),
        ("/$defs/service", keys::SERVICE),
        ("/$defs/server", keys::SERVER),
        ("/$defs/check", keys::CHECK),
        ("/$defs/capture", keys::CAPTURE),
        ("/$defs/capture_on", keys::CAPTURE_ON),
        ("/$defs/rotate", keys::ROTATE),
    ];
    for (place, keys) in tables {
        let table = schema
            .pointer(place)
            .unwrap_or_else(|| panic!("no {place}"));
        let in_schema: BTreeSet<&str> = table["properties"]
            .as_object()
            .unwrap_or_else(|| panic!("{place} has no properties"))
            .keys()
            .map(String::as_str)
            .collect();
        let in_parser: BTreeSet<&str> = keys.iter().map(|k| k.name).collect();
        assert_eq!(in_schema, in_parser, "{place}");
        let required: BTreeSet<&str> = table["required"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(|v| v.as_str())
            .collect();
        let must: BTreeSet<&str> = keys.iter().filter(|k| k.required).map(|k| k.name).collect();
        assert_eq!(required, must, "{place}");
        assert_eq!(table["additionalProperties"], false, "{place}");
        for (name, property) in table["properties"].as_object().expect("checked") {
            assert!(
                property["description"].is_string(),
                "{place} {name} has no description"
            );
        }
    }
}

#[test]
fn the_schema_has_the_parsers_words() {
    let schema = schema();
    for (place, words) in [
        ("/$defs/node/properties/restart/enum", keys::RESTARTS),
        ("/$defs/node/properties/seccomp/enum", keys::SECCOMPS),
        ("/$defs/service/properties/protocol/enum", keys::PROTOCOLS),
        ("/$defs/service/properties/scheduler/enum", keys::SCHEDULERS),
        (
            "/$defs/service/properties/scheduler_flags/items/enum",
            keys::SCHEDULER_FLAGS,
        ),
        ("/$defs/service/properties/method/enum", keys::METHODS),
        ("/$defs/service/properties/accept/enum", keys::ACCEPTS),
        ("/$defs/service/properties/engine/enum", keys::ENGINES),
        ("/$defs/service/properties/on_fail/enum", keys::ON_FAILS),
        (
            "/$defs/capture/properties/interfaces/oneOf/0/enum",
            keys::SCOPES,
        ),
    ] {
        let found: Vec<&str> = schema
            .pointer(place)
            .and_then(|v| v.as_array())
            .unwrap_or_else(|| panic!("no {place}"))
            .iter()
            .filter_map(|v| v.as_str())
            .collect();
        assert_eq!(found, words, "{place}");
    }
}

/// The examples of help lines are what the parser takes.
#[test]
fn examples_are_toml() {
    for key in [
        keys::LAB,
        keys::NETWORK,
        keys::NODE,
        keys::INTERFACE,
        keys::VOLUME,
        keys::TMPFS,
        keys::LIMITS,
        keys::READY,
        keys::SERVICE,
        keys::SERVER,
        keys::CHECK,
        keys::CAPTURE,
        keys::CAPTURE_ON,
        keys::ROTATE,
    ]
    .concat()
    {
        let text = format!("{} = {}", key.name, key.example);
        assert!(text.parse::<toml::Table>().is_ok(), "{text}");
    }
}

#[test]
fn every_key_of_a_node_is_documented() {
    let docs = read(&root().join("docs/nodes.md"));
    for key in keys::NODE {
        let row = format!("| [`{}`](#", key.name);
        assert_eq!(docs.matches(&row).count(), 1, "docs/nodes.md: {row:?}");
    }
    assert_eq!(docs.matches("| [`").count(), keys::NODE.len());
}
