//! Sparse files whose maps lie.

use super::{Case, entry, harmless, refused, t};
use crate::tarball::{Head, Tarball, head};

const ORDER: &str = "its sparse map has extents that overlap or are out of order";
const BEYOND: &str = "its sparse map goes beyond the file's end";
const MALFORMED: &str = "its sparse map is malformed";
const BOMB: &str = "more than 68719476736 bytes: refused as a bomb";
const EXTENTS: &str = "more than 131072 extents of a sparse file: refused as a bomb";
/// Content of one extent.
const DATA: &[u8] = &[b'x'; 512];

/// A PAX sparse file of version 1.0 with this map before its content.
fn one(map: &[u8], size: &[u8], content: &[u8]) -> Tarball {
    let mut data = map.to_vec();
    data.resize(map.len().next_multiple_of(512), 0);
    data.extend_from_slice(content);
    t().pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.realsize", size),
    ])
    .put(&Head {
        data: &data,
        ..head(b'0', "GNUSparseFile.0/f")
    })
}

/// One of version 0.1.
fn zero(map: &[u8], blocks: &[u8], size: &[u8]) -> Tarball {
    t().pax(&[
        ("GNU.sparse.size", size),
        ("GNU.sparse.numblocks", blocks),
        ("GNU.sparse.name", b"f"),
        ("GNU.sparse.map", map),
    ])
    .put(&Head {
        data: DATA,
        ..head(b'0', "GNUSparseFile.0/f")
    })
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<Case> {
    let of = |why: &str| entry("f", why);
    vec![
        refused(
            "sparse-overlap",
            "extents that overlap",
            t().sparse("f", 4096, &[(0, 256), (128, 256)], DATA),
            of(ORDER),
            &[],
        ),
        refused(
            "sparse-descending",
            "extents that go back",
            t().sparse("f", 4096, &[(1024, 256), (0, 256)], DATA),
            of(ORDER),
            &[],
        ),
        refused(
            "sparse-beyond",
            "an extent behind the file's end",
            t().sparse("f", 256, &[(0, 512)], DATA),
            of(BEYOND),
            &[],
        ),
        refused(
            "sparse-wrap",
            "an extent whose end is a small number again",
            t().sparse("f", 4096, &[(u64::MAX - 255, 512)], DATA),
            of(BEYOND),
            &[],
        ),
        refused(
            "sparse-negative",
            "an extent before the file's beginning",
            t().put_with(
                &Head {
                    size: Some(512),
                    ..head(b'S', "f")
                },
                |b| {
                    b[257..265].copy_from_slice(b"ustar  \0");
                    b[386..398].fill(0xff);
                    b[398..410].copy_from_slice(b"00000001000\0");
                },
            )
            .raw(DATA),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-less",
            "content that no extent is for, such as another header",
            t().sparse("f", 4096, &[(0, 256)], DATA),
            of("its sparse map is of 256 bytes, and 512 are there"),
            &[],
        ),
        refused(
            "sparse-more",
            "extents without content, to get at what follows",
            t().sparse("f", 4096, &[(0, 1024)], DATA),
            of("its sparse map is of 1024 bytes, and 512 are there"),
            &[],
        ),
        refused(
            "sparse-bomb",
            "a file of all the disk's bytes out of nothing",
            t().sparse("f", 1 << 50, &[(1 << 50, 0)], b""),
            BOMB,
            &[],
        ),
        refused(
            "sparse-bomb-pax",
            "the same in a PAX header",
            zero(b"0,512", b"1", b"9223372036854775807"),
            BOMB,
            &[],
        ),
        refused(
            "sparse-two-bombs",
            "the same in two files, each within the limit",
            t().sparse("a", 40 << 30, &[], b"")
                .sparse("b", 40 << 30, &[], b""),
            BOMB,
            &["a 644 42949672960 bytes"],
        ),
        refused(
            "sparse-endless",
            "blocks of extents without an end",
            {
                let slot = [&b"00000000000\0"[..], b"00000000000\0"].concat();
                let block = [&slot.repeat(21)[..], &[1; 8]].concat();
                t().put_with(&head(b'S', "f"), |b| {
                    b[257..265].copy_from_slice(b"ustar  \0");
                    b[482] = 1;
                })
                .raw(&block.repeat(131_072 / 21 + 1))
            },
            EXTENTS,
            &[],
        ),
        harmless(
            "sparse-cut",
            "blocks of extents that are missing: the next entry is taken for one",
            t().put_with(&head(b'S', "f"), |b| {
                b[257..265].copy_from_slice(b"ustar  \0");
                b[482] = 1;
            })
            .file("g", ""),
            &["f 644 \"\""],
        ),
        refused(
            "sparse-in-ustar",
            "a map where another format has the name's prefix",
            t().put(&head(b'S', "f")),
            of("only GNU's format has this type"),
            &[],
        ),
        refused(
            "sparse-octal",
            "a map of no numbers",
            t().put_with(&head(b'S', "f"), |b| {
                b[257..265].copy_from_slice(b"ustar  \0");
                b[386..410].fill(b'x');
            }),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-count",
            "a map that says it is huge",
            one(b"99999999999\n", b"4096", DATA),
            EXTENTS,
            &[],
        ),
        refused(
            "sparse-short-map",
            "a map that says it is longer than it is",
            one(b"100\n0\n512\n", b"4096", b""),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-long-map",
            "a map that goes on into the next entry",
            one(&b"1".repeat(10), b"4096", b""),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-large-number",
            "a number of more than 64 bits",
            one(b"1\n18446744073709551616\n1\n", b"4096", DATA),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-no-map",
            "a map that the content is too short for",
            t().pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"4096"),
            ])
            .put(&Head {
                data: b"1\n0\n1\n",
                ..head(b'0', "f")
            }),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-no-size",
            "a map without the file's size",
            t().pax(&[("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,512")])
                .put(&Head {
                    data: DATA,
                    ..head(b'0', "f")
                }),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-version",
            "a version that nobody has written",
            t().pax(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")])
                .file("f", "x"),
            of("it is a sparse file of an unknown version"),
            &[],
        ),
        refused(
            "sparse-blocks",
            "a map with fewer extents than it says",
            zero(b"0,512", b"2", b"4096"),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-odd",
            "an extent without a length",
            zero(b"0,512,1024", b"1", b"4096"),
            of(MALFORMED),
            &[],
        ),
        refused(
            "sparse-pairs",
            "two offsets and no length",
            t().pax(&[
                ("GNU.sparse.size", b"4096"),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.offset", b"0"),
                ("GNU.sparse.offset", b"512"),
            ])
            .file("f", "x"),
            "bad tar stream: a PAX header is malformed",
            &[],
        ),
        refused(
            "sparse-overlap-pax",
            "extents that overlap, in a PAX header",
            zero(b"0,256,255,256", b"2", b"4096"),
            of(ORDER),
            &[],
        ),
        refused(
            "sparse-beyond-pax",
            "an extent behind the file's end, in the content",
            one(b"1\n4000\n512\n", b"4096", DATA),
            of(BEYOND),
            &[],
        ),
        refused(
            "sparse-name",
            "the real name in a record that only sparse files have",
            t().pax(&[
                ("GNU.sparse.size", b"4096"),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.name", b"../canary/file"),
                ("GNU.sparse.map", b"0,512"),
            ])
            .put(&Head {
                data: DATA,
                ..head(b'0', "ok")
            }),
            entry("../canary/file", "its name holds `..`"),
            &[],
        ),
        harmless(
            "sparse-name-alone",
            "that record without a sparse file",
            t().pax(&[("GNU.sparse.name", b"../canary/file")])
                .file("ok", "x"),
            &["ok 644 \"x\""],
        ),
        refused(
            "sparse-folder",
            "a folder with holes",
            t().pax(&[
                ("GNU.sparse.size", b"4096"),
                ("GNU.sparse.numblocks", b"0"),
                ("GNU.sparse.major", b"0"),
                ("GNU.sparse.minor", b"1"),
            ])
            .dir("d"),
            entry("d", "only a file can be sparse"),
            &[],
        ),
        harmless(
            "sparse-through-link",
            "a sparse file in the place of a link out",
            t().symlink("f", "../canary/file").sparse(
                "f",
                1 << 20,
                &[(512, 512), (1 << 20, 0)],
                DATA,
            ),
            &["f 644 1048576 bytes"],
        ),
    ]
}
