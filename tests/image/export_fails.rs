//! All ways in which `nslab image export` fails, and what it leaves then: nothing.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;

use crate::export::{Case, config, same};
use crate::served::{noise, refused};
use crate::tarball::{Head, Tarball, head};
use crate::tree::tree;

#[test]
fn refusals_and_what_they_leave() {
    let case = Case::new();
    let layer = Tarball::default().file("x", "x").end();
    let nothing = case.layout("nothing", std::slice::from_ref(&layer), &json!({}));
    let entry = case.layout(
        "entry",
        std::slice::from_ref(&layer),
        &json!({ "Entrypoint": ["/x"] }),
    );
    let user = case.layout("user", &[layer], &json!({ "Cmd": ["/x"], "User": "web" }));
    // An image's link never leads out of it: the host has such a user.
    let outward = Tarball::default()
        .dir("etc/")
        .symlink("etc/passwd", "/../../../../../../../etc/passwd")
        .symlink("etc/group", "/real")
        .file("real", "web:x:44:\n")
        .end();
    let outward = case.layout(
        "outward",
        &[outward],
        &json!({ "Cmd": ["/x"], "User": "daemon" }),
    );
    let bundle = case.path("b");
    let says = |image: &str, more: &[&str], text: &str| {
        let before = case.names();
        let said = refused(&case.export(image, "b", more));
        assert_eq!(
            said,
            format!("error: bundle {}: {text}\n", bundle.display())
        );
        let after: Vec<_> = case.names().into_iter().filter(|n| n != "store").collect();
        let before: Vec<_> = before.into_iter().filter(|n| n != "store").collect();
        assert_eq!(after, before);
    };
    says(
        &nothing,
        &[],
        &format!("image `{nothing}`: it names no program to run; give one behind `--`"),
    );
    says(
        &user,
        &[],
        &format!(
            "image `{user}`: user `web` is not in its /etc/passwd; give another with `--user`, such \
             as a number"
        ),
    );
    says(
        &outward,
        &[],
        &format!(
            "image `{outward}`: user `daemon` is not in its /etc/passwd; give another with `--user`, \
             such as a number"
        ),
    );
    let there = "it exists, and is no empty folder";
    fs::write(&bundle, "mine").unwrap();
    says(&entry, &[], there);
    assert_eq!(fs::read(&bundle).unwrap(), b"mine");
    fs::remove_file(&bundle).unwrap();
    std::os::unix::fs::symlink("store", &bundle).unwrap();
    says(&entry, &[], there);
    fs::remove_file(&bundle).unwrap();
    fs::create_dir(&bundle).unwrap();
    fs::write(bundle.join("mine"), "mine").unwrap();
    says(&entry, &[], there);
    fs::remove_file(bundle.join("mine")).unwrap();
    // An empty one is taken, and what was refused above works when it is asked for rightly.
    case.exported(&entry, "b", &["--", "more", "words"]);
    assert_eq!(
        config(&bundle)["process"]["args"],
        json!(["/x", "more", "words"])
    );
    case.exported(&nothing, "c", &["--", "/x"]);
    let user = case.exported(&user, "d", &["--user", "5:6"]);
    assert_eq!(
        config(&user)["process"]["user"],
        json!({ "uid": 5, "gid": 6 })
    );
    let outward = case.exported(&outward, "l", &["--user", "5:web"]);
    assert_eq!(
        config(&outward)["process"]["user"],
        json!({ "uid": 5, "gid": 44 })
    );
    let said = refused(&case.export("./nowhere", "e", &[]));
    assert_eq!(
        said,
        "error: could not find ./nowhere: No such file or directory (os error 2)\n"
    );
    let said = refused(&case.export(&nothing, "no/such/folder/b", &["--", "/x"]));
    let hidden = case.path("no/such/folder/.b.nslab-export");
    assert_eq!(
        said,
        format!(
            "error: could not create folder {}: No such file or directory (os error 2)\n",
            hidden.display()
        )
    );
}

#[test]
fn nobody_loses_the_ground_under_their_feet() {
    let case = Case::new();
    let layer = Tarball::default().file("x", "x").end();
    let entry = case.layout("entry", &[layer], &json!({ "Cmd": ["/x"] }));
    let empty = case.path("empty");
    fs::create_dir(&empty).unwrap();
    let mut inside = case.cli.command(&["image", "export", &entry, "."]);
    assert_eq!(
        refused(&inside.current_dir(&empty).output().unwrap()),
        format!(
            "error: bundle {}: it is the working folder; name a folder in it\n",
            empty.display()
        )
    );
}

