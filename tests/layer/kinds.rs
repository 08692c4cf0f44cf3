//! The layer applier: what is in a stream, and what becomes of it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::tarball::{Head, Tarball, head};
use crate::{copy_program, open_dir, require_root, tool, unpack, xattr};

fn is_whiteout(path: &Path) -> bool {
    let meta = path.symlink_metadata().expect("look at the whiteout");
    meta.file_type().is_char_device() && meta.rdev() == 0
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one stream with every kind, and what became of each"
)]
fn every_kind_with_its_metadata() {
    require_root();
    let dir = open_dir();
    let out = dir.path().join("out");
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let target = "t".repeat(300);
    let tar = Tarball::default()
        .put(&Head {
            mode: 0o751,
            mtime: 500,
            ..head(b'5', "./")
        })
        .put(&Head {
            mode: 0o2500,
            uid: 7,
            gid: 8,
            mtime: 1_234_567_890,
            ..head(b'5', "sub/")
        })
        .pax(&[
            ("mtime", b"1700000000.123456789"),
            ("SCHILY.xattr.user.empty", b""),
            ("SCHILY.xattr.user.bytes", b"\x00=\n\xff"),
        ])
        .put(&Head {
            mode: 0o4755,
            uid: 1000,
            gid: 1001,
            data: b"hello",
            ..head(b'0', "sub/file")
        })
        .symlink("sub/link", "file")
        .hardlink("sub/hard", "./sub/file")
        .put(&Head {
            mode: 0o622,
            ..head(b'6', "fifo")
        })
        .put(&Head {
            mode: 0o666,
            device: (1, 3),
            ..head(b'3', "null")
        })
        .pax(&[("path", long.as_bytes())])
        .file("short", "by pax")
        .long(b'L', format!("{long}.gnu").as_bytes())
        .file("short", "by gnu")
        .long(b'K', target.as_bytes())
        .symlink("far", "near")
        .put(&Head {
            kind: b'7',
            data: b"contiguous",
            ..head(b'7', "seven")
        })
        .pax(&[("mtime", b"-1.5")])
        .file("old", "")
        .end();
    let done = unpack(&tar, &out, true).expect("unpack");
    assert_eq!(done.skipped, Vec::<String>::new());
    assert_eq!((done.entries, done.bytes), (12, 5 + 6 + 6 + 10));

    let at = |name: &str| out.join(name).symlink_metadata().expect(name);
    let root = out.metadata().expect("root");
    assert_eq!((root.mode() & 0o7777, root.mtime()), (0o751, 500));
    let sub = at("sub");
    assert_eq!((sub.mode() & 0o7777, sub.uid(), sub.gid()), (0o2500, 7, 8));
    assert_eq!(
        sub.mtime(),
        1_234_567_890,
        "set before the folder's content"
    );
    let file = at("sub/file");
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.gid()),
        (0o4755, 1000, 1001)
    );
    assert_eq!(
        (file.mtime(), file.mtime_nsec()),
        (1_700_000_000, 123_456_789)
    );
    assert_eq!(fs::read(out.join("sub/file")).expect("read"), b"hello");
    assert_eq!(xattr(&out.join("sub/file"), "user.empty"), Some(Vec::new()));
    assert_eq!(
        xattr(&out.join("sub/file"), "user.bytes").as_deref(),
        Some(&b"\x00=\n\xff"[..])
    );
    assert_eq!(at("sub/hard").ino(), file.ino());
    assert_eq!(
        fs::read_link(out.join("sub/link")).expect("link"),
        Path::new("file")
    );
    assert_eq!(at("sub/link").mtime(), 1_000_000_000);
    assert!(at("fifo").file_type().is_fifo());
    assert_eq!(at("fifo").mode() & 0o7777, 0o622);
    assert!(at("null").file_type().is_char_device());
    assert_eq!(at("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(fs::read(out.join(&long)).expect("pax name"), b"by pax");
    assert_eq!(
        fs::read(out.join(format!("{long}.gnu"))).expect("gnu name"),
        b"by gnu"
    );
    assert_eq!(
        fs::read_link(out.join("far")).expect("far"),
        Path::new(&target)
    );
    assert_eq!(fs::read(out.join("seven")).expect("seven"), b"contiguous");
    assert_eq!(
        (at("old").mtime(), at("old").mtime_nsec()),
        (-2, 500_000_000)
    );
    // A folder that the tar does not mention gets the same metadata each time.
    let implicit = at(&"d".repeat(120));
    assert_eq!((implicit.mode() & 0o7777, implicit.mtime()), (0o755, 0));
}

#[test]
fn the_last_entry_of_a_name_counts() {
    require_root();
    let dir = open_dir();
    let out = dir.path().join("out");
    let tar = Tarball::default()
        .file("a", "first")
        .file("a", "second")
        .dir("tree")
        .file("tree/x", "x")
        .file("tree", "now a file")
        .file("b", "file")
        .dir("b")
        .file("b/in", "in")
        .symlink("l", "b")
        .dir("l")
        .file("l/own", "not in b")
        .file("h", "data")
        .hardlink("h", "h")
        .end();
    unpack(&tar, &out, true).expect("unpack");
    assert_eq!(fs::read(out.join("a")).expect("a"), b"second");
    assert_eq!(fs::read(out.join("tree")).expect("tree"), b"now a file");
    assert_eq!(fs::read(out.join("b/in")).expect("b/in"), b"in");
    assert!(
        !out.join("b/own").exists(),
        "a folder replaces a link instead of following it"
    );
    assert_eq!(fs::read(out.join("l/own")).expect("l/own"), b"not in b");
    assert_eq!(
        fs::read(out.join("h")).expect("h"),
        b"data",
        "a link to itself keeps the file"
    );
}

#[test]
fn whiteouts_do_in_overlayfs_what_they_say() {
    require_root();
    let dir = open_dir();
    let (low, up) = (dir.path().join("low"), dir.path().join("up"));
    let lower = Tarball::default()
        .file("gone", "")
        .file("stays", "")
        .file("opaque/hidden", "")
        .file("opaque/sub/hidden", "")
        .file("replaced/hidden", "")
        .file("late/hidden", "")
        .file("implicit/hidden", "")
        .file("deep/a/gone", "")
        .file("deep/a/stays", "")
        .end();
    let upper = Tarball::default()
        .file(".wh.gone", "")
        // Opaque marks come before or after the folder's new content: the same.
        .file("opaque/new", "")
        .file("opaque/.wh..wh..opq", "")
        // Removed, and made anew as an empty folder.
        .file(".wh.replaced", "")
        .dir("replaced")
        .file("replaced/new", "")
        // Made anew before it is removed: the new one stays.
        .dir("late")
        .file("late/new", "")
        .file(".wh.late", "")
        // Removed, and made anew by an entry below it.
        .file(".wh.implicit", "")
        .file("implicit/new", "")
        .file("deep/a/.wh.gone", "")
        .file(".wh..wh.aufs", "")
        .file(".wh.never-was", "")
        .end();
    unpack(&lower, &low, true).expect("lower");
    unpack(&upper, &up, true).expect("upper");
    assert!(is_whiteout(&up.join("gone")));
    assert_eq!(
        xattr(&up.join("opaque"), "trusted.overlay.opaque").as_deref(),
        Some(&b"y"[..])
    );
    let script =
        "mount -t overlay overlay -o lowerdir=\"$1:$2\" /mnt && cd /mnt && find . | LC_ALL=C sort";
    let merged = tool(
        Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(&up)
            .arg(&low),
    );
    assert_eq!(
        merged.lines().collect::<Vec<_>>(),
        [
            ".",
            "./deep",
            "./deep/a",
            "./deep/a/stays",
            "./implicit",
            "./implicit/new",
            "./late",
            "./late/new",
            "./opaque",
            "./opaque/new",
            "./replaced",
            "./replaced/new",
            "./stays",
        ]
    );
}

#[test]
fn an_ordinary_user_gets_what_the_kernel_allows() {
    require_root();
    let dir = open_dir();
    let program = copy_program(dir.path());
    let home = dir.path().join("home");
    fs::create_dir(&home).expect("make home");
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).expect("give it away");
    tool(
        Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program)
            .args(["--exact", "kinds::as_ordinary_user", "--nocapture"])
            .env("NSLAB_TEST_HOME", &home),
    );
    assert!(
        home.join("done").exists(),
        "the child did not run its checks"
    );
}

