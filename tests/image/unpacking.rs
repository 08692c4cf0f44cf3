//! Images of several layers: unpacked at once, counted together, and one error for all of them.

use std::fs;
use std::path::{Path, PathBuf};

use nslab::image::{Error, Image, Progress};

use crate::handmade::Layout;
use crate::require_root;
use crate::served::noise;
use crate::store::Case;
use crate::tarball::{Head, Tarball, head};

/// A layer with one file of `size` bytes of noise, `number` at their beginning.
fn noisy(number: usize, size: usize) -> Vec<u8> {
    let mut data = noise(size);
    data[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Tarball::default()
        .put(&Head {
            data: &data,
            ..head(b'0', &format!("file-{number}"))
        })
        .end()
}

fn resolve(case: &Case, layout: &Path, seen: &mut Vec<Progress>) -> Result<Image, Error> {
    let reference = layout.to_str().expect("utf-8");
    case.store
        .resolve(reference, &[], &mut |event| seen.push(event))
}

#[test]
fn layers_unpacked_at_once_are_all_there_and_counted_together() {
    require_root();
    let case = Case::new();
    let mut layout = Layout::new(case.path("layout"));
    for number in 0..6 {
        layout.layer(&noisy(number, 1 << 20));
    }
    // One of them twice: the lower one adds nothing.
    layout.layer(&noisy(2, 1 << 20));
    let mut seen = Vec::new();
    let image = resolve(&case, layout.finish(), &mut seen).expect("unpacked");
    let names = image.layers.iter().map(|layer| {
        let files = fs::read_dir(layer).expect("list");
        let names: Vec<_> = files
            .map(|e| e.expect("entry").file_name().into_string().expect("utf-8"))
            .collect();
        names.join(" ")
    });
    let want = ["file-2", "file-5", "file-4", "file-3", "file-1", "file-0"];
    assert_eq!(names.collect::<Vec<_>>(), want);
    assert_eq!(case.litter(), Vec::<PathBuf>::new());

    let sizes = layout
        .layers
        .iter()
        .map(|l| l["size"].as_u64().expect("a number"));
    let all: u64 = sizes.take(6).sum();
    let single = std::thread::available_parallelism().map_or(1, usize::from) == 1;
    let mut last = 0;
    for event in &seen {
        if let Progress::Bytes { what, done, total } = event {
            assert_eq!(*what, "layer");
            // With one processor it is one layer after the other, each from the beginning.
            if !single {
                assert_eq!(*total, Some(all));
                assert!(
                    *done >= last && *done <= all,
                    "{done} after {last} of {all}"
                );
            }
            last = *done;
        }
    }
    assert!(last > 2 << 20, "{seen:?}");
    let listed = &case.store.list().expect("list")[0];
    assert_eq!(listed.unpacked, 7 * (1 << 20));

    // All of it is there: nothing more is unpacked, and nobody is told so.
    let mut seen = Vec::new();
    resolve(&case, layout.finish(), &mut seen).expect("known");
    assert_eq!(seen, []);
}

#[test]
fn of_several_bad_layers_the_lowest_is_named_and_none_is_left() {
    require_root();
    let case = Case::new();
    let mut layout = Layout::new(case.path("layout"));
    layout.layer(&noisy(0, 1 << 20));
    // Its damage shows at its very end, the next one's in its first entry.
    let late = layout.layer(&noisy(1, 3 << 20));
    layout.layer(&Tarball::default().file("../outside", "x").end());
    layout.layer(&noisy(3, 1 << 20));
    let mut bytes = fs::read(&late).expect("read");
    let length = bytes.len();
    bytes.truncate(length - 4);
    fs::write(&late, bytes).expect("write");
    let error = resolve(&case, layout.finish(), &mut Vec::new()).expect_err("bad");
    assert_eq!(
        error.to_string(),
        format!(
            "layer {}: could not read it: unexpected end of file",
            layout.layers[1]["digest"].as_str().expect("text")
        )
    );
    assert_eq!(case.litter(), Vec::<PathBuf>::new());
    let outside = case.path("store/layers/outside");
    assert!(!outside.exists(), "{}", outside.display());
    // What was whole may stay; what was not is not there.
    for diff_id in [&layout.diff_ids[1], &layout.diff_ids[2]] {
        let folder = case.path("store/layers").join(&diff_id["sha256:".len()..]);
        assert!(!folder.exists(), "{}", folder.display());
    }
}

#[test]
fn an_endless_layer_is_given_up_where_it_goes_wrong() {
    require_root();
    let case = Case::new();
    let mut layout = Layout::new(case.path("layout"));
    // The entry that is refused comes first; what follows must neither be written nor waited for.
    let zeros = vec![0; 4 << 20];
    let tar = Tarball::default().file("a/../../b", "x").put(&Head {
        data: &zeros,
        ..head(b'0', "zeros")
    });
    let blob = layout.layer(&tar.end());
    // Behind it a blob that goes on: it is not read to its end when all is lost already.
    let sparse = fs::File::options().write(true).open(&blob).expect("open");
    sparse.set_len(1 << 40).expect("a sparse file of 1 TiB");
    layout.layers[0]["size"] = (1_u64 << 40).into();
    let error = resolve(&case, layout.finish(), &mut Vec::new()).expect_err("refused");
    assert_eq!(
        error.to_string(),
        format!(
            "layer {}: entry `a/../../b` is refused: its name holds `..`",
            layout.layers[0]["digest"].as_str().expect("text")
        )
    );
    assert_eq!(case.litter(), Vec::<PathBuf>::new());
}
