//! What runs: program, user, environment, working directory.

use std::path::Path;

use crate::common::images::Images;
use crate::common::{Bench, host, same_host, tool};
use crate::{SLEEP, cwd, environ, main_process, status, words};

#[test]
fn entrypoint_and_command_are_merged_as_docker_does() {
    let bench = Bench::new();
    let images = Images::new(&bench);
    let entry = ["config.entrypoint=/bin/busybox", "config.entrypoint=sleep"];
    images.with("both", &[&entry[..], &["config.cmd=1000001"]].concat());
    images.with("cmd", &["config.cmd=sleep", "config.cmd=1000002"]);
    images.with("entry", &entry);
    let node = |name: &str, rest: &str| format!("[nodes.{name}]\n{rest}\n");
    let lab = bench.lab(&format!(
        "name = \"merge\"\n{}{}{}{}{}{}{}",
        node("both", "image = \"./images:both\""),
        node("cmd", "image = \"./images:cmd\""),
        // `command` takes the place of CMD only.
        node(
            "new-cmd",
            "image = \"./images:both\"\ncommand = [\"1000003\"]"
        ),
        node(
            "no-entry",
            "image = \"./images:cmd\"\ncommand = [\"sleep\", \"1000004\"]"
        ),
        node(
            "args",
            "image = \"./images:entry\"\ncommand = [\"1000005\"]"
        ),
        // `entrypoint` drops CMD.
        node(
            "new-entry",
            "image = \"./images:both\"\nentrypoint = [\"/bin/sleep\", \"1000006\"]"
        ),
        node(
            "neither",
            "image = \"./images:both\"\nentrypoint = []\ncommand = [\"sleep\", \"1000007\"]"
        ),
    ));
    bench.up(&lab);
    for (node, runs) in [
        ("both", "/bin/busybox sleep 1000001"),
        ("cmd", "sleep 1000002"),
        ("new-cmd", "/bin/busybox sleep 1000003"),
        ("no-entry", "sleep 1000004"),
        ("args", "/bin/busybox sleep 1000005"),
        ("new-entry", "/bin/sleep 1000006"),
        ("neither", "sleep 1000007"),
    ] {
        let pid = main_process(&bench, node);
        assert_eq!(words(pid, "cmdline").join(" "), runs, "{node}");
    }
}

#[test]
fn an_image_without_a_program_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    let images = Images::new(&bench);
    images.with("signal", &["config.cmd=sleep", "config.stopsignal=SIGFOO"]);
    let before = host();
    let lab = bench.lab("name = \"empty\"\n[nodes.web]\nimage = \"./images:base\"\n");
    let told = bench.fails(&format!("up {}", lab.display()), 1);
    let last = told.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        "error: node web: image ./images:base has neither ENTRYPOINT nor CMD; write a `command` \
         with the program and its arguments into [nodes.web]",
        "{told}"
    );
    let lab = bench.lab("name = \"signal\"\n[nodes.web]\nimage = \"./images:signal\"\n");
    let told = bench.fails(&format!("up {}", lab.display()), 1);
    let last = told.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        "error: node web: image ./images:signal wants to be stopped by \"SIGFOO\", which is no \
         signal; write a `stop_signal` into [nodes.web]",
        "{told}"
    );
    assert!(!bench.path("run").exists());
    same_host(&before);
}

