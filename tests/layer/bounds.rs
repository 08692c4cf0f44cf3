//! What is left out, and where it stops.

use std::fs::File;
use std::io::Read;

use nslab::image::layer::{Limits, apply};

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

/// The same bytes again and again.
struct Again {
    unit: Vec<u8>,
    at: usize,
}

impl Read for Again {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = (&self.unit[self.at..]).read(buf)?;
        self.at = (self.at + n) % self.unit.len();
        Ok(n)
    }
}

/// One small file, its long link target said again each time: it takes no room but in memory, and a
/// stream of some hundred bytes of gzip could go on with it for days.
#[test]
fn names_and_attributes_count_too() {
    let dir = open_dir();
    let tar = Tarball::default();
    let tar = tar
        .pax(&[("linkpath", &vec![b'a'; (1 << 20) - 20])])
        .file("f", "");
    let endless = Again { unit: tar.0, at: 0 };
    let dest = File::open(dir.path()).expect("open the target").into();
    let error = apply(endless, dest, false, Limits::default()).expect_err("a bomb");
    assert_eq!(
        error.to_string(),
        "more than 268435456 bytes of names and attributes: refused as a bomb"
    );
}
