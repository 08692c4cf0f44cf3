//! The layer applier against streams that mean harm.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nslab::image::layer::Limits;

use crate::layers::{unpack, unpack_limited, xattr};
use crate::tarball::{Head, Tarball, head};
use crate::{open_dir, require_root};

/// Each stream is unpacked next to a canary, which links in it point at.
#[test]
#[expect(clippy::too_many_lines, reason = "a table, a line or two a case")]
fn hostile_streams_are_refused_and_reach_nothing() {
    require_root();
    let dir = open_dir();
    let canary = dir.path().join("canary");
    fs::create_dir(&canary).expect("make the canary");
    fs::write(canary.join("file"), "alive").expect("write");
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o711)).expect("mode");
    let seen = |path: &Path| {
        let of = |p: &Path| {
            let m = p.symlink_metadata().expect("look");
            (
                m.mode(),
                m.uid(),
                m.mtime(),
                m.mtime_nsec(),
                m.nlink(),
                m.ino(),
            )
        };
        let names: Vec<_> = fs::read_dir(path)
            .expect("list")
            .map(|e| e.expect("entry").file_name())
            .collect();
        (
            of(path),
            of(&path.join("file")),
            names,
            fs::read(path.join("file")).expect("read"),
        )
    };
    let before = seen(&canary);
    let absolute = canary.to_str().expect("utf-8").to_owned();
    let t = Tarball::default;
    let by_link = "it leads out of the layer by a symbolic link";
    let cases: Vec<(&str, Tarball, &str)> = vec![
        (
            "parent",
            t().file("../canary/x", "evil"),
            "its name holds `..`",
        ),
        (
            "inner parent",
            t().file("a/../../canary/x", "evil"),
            "its name holds `..`",
        ),
        ("parent folder", t().dir(".."), "its name holds `..`"),
        (
            "absolute link",
            t().symlink("l", &absolute).file("l/x", "evil"),
            by_link,
        ),
        (
            "relative link",
            t().symlink("l", "../canary").file("l/x", "evil"),
            by_link,
        ),
        (
            "link chain",
            t().dir("d")
                .symlink("d/up", "..")
                .symlink("l", "d/up/../canary")
                .file("l/x", "evil"),
            by_link,
        ),
        (
            "magic link",
            t().symlink("l", "/proc/self/root").file("l/x", "evil"),
            by_link,
        ),
        (
            "folder by link",
            t().symlink("l", &absolute).dir("l/x"),
            by_link,
        ),
        (
            "whiteout by link",
            t().symlink("l", &absolute).file("l/.wh.file", ""),
            by_link,
        ),
        (
            "opaque by link",
            t().symlink("l", &absolute).file("l/.wh..wh..opq", ""),
            by_link,
        ),
        (
            "symlink by link",
            t().symlink("l", &absolute).symlink("l/x", "y"),
            by_link,
        ),
        (
            "hard link out",
            t().hardlink("h", "../canary/file"),
            "it links to something else: its name holds `..`",
        ),
        (
            "hard link by link",
            t().symlink("l", &absolute).hardlink("h", "l/file"),
            by_link,
        ),
        (
            "absolute hard link",
            t().hardlink("h", &format!("{absolute}/file")),
            "could not find the target of `h`",
        ),
        (
            "hard link to folder",
            t().dir("d").hardlink("h", "d"),
            "it links to a folder",
        ),
        (
            "hard link to root",
            t().hardlink("h", "/"),
            "it links to the root",
        ),
        (
            "hard link to whiteout",
            t().file(".wh.a", "").hardlink("h", "a"),
            "it links to a file that this layer removes",
        ),
        (
            "whiteout of parent",
            t().file(".wh...", ""),
            "a whiteout of no file",
        ),
        (
            "whiteout of itself",
            t().file("d/.wh..", ""),
            "a whiteout of no file",
        ),
        (
            "whiteout of nothing",
            t().file(".wh.", ""),
            "a whiteout of no file",
        ),
        (
            "whiteout as folder",
            t().file(".wh.d/x", ""),
            "a folder's name begins with `.wh.`",
        ),
        (
            "raw whiteout",
            t().put(&head(b'3', "w")),
            "device 0/0 is overlayfs' mark of a removed file",
        ),
        (
            "root as file",
            t().file(".", "x"),
            "the root can only be a folder",
        ),
        (
            "root as link",
            t().symlink("./", &absolute),
            "the root can only be a folder",
        ),
        (
            "loop",
            t().symlink("a", "b").symlink("b", "a").file("a/x", ""),
            "could not open the folder of `a/x`",
        ),
        (
            "file as folder",
            t().file("f", "").file("f/x", ""),
            "could not make the folder of `f/x`: Not a directory (os error 20)",
        ),
        (
            "zero byte",
            t().pax(&[("path", b"a\0b")]).file("a", ""),
            "its name holds a zero byte",
        ),
        (
            "long part",
            t().pax(&[("path", &[b'a'; 300])]).file("a", ""),
            "a part of its name is longer than 255 bytes",
        ),
        (
            "deep",
            t().pax(&[("path", "a/".repeat(400).as_bytes())]).dir("a"),
            "it is deeper than 255 folders",
        ),
        (
            "owner",
            t().pax(&[("uid", b"4294967295")]).file("a", ""),
            "no such owner: 4294967295:0",
        ),
        (
            "large extension",
            t().pax(&[("path", &vec![b'a'; 2 << 20])]).file("a", ""),
            "more than 1048576 bytes of one extension header",
        ),
        (
            "huge extension",
            t().put(&Head {
                size: Some(0o77_777_777_777),
                ..head(b'x', "x")
            }),
            "more than 1048576 bytes of one extension header",
        ),
        (
            "sparse",
            t().put(&head(b'S', "s")),
            "only GNU's format has this type",
        ),
        (
            "unknown kind",
            t().put(&head(b'Z', "z")),
            "unknown type 'Z'",
        ),
        (
            "short",
            t().put(&Head {
                size: Some(5000),
                ..head(b'0', "f")
            }),
            "it ends within an entry",
        ),
    ];
    for (name, tar, want) in cases {
        let out = dir.path().join("out");
        let error = unpack(&tar.end(), &out, true).expect_err(name);
        assert!(error.contains(want), "{name}: {error}");
        assert_eq!(seen(&canary), before, "{name} reached the canary");
        fs::remove_dir_all(&out).expect("clean up");
    }
    let mut broken = t().file("f", "x").end();
    broken[0] = b'g';
    let error = unpack(&broken, &dir.path().join("sum"), true).expect_err("checksum");
    assert_eq!(error, "bad tar stream: a header's checksum is wrong");
    // What looks hostile and is not: a leading slash means the layer's root, a link that stays
    // inside is followed, one that leads out is only a link.
    let out = dir.path().join("good");
    let tar = t()
        .file("/etc/x", "in")
        .dir("real")
        .symlink("l", "real")
        .file("l/f", "followed");
    let tar = tar.symlink("out", &absolute).put(&Head {
        mode: 0o777,
        ..head(b'5', "out")
    });
    unpack(&tar.end(), &out, true).expect("good");
    assert_eq!(fs::read(out.join("etc/x")).expect("etc/x"), b"in");
    assert_eq!(fs::read(out.join("real/f")).expect("real/f"), b"followed");
    assert!(out.join("out").symlink_metadata().expect("out").is_dir());
    assert_eq!(seen(&canary), before);
}

