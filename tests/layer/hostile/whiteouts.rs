//! Marks by which overlayfs hides files, given out wrongly or forged.

use super::{Case, entry, harmless, refused, t};
use crate::tarball::{Head, head};

const NOTHING: &str = "a whiteout of no file";
const BELOW: &str = "a folder's name begins with `.wh.`";

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<Case> {
    let device = |kind, name, device| Head {
        device,
        ..head(kind, name)
    };
    vec![
        refused(
            "whiteout-of-parent",
            "removing the root's parent",
            t().file(".wh...", ""),
            entry(".wh...", NOTHING),
            &[],
        ),
        refused(
            "whiteout-of-itself",
            "removing the folder that it is in",
            t().file("d/.wh..", ""),
            entry("d/.wh..", NOTHING),
            &["d/ 755 @0"],
        ),
        refused(
            "whiteout-of-nothing",
            "removing what has no name",
            t().file(".wh.", ""),
            entry(".wh.", NOTHING),
            &[],
        ),
        refused(
            "whiteout-as-parent",
            "a file in a whiteout",
            t().file(".wh.d/x", ""),
            entry(".wh.d/x", BELOW),
            &[],
        ),
        refused(
            "whiteout-parent-escape",
            "a file in the whiteout of the parent",
            t().file(".wh.../x", ""),
            entry(".wh.../x", BELOW),
            &[],
        ),
        refused(
            "whiteout-raw",
            "overlayfs' own mark, past the rules for whiteouts",
            t().put(&device(b'3', "etc", (0, 0))),
            entry("etc", "device 0/0 is overlayfs' mark of a removed file"),
            &[],
        ),
        refused(
            "whiteout-by-major",
            "a device number that becomes 0/0 where it is cut off",
            t().put(&device(b'3', "etc", (4096, 0))),
            entry("etc", "no such device: 4096/0"),
            &[],
        ),
        refused(
            "whiteout-by-minor",
            "the same with the minor number",
            t().put(&device(b'3', "etc", (0, 1 << 20))),
            entry("etc", "no such device: 0/1048576"),
            &[],
        ),
        refused(
            "whiteout-by-both",
            "the same with the largest numbers that the field takes",
            t().put_with(&head(b'3', "etc"), |b| {
                b[329..337].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xf0, 0]);
                b[337..345].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xf0, 0, 0]);
            }),
            entry("etc", "no such device: 4294963200/4293918720"),
            &[],
        ),
        harmless(
            "whiteout-block",
            "a block device 0/0, which is no mark",
            t().put(&device(b'4', "b", (0, 0))),
            &["b b0/0 644"],
        ),
        refused(
            "whiteout-linked",
            "a second whiteout as a hard link to the first",
            t().file(".wh.a", "").hardlink("h", "a"),
            entry("h", "it links to a file that this layer removes"),
            &["a removed"],
        ),
        harmless(
            "whiteout-with-content",
            "a whiteout that is a file of some size",
            t().file(".wh.a", "content").file("b", ""),
            &["a removed", "b 644 \"\""],
        ),
        harmless(
            "whiteout-as-folder",
            "a whiteout that is a folder",
            t().dir(".wh.a/"),
            &["a removed"],
        ),
        harmless(
            "whiteout-as-link",
            "a whiteout that is a link out",
            t().symlink(".wh.a", "../canary"),
            &["a removed"],
        ),
        harmless(
            "whiteout-as-hard-link",
            "a whiteout that is a hard link out",
            t().hardlink(".wh.a", "../canary/file"),
            &["a removed"],
        ),
        harmless(
            "whiteout-as-device",
            "a whiteout that is a device",
            t().put(&device(b'3', ".wh.a", (1, 1))),
            &["a removed"],
        ),
        harmless(
            "whiteout-of-own",
            "removing what the same layer brings: only lower layers' files are hidden",
            t().file("f", "x")
                .file("d/f", "x")
                .file(".wh.f", "")
                .file(".wh.d", ""),
            &[
                "d/ 755 @0 +trusted.overlay.opaque=y",
                "d/f 644 \"x\"",
                "f 644 \"x\"",
            ],
        ),
        harmless(
            "whiteout-twice",
            "the same file removed twice, and made after that",
            t().file(".wh.f", "").file(".wh.f", "").file("f", "x"),
            &["f 644 \"x\""],
        ),
        harmless(
            "whiteout-then-below",
            "a file in a folder that was removed: not among its old ones",
            t().file(".wh.d", "").file("d/f", "x"),
            &["d/ 755 @0 +trusted.overlay.opaque=y", "d/f 644 \"x\""],
        ),
        harmless(
            "whiteout-through-link",
            "a file removed by another name of its folder: whiteouts follow no links",
            t().dir("d").symlink("l", "d").file("l/.wh.x", ""),
            &["d/ 755", "l -> d"],
        ),
        harmless(
            "whiteout-below-file",
            "what was in a folder that is a file now, and is hidden with it",
            t().file("f", "x")
                .file("f/.wh.x", "")
                .file("f/.wh..wh..opq", ""),
            &["f 644 \"x\""],
        ),
        harmless(
            "whiteout-below-whiteout",
            "a file in a folder that is removed itself, and stays so",
            t().file(".wh.d", "").file("d/.wh.x", ""),
            &["d removed"],
        ),
        harmless(
            "whiteout-of-everything",
            "the whole image below",
            t().file(".wh..wh..opq", ""),
            &["./ 755 @0 +trusted.overlay.opaque=y"],
        ),
        harmless(
            "whiteout-of-whiteouts",
            "the bookkeeping of another union filesystem",
            t().file(".wh..wh.aufs", "")
                .file(".wh..wh.orph", "")
                .file("d/.wh..wh..wh.x", ""),
            &["d/ 755 @0"],
        ),
        harmless(
            "whiteout-long",
            "a name that is too long only with its prefix",
            t().pax(&[("path", &[b".wh.", &[b'a'; 251][..]].concat())])
                .file("x", ""),
            LONG,
        ),
        harmless(
            "overlay-redirect",
            "a folder that shows another one of the image below",
            t().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/root")])
                .dir("tmp"),
            &["tmp/ 755"],
        ),
        harmless(
            "overlay-metacopy",
            "a file whose content is another one's",
            t().pax(&[
                ("SCHILY.xattr.trusted.overlay.metacopy", b""),
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc/shadow"),
            ])
            .file("f", ""),
            &["f 644 \"\""],
        ),
        harmless(
            "overlay-opaque",
            "an opaque folder without a whiteout",
            t().pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
                .dir("./"),
            &["./ 755"],
        ),
        harmless(
            "overlay-whiteout",
            "the whiteout of newer kernels, which is a file with an attribute",
            t().pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"x")])
                .dir("d")
                .pax(&[("SCHILY.xattr.trusted.overlay.whiteout", b"")])
                .file("d/f", ""),
            &["d/ 755", "d/f 644 \"\""],
        ),
        harmless(
            "overlay-user",
            "the attributes of mounts without root",
            t().pax(&[
                ("SCHILY.xattr.user.overlay.opaque", b"y"),
                ("SCHILY.xattr.user.overlay.redirect", b"/root"),
            ])
            .dir("d"),
            &["d/ 755"],
        ),
        harmless(
            "overlay-nested",
            "attributes that a nested mount takes for its own",
            t().pax(&[("SCHILY.xattr.trusted.overlay.overlay.opaque", b"y")])
                .dir("d"),
            &["d/ 755"],
        ),
        harmless(
            "overlay-removed",
            "a second entry of a folder, to lose the mark of the first",
            t().file("d/.wh..wh..opq", "").dir("d").dir("d"),
            &["d/ 755 +trusted.overlay.opaque=y"],
        ),
    ]
}

const LONG: &[&str] = &[
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa removed",
];