#[test]
fn a_full_disk_and_a_mount_point_leave_nothing() {
    let case = Case::new();
    let data = noise(3 << 20);
    let layer = Tarball::default()
        .file("first", "x")
        .put(&Head {
            data: &data,
            ..head(b'0', "second")
        })
        .end();
    let image = case.layout("layout", &[layer], &json!({ "Cmd": ["/x"] }));
    let disk = case.path("disk");
    fs::create_dir(&disk).unwrap();
    // In a mount namespace of its own: nothing stays mounted, whatever happens.
    let script = "mount -t tmpfs -o size=2m none \"$1\" && \"$2\" image export \"$3\" \"$1$4\"\n\
                  code=$?; ls -A \"$1\"; exit $code";
    let run = |inside: &str| {
        Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(&disk)
            .args([env!("CARGO_BIN_EXE_nslab"), &image, inside])
            .env("NSLAB_STORE", case.path("store"))
            .output()
            .unwrap()
    };
    let output = run("/b");
    assert_eq!(
        refused(&output),
        format!(
            "error: could not write {}/b/rootfs/second: No space left on device (os error 28)\n",
            disk.display()
        )
    );
    assert_eq!(output.stdout, b"", "{output:?}");
    let output = run("");
    assert_eq!(
        refused(&output),
        format!(
            "error: bundle {}: it is a mount point; name a folder in it\n",
            disk.display()
        )
    );
    assert_eq!(output.stdout, b"");
}

/// An image whose export takes long enough to be met in the middle.
fn many_files(case: &Case) -> String {
    let mut tar = Tarball::default();
    for folder in 0..20 {
        tar = tar.dir(&format!("d{folder}/"));
        for file in 0..100 {
            tar = tar.file(&format!("d{folder}/f{file}"), "x");
        }
    }
    case.layout("many", &[tar.end()], &json!({ "Cmd": ["/x"] }))
}

#[test]
fn interrupted_and_killed() {
    let case = Case::new();
    let image = many_files(&case);
    case.exported(&image, "warm", &[]);
    let (bundle, hidden) = (case.path("b"), case.path(".b.nslab-export"));
    let signal = |child: &Child, signal| {
        let pid = Pid::from_raw(child.id().cast_signed());
        kill(pid, signal).unwrap();
        pid
    };
    let start = || {
        for _ in 0..20 {
            let mut child = case
                .cli
                .command(&["image", "export", &image, bundle.to_str().unwrap()])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            // Only a process that hangs reaches the end.
            for _ in 0..100_000 {
                if hidden.join("rootfs/d1").exists() || bundle.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            let pid = signal(&child, Signal::SIGSTOP);
            let state = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
            // The folder that is filled last is empty: it was met in the middle.
            let last = fs::read_dir(hidden.join("rootfs/d0"));
            if last.is_ok_and(|mut d| d.next().is_none()) {
                return child;
            }
            // It was faster.
            if matches!(state, WaitStatus::Stopped(..)) {
                signal(&child, Signal::SIGCONT);
            }
            let _ = child.wait();
            let _ = fs::remove_dir_all(&bundle);
        }
        panic!("it is never met in the middle");
    };
    for by in [Signal::SIGINT, Signal::SIGTERM] {
        let child = start();
        signal(&child, by);
        signal(&child, Signal::SIGCONT);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            refused(&output),
            format!(
                "error: interrupted; nothing of {} was left\n",
                bundle.display()
            )
        );
        assert!(!bundle.exists() && !hidden.exists());
    }
    // A killed one leaves what has no name, which nobody takes for a bundle; the next one removes it.
    let mut child = start();
    assert_eq!(
        refused(&case.export(&image, "b", &[])),
        format!(
            "error: bundle {}: another nslab writes it now\n",
            bundle.display()
        )
    );
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    assert!(!bundle.exists() && hidden.exists());
    case.exported(&image, "b", &[]);
    assert!(!hidden.exists());
    same(
        &tree(&bundle.join("rootfs")),
        &tree(&case.path("warm/rootfs")),
        "an export after a killed one",
    );
}
