//! `nslab image export`: config.json, against umoci's of the same image, and as another user than
//! root.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::export::{Case, config, umoci};
use crate::install::install;
use crate::open_dir;
use crate::served::refused;
use crate::tarball::{Head, Tarball, head};
use crate::tree::tree;

/// An image with everything that an image can say of itself.
fn sample() -> (Case, String) {
    let case = Case::new();
    let files = Tarball::default()
        .dir("etc/")
        .file(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n",
        )
        .file("etc/group", "web:x:44:\nlog:x:50:web\n")
        .end();
    let image = case.layout_with(
        "my.layout",
        &[files],
        &json!({
            "author": "A <a@example.org>",
            "created": "2024-02-03T04:05:06Z",
            "config": {
                "Entrypoint": ["/run", "a b"],
                "Cmd": ["c"],
                "Env": ["A=1=2", "EMPTY="],
                "User": "web",
                "WorkingDir": "/srv",
                "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
                "StopSignal": "SIGQUIT",
                "Volumes": { "/srv": {} },
                "Labels": {
                    "org.opencontainers.image.author": "label",
                    "org.example.x": "y",
                    "run.oci.handler": "krun",
                },
            },
        }),
    );
    (case, image)
}

/// Texts of a list in config.json.
fn texts(config: &Value, at: &str) -> Vec<String> {
    let list = config.pointer(at).and_then(Value::as_array);
    let list = list.unwrap_or_else(|| panic!("no {at} in {config}")).iter();
    list.map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn config_json_says_what_umocis_does() {
    let (case, image) = sample();
    let output = case.export(&image, "bundle", &["--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("left out label `run.oci.handler`: it would be an order to the runtime\n"),
        "{said}"
    );
    let bundle = case.path("bundle");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["bundle"], bundle.to_str().unwrap());
    assert_eq!(printed["name"], image);
    assert_eq!(printed["entries"], 3);
    let ours = config(&bundle);
    let theirs = config(&umoci(&case, &image));
    for same in [
        "/process/user",
        "/process/args",
        "/process/cwd",
        "/process/noNewPrivileges",
        "/root/path",
        "/linux/resources",
    ] {
        assert_eq!(ours.pointer(same), theirs.pointer(same), "{same}");
        assert!(ours.pointer(same).is_some(), "{same}");
    }
    assert_eq!(ours["process"]["args"], json!(["/run", "a b", "c"]));
    assert_eq!(
        ours["process"]["user"],
        json!({ "uid": 33, "gid": 44, "additionalGids": [50] })
    );
    // umoci adds TERM, and there is no terminal.
    let mut env: Vec<_> = theirs["process"]["env"].as_array().unwrap().clone();
    env.retain(|v| v != "TERM=xterm");
    let sorted = |list: &[Value]| {
        let mut list: Vec<_> = list
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect();
        list.sort();
        list
    };
    assert_eq!(
        sorted(ours["process"]["env"].as_array().unwrap()),
        sorted(&env)
    );
    let mut annotations = theirs["annotations"].clone();
    // umoci gives it to the runtime.
    annotations
        .as_object_mut()
        .unwrap()
        .remove("run.oci.handler");
    // conversion.md, "Annotation Fields", note 1: labels go first; umoci 0.4.7 has it otherwise.
    annotations["org.opencontainers.image.author"] = json!("label");
    // umoci sorts no ports.
    annotations["org.opencontainers.image.exposedPorts"] = json!("53/udp,80/tcp");
    assert_eq!(ours["annotations"], annotations);
    assert_eq!(
        ours["annotations"]["org.opencontainers.image.author"],
        "label"
    );
    assert_eq!(
        ours["annotations"]["org.opencontainers.image.stopSignal"],
        "SIGQUIT"
    );
    // What the specification has as defaults is in both; nslab's own is more.
    let mounts = |config: &Value| {
        let list = config["mounts"].as_array().unwrap().iter();
        let mut all: Vec<_> = list
            .map(|m| (m["destination"].to_string(), m["type"].to_string()))
            .collect();
        all.retain(|(to, _)| to != "\"/srv\"");
        all
    };
    assert_eq!(mounts(&ours), mounts(&theirs));
}

#[test]
fn config_json_has_what_nodes_have() {
    let (case, image) = sample();
    let bundle = case.exported(&image, "bundle", &[]);
    let ours = config(&bundle);
    for path in ["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/scsi"] {
        assert!(
            texts(&ours, "/linux/maskedPaths").iter().any(|p| p == path),
            "{path}"
        );
    }
    for path in [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ] {
        assert!(
            texts(&ours, "/linux/readonlyPaths")
                .iter()
                .any(|p| p == path),
            "{path}"
        );
    }
    for set in ["bounding", "effective", "permitted"] {
        let names = texts(&ours, &format!("/process/capabilities/{set}"));
        let mut want = nslab::node::DEFAULT_CAPABILITIES.to_vec();
        want.sort_unstable();
        assert_eq!(names, want, "{set}");
    }
    for set in ["inheritable", "ambient"] {
        assert!(ours["process"]["capabilities"][set].is_null(), "{set}");
    }
    assert_eq!(ours["hostname"], "my");
    // The same image gives the same bundle, to the byte.
    let again = case.exported(&image, "again", &[]);
    for bundles in [&bundle, &again] {
        assert_eq!(fs::read_dir(bundles).unwrap().count(), 2);
    }
    let read = |bundle: &Path| fs::read(bundle.join("config.json")).unwrap();
    assert_eq!(read(&bundle), read(&again));
}

/// The command as `nobody`, with a store, a home and a program of their own.
pub fn as_nobody(dir: &Path, words: &[&str]) -> Command {
    let program = dir.join("nslab");
    if !program.exists() {
        install(Path::new(env!("CARGO_BIN_EXE_nslab")), &program);
        let home = dir.join("home");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(words)
        .current_dir(dir.join("home"))
        .env("HOME", dir.join("home"))
        .env("NSLAB_STORE", dir.join("home/store"))
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::null());
    command
}

#[test]
fn without_root_a_bundle_is_for_a_user_namespace() {
    let case = Case::new();
    let dir = open_dir();
    let low = Tarball::default()
        .dir("data/")
        .file("data/removed", "x")
        .put(&Head {
            uid: 5,
            gid: 6,
            mode: 0o4755,
            data: b"x",
            ..head(b'0', "data/kept")
        })
        .pax(&[("SCHILY.xattr.user.kept", b"1")])
        .file("attribute", "x")
        .dir("opaque/")
        .file("opaque/old", "x")
        .end();
    let high = Tarball::default()
        .dir("data/")
        .file("data/.wh.removed", "")
        .dir("opaque/")
        .file("opaque/.wh..wh..opq", "")
        .end();
    let layers = [low, high];
    let root = case.layout("root", &layers, &json!({ "Cmd": ["/x"], "User": "0" }));
    let other = case.layout("other", &layers, &json!({ "Cmd": ["/x"], "User": "5:6" }));
    let output = as_nobody(dir.path(), &["image", "export", &root, "b"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let bundle = dir.path().join("home/b");
    let all = tree(&bundle.join("rootfs"));
    let names: Vec<_> = all.keys().map(|p| p.escape_ascii().to_string()).collect();
    assert_eq!(names, [".", "attribute", "data", "data/kept", "opaque"]);
    let kept = &all[&b"data/kept"[..]];
    assert_eq!((kept.mode, kept.owner), (0o4755, (65534, 65534)));
    let attribute = &all[&b"attribute"[..]].xattrs;
    assert_eq!(attribute[&b"user.kept"[..]], b"1");
    let config = config(&bundle);
    let mapping = json!([{ "containerID": 0, "hostID": 65534, "size": 1 }]);
    assert_eq!(config["linux"]["uidMappings"], mapping);
    assert_eq!(config["linux"]["gidMappings"], mapping);
    assert!(config["linux"]["resources"].is_null());
    let kinds = config["linux"]["namespaces"].to_string();
    assert!(kinds.contains("\"user\""), "{kinds}");
    let output = as_nobody(dir.path(), &["image", "export", &other, "c"])
        .output()
        .unwrap();
    assert_eq!(
        refused(&output),
        format!(
            "error: bundle {}: image `{other}`: it runs as user 5:6, which a bundle made without \
             root does not have; export it as root, or with `--user 0:0`\n",
            dir.path().join("home/c").display()
        )
    );
    let left: Vec<_> = fs::read_dir(dir.path().join("home")).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}
