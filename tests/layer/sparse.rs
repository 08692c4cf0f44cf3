//! Files with holes, as GNU tar writes them.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use nslab::image::layer::Limits;

use crate::tree::tree;
use crate::{in_memory, tool, unpack_into};

const KIB: u64 = 1024;
const GIB: u64 = 1 << 30;

/// A file of this size with a few bytes at each place.
fn file(path: &Path, size: u64, places: impl IntoIterator<Item = u64>) {
    let file = File::create(path).expect("create");
    for place in places {
        file.write_all_at(format!("data at {place}").as_bytes(), place)
            .expect("write");
    }
    file.set_len(size).expect("set the size");
}

#[test]
fn holes_stay_holes_in_every_format() {
    in_memory(|dir| {
        let from = dir.join("from");
        fs::create_dir(&from).expect("mkdir");
        file(&from.join("begin"), 512 * KIB, [500 * KIB]);
        file(&from.join("end"), 512 * KIB, [0]);
        file(&from.join("middle"), 512 * KIB + 3, [0, 512 * KIB - 100]);
        file(&from.join("only"), 512 * KIB, []);
        file(&from.join("none"), 9, [0]);
        // More extents than a header and two blocks behind it have room for.
        file(
            &from.join("many"),
            4096 * KIB,
            (0..60).map(|i| i * 64 * KIB),
        );
        // An offset that has no room in octal digits.
        file(&from.join("far"), 10 * GIB, [9 * GIB]);
        let want = tree(&from);
        let formats: [&[&str]; 4] = [
            &["--format=gnu"],
            &["--format=posix", "--sparse-version=0.0"],
            &["--format=posix", "--sparse-version=0.1"],
            &["--format=posix", "--sparse-version=1.0"],
        ];
        for (number, format) in formats.into_iter().enumerate() {
            let tar = dir.join(format!("{number}.tar"));
            tool(
                Command::new("tar")
                    .args(["--create", "--sparse"])
                    .args(format)
                    .args(["--file"])
                    .arg(&tar)
                    .args(["--directory"])
                    .arg(&from)
                    .arg("."),
            );
            let out = dir.join("out");
            fs::create_dir(&out).expect("make the target");
            let tar = fs::read(&tar).expect("read the archive");
            let limits = Limits::default();
            let done = unpack_into(&tar, &out, true, limits).expect("unpack");
            let sizes: u64 = want.values().map(|node| node.size).sum();
            assert_eq!(done.bytes, sizes, "holes count: {format:?}");
            let mut got = tree(&out);
            if number == 0 {
                // GNU's own format has whole seconds.
                for (name, node) in &want {
                    got.get_mut(name).expect("is there").mtime.1 = node.mtime.1;
                }
            }
            assert!(got == want, "{format:?}");
            for entry in fs::read_dir(&from).expect("list") {
                let name = entry.expect("list").file_name();
                let blocks = |dir: &Path| dir.join(&name).metadata().expect("look").blocks();
                let (ours, theirs) = (blocks(&out), blocks(&from));
                assert!(
                    ours <= theirs,
                    "{format:?}: {} has {ours} blocks",
                    name.display()
                );
            }
            let mut data = [0; 18];
            let far = File::open(out.join("far")).expect("open");
            far.read_exact_at(&mut data, 9 * GIB).expect("read");
            assert_eq!(&data, b"data at 9663676416");
            fs::remove_dir_all(&out).expect("clean up");
            // A real size above the limit is a bomb, however few bytes there are.
            fs::create_dir(&out).expect("make the target");
            let limits = Limits {
                bytes: 10 * GIB,
                ..limits
            };
            let error = unpack_into(&tar, &out, true, limits).expect_err("a bomb");
            assert_eq!(error, "more than 10737418240 bytes: refused as a bomb");
            fs::remove_dir_all(&out).expect("clean up");
        }
    });
}
