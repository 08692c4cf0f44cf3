//! Random layers: the model says what becomes of each, nothing outside changes, and twice the same
//! layer is the same tree.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use nslab::image::layer::Limits;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::harmless::seen;
use crate::model::{Entry, Kind, Model};
use crate::survive::{Place, with_checksums};
use crate::tarball::{Head, Tarball, head};
use crate::tree::{lines, tree};
use crate::{hostile, in_memory, require_root, unpack_into};

const LAYERS: u32 = 1500;

/// Few different names: they have to meet each other.
fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => select(vec!["a", "b", "l"]),
        1 => select(vec![".wh.a", ".wh.b", ".wh.l", ".wh..wh..opq"]),
    ];
    prop_oneof![
        40 => vec(part, 1..4).prop_map(|parts| parts.join("/")),
        1 => select(vec!["..", "a/../..", "/a//b/.", "./", "", ".wh.", ".wh...", "l/..", ".wh.x/y"])
            .prop_map(str::to_owned),
    ]
}

fn target() -> impl Strategy<Value = String> {
    let targets = vec![
        ".",
        "..",
        "../..",
        "/",
        "/a",
        "../canary",
        "../canary/file",
        "a/..",
        "b/../a",
        "l",
        "",
        "../a",
        "../l/b",
    ];
    prop_oneof![3 => name(), 2 => select(targets).prop_map(str::to_owned)]
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        4 => Just(Kind::Dir),
        4 => "[a-z]{0,5}".prop_map(Kind::File),
        3 => target().prop_map(Kind::Symlink),
        2 => target().prop_map(Kind::Hardlink),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Device),
    ];
    let mode = select(vec![0o755, 0o644, 0o4711, 0o1777, 0]);
    let xattr = option::weighted(0.2, "[a-z]{0,3}");
    (name(), kind, mode, 0..4_i64, xattr).prop_map(|(name, kind, mode, mtime, xattr)| Entry {
        name,
        kind,
        mode,
        mtime,
        xattr,
    })
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Tarball::default();
    for entry in entries {
        let (kind, link, data) = match &entry.kind {
            Kind::Dir => (b'5', "", ""),
            Kind::File(content) => (b'0', "", &content[..]),
            Kind::Symlink(to) => (b'2', &to[..], ""),
            Kind::Hardlink(to) => (b'1', &to[..], ""),
            Kind::Fifo => (b'6', "", ""),
            Kind::Device => (b'3', "", ""),
        };
        if let Some(value) = &entry.xattr {
            tar = tar.pax(&[("SCHILY.xattr.trusted.x", value.as_bytes())]);
        }
        tar = tar.put(&Head {
            mode: entry.mode,
            mtime: entry.mtime.cast_unsigned(),
            link: link.as_bytes(),
            data: data.as_bytes(),
            device: (1, 3),
            ..head(kind, &entry.name)
        });
    }
    tar.end()
}

/// Applies a layer and returns what is there; nothing if it is refused.
fn applied(tar: &[u8], out: &Path, dir: &Path) -> Result<Option<Vec<String>>, TestCaseError> {
    fs::create_dir(out).expect("make the target");
    let before = seen(dir);
    let result = unpack_into(tar, out, true, Limits::default());
    if seen(dir) != before {
        return Err(TestCaseError::fail("something outside changed"));
    }
    let found = result.is_ok().then(|| lines(&tree(out)));
    fs::remove_dir_all(out).expect("clean up");
    Ok(found)
}

#[test]
fn random_layers_become_what_the_model_says() {
    in_memory(|dir| {
        fs::create_dir_all(dir.join("box/canary")).expect("make the canary");
        fs::write(dir.join("box/canary/file"), "alive").expect("write");
        let out = dir.join("box/out");
        let (fine, refused) = (Cell::new(0), Cell::new(0));
        let mut runner = TestRunner::new(Config {
            failure_persistence: None,
            ..Config::with_cases(LAYERS)
        });
        let ran = runner.run(&vec(entry(), 1..10), |entries| {
            let mut model = Model::new();
            let want = entries
                .iter()
                .try_for_each(|entry| model.apply(entry))
                .map(|()| model.lines())
                .ok();
            let counter = if want.is_some() { &fine } else { &refused };
            counter.set(counter.get() + 1);
            let tar = archive(&entries);
            let got = applied(&tar, &out, dir)?;
            proptest::prop_assert_eq!(&got, &want, "the model says otherwise");
            proptest::prop_assert_eq!(applied(&tar, &out, dir)?, got, "another tree");
            Ok(())
        });
        if let Err(e) = ran {
            panic!("{e}");
        }
        let (fine, refused) = (fine.get(), refused.get());
        println!("{fine} fine, {refused} refused");
        assert!(
            fine > LAYERS / 10 && refused > LAYERS / 10,
            "one-sided: {fine} and {refused}"
        );
    });
}

/// What the fuzz target does, on a smaller scale: hostile layers with some bytes changed.
#[test]
fn damaged_layers_are_survived() {
    require_root();
    let seeds: Vec<_> = hostile::all("/nslab-canary")
        .into_iter()
        .filter(|case| case.tar.len() <= 8192)
        .map(|case| case.tar)
        .collect();
    let place = Place::new();
    let change = (any::<proptest::sample::Index>(), any::<u8>());
    let damaged = (select(seeds), vec(change, 1..8), any::<bool>());
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(1500)
    });
    let ran = runner.run(&damaged, |(mut tar, changes, cut)| {
        for (at, byte) in &changes {
            let at = at.index(tar.len());
            tar[at] = *byte;
        }
        if cut {
            tar.truncate(changes[0].0.index(tar.len()));
        }
        place.survive(&with_checksums(&tar));
        Ok(())
    });
    if let Err(e) = ran {
        panic!("{e}");
    }
}
