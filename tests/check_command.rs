//! `nslab check` and `nslab plan` from outside: exit codes, both outputs, and no root.
//!
//! `NSLAB_BLESS=1` writes `tests/plan/*.txt` anew; read the difference.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const NSLAB: &str = env!("CARGO_BIN_EXE_nslab");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs nslab in `folder`: exit code, standard output, standard error.
fn nslab(folder: &Path, args: &[&str]) -> (i32, String, String) {
    told(
        &Command::new(NSLAB)
            .args(args)
            .current_dir(folder)
            .output()
            .unwrap(),
    )
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_good_file_is_named_and_counted() {
    assert_eq!(
        nslab(Path::new(ROOT), &["check", "labs/dsr.toml"]),
        (
            0,
            "labs/dsr.toml: lab dsr is valid: 2 networks, 5 nodes, 1 service\n".to_owned(),
            String::new()
        )
    );
}

#[test]
fn problems_are_on_standard_error_and_the_code_is_2() {
    let expected = fs::read_to_string(Path::new(ROOT).join("tests/lab/many.txt")).unwrap();
    assert_eq!(
        nslab(Path::new(ROOT), &["check", "tests/lab/many.toml"]),
        (2, String::new(), expected.clone())
    );
    assert_eq!(
        nslab(Path::new(ROOT), &["plan", "tests/lab/many.toml"]),
        (2, String::new(), expected)
    );
}

#[test]
fn warnings_are_printed_and_the_code_is_0() {
    let warning =
        fs::read_to_string(Path::new(ROOT).join("tests/lab/NSL026-gateway-nobody.txt")).unwrap();
    assert_eq!(
        nslab(Path::new(ROOT), &["check", "tests/lab/NSL026-gateway-nobody.toml"]),
        (
            0,
            "tests/lab/NSL026-gateway-nobody.toml: lab x is valid: 2 networks, 5 nodes, 1 service\n"
                .to_owned(),
            warning
        )
    );
}

#[test]
fn json_tells_a_bad_file() {
    let (code, out, err) = nslab(
        Path::new(ROOT),
        &["check", "--json", "tests/lab/NSL020-no-nodes.toml"],
    );
    assert_eq!((code, err.as_str()), (2, ""));
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    let want = serde_json::json!({
        "file": "tests/lab/NSL020-no-nodes.toml", "errors": 1, "warnings": 0,
        "diagnostics": [{
            "code": "NSL020", "severity": "error", "title": "lab without nodes",
            "message": "the lab has no nodes", "label": "a lab needs at least one",
            "help": "add a table `[nodes.NAME]` for each machine", "related": [],
            "place": {
                "line": 1, "column": 8, "end_line": 1, "end_column": 11, "start": 7, "end": 10,
            },
        }],
    });
    assert_eq!(got, want);
}

#[test]
fn json_tells_a_good_file_and_warnings() {
    let (code, out, err) = nslab(Path::new(ROOT), &["check", "--json", "labs/dsr.toml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    let want = serde_json::json!({
        "file": "labs/dsr.toml", "errors": 0, "warnings": 0, "diagnostics": [],
    });
    assert_eq!(got, want);
    let (code, out, err) = nslab(
        Path::new(ROOT),
        &["check", "--json", "tests/lab/NSL026-gateway-nobody.toml"],
    );
    assert_eq!((code, err.as_str()), (0, ""));
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&got["errors"], &got["warnings"]), (&0.into(), &1.into()));
    assert_eq!(got["diagnostics"][0]["severity"], "warning");
}

#[test]
fn what_is_no_lab_file_is_refused_with_2() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("folder.toml")).unwrap();
    fs::write(
        folder.path().join("latin1.toml"),
        b"# one\nname = \"caf\xe9\"\n",
    )
    .unwrap();
    let big = fs::File::create(folder.path().join("big.toml")).unwrap();
    big.set_len((16 << 20) + 1).unwrap();
    for (file, message) in [
        (
            "nowhere.toml",
            "error: cannot read lab file nowhere.toml: No such file or directory (os error 2)\n",
        ),
        (
            "folder.toml",
            "error: cannot read lab file folder.toml: Is a directory (os error 21)\n",
        ),
        (
            "latin1.toml",
            "error: latin1.toml is not UTF-8 text (line 2); a lab file is TOML\n",
        ),
        (
            "big.toml",
            "error: big.toml is larger than 16 MiB, so it is not a lab file\n",
        ),
    ] {
        for command in ["check", "plan"] {
            assert_eq!(
                nslab(folder.path(), &[command, file]),
                (2, String::new(), message.to_owned())
            );
        }
    }
}

