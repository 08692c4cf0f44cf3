//! Names that lead elsewhere, or nowhere.

use super::{Case, entry, harmless, refused, t};
use crate::tarball::{Head, head};

const DOTS: &str = "its name holds `..`";
const ROOT: &str = "the root can only be a folder";

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<Case> {
    vec![
        refused(
            "name-parent",
            "a file next to the root",
            t().file("../canary/new", "evil"),
            entry("../canary/new", DOTS),
            &[],
        ),
        refused(
            "name-parent-existing",
            "overwriting a file next to the root",
            t().file("../canary/file", "evil"),
            entry("../canary/file", DOTS),
            &[],
        ),
        refused(
            "name-parent-inside",
            "`..` behind a folder of its own",
            t().dir("a").file("a/../../canary/new", "evil"),
            entry("a/../../canary/new", DOTS),
            &["a/ 755 @0"],
        ),
        refused(
            "name-parent-missing",
            "`..` behind a folder that is not there",
            t().file("no/../../canary/new", "evil"),
            entry("no/../../canary/new", DOTS),
            &[],
        ),
        refused(
            "name-parent-last",
            "changing the mode of the root's parent",
            t().put(&Head {
                mode: 0o777,
                ..head(b'5', "..")
            }),
            entry("..", DOTS),
            &[],
        ),
        refused(
            "name-parent-slash",
            "the same with a slash behind it",
            t().dir("a/../../"),
            entry("a/../../", DOTS),
            &[],
        ),
        refused(
            "name-parent-far",
            "up to the real root, however deep the folder is",
            t().file(&format!("{}etc/nslab-hostile", "../".repeat(20)), "evil"),
            entry(&format!("{}etc/nslab-hostile", "../".repeat(20)), DOTS),
            &[],
        ),
        refused(
            "name-parent-symlink",
            "a symbolic link next to the root",
            t().symlink("../canary/link", "file"),
            entry("../canary/link", DOTS),
            &[],
        ),
        refused(
            "name-parent-fifo",
            "a fifo next to the root",
            t().put(&head(b'6', "../canary/fifo")),
            entry("../canary/fifo", DOTS),
            &[],
        ),
        refused(
            "name-parent-device",
            "a device node next to the root",
            t().put(&Head {
                device: (1, 1),
                ..head(b'3', "../canary/mem")
            }),
            entry("../canary/mem", DOTS),
            &[],
        ),
        refused(
            "name-parent-pax",
            "a harmless name, and the real one in a PAX record",
            t().pax(&[("path", b"../canary/new")]).file("ok", "evil"),
            entry("../canary/new", DOTS),
            &[],
        ),
        refused(
            "name-parent-gnu",
            "a harmless name, and the real one as a GNU long name",
            t().long(b'L', b"../canary/new").file("ok", "evil"),
            entry("../canary/new", DOTS),
            &[],
        ),
        refused(
            "name-parent-prefix",
            "`..` in ustar's prefix",
            t().put_with(&head(b'0', "canary/new"), |b| {
                b[345..347].copy_from_slice(b"..");
            }),
            entry("../canary/new", DOTS),
            &[],
        ),
        harmless(
            "name-prefix-of-gnu",
            "`..` where only ustar has a prefix, and GNU times",
            t().put_with(&head(b'0', "f"), |b| {
                b[257..265].copy_from_slice(b"ustar  \0");
                b[345..347].copy_from_slice(b"..");
            }),
            &["f 644 \"\""],
        ),
        harmless(
            "name-absolute",
            "an absolute name of a file that every machine has",
            t().file("/etc/passwd", "evil"),
            &["etc/ 755 @0", "etc/passwd 644 \"evil\""],
        ),
        harmless(
            "name-slashes",
            "an absolute name with more slashes and dots than needed",
            t().file("//.//etc/.///./shadow", "evil"),
            &["etc/ 755 @0", "etc/shadow 644 \"evil\""],
        ),
        harmless(
            "name-backslashes",
            "what is a parent on other systems",
            t().file("..\\canary\\new", "x"),
            &["..\\\\canary\\\\new 644 \"x\""],
        ),
        harmless(
            "name-drive",
            "what is a drive on other systems",
            t().file("C:/new", "x"),
            &["C:/ 755 @0", "C:/new 644 \"x\""],
        ),
        harmless(
            "name-dots",
            "three dots, and two dots that are other characters",
            t().file(".../x", "x")
                .file("\u{ff0e}\u{ff0e}/x", "x")
                .file(".. /x", "x"),
            &[
                ".. / 755 @0",
                ".. /x 644 \"x\"",
                ".../ 755 @0",
                ".../x 644 \"x\"",
                "\\xef\\xbc\\x8e\\xef\\xbc\\x8e/ 755 @0",
                "\\xef\\xbc\\x8e\\xef\\xbc\\x8e/x 644 \"x\"",
            ],
        ),
        harmless(
            "name-any-bytes",
            "line feeds, an escape code and bytes that are no UTF-8",
            t().put(&Head {
                name: b"a\nb\x1b[2J\xff\xfe",
                ..head(b'0', "")
            }),
            &["a\\nb\\x1b[2J\\xff\\xfe 644 \"\""],
        ),
        refused(
            "name-escape-code",
            "clearing the screen of who reads the error",
            t().file("\x1b[2J\x07/../x", ""),
            entry("\\u{1b}[2J\\u{7}/../x", DOTS),
            &[],
        ),
        refused(
            "name-right-to-left",
            "an error that reads as something else",
            t().file("\u{202e}gpj/../x", ""),
            entry("\\u{202e}gpj/../x", DOTS),
            &[],
        ),
        refused(
            "name-zero",
            "a name that ends early for the kernel",
            t().pax(&[("path", b"ok\0/../../canary/new")]).file("a", ""),
            entry("ok\\u{0}/../../canary/new", "its name holds a zero byte"),
            &[],
        ),
        refused(
            "name-long-part",
            "a part that no filesystem takes",
            t().pax(&[("path", &[b'a'; 256])]).file("a", ""),
            entry(
                &"a".repeat(256),
                "a part of its name is longer than 255 bytes",
            ),
            &[],
        ),
        refused(
            "name-long",
            "a name that the kernel does not take",
            t().pax(&[("path", "0123456789/".repeat(400).as_bytes())])
                .file("a", ""),
            entry(
                &format!("{}0123...", "0123456789/".repeat(27)),
                "its name is longer than 4095 bytes",
            ),
            &[],
        ),
        refused(
            "name-deep",
            "more folders than can be removed again",
            t().pax(&[("path", "a/".repeat(400).as_bytes())]).dir("a"),
            entry(
                &format!("{}a...", "a/".repeat(150)),
                "it is deeper than 255 folders",
            ),
            &[],
        ),
        refused(
            "name-root-file",
            "a file as the root",
            t().file(".", "x"),
            entry(".", ROOT),
            &[],
        ),
        refused(
            "name-empty",
            "a file without a name",
            t().file("", "x"),
            entry("", ROOT),
            &[],
        ),
        refused(
            "name-root-link",
            "a link as the root",
            t().symlink("./", "../canary"),
            entry("./", ROOT),
            &[],
        ),
        refused(
            "name-root-hard-link",
            "a hard link as the root",
            t().file("f", "").hardlink("/", "f"),
            entry("/", ROOT),
            &["f 644 \"\""],
        ),
        refused(
            "name-root-fifo",
            "a fifo as the root",
            t().put(&head(b'6', ".")),
            entry(".", ROOT),
            &[],
        ),
        harmless(
            "name-root-open",
            "a root that everybody may write to, setgid and of another user",
            t().put(&Head {
                mode: 0o7777,
                uid: 1000,
                gid: 1000,
                ..head(b'5', "./")
            })
            .file("f", ""),
            &["./ 7777 1000:1000", "f 644 \"\""],
        ),
    ]
}