/// Not a test of its own: what the one above runs as `nobody`.
#[test]
fn as_ordinary_user() {
    let Some(home) = std::env::var_os("NSLAB_TEST_HOME") else {
        return;
    };
    let out = Path::new(&home).join("out");
    let tar = Tarball::default()
        .put(&Head {
            mode: 0o555,
            ..head(b'5', "closed")
        })
        .put(&Head {
            mode: 0o400,
            uid: 0,
            data: b"x",
            ..head(b'0', "closed/file")
        })
        .file("closed/.wh.gone", "")
        .file("closed/.wh..wh..opq", "")
        .put(&Head {
            device: (1, 3),
            ..head(b'3', "null")
        })
        .pax(&[
            ("SCHILY.xattr.security.capability", b"x"),
            ("SCHILY.xattr.user.kept", b"y"),
        ])
        .put(&Head {
            mode: 0o444,
            ..head(b'0', "file")
        })
        .end();
    let done = unpack(&tar, &out, false).expect("unpack");
    assert_eq!(
        done.skipped,
        [
            "device `null`: needs root",
            "attribute `security.capability` of `file`: needs root"
        ]
    );
    assert!(!out.join("null").exists());
    assert!(is_whiteout(&out.join("closed/gone")));
    let closed = out.join("closed");
    assert_eq!(
        xattr(&closed, "user.overlay.opaque").as_deref(),
        Some(&b"y"[..])
    );
    assert_eq!(closed.metadata().expect("closed").mode() & 0o7777, 0o555);
    assert_eq!(
        xattr(&out.join("file"), "user.kept").as_deref(),
        Some(&b"y"[..])
    );
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("open up");
    fs::write(Path::new(&home).join("done"), "").expect("write");
}
