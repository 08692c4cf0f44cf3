//! What is left out, and where it stops.

use nslab::image::layer::Limits;

use crate::tarball::{Head, Tarball, head};
use crate::{open_dir, require_root, unpack, unpack_limited, xattr};

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
