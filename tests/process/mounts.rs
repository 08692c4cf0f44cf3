//! Volumes and memory filesystems.

use std::path::Path;

use crate::common::images::Images;
use crate::common::{Bench, host, same_host, text};
use crate::{SLEEP, cwd, main_process};

/// Mount options and filesystem of what is mounted at `target` in a process' view, and the
/// filesystem's own options.
fn mounted(pid: i32, target: &str) -> Option<(String, String, String)> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    table.lines().rev().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let filesystem: Vec<&str> = filesystem.split(' ').collect();
        (mount[4] == target).then(|| {
            (
                mount[5].to_owned(),
                filesystem[0].to_owned(),
                filesystem[2].to_owned(),
            )
        })
    })
}

#[test]
fn volumes_and_tmpfs_are_mounted_outside_in() {
    let bench = Bench::new();
    Images::new(&bench);
    std::fs::create_dir_all(bench.path("site/cache")).unwrap();
    std::fs::write(bench.path("site/index"), "of the host\n").unwrap();
    let lab = bench.lab(&format!(
        r#"name = "mounts"
[nodes.image]
image = "./images:base"
command = {SLEEP}
volumes = ["./site/index:/scratch/deep/index:ro", "./site:/site", {{ source = "./site/index", target = "/etc/one" }}]
tmpfs = ["/site/cache:size=1m,mode=750,exec", "/scratch", {{ target = "/srv", size = "64k" }}]
workdir = "/scratch/work"
[nodes.host]
command = {SLEEP}
volumes = ["./site:/tmp/site"]
tmpfs = ["/tmp/site/cache", "/srv"]
"#
    ));
    bench.up(&lab);
    let pid = main_process(&bench, "image");
    let (flags, kind, options) = mounted(pid, "/scratch").unwrap();
    assert_eq!(
        (flags.as_str(), kind.as_str()),
        ("rw,nosuid,nodev,noexec,relatime", "tmpfs")
    );
    assert!(!options.contains("size="), "{options}");
    assert_eq!(
        bench.ok("exec image stat -c %a /scratch /site/cache /srv"),
        "1777\n750\n1777\n"
    );
    let (flags, _, options) = mounted(pid, "/site/cache").unwrap();
    assert_eq!(flags, "rw,nosuid,nodev,relatime");
    assert!(options.contains("size=1024k"), "{options}");
    let (_, _, options) = mounted(pid, "/srv").unwrap();
    assert!(options.contains("size=64k"), "{options}");
    // A tmpfs hides what the image has there, and is full at its size.
    assert_eq!(bench.ok("exec image ls /srv"), "");
    let full = bench.run("exec image dd if=/dev/zero of=/srv/big bs=1k count=100");
    assert!(text(&full.stderr).contains("No space left on device"));
    // A file as a volume in a tmpfs, read-only, and one in the image.
    assert_eq!(
        bench.ok("exec image cat /scratch/deep/index /etc/one"),
        "of the host\nof the host\n"
    );
    let (flags, ..) = mounted(pid, "/scratch/deep/index").unwrap();
    assert!(flags.starts_with("ro,"), "{flags}");
    assert_eq!(cwd(pid), Path::new("/scratch/work"));
    bench.ok("exec image touch /site/new /site/cache/gone");
    assert!(bench.path("site/new").exists());
    assert!(!bench.path("site/cache/gone").exists());

    let pid = main_process(&bench, "host");
    let (flags, ..) = mounted(pid, "/srv").unwrap();
    assert_eq!(flags, "rw,nosuid,nodev,noexec,relatime");
    bench.ok("exec host touch /tmp/site/two /tmp/site/cache/gone /srv/x");
    assert!(bench.path("site/two").exists());
    assert!(!bench.path("site/cache/gone").exists());
    bench.ok("down");
    assert!(bench.path("site/index").exists());
}

#[test]
fn a_volume_that_is_not_there_is_named_before_anything_is_made() {
    let bench = Bench::new();
    let before = host();
    bench.lab("name = \"gone\"\n[nodes.a]\nvolumes = [\"./site:/srv/site\"]\n");
    assert_eq!(
        bench.fails("up gone.toml", 2),
        "\
error[NSL032]: cannot show ./site in a node: No such file or directory (os error 2)
 --> gone.toml:3:12
  |
3 | volumes = [\"./site:/srv/site\"]
  |            ^^^^^^^^^^^^^^^^^^ nothing that could be shown
  |
  = help: make the folder or file first, or correct the path, which starts at the lab file's folder
"
    );
    assert!(!bench.path("run").exists());
    assert!(!bench.path("site").exists());
    same_host(&before);
    // A lab can be checked where it is not run.
    bench.ok("check gone.toml");
}