#[test]
fn user_environment_and_working_directory_are_the_labs_over_the_images() {
    let bench = Bench::new();
    let images = Images::new(&bench);
    images.with(
        "web",
        &[
            "config.cmd=sleep",
            "config.cmd=1000000",
            "config.user=web",
            "config.workingdir=/srv/made/by image",
            "config.env=FROM=image",
            "config.env=FILE=image",
            "config.env=ENV=image",
        ],
    );
    std::fs::create_dir(bench.path("env")).unwrap();
    std::fs::write(
        bench.path("env/a.env"),
        "# Comment\nFILE=a\nENV=a\nONLY_A= \"as it is\" \n",
    )
    .unwrap();
    std::fs::write(bench.path("env/b.env"), "\nFILE=b\r\nB=b\n").unwrap();
    let lab = bench.lab(&format!(
        r#"name = "user"
[nodes.image]
image = "./images:web"
[nodes.lab]
image = "./images:web"
user = "0:logs"
workdir = "/new/place"
env_file = ["env/a.env", "env/b.env"]
env = {{ ENV = "lab" }}
[nodes.number]
image = "./images:web"
user = 1234
[nodes.host]
command = {SLEEP}
user = "nobody"
workdir = "/tmp/of the node"
env_file = "{}"
"#,
        bench.path("env/a.env").display()
    ));
    bench.up(&lab);
    let pid = main_process(&bench, "image");
    assert_eq!(status(pid, "Uid"), "101 101 101 101");
    assert_eq!(status(pid, "Gid"), "102 102 102 102");
    assert_eq!(status(pid, "Groups"), "103");
    assert_eq!(status(pid, "CapEff"), "0000000000000000");
    assert_eq!(cwd(pid), Path::new("/srv/made/by image"));
    let env = environ(pid);
    assert_eq!(env["FROM"], "image");
    assert_eq!(env["HOME"], "/srv");
    assert_eq!(
        bench.ok("exec image id"),
        "uid=101(web) gid=102(web) groups=103(logs)\n"
    );
    assert_eq!(bench.ok("exec image pwd"), "/srv/made/by image\n");

    let pid = main_process(&bench, "lab");
    assert_eq!(status(pid, "Uid"), "0 0 0 0");
    assert_eq!(status(pid, "Gid"), "103 103 103 103");
    assert_eq!(cwd(pid), Path::new("/new/place"));
    let env = environ(pid);
    for (key, value) in [
        ("FROM", "image"),
        ("FILE", "b"),
        ("ENV", "lab"),
        ("ONLY_A", " \"as it is\" "),
        ("B", "b"),
    ] {
        assert_eq!(env[key], value, "{key}");
    }
    assert_eq!(bench.ok("exec lab pwd"), "/new/place\n");
    let own = bench.ok("exec lab env");
    let has = |line: &str| own.lines().any(|l| l == line);
    assert!(
        has("FILE=b") && has("ENV=lab") && has("FROM=image"),
        "{own}"
    );

    let pid = main_process(&bench, "number");
    assert_eq!(status(pid, "Uid"), "1234 1234 1234 1234");
    assert_eq!(status(pid, "Gid"), "0 0 0 0");

    // A node without image sees the host's own users.
    let pid = main_process(&bench, "host");
    let ids = tool("id", &["-u", "nobody"]);
    assert_eq!(status(pid, "Uid").split(' ').next(), Some(ids.trim()));
    assert_eq!(cwd(pid), Path::new("/tmp/of the node"));
    assert_eq!(environ(pid)["FILE"], "a");
    assert!(!Path::new("/tmp/of the node").exists());
}

#[test]
fn an_unknown_user_is_named() {
    let bench = Bench::new();
    Images::new(&bench);
    let lab = bench.lab(&format!(
        "name = \"who\"\n[nodes.web]\nimage = \"./images:base\"\ncommand = {SLEEP}\nuser = \"tomcat\"\n"
    ));
    let told = bench.fails(&format!("up {}", lab.display()), 1);
    assert!(
        told.contains(
            "error: node web is not ready: user `tomcat` is not in the node's /etc/passwd; use a \
             number, or add it to the image\n"
        ),
        "{told}"
    );
    assert!(told.ends_with("lab who is down\n"), "{told}");
}

#[test]
fn env_files_are_checked_with_the_lab_file() {
    let bench = Bench::new();
    let lab = bench.lab(
        "name = \"files\"\n[nodes.a]\nforward = 1\nenv_file = [\"gone.env\", \"bad.env\", \".\"]\n",
    );
    // What is wrong in the lab file itself comes first.
    let told = bench.fails("check files.toml", 2);
    assert!(
        told.contains("NSL003") && !told.contains("NSL081"),
        "{told}"
    );
    let fixed = std::fs::read_to_string(&lab)
        .unwrap()
        .replace("forward = 1\n", "");
    std::fs::write(&lab, fixed).unwrap();
    std::fs::write(bench.path("bad.env"), "A=1\nexport B=2\n\nC\n").unwrap();
    let expected = "\
error[NSL081]: cannot read env file gone.env: No such file or directory (os error 2)
 --> files.toml:3:13
  |
3 | env_file = [\"gone.env\", \"bad.env\", \".\"]
  |             ^^^^^^^^^^ named here
  |
  = help: correct the path, which starts at the lab file's folder, or make the file

error[NSL081]: env file bad.env, line 2: the name before `=` has white space or control characters
 --> files.toml:3:25
  |
3 | env_file = [\"gone.env\", \"bad.env\", \".\"]
  |                         ^^^^^^^^^ named here
  |
  = help: write lines like `NAME=value`; what is behind `=` is the value as it is, and lines that begin with `#` are comments

error[NSL081]: env file bad.env, line 4: it has no `=`, and nothing is taken from the shell that runs nslab
 --> files.toml:3:25
  |
3 | env_file = [\"gone.env\", \"bad.env\", \".\"]
  |                         ^^^^^^^^^ named here
  |
  = help: write lines like `NAME=value`; what is behind `=` is the value as it is, and lines that begin with `#` are comments

error[NSL081]: cannot read env file .: it is not a file
 --> files.toml:3:36
  |
3 | env_file = [\"gone.env\", \"bad.env\", \".\"]
  |                                    ^^^ named here
  |
  = help: correct the path, which starts at the lab file's folder, or make the file

4 errors in files.toml
";
    for command in ["check", "plan", "up"] {
        let told = bench.fails(&format!("{command} files.toml"), 2);
        assert_eq!(told, expected, "{command}");
    }
    let json = bench.run("check --json files.toml");
    assert_eq!(json.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["errors"], 4);
    assert_eq!(json["diagnostics"][2]["code"], "NSL081");
    // `down` needs the lab's name only.
    assert_eq!(
        bench.fails("down files.toml", 1),
        "error: lab files is not up; no lab is\n"
    );
}
