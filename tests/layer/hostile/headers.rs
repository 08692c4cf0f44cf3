//! Headers and streams that are broken, or that two readers read differently.

use super::{Case, entry, harmless, refused, t};
use crate::tarball::{Head, Tarball, head};

const PAX: &str = "bad tar stream: a PAX header is malformed";
const SUM: &str = "bad tar stream: a header's checksum is wrong";
const SHORT: &str = "bad tar stream: it ends within an entry";
const EXTENSION: &str = "more than 1048576 bytes of one extension header: refused as a bomb";

/// A PAX header with these bytes as its records.
fn records(bytes: &[u8]) -> Tarball {
    t().put(&Head {
        data: bytes,
        ..head(b'x', "pax")
    })
    .file("f", "x")
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<Case> {
    // An entry's header as another one's content.
    let smuggled = t().file("smuggled", "").0;
    let unknown = |kind: u8| entry("u", &format!("unknown type {:?}", char::from(kind)));
    let number =
        |what: &str| format!("bad tar stream: a header's {what} is not a number it can be");
    let mut cases = vec![
        refused(
            "header-checksum",
            "a header with a flipped bit",
            {
                let mut tar = t().file("f", "x");
                tar.0[0] ^= 1;
                tar
            },
            SUM,
            &[],
        ),
        refused(
            "header-garbage",
            "no archive at all",
            t().raw(&[0xa5; 1024]),
            SUM,
            &[],
        ),
        refused(
            "header-no-checksum",
            "a header without a checksum",
            {
                let mut tar = t().file("f", "x");
                tar.0[148..156].fill(0);
                tar
            },
            SUM,
            &[],
        ),
        harmless(
            "header-signed-checksum",
            "a checksum as old writers made it of bytes above 127",
            {
                let mut tar = t().file("\u{e9}", "x");
                tar.0[148..156].fill(b' ');
                let sum: i64 = tar.0[..512]
                    .iter()
                    .map(|&b| i64::from(b.cast_signed()))
                    .sum();
                tar.0[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
                tar
            },
            &["\\xc3\\xa9 644 \"x\""],
        ),
        refused(
            "header-size-octal",
            "a size of other digits",
            t().put_with(&head(b'0', "f"), |b| {
                b[124..136].copy_from_slice(b"0000000009x\0");
            }),
            number("size"),
            &[],
        ),
        refused(
            "header-size-negative",
            "a size below zero",
            t().put_with(&head(b'0', "f"), |b| b[124..136].fill(0xff)),
            number("size"),
            &[],
        ),
        refused(
            "header-size-huge",
            "a file of more bytes than there are",
            t().put_with(&head(b'0', "f"), |b| {
                b[124..136]
                    .copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
            }),
            "more than 68719476736 bytes: refused as a bomb",
            &[],
        ),
        refused(
            "header-size-wide",
            "a size of more than 64 bits",
            t().put_with(&head(b'0', "f"), |b| {
                b[124..136].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
            }),
            number("size"),
            &[],
        ),
        refused(
            "header-owner-negative",
            "an owner below zero",
            t().put_with(&head(b'0', "f"), |b| b[108..116].fill(0xff)),
            number("uid"),
            &[],
        ),
        refused(
            "header-owner-none",
            "the owner that means `leave it as it is` to chown(2)",
            t().pax(&[("uid", b"4294967295")]).file("f", ""),
            entry("f", "no such owner: 4294967295:0"),
            &["f 600 \"\" @0"],
        ),
        refused(
            "header-owner-large",
            "an owner that is root where it is cut off",
            t().pax(&[("uid", b"4294967296")]).file("f", ""),
            entry("f", "no such owner: 4294967296:0"),
            &["f 600 \"\" @0"],
        ),
        harmless(
            "header-owner-binary",
            "the largest owner there is, in base 256",
            t().put_with(&head(b'0', "f"), |b| {
                b[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
            }),
            &["f 644 \"\" 4294967294:0"],
        ),
        harmless(
            "header-time-negative",
            "a time before 1970, in base 256",
            t().put_with(&head(b'0', "f"), |b| {
                b[136..147].fill(0xff);
                b[147] = 0xfe;
            }),
            &["f 644 \"\" @-2"],
        ),
        refused(
            "header-time-none",
            "a time that is no number",
            t().pax(&[("mtime", b"1e9")]).file("f", ""),
            PAX,
            &[],
        ),
        refused(
            "header-time-large",
            "a time of more than 64 bits",
            t().pax(&[("mtime", b"-9223372036854775809")]).file("f", ""),
            PAX,
            &[],
        ),
        harmless(
            "header-time-digits",
            "a time of very many digits",
            t().pax(&[(
                "mtime",
                format!("1.{}", "123456789".repeat(1000)).as_bytes(),
            )])
            .file("f", ""),
            &["f 644 \"\" @1.123456789"],
        ),
        refused(
            "header-cut",
            "an archive that ends within a header",
            Tarball(t().file("f", "x").0[..100].to_vec()),
            "",
            &[],
        ),
        refused(
            "content-short",
            "less content than the header says",
            t().put(&Head {
                size: Some(5000),
                data: b"x",
                ..head(b'0', "f")
            }),
            SHORT,
            &["f 600 1536 bytes @0"],
        ),
        refused(
            "content-of-folder",
            "a folder, by the slash behind its name, with content",
            t().file("d/", "evil"),
            SUM,
            &["d/ 755 @0"],
        ),
        harmless(
            "content-of-link",
            "a hard link with content: every engine takes that for the next entry",
            t().file("f", "x").put(&Head {
                link: b"f",
                size: Some(512),
                data: &smuggled,
                ..head(b'1', "h")
            }),
            &["f 644 \"x\"", "h 644 \"x\" same as f", "smuggled 644 \"\""],
        ),
        harmless(
            "content-by-pax-size",
            "a size in the PAX header alone: who overlooks it takes the content for an entry",
            t().pax(&[("size", b"512")])
                .put(&Head {
                    size: Some(0),
                    data: &smuggled,
                    ..head(b'0', "f")
                })
                .file("g", ""),
            &["f 644 512 bytes", "g 644 \"\""],
        ),
        harmless(
            "content-by-header-size",
            "the other way round",
            t().pax(&[("size", b"0")])
                .put(&Head {
                    size: Some(512),
                    data: &smuggled,
                    ..head(b'0', "f")
                })
                .file("g", ""),
            &["f 644 \"\"", "g 644 \"\"", "smuggled 644 \"\""],
        ),
        harmless(
            "content-behind-end",
            "entries behind the archive's end",
            t().file("f", "x").raw(&[0; 1024]).file("g", "x"),
            &["f 644 \"x\""],
        ),
        harmless(
            "content-extension-last",
            "an extension header of nothing",
            t().file("f", "x").pax(&[("path", b"../canary/new")]),
            &["f 644 \"x\""],
        ),
        refused(
            "pax-zero",
            "a record of no length",
            records(b"0 path=x\n"),
            PAX,
            &[],
        ),
        refused(
            "pax-beyond",
            "a record beyond the header",
            records(b"99999 path=x\n"),
            PAX,
            &[],
        ),
        refused(
            "pax-length",
            "a length that is too large for a number",
            records(b"99999999999999999999999 path=x\n"),
            PAX,
            &[],
        ),
        refused(
            "pax-negative",
            "a length below zero",
            records(b"-5 path=x\n"),
            PAX,
            &[],
        ),
        refused(
            "pax-no-key",
            "a record without `=`",
            records(b"7 path\n"),
            PAX,
            &[],
        ),
        refused(
            "pax-no-end",
            "a record without its line feed",
            records(b"9 path=xx"),
            PAX,
            &[],
        ),
        refused(
            "pax-size",
            "a size below zero",
            records(b"11 size=-1\n"),
            PAX,
            &[],
        ),
        refused(
            "pax-owner",
            "an owner with a sign, which other readers take",
            records(b"9 uid=+1\n"),
            PAX,
            &[],
        ),
        refused(
            "pax-huge",
            "a record that fills the memory",
            t().pax(&[("path", &vec![b'a'; 2 << 20])]).file("f", ""),
            EXTENSION,
            &[],
        ),
        refused(
            "pax-huge-size",
            "a header that says it is huge",
            t().put(&Head {
                size: Some(0o77_777_777_777),
                ..head(b'x', "x")
            }),
            EXTENSION,
            &[],
        ),
        refused(
            "gnu-huge-name",
            "a long name that says it is huge",
            t().put(&Head {
                size: Some(0o77_777_777_777),
                ..head(b'L', "x")
            }),
            EXTENSION,
            &[],
        ),
        refused(
            "pax-cut",
            "a header that ends early",
            t().put(&Head {
                size: Some(5000),
                data: b"x",
                ..head(b'x', "x")
            }),
            "bad tar stream: it ends within an extension header",
            &[],
        ),
        harmless(
            "pax-many",
            "headers one behind the other, to fill the memory: the last counts",
            (0..200)
                .fold(t(), |t, i| {
                    t.pax(&[
                        (&format!("SCHILY.xattr.trusted.{i}"), &[b'x'; 3000][..]),
                        ("uid", b"1000"),
                    ])
                })
                .pax(&[("gid", b"7")])
                .file("f", ""),
            &["f 644 \"\" 0:7"],
        ),
        harmless(
            "pax-twice",
            "a record twice: the last counts",
            t().pax(&[("path", b"../canary/new"), ("path", b"ok")])
                .file("f", ""),
            &["ok 644 \"\""],
        ),
        harmless(
            "pax-deleted",
            "a record that is empty, and so is none",
            t().pax(&[("path", b"../canary/new"), ("path", b"")])
                .file("f", ""),
            &["f 644 \"\""],
        ),
        harmless(
            "pax-global",
            "records for all entries: no engine follows them, some tar programs do",
            t().records(
                b'g',
                &[
                    ("path", b"../canary/new"),
                    ("uid", b"1000"),
                    ("SCHILY.xattr.trusted.x", b"y"),
                ],
            )
            .file("f", "x"),
            &["f 644 \"x\""],
        ),
        harmless(
            "gnu-and-pax-name",
            "three names of one file: GNU's counts",
            t().long(b'L', b"gnu")
                .pax(&[("path", b"pax")])
                .file("f", ""),
            &["gnu 644 \"\""],
        ),
        harmless(
            "gnu-name-zero",
            "a long name with more behind its end",
            t().long(b'L', b"ok\0/../../canary/new").file("f", ""),
            &["ok 644 \"\""],
        ),
    ];
    for (name, kind) in [
        ("type-unknown", b'Z'),
        ("type-volume", b'V'),
        ("type-continued", b'M'),
        ("type-dump", b'D'),
        ("type-long-names", b'N'),
        ("type-solaris", b'X'),
    ] {
        let tar = t().put(&head(kind, "u"));
        cases.push(refused(
            name,
            "an entry of a kind that no layer has",
            tar,
            unknown(kind),
            &[],
        ));
    }
    // What is cut has no end.
    for case in &mut cases {
        if matches!(case.name, "header-cut") {
            case.tar.truncate(100);
            case.refused = Some("bad tar stream: it ends within a header".into());
        }
    }
    cases
}