#[test]
fn overlayfs_own_attributes_are_left_out() {
    require_root();
    let dir = open_dir();
    let out = dir.path().join("out");
    let tar = Tarball::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .dir("d")
        .end();
    let done = unpack(&tar, &out, true).expect("unpack");
    assert_eq!(
        done.skipped,
        [
            "attribute `trusted.overlay.redirect` of `d`: is overlayfs' own",
            "attribute `user.overlay.opaque` of `d`: is overlayfs' own"
        ]
    );
    assert_eq!(xattr(&out.join("d"), "trusted.overlay.redirect"), None);
}

#[test]
fn bombs_are_stopped() {
    let dir = open_dir();
    let limits = Limits {
        entries: 3,
        bytes: 1000,
    };
    let run = |name: &str, tar: &Tarball| {
        unpack_limited(&tar.clone().end(), &dir.path().join(name), false, limits)
    };
    let many = (0..4).fold(Tarball::default(), |t, i| t.dir(&format!("d{i}")));
    assert_eq!(
        run("many", &many).unwrap_err(),
        "more than 3 entries: refused as a bomb"
    );
    let huge = Tarball::default().put(&Head {
        size: Some(1 << 32),
        ..head(b'0', "f")
    });
    assert_eq!(
        run("huge", &huge).unwrap_err(),
        "more than 1000 bytes: refused as a bomb"
    );
    assert!(
        !dir.path().join("huge/f").exists(),
        "refused before a byte is written"
    );
    let two = Tarball::default()
        .file("a", &"x".repeat(600))
        .file("b", &"x".repeat(600));
    assert_eq!(
        run("two", &two).unwrap_err(),
        "more than 1000 bytes: refused as a bomb"
    );
}

/// Thousands of random streams of names, links and whiteouts that meet each other: whatever they
/// do, they do it inside.
#[test]
fn random_streams_stay_inside() {
    require_root();
    let dir = open_dir();
    let canary = dir.path().join("canary");
    fs::write(&canary, "alive").expect("write");
    let out = dir.path().join("out");
    let up = dir.path().to_str().expect("utf-8").to_owned();
    let names = [
        "a",
        "b",
        "a/b",
        "b/a",
        "a/b/a",
        "l",
        "l/a",
        "l/canary",
        "l/l",
        ".wh.a",
        "a/.wh.b",
        "a/.wh..wh..opq",
        "b/.wh.l",
        "l/.wh.canary",
        ".",
    ];
    let targets = [
        "a",
        "b",
        "..",
        "../canary",
        "a/..",
        "a/../..",
        "l",
        "/",
        &up,
        ".",
        "b/../a/../l",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |n: usize| {
        // xorshift64: the same streams in each run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % n as u64).expect("small")
    };
    let (mut fine, mut refused) = (0, 0);
    for round in 0..3000 {
        let mut tar = Tarball::default();
        for _ in 0..=next(8) {
            let name = names[next(names.len())];
            let target = targets[next(targets.len())];
            tar = match next(5) {
                0 => tar.dir(name),
                1 => tar.symlink(name, target),
                2 => tar.hardlink(name, target),
                3 => tar.put(&head(b'6', name)),
                _ => tar.file(name, "evil"),
            };
        }
        match unpack(&tar.end(), &out, true) {
            Ok(_) => fine += 1,
            Err(_) => refused += 1,
        }
        let meta = canary.symlink_metadata().expect("the canary is gone");
        assert_eq!((meta.nlink(), meta.len()), (1, 5), "round {round}");
        assert_eq!(fs::read(&canary).expect("read"), b"alive", "round {round}");
        assert_eq!(
            fs::read_dir(dir.path()).expect("list").count(),
            2,
            "round {round}"
        );
        fs::remove_dir_all(&out).expect("clean up");
    }
    assert!(
        fine > 300 && refused > 300,
        "one-sided: {fine} fine, {refused} refused"
    );
}
