//! Every hostile layer is applied as root, and reaches nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::hostile::{Case, all};
use crate::tree::{self, tree};
use nslab::image::layer::Limits;

use crate::{in_memory, unpack_into};

/// What must not change: the target's surroundings with all their metadata, inode numbers and the
/// time of the last change of anything, which nobody can set back.
pub fn seen(dir: &Path) -> Vec<String> {
    fn walk(path: &Path, out: &Path, seen: &mut Vec<String>) {
        let m = path.symlink_metadata().expect("look");
        let content = m.is_file().then(|| fs::read(path).expect("read"));
        let ids = (m.ino(), m.nlink(), m.mode(), m.uid(), m.gid(), m.rdev());
        let times = (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        seen.push(format!("{} {ids:?} {times:?} {content:?}", path.display()));
        if m.is_dir() && path != out {
            let mut inner: Vec<_> = fs::read_dir(path)
                .expect("list")
                .map(|e| e.expect("entry").path())
                .collect();
            inner.sort();
            for path in inner {
                walk(&path, out, seen);
            }
        }
    }
    let mut all = Vec::new();
    // The target itself is the layer's.
    let out = dir.join("box/out");
    walk(dir, &out, &mut all);
    all.retain(|line| !line.starts_with(&format!("{} ", out.display())));
    for path in ["/", "/etc", "/etc/passwd", "/dev/null"] {
        let m = fs::metadata(path).expect("look");
        all.push(format!(
            "{path} {:?}",
            (m.mode(), m.uid(), m.gid(), m.ino())
        ));
    }
    all
}

/// Lines of the tree that a case left. A refused one's last entry is unfinished, and its folders'
/// modes and times are not set.
fn left(case: &Case, out: &Path, canary: &str) -> Vec<String> {
    let mut tree = tree(out);
    if case.refused.is_some() {
        for node in tree.values_mut().filter(|n| n.kind == 'd') {
            (node.mode, node.mtime) = (0o755, (0, 0));
        }
        let now = fs::metadata(out).expect("look").ctime();
        for node in tree.values_mut().filter(|n| n.mtime.0 > now - 600) {
            node.mtime = (0, 0);
        }
    }
    let mut lines = tree::lines(&tree);
    if case.leaves == ["..."] {
        lines = vec!["...".to_owned(); usize::from(lines.len() > 200)];
    }
    lines.iter().map(|l| l.replace(canary, "CANARY")).collect()
}

#[test]
fn hostile_layers_reach_nothing_and_leave_what_they_should() {
    in_memory(|dir| {
        let (out, folder) = (dir.join("box/out"), dir.join("box/canary"));
        fs::create_dir_all(&folder).expect("make the canary");
        fs::write(folder.join("file"), "alive").expect("write");
        std::os::unix::fs::symlink("file", folder.join("link")).expect("link");
        fs::create_dir(folder.join("sub")).expect("make a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).expect("mode");
        let canary = folder.to_str().expect("utf-8");
        let cases = all(canary);
        assert!(cases.len() >= 40, "only {} cases", cases.len());
        let names: BTreeSet<_> = cases.iter().map(|c| c.name).collect();
        assert_eq!(names.len(), cases.len(), "a name is there twice");
        let mut wrong = Vec::new();
        for case in &cases {
            fs::create_dir(&out).expect("make the target");
            let before = seen(dir);
            let result = unpack_into(&case.tar, &out, true, Limits::default());
            assert_eq!(seen(dir), before, "{} reached something", case.name);
            if result.as_ref().err() != case.refused.as_ref() {
                wrong.push(format!(
                    "{} ({}): {result:?}, not {:?}",
                    case.name, case.tries, case.refused
                ));
            }
            let left = left(case, &out, canary);
            if left != case.leaves {
                wrong.push(format!(
                    "{}: LEFT {left:?}, not {:?}",
                    case.name, case.leaves
                ));
            }
            fs::remove_dir_all(&out).expect("clean up");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
