//! Nodes with an image, and what of the host is shown in a node.

use std::fs;

use nslab::node::{Bind, InitEvent, InitSpec};

use super::harness::{Image, Node, options, plain, stderr};

/// A small image of the host's own programs.
pub fn image() -> (Image, nslab::node::Rootfs) {
    let image = Image::new(&["sh", "cat", "id", "ls", "mknod", "touch", "rm", "stat"]);
    let rootfs = image.rootfs();
    (image, rootfs)
}

#[test]
fn writes_to_an_overlay_stay_in_its_upper_layer() {
    let (image, rootfs) = image();
    let node = Node::up(&InitSpec {
        rootfs,
        cwd: "/made/for me".into(),
        ..plain("web")
    });
    assert_eq!(node.sh("cat /etc/layer"), "top\n");
    assert_eq!(node.sh("pwd"), "/made/for me\n");
    assert_eq!(
        node.sh("cat /etc/hostname /etc/hosts"),
        "web\n127.0.0.1 localhost\n10.0.0.3 VIP\n"
    );
    assert_eq!(
        node.sh("cat /etc/resolv.conf"),
        "# This lab has no name server; its names are in /etc/hosts.\n"
    );
    node.sh("echo new > /etc/layer; rm /etc/group; touch /file");
    assert_eq!(
        fs::read_to_string(image.path("top/etc/layer")).unwrap(),
        "top\n"
    );
    assert_eq!(
        fs::read_to_string(image.path("upper/etc/layer")).unwrap(),
        "new\n"
    );
    assert!(image.path("top/etc/group").exists());
    assert!(image.path("upper/file").exists());
    // Mounted in the node only.
    assert_eq!(fs::read_dir(image.path("root")).unwrap().count(), 0);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !table.contains(image.path("upper").to_str().unwrap()),
        "{table}"
    );
}

#[test]
fn many_layers_do_not_overflow_the_options() {
    let (image, _) = image();
    let nslab::node::Rootfs::Overlay {
        mut lower,
        upper,
        work,
        target,
        kept,
    } = image.rootfs()
    else {
        unreachable!("it is an overlay")
    };
    for number in 0..60 {
        let name = format!("{}-{number}", "long".repeat(25));
        image.write(&name, &format!("layers/{number}"), "");
        lower.push(image.path(&name));
    }
    let rootfs = nslab::node::Rootfs::Overlay {
        lower,
        upper,
        work,
        target,
        kept,
    };
    let node = Node::up(&InitSpec {
        rootfs,
        ..plain("deep")
    });
    assert_eq!(node.sh("ls /layers").lines().count(), 60);
}

#[test]
fn users_come_from_the_images_own_files() {
    let (_image, rootfs) = image();
    let node = Node::up(&InitSpec {
        rootfs,
        user: "web".to_owned(),
        ..plain("web")
    });
    assert_eq!(
        node.sh("id"),
        "uid=101(web) gid=102(web) groups=102(web),103(logs)\n"
    );
    assert_eq!(node.sh("echo $HOME $LAB"), "/srv test\n");
    let root = nslab::node::ExecOptions {
        user: Some("root".to_owned()),
        ..options(&["id", "-u"])
    };
    assert_eq!(node.command(&root).output().unwrap().stdout, b"0\n");
    let failed = nslab::node::ExecOptions {
        user: Some("tomcat".to_owned()),
        ..options(&["id"])
    };
    let output = node.command(&failed).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        stderr(&output),
        "nslab: exec: user `tomcat` is not in the node's /etc/passwd; use a number, or add it to \
         the image\n"
    );
}

#[test]
fn a_main_process_of_another_user_can_open_its_output() {
    let (_image, rootfs) = image();
    let spec = super::harness::running(
        "web",
        "echo one; echo two > /dev/stdout; id -u > /dev/stderr",
        nslab::node::RestartPolicy::No,
    );
    let node = Node::up(&InitSpec {
        rootfs,
        user: "web".to_owned(),
        ..spec
    });
    let lines = [node.output_line(), node.output_line(), node.output_line()];
    assert_eq!(lines, ["one", "two", "101"]);
}

#[test]
fn binds_are_shown_with_their_flags() {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("file"), "from the host\n").unwrap();
    let bind = |target: &str, read_only| Bind {
        source: shared.path().to_owned(),
        target: target.into(),
        read_only,
    };
    let (_image, rootfs) = image();
    for (spec, places) in [
        (plain("n"), ["/tmp/ro", "/run/deep/rw"]),
        (
            InitSpec {
                rootfs,
                ..plain("i")
            },
            ["/srv/ro", "/data/deep/rw"],
        ),
    ] {
        let [ro, rw] = places;
        let file = Bind {
            source: shared.path().join("file"),
            target: "/tmp/single".into(),
            read_only: true,
        };
        let node = Node::up(&InitSpec {
            binds: vec![bind(ro, true), bind(rw, false), file],
            ..spec
        });
        assert_eq!(
            node.sh(&format!("cat {ro}/file /tmp/single")),
            "from the host\nfrom the host\n"
        );
        let failed = node.exec(&["touch", &format!("{ro}/new")]);
        assert!(
            stderr(&failed).contains("Read-only file system"),
            "{}",
            stderr(&failed)
        );
        node.sh(&format!("touch {rw}/{}", node.target.node));
        assert!(shared.path().join(&node.target.node).exists());
    }
}

#[test]
fn a_bind_that_has_no_place_says_what_to_do() {
    let bind = Bind {
        source: "/usr".into(),
        target: "/not/there".into(),
        read_only: true,
    };
    let node = Node::spawn(&InitSpec {
        binds: vec![bind],
        ..plain("n")
    });
    let message = "cannot mount on /not/there: Read-only file system (os error 30); a node without \
                   image has the host's root read-only: use a place below /tmp or /run, or make \
                   the mount point on the host";
    assert_eq!(
        node.early,
        [InitEvent::Failed {
            message: message.to_owned()
        }]
    );
    let bind = Bind {
        source: "/no/source".into(),
        target: "/tmp/x".into(),
        read_only: true,
    };
    let node = Node::spawn(&InitSpec {
        binds: vec![bind],
        ..plain("n")
    });
    let message = "cannot take /no/source: No such file or directory (os error 2)";
    assert_eq!(
        node.early,
        [InitEvent::Failed {
            message: message.to_owned()
        }]
    );
}

#[test]
fn a_link_in_an_image_cannot_lead_a_mount_out_of_it() {
    let (image, rootfs) = image();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), image.path("top/data")).unwrap();
    let bind = Bind {
        source: "/usr".into(),
        target: "/data/sub".into(),
        read_only: true,
    };
    let node = Node::spawn(&InitSpec {
        rootfs,
        binds: vec![bind],
        ..plain("i")
    });
    // The link leads to a folder of that name inside the image, which is not there.
    assert!(
        matches!(node.early.front(), Some(InitEvent::Failed { .. })),
        "{:?}",
        node.early
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
