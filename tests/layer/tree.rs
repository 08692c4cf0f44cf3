//! Whole trees: everything that can be seen of each file, to compare and to write down.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The mtime that goes without saying: what `tarball::head` sets.
const USUAL: (i64, i64) = (1_000_000_000, 0);

/// What is seen of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As in `ls -l`: `-`, `d`, `l`, `p`, `c`, `b`, `s`.
    pub kind: char,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Bytes; 0 for folders, whose size is the filesystem's business.
    pub size: u64,
    pub mtime: (i64, i64),
    pub device: (u32, u32),
    /// A link's target.
    pub link: Vec<u8>,
    /// Of a file.
    pub digest: [u8; 32],
    /// The first bytes of a file.
    pub start: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same file, if it has another one in the tree.
    pub same_as: Option<Vec<u8>>,
}

/// Nodes by their paths, `.` being the root.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// Looks at everything below `root`, and at itself.
pub fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut groups: HashMap<(u64, u64), Vec<Vec<u8>>> = HashMap::new();
    walk(root, b".".to_vec(), &mut tree, &mut groups);
    for mut names in groups.into_values() {
        names.sort();
        for name in &names[1..] {
            let node = tree.get_mut(name).expect("was seen");
            node.same_as = Some(names[0].clone());
        }
    }
    tree
}

fn walk(
    path: &Path,
    name: Vec<u8>,
    tree: &mut Tree,
    groups: &mut HashMap<(u64, u64), Vec<Vec<u8>>>,
) {
    let meta = path.symlink_metadata().expect("look at a file");
    let node = node(path, &meta);
    if node.kind == 'd' {
        for entry in fs::read_dir(path).expect("list a folder") {
            let entry = entry.expect("list a folder");
            let inner = entry.file_name();
            let inner = match &name[..] {
                b"." => inner.as_bytes().to_vec(),
                outer => [outer, inner.as_bytes()].join(&b'/'),
            };
            walk(&entry.path(), inner, tree, groups);
        }
    } else if meta.nlink() > 1 {
        let group = groups.entry((meta.dev(), meta.ino())).or_default();
        group.push(name.clone());
    }
    tree.insert(name, node);
}

fn node(path: &Path, meta: &fs::Metadata) -> Node {
    let kind = match meta.mode() & libc::S_IFMT {
        libc::S_IFDIR => 'd',
        libc::S_IFLNK => 'l',
        libc::S_IFIFO => 'p',
        libc::S_IFCHR => 'c',
        libc::S_IFBLK => 'b',
        libc::S_IFSOCK => 's',
        _ => '-',
    };
    let (mut digest, mut start) = ([0; 32], Vec::new());
    // What is larger can only be a hole.
    if kind == '-' && meta.size() < 1 << 30 {
        let mut file = File::open(path).expect("open a file");
        let mut hash = Sha256::new();
        let mut buf = vec![0; 128 * 1024];
        loop {
            let n = file.read(&mut buf).expect("read a file");
            if n == 0 {
                break;
            }
            if start.is_empty() {
                start = buf[..n.min(64)].to_vec();
            }
            hash.update(&buf[..n]);
        }
        digest = hash.finalize().into();
    }
    let rdev = meta.rdev();
    Node {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        size: if kind == 'd' { 0 } else { meta.size() },
        mtime: (meta.mtime(), meta.mtime_nsec()),
        device: (rustix::fs::major(rdev), rustix::fs::minor(rdev)),
        link: match kind {
            'l' => {
                let link = fs::read_link(path).expect("read a link");
                link.as_os_str().as_bytes().to_vec()
            }
            _ => Vec::new(),
        },
        digest,
        start,
        xattrs: xattrs(path),
        same_as: None,
    }
}

/// All attributes of a file, but labels, which are the host's.
fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 64 * 1024];
    let n = rustix::fs::llistxattr(path, &mut list[..]).expect("list attributes");
    let keys = list[..n].split(|&b| b == 0);
    keys.filter(|key| !key.is_empty() && *key != b"security.selinux")
        .map(|key| {
            let mut value = vec![0; 64 * 1024];
            let n = rustix::fs::lgetxattr(path, key, &mut value[..]).expect("get an attribute");
            value.truncate(n);
            (key.to_vec(), value)
        })
        .collect()
}

/// What differs from what goes without saying: owner 0:0, the mtime that tests use, no attributes.
impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            'd' => write!(f, "/ {:o}", self.mode)?,
            'l' => write!(f, " -> {}", self.link.escape_ascii())?,
            'c' if self.device == (0, 0) => f.write_str(" removed")?,
            'c' | 'b' => write!(
                f,
                " {}{}/{} {:o}",
                self.kind, self.device.0, self.device.1, self.mode
            )?,
            'p' => write!(f, " fifo {:o}", self.mode)?,
            's' => write!(f, " socket {:o}", self.mode)?,
            _ if self.size as usize == self.start.len() => {
                write!(
                    f,
                    " {:o} {:?}",
                    self.mode,
                    self.start.escape_ascii().to_string()
                )?;
            }
            _ => write!(f, " {:o} {} bytes", self.mode, self.size)?,
        }
        if self.owner != (0, 0) {
            write!(f, " {}:{}", self.owner.0, self.owner.1)?;
        }
        let mark = self.kind == 'c' && self.device == (0, 0);
        if self.mtime != USUAL && !mark {
            write!(f, " @{}", self.mtime.0)?;
            if self.mtime.1 != 0 {
                write!(f, ".{:09}", self.mtime.1)?;
            }
        }
        for (key, value) in &self.xattrs {
            write!(f, " +{}={}", key.escape_ascii(), value.escape_ascii())?;
        }
        if let Some(same) = &self.same_as {
            write!(f, " same as {}", same.escape_ascii())?;
        }
        Ok(())
    }
}

/// A line a node; the root only if a layer said something about it.
pub fn lines(tree: &Tree) -> Vec<String> {
    tree.iter()
        .map(|(name, node)| format!("{}{node}", name.escape_ascii()))
        .filter(|line| line != "./ 755 @0")
        .collect()
}
