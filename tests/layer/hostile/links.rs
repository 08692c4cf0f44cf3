//! Links that lead elsewhere, and what goes through them.

use super::{Case, entry, harmless, refused, t};
use crate::tarball::{Head, head};

const OUT: &str = "it leads out of the layer by a symbolic link";
const DOTS: &str = "it links to something else: its name holds `..`";

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn all(canary: &str) -> Vec<Case> {
    // Two ways out of the root.
    let absolute = || t().long(b'K', canary.as_bytes()).symlink("l", "x");
    let relative = || t().symlink("l", "../canary");
    let left = &["l -> ../canary"];
    let mut cases = vec![
        refused(
            "link-relative",
            "a file through a relative link",
            relative().file("l/new", "evil"),
            entry("l/new", OUT),
            left,
        ),
        refused(
            "link-overwrite",
            "overwriting a file through a link",
            relative().file("l/file", "evil"),
            entry("l/file", OUT),
            left,
        ),
        refused(
            "link-folder",
            "a folder through a link",
            relative().dir("l/new"),
            entry("l/new", OUT),
            left,
        ),
        refused(
            "link-deep-folder",
            "missing folders through a link",
            relative().file("l/a/b/c", "evil"),
            entry("l/a/b/c", OUT),
            left,
        ),
        refused(
            "link-symlink",
            "a link through a link",
            relative().symlink("l/new", "file"),
            entry("l/new", OUT),
            left,
        ),
        refused(
            "link-fifo",
            "a fifo through a link",
            relative().put(&head(b'6', "l/new")),
            entry("l/new", OUT),
            left,
        ),
        refused(
            "link-device",
            "a device through a link",
            relative().put(&Head {
                device: (8, 0),
                ..head(b'4', "l/new")
            }),
            entry("l/new", OUT),
            left,
        ),
        harmless(
            "link-whiteout",
            "removing a file through a link: whiteouts follow none",
            relative().file("l/.wh.file", ""),
            left,
        ),
        harmless(
            "link-opaque",
            "an attribute on a folder through a link: whiteouts follow none",
            relative().file("l/.wh..wh..opq", ""),
            left,
        ),
        refused(
            "link-hard-link-from",
            "a hard link made through a link",
            relative().file("f", "").hardlink("l/new", "f"),
            entry("l/new", OUT),
            &["f 644 \"\"", "l -> ../canary"],
        ),
        refused(
            "link-hard-link-to",
            "a hard link to a file through a link",
            relative().hardlink("h", "l/file"),
            entry("h", OUT),
            left,
        ),
        harmless(
            "link-replaced-by-file",
            "a file of a link's name, to be written where the link leads",
            t().symlink("l", "../canary/file").file("l", "evil"),
            &["l 644 \"evil\""],
        ),
        harmless(
            "link-replaced-by-folder",
            "a folder of a link's name, to change the mode of where it leads",
            relative().put(&Head {
                mode: 0o777,
                ..head(b'5', "l")
            }),
            &["l/ 777 +trusted.overlay.opaque=y"],
        ),
        harmless(
            "link-replaced-with-slash",
            "the same with a slash behind the name, which follows links",
            relative().put(&Head {
                mode: 0o777,
                ..head(b'5', "l/")
            }),
            &["l/ 777 +trusted.overlay.opaque=y"],
        ),
        harmless(
            "link-metadata",
            "owner and times of what a link leads to",
            t().put(&Head {
                uid: 1000,
                gid: 1000,
                mtime: 5,
                link: b"../canary/file",
                ..head(b'2', "l")
            }),
            &["l -> ../canary/file 1000:1000 @5"],
        ),
        refused(
            "link-chain",
            "out by links that each stay inside",
            t().dir("d")
                .symlink("d/up", "..")
                .symlink("l", "d/up/../canary")
                .file("l/new", "evil"),
            entry("l/new", OUT),
            &["d/ 755 @0", "d/up -> ..", "l -> d/up/../canary"],
        ),
        refused(
            "link-up-and-back",
            "out of the root and into it again, by its neighbour",
            t().dir("d")
                .symlink("l", "../canary/../d")
                .file("l/new", "evil"),
            entry("l/new", OUT),
            &["d/ 755 @0", "l -> ../canary/../d"],
        ),
        refused(
            "link-magic-root",
            "a magic link of /proc",
            t().symlink("l", "/proc/self/root").file("l/tmp/x", "evil"),
            entry("l/tmp/x", OUT),
            &["l -> /proc/self/root"],
        ),
        refused(
            "link-magic-cwd",
            "another one",
            t().symlink("l", "/proc/self/cwd").file("l/x", "evil"),
            entry("l/x", OUT),
            &["l -> /proc/self/cwd"],
        ),
        refused(
            "link-of-old-folder",
            "a folder that becomes a link after it was used",
            t().dir("d")
                .file("d/a", "")
                .symlink("d", "../canary")
                .file("d/file", "evil"),
            entry("d/file", OUT),
            &["d -> ../canary"],
        ),
        refused(
            "link-of-old-parent",
            "the same one level above",
            t().file("d/e/a", "")
                .symlink("d", "..")
                .file("d/canary/new", "evil"),
            entry("d/canary/new", OUT),
            &["d -> .."],
        ),
        harmless(
            "link-of-open-folder",
            "a folder's mode, which is set at the end, when it is a link out",
            t().put(&Head {
                mode: 0o777,
                ..head(b'5', "d")
            })
            .symlink("d", "../canary"),
            &["d -> ../canary"],
        ),
        harmless(
            "link-of-open-parent",
            "the mode of a folder's folder, which now leads to another one of this name",
            t().dir("d")
                .put(&Head {
                    mode: 0o777,
                    ..head(b'5', "d/x")
                })
                .dir("e")
                .put(&Head {
                    mode: 0o700,
                    ..head(b'5', "e/x")
                })
                .symlink("d", "e"),
            &["d -> e", "e/ 755", "e/x/ 700"],
        ),
        harmless(
            "link-two-ways",
            "two entries of one folder, by two names: the last counts",
            t().dir("z")
                .symlink("l", "z")
                .put(&Head {
                    mode: 0o777,
                    ..head(b'5', "z/x")
                })
                .put(&Head {
                    mode: 0o700,
                    ..head(b'5', "l/x")
                }),
            &["l -> z", "z/ 755", "z/x/ 700"],
        ),
        harmless(
            "link-inside",
            "links that stay inside are followed",
            t().dir("real/sub")
                .symlink("l", "real/sub/../sub")
                .file("l/f", "x"),
            &[
                "l -> real/sub/../sub",
                "real/ 755 @0",
                "real/sub/ 755",
                "real/sub/f 644 \"x\"",
            ],
        ),
        harmless(
            "link-to-itself-below",
            "a folder that is below itself",
            t().symlink("l", ".").file("l/l/l/l/x", "x"),
            &["l -> .", "x 644 \"x\""],
        ),
        refused(
            "link-loop",
            "links in a circle",
            t().symlink("a", "b").symlink("b", "a").file("a/x", ""),
            "could not open the folder of `a/x`: Too many levels of symbolic links (os error 40)",
            &["a -> b", "b -> a"],
        ),
        refused(
            "link-many",
            "more links than the kernel follows",
            t().symlink("a", ".")
                .file(&format!("{}x", "a/".repeat(41)), ""),
            format!(
                "could not open the folder of `{}x`: Too many levels of symbolic links (os error 40)",
                "a/".repeat(41)
            ),
            &["a -> ."],
        ),
        refused(
            "link-dangling",
            "a folder that a link promises",
            t().symlink("l", "nowhere").file("l/x", ""),
            "could not make the folder of `l/x`: Not a directory (os error 20)",
            &["l -> nowhere"],
        ),
        refused(
            "link-deep",
            "more depth than is allowed, by a link to half of it",
            t().file(&format!("{0}/{0}/{0}/{0}/x", "a/a/a/a/a/a"), "")
                .symlink("l", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a")
                .pax(&[("path", format!("l/{}x", "b/".repeat(232)).as_bytes())])
                .file("x", ""),
            format!(
                "could not make the folder of `l/{}b...`: File name too long (os error 36)",
                "b/".repeat(149)
            ),
            DEEP,
        ),
        refused(
            "link-empty",
            "a link to nothing",
            t().symlink("l", ""),
            "could not make symbolic link `l`: No such file or directory (os error 2)",
            &[],
        ),
        refused(
            "link-long",
            "a link that the kernel does not take",
            t().long(b'K', &[b'a'; 5000]).symlink("l", "a"),
            "could not make symbolic link `l`: File name too long (os error 36)",
            &[],
        ),
        refused(
            "file-as-folder",
            "a folder that is a file",
            t().file("f", "").file("f/x", ""),
            "could not make the folder of `f/x`: Not a directory (os error 20)",
            &["f 644 \"\""],
        ),
        refused(
            "hard-link-out",
            "a hard link to a file next to the root",
            t().hardlink("h", "../canary/file"),
            entry("h", DOTS),
            &[],
        ),
        refused(
            "hard-link-pax",
            "the same in a PAX record",
            t().pax(&[("linkpath", b"../canary/file")])
                .hardlink("h", "f"),
            entry("h", DOTS),
            &[],
        ),
        refused(
            "hard-link-gnu",
            "the same as a GNU long link",
            t().long(b'K', b"a/../../canary/file").hardlink("h", "f"),
            entry("h", DOTS),
            &[],
        ),
        refused(
            "hard-link-absolute",
            "a hard link to a file that every machine has",
            t().hardlink("h", "/etc/passwd"),
            "could not find the target of `h`: No such file or directory (os error 2)",
            &[],
        ),
        refused(
            "hard-link-then-write",
            "a link that becomes a folder by its second name",
            relative().hardlink("h", "l").file("h/new", "evil"),
            entry("h/new", OUT),
            &["h -> ../canary", "l -> ../canary same as h"],
        ),
        harmless(
            "hard-link-to-symlink",
            "a hard link that would follow a link",
            t().symlink("l", "../canary/file")
                .hardlink("h", "l")
                .file("h", "evil"),
            &["h 644 \"evil\"", "l -> ../canary/file"],
        ),
        harmless(
            "hard-link-metadata",
            "a hard link that gives its target another owner and mode",
            t().file("f", "x").put(&Head {
                mode: 0o6777,
                uid: 1000,
                mtime: 5,
                link: b"f",
                ..head(b'1', "h")
            }),
            &["f 644 \"x\"", "h 644 \"x\" same as f"],
        ),
        harmless(
            "hard-link-overwritten",
            "writing to a file by its other name",
            t().file("f", "old").hardlink("h", "f").file("h", "new"),
            &["f 644 \"old\"", "h 644 \"new\""],
        ),
        harmless(
            "hard-link-to-itself",
            "a hard link in the place of its target",
            t().file("f", "x").hardlink("f", "./f"),
            &["f 644 \"x\""],
        ),
        refused(
            "hard-link-into-itself",
            "a hard link in the place of its target's folder",
            t().file("d/f", "x").hardlink("d", "d/f"),
            "could not make hard link `d`: No such file or directory (os error 2)",
            &[],
        ),
        refused(
            "hard-link-to-folder",
            "a folder with two names",
            t().dir("d").hardlink("h", "d"),
            entry("h", "it links to a folder"),
            &["d/ 755 @0"],
        ),
        refused(
            "hard-link-to-root",
            "the root with two names",
            t().hardlink("h", "/"),
            entry("h", "it links to the root"),
            &[],
        ),
        refused(
            "hard-link-to-nothing",
            "a hard link without a target",
            t().hardlink("h", ""),
            entry("h", "it links to the root"),
            &[],
        ),
        refused(
            "hard-link-forward",
            "a hard link to a later file",
            t().hardlink("h", "f").file("f", ""),
            "could not find the target of `h`: No such file or directory (os error 2)",
            &[],
        ),
    ];
    // The path differs, and so the lines do: only what cannot be left is here.
    cases.push(refused(
        "link-absolute",
        "a file through an absolute link",
        absolute().file("l/new", "evil"),
        entry("l/new", OUT),
        &["l -> CANARY"],
    ));
    cases.push(refused(
        "hard-link-by-absolute",
        "a hard link to a file through an absolute link",
        absolute().hardlink("h", "l/file"),
        entry("h", OUT),
        &["l -> CANARY"],
    ));
    cases
}

/// Too long to be written down: see the test.
const DEEP: &[&str] = &["..."];