#[test]
fn the_plans_are_these() {
    for lab in ["dsr", "nat", "tun", "ipv6", "mixed"] {
        let file = Path::new(ROOT).join(format!("tests/plan/{lab}.txt"));
        let args = ["plan", &format!("labs/{lab}.toml")];
        let (code, first, err) = nslab(Path::new(ROOT), &args);
        assert_eq!((code, err.as_str()), (0, ""));
        let (_, second, _) = nslab(Path::new(ROOT), &args);
        assert_eq!(first, second, "two runs differ");
        if std::env::var_os("NSLAB_BLESS").is_some() {
            fs::write(&file, &first).unwrap();
        }
        let want = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            first, want,
            "where the new plan is right: NSLAB_BLESS=1 cargo test --test check_command"
        );
    }
}

#[test]
fn limits_are_in_the_plan_before_what_they_limit() {
    let folder = tempfile::tempdir().unwrap();
    let lab = "name = \"x\"\n[capture]\ninterfaces = \"off\"\n[nodes.a]\ncommand = [\"true\"]\nlimits = \
               { memory = \"96m\", cpus = 0.25, pids = 200 }\n[nodes.b]\nlimits = { pids = 2 }\n";
    fs::write(folder.path().join("x.toml"), lab).unwrap();
    let (code, plan, err) = nslab(folder.path(), &["plan", "x.toml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        plan.ends_with(
            "a: limit memory 96 MiB, 0.25 CPUs, 200 tasks by control group nslab/x/a\n10  b: limit \
             2 tasks by control group nslab/x/b\n11  a: start its main process, `true`\n"
        ),
        "{plan}"
    );
}

/// Byte for byte the file in the repository, which a JSON reader outside takes.
#[test]
fn schema_prints_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let (code, schema, err) = nslab(folder.path(), &["schema"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let file = Path::new(ROOT).join("schemas/lab.schema.json");
    assert_eq!(schema, fs::read_to_string(file).unwrap());
    let path = folder.path().join("schema.json");
    fs::write(&path, &schema).unwrap();
    let read = Command::new("python3")
        .args(["-m", "json.tool"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
}

/// As nobody (65534), without groups, and with a capability set that is empty: what needs root
/// fails here, also when the tests run as root.
#[test]
fn check_plan_and_graph_need_no_root() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(folder.path());
    for (from, to) in [
        (Path::new(NSLAB).to_owned(), "nslab"),
        (Path::new(ROOT).join("labs/dsr.toml"), "dsr.toml"),
    ] {
        let to = folder.path().join(to);
        // Not fs::copy: a program that another test starts meanwhile would inherit the file that
        // is being written, and executing it would fail with ETXTBSY.
        let copied = Command::new("install")
            .arg("-m755")
            .arg(from)
            .arg(&to)
            .status();
        assert!(copied.unwrap().success());
    }
    let root = nix::unistd::geteuid().is_root();
    let run = |args: &[&str]| {
        // Without root there is none to drop.
        let mut command = if root {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
                .arg("./nslab");
            command
        } else {
            Command::new("./nslab")
        };
        told(
            &command
                .args(args)
                .current_dir(folder.path())
                .output()
                .unwrap(),
        )
    };
    let (code, _, err) = run(&["up", "dsr.toml"]);
    assert_ne!(code, 0, "root was not dropped: `up` worked");
    assert!(err.contains("root"), "{err}");
    assert_eq!(
        run(&["check", "dsr.toml"]),
        (
            0,
            "dsr.toml: lab dsr is valid: 2 networks, 5 nodes, 1 service\n".to_owned(),
            String::new()
        )
    );
    let (code, graph, err) = run(&["graph", "dsr.toml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        graph,
        fs::read_to_string(Path::new(ROOT).join("tests/graph/dsr.mmd")).unwrap()
    );
    let (code, plan, err) = run(&["plan", "dsr.toml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        plan,
        fs::read_to_string(Path::new(ROOT).join("tests/plan/dsr.txt")).unwrap()
    );
}
