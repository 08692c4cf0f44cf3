//! Bundles in the field's own runtimes: what `nslab image export` writes, runc and crun run.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::export::{Case, busybox};
use crate::export_config::as_nobody;
use crate::tarball::{Head, Tarball, head};
use crate::{open_dir, tool};

const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// Runs a bundle and waits for its end. crun 1.8 refuses hosts that have both versions of cgroups:
/// version 2 is mounted over them, in a mount namespace of the test's own.
fn run(runtime: &str, bundle: &Path) -> Output {
    let state = open_dir();
    let script = "mount -t cgroup2 none /sys/fs/cgroup || exit 99\n\
                  exec \"$1\" $4 --root \"$2\" run --bundle \"$3\" \"nslab-test-$$\"";
    let option = if runtime == "crun" {
        "--cgroup-manager=disabled"
    } else {
        ""
    };
    Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", runtime])
        .arg(state.path())
        .arg(bundle)
        .arg(option)
        .stdin(Stdio::null())
        .output()
        .expect("unshare")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lowest layer: a shell and what it needs.
fn shell() -> Tarball {
    Tarball::default()
        .dir("bin/")
        .put(&Head {
            mode: 0o755,
            data: &busybox(),
            ..head(b'0', "bin/busybox")
        })
        .symlink("bin/sh", "busybox")
        .symlink("bin/true", "busybox")
        .dir("etc/")
        .file(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/home/web:/bin/sh\n",
        )
        .file("etc/group", "root:x:0:\nweb:x:44:\nlog:x:50:web\n")
}

#[test]
fn true_is_true_and_exit_codes_come_through() {
    let case = Case::new();
    let image = case.layout("layout", &[shell().end()], &json!({ "Cmd": ["/bin/true"] }));
    let good = case.exported(&image, "good", &[]);
    let bad = case.exported(&image, "bad", &["--", "/bin/sh", "-c", "exit 42"]);
    let missing = case.exported(&image, "missing", &["--", "/no/such/program"]);
    for runtime in RUNTIMES {
        let output = run(runtime, &good);
        assert!(output.status.success(), "{runtime}: {output:?}");
        assert_eq!(run(runtime, &bad).status.code(), Some(42), "{runtime}");
        let output = run(runtime, &missing);
        assert!(!output.status.success(), "{runtime}");
        assert!(
            text(&output.stderr).contains("/no/such/program"),
            "{runtime}: {output:?}"
        );
    }
}

#[test]
fn a_process_has_all_that_its_image_says() {
    let case = Case::new();
    let script = "printf '<%s>' \"$0\" \"$@\"; echo; busybox id; pwd; hostname; \
        echo \"$A|$SPACED|$HOME|$PATH\"; busybox grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; \
        busybox ip -o link | busybox cut -d: -f2; busybox readlink /dev/stdin; \
        echo x > /proc/sys/kernel/hostname || echo read-only; \
        busybox unshare -n true || echo filtered; busybox wc -c < /proc/keys; busybox cat /srv/new /srv/old 2>&1; exit 3";
    let top = Tarball::default()
        .dir("srv/")
        .file("srv/new", "new\n")
        .file("srv/.wh.old", "")
        .end();
    let image = case.layout(
        "app.layout",
        &[shell().dir("srv/").file("srv/old", "old\n").end(), top],
        &json!({
            "Entrypoint": ["/bin/sh", "-c", script],
            "Cmd": ["not", "used"],
            "Env": ["A=1=2", "SPACED=a b  c"],
            "User": "web",
            "WorkingDir": "/made/by the runtime",
        }),
    );
    let bundle = case.exported(&image, "bundle", &["--", "first", "two words", "", "$A *"]);
    for runtime in RUNTIMES {
        let output = run(runtime, &bundle);
        assert_eq!(output.status.code(), Some(3), "{runtime}: {output:?}");
        let said = text(&output.stdout);
        let lines: Vec<_> = said.lines().collect();
        let want = [
            "<first><two words><><$A *>",
            "uid=33(web) gid=44(web) groups=50(log)",
            "/made/by the runtime",
            "app",
            "1=2|a b  c|/home/web|/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "CapInh:\t0000000000000000",
            // Another user than root has none, and no way to them.
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t00000000a80425fb",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            " lo",
        ];
        assert_eq!(lines[..want.len()], want, "{runtime}: {said}");
        let rest = &lines[want.len()..];
        assert!(rest.contains(&"read-only"), "{runtime}: {said}");
        assert!(rest.contains(&"0"), "{runtime}: {said}");
        assert!(rest.contains(&"new"), "{runtime}: {said}");
        assert!(said.contains("can't open '/srv/old'"), "{runtime}: {said}");
    }
    // As root: a container's capabilities, and no others.
    let bundle = case.exported(&image, "root", &["--user", "0", "--", "x"]);
    for runtime in RUNTIMES {
        let said = text(&run(runtime, &bundle).stdout);
        assert!(
            said.contains("CapEff:\t00000000a80425fb\n"),
            "{runtime}: {said}"
        );
        assert!(
            said.contains("CapInh:\t0000000000000000\n"),
            "{runtime}: {said}"
        );
        assert!(
            said.contains("uid=0(root) gid=0(root)"),
            "{runtime}: {said}"
        );
        assert!(
            said.contains("\n/root") || said.contains("|/root|"),
            "{runtime}: {said}"
        );
    }
}

#[test]
fn an_ordinary_user_runs_what_they_exported() {
    let case = Case::new();
    let dir = open_dir();
    let image = case.layout(
        "layout",
        &[shell().end()],
        &json!({ "Cmd": ["/bin/sh", "-c", "busybox id -u; echo x > /file; exit 4"] }),
    );
    let output = as_nobody(dir.path(), &["image", "export", &image, "b"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let script = "mount -t cgroup2 none /sys/fs/cgroup || exit 99\n\
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups \
                  \"$1\" $3 --root \"$2/home/state\" run --bundle \"$2/home/b\" nslab-test-rootless";
    for runtime in RUNTIMES {
        let option = if runtime == "crun" {
            "--cgroup-manager=disabled"
        } else {
            ""
        };
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh", runtime])
            .arg(dir.path())
            .arg(option)
            .env("XDG_RUNTIME_DIR", dir.path().join("home"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4), "{runtime}: {output:?}");
        assert_eq!(text(&output.stdout), "0\n", "{runtime}");
    }
    let owner = tool(
        Command::new("stat")
            .args(["-c", "%u"])
            .arg(dir.path().join("home/b/rootfs/file")),
    );
    assert_eq!(owner, "65534\n");
}

/// In namespaces of its own: `$1` is the bundle, `$2` a folder for runc and for what it says.
const SERVE: &str = r#"
set -eu
bundle=$1 dir=$2
mount -t cgroup2 none /sys/fs/cgroup
runc --root "$dir/state" run --bundle "$bundle" nslab-test-tomcat > "$dir/log" 2>&1 &
pid() { runc --root "$dir/state" state nslab-test-tomcat 2>/dev/null | jq -e 'select(.status == "running").pid'; }
n=0
until p=$(pid) && [ -n "$p" ] && nsenter -t "$p" -n curl -sf -o "$dir/page" -L http://127.0.0.1:8080/thredds; do
  n=$((n + 1))
  if [ $n = 600 ]; then cat "$dir/log"; exit 1; fi
  sleep 0.1
done
cat "$dir/page"
nsenter -t "$p" -n ip -o link | cut -d: -f2
runc --root "$dir/state" delete --force nslab-test-tomcat
"#;

/// Exports the Tomcat image that `store` has, and has runc run it until it answers.
pub fn tomcat_answers(store: &Path, image: &str) {
    let dir = open_dir();
    let bundle = dir.path().join("bundle");
    tool(
        Command::new(env!("CARGO_BIN_EXE_nslab"))
            .args(["image", "export", image])
            .arg(&bundle)
            .env("NSLAB_STORE", store),
    );
    let said = tool(
        Command::new("unshare")
            .args(["-m", "-p", "-f", "--mount-proc", "--kill-child"])
            .args(["sh", "-c", SERVE, "sh"])
            .args([&bundle, dir.path()]),
    );
    assert!(said.contains("THREDDS"), "{said}");
    assert!(said.ends_with(" lo\n"), "{said}");
}
