//! What a layer has to become, thought through without a filesystem: directories are maps, links are
//! followed by hand, and a file is a number that several names may have.

use std::collections::BTreeMap;

use crate::tree::{Node, Tree, lines};

/// What an entry is; names and targets are as in the archive.
#[derive(Debug, Clone)]
pub enum Kind {
    Dir,
    File(String),
    Symlink(String),
    Hardlink(String),
    Fifo,
    Device,
}

/// An entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub mode: u32,
    pub mtime: i64,
    /// The value of `trusted.x`.
    pub xattr: Option<String>,
}

/// The entry is refused, and with it the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// Why a name does not lead to a folder.
enum Lost {
    /// There is nothing, or a file where a folder should be.
    Missing,
    /// Out of the root, or round in circles.
    Refused,
}

#[derive(Debug, Clone)]
enum Thing {
    Dir {
        names: BTreeMap<String, usize>,
        parent: usize,
        opaque: bool,
    },
    File(String),
    Symlink(String),
    Fifo,
    Device,
    Whiteout,
}

#[derive(Debug, Clone)]
struct Inode {
    thing: Thing,
    mode: u32,
    mtime: i64,
    xattr: Option<String>,
}

pub struct Model(Vec<Inode>);

const ROOT: usize = 0;
/// More links than this the kernel does not follow (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

impl Model {
    pub fn new() -> Self {
        let mut model = Self(Vec::new());
        model.folder(ROOT, false);
        model
    }

    /// A folder that nothing is said of.
    fn folder(&mut self, parent: usize, opaque: bool) -> usize {
        self.0.push(Inode {
            thing: Thing::Dir {
                names: BTreeMap::new(),
                parent,
                opaque,
            },
            mode: 0o755,
            mtime: 0,
            xattr: None,
        });
        self.0.len() - 1
    }

    fn child(&self, dir: usize, name: &str) -> Option<usize> {
        match &self.0[dir].thing {
            Thing::Dir { names, .. } => names.get(name).copied(),
            _ => None,
        }
    }

    fn names(&mut self, dir: usize) -> &mut BTreeMap<String, usize> {
        match &mut self.0[dir].thing {
            Thing::Dir { names, .. } => names,
            _ => panic!("not a folder"),
        }
    }

    fn set_opaque(&mut self, dir: usize) {
        if let Thing::Dir { opaque, .. } = &mut self.0[dir].thing {
            *opaque = true;
        }
    }

    /// Follows a name from a folder to a folder.
    fn walk(&self, mut dir: usize, name: &str, links: &mut usize) -> Result<usize, Lost> {
        if name.starts_with('/') {
            return Err(Lost::Refused);
        }
        for part in name.split('/').filter(|p| !matches!(*p, "" | ".")) {
            let Thing::Dir { parent, .. } = self.0[dir].thing else {
                return Err(Lost::Missing);
            };
            if part == ".." {
                if dir == ROOT {
                    return Err(Lost::Refused);
                }
                dir = parent;
                continue;
            }
            let child = self.child(dir, part).ok_or(Lost::Missing)?;
            dir = match &self.0[child].thing {
                Thing::Dir { .. } => child,
                Thing::Symlink(to) => {
                    *links += 1;
                    if *links > MAX_LINKS {
                        return Err(Lost::Refused);
                    }
                    self.walk(dir, to, links)?
                }
                _ => return Err(Lost::Missing),
            };
        }
        Ok(dir)
    }

    fn parent(&mut self, name: &str) -> Result<usize, Refused> {
        match self.walk(ROOT, name, &mut 0) {
            Ok(dir) => return Ok(dir),
            Err(Lost::Refused) => return Err(Refused),
            Err(Lost::Missing) => {}
        }
        let mut dir = ROOT;
        for part in name.split('/').filter(|p| !p.is_empty()) {
            let opaque = match self.child(dir, part).map(|c| &self.0[c].thing) {
                None => false,
                Some(Thing::Whiteout) => true,
                Some(_) => {
                    dir = self.walk(dir, part, &mut 0).map_err(|_| Refused)?;
                    continue;
                }
            };
            let made = self.folder(dir, opaque);
            self.names(dir).insert(part.to_owned(), made);
            dir = made;
        }
        Ok(dir)
    }

    /// Whether something that is no folder is on the way to this one: whiteouts follow no links.
    fn is_hidden(&self, folder: &str) -> bool {
        let mut dir = ROOT;
        for part in folder.split('/').filter(|p| !p.is_empty()) {
            let Some(child) = self.child(dir, part) else {
                return false;
            };
            if !matches!(self.0[child].thing, Thing::Dir { .. }) {
                return true;
            }
            dir = child;
        }
        false
    }

    /// Whether a folder is another one or below it.
    fn is_below(&self, mut dir: usize, above: usize) -> bool {
        loop {
            match self.0[dir].thing {
                _ if dir == above => return true,
                Thing::Dir { parent, .. } if dir != ROOT => dir = parent,
                _ => return false,
            }
        }
    }

    pub fn apply(&mut self, entry: &Entry) -> Result<(), Refused> {
        let (folder, name) = parse(&entry.name)?;
        if name.is_empty() {
            let Kind::Dir = entry.kind else {
                return Err(Refused);
            };
            self.say(ROOT, entry);
            return Ok(());
        }
        if folder.split('/').any(|part| part.starts_with(".wh.")) {
            return Err(Refused);
        }
        if let Some(hidden) = name.strip_prefix(".wh.") {
            if self.is_hidden(&folder) {
                return Ok(());
            }
            let dir = self.parent(&folder)?;
            return self.whiteout(dir, hidden);
        }
        let dir = self.parent(&folder)?;
        let there = self.child(dir, &name);
        let thing = match &entry.kind {
            Kind::Hardlink(to) => return self.hard_link(dir, name, to),
            Kind::Dir => {
                let is_dir = |i: usize| matches!(self.0[i].thing, Thing::Dir { .. });
                let made = match there {
                    Some(there) if is_dir(there) => there,
                    there => self.folder(dir, there.is_some()),
                };
                self.names(dir).insert(name, made);
                self.say(made, entry);
                return Ok(());
            }
            Kind::File(content) => Thing::File(content.clone()),
            Kind::Symlink(to) if to.is_empty() => return Err(Refused),
            Kind::Symlink(to) => Thing::Symlink(to.clone()),
            Kind::Fifo => Thing::Fifo,
            Kind::Device => Thing::Device,
        };
        self.0.push(Inode {
            thing,
            mode: entry.mode,
            mtime: entry.mtime,
            xattr: entry.xattr.clone(),
        });
        let made = self.0.len() - 1;
        self.names(dir).insert(name, made);
        Ok(())
    }

    fn say(&mut self, dir: usize, entry: &Entry) {
        let inode = &mut self.0[dir];
        inode.mode = entry.mode;
        inode.mtime = entry.mtime;
        inode.xattr.clone_from(&entry.xattr);
    }

    fn whiteout(&mut self, dir: usize, hidden: &str) -> Result<(), Refused> {
        match hidden {
            ".wh..opq" => self.set_opaque(dir),
            _ if hidden.starts_with(".wh.") => {}
            "" | "." | ".." => return Err(Refused),
            _ => {
                if let Some(there) = self.child(dir, hidden) {
                    // Does nothing unless it is a folder.
                    self.set_opaque(there);
                } else {
                    self.0.push(Inode {
                        thing: Thing::Whiteout,
                        mode: 0,
                        mtime: 0,
                        xattr: None,
                    });
                    let made = self.0.len() - 1;
                    self.names(dir).insert(hidden.to_owned(), made);
                }
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, dir: usize, name: String, to: &str) -> Result<(), Refused> {
        let (folder, source) = parse(to)?;
        if source.is_empty() {
            return Err(Refused);
        }
        let from = self.walk(ROOT, &folder, &mut 0).map_err(|_| Refused)?;
        let target = self.child(from, &source).ok_or(Refused)?;
        if matches!(self.0[target].thing, Thing::Dir { .. } | Thing::Whiteout) {
            return Err(Refused);
        }
        // A folder that the target is in would have to go first.
        if self
            .child(dir, &name)
            .is_some_and(|there| self.is_below(from, there))
        {
            return Err(Refused);
        }
        self.names(dir).insert(name, target);
        Ok(())
    }

    /// The tree as `tree::lines` has it.
    pub fn lines(&self) -> Vec<String> {
        let mut tree = Tree::new();
        let mut first = BTreeMap::new();
        self.look(ROOT, ".", &mut tree, &mut first);
        let mut names: BTreeMap<usize, Vec<&Vec<u8>>> = BTreeMap::new();
        for (name, inode) in &first {
            names.entry(*inode).or_default().push(name);
        }
        for names in names.into_values() {
            for name in &names[1..] {
                let node = tree.get_mut(*name).expect("was seen");
                node.same_as = Some(names[0].clone());
            }
        }
        lines(&tree)
    }

    fn look(&self, at: usize, name: &str, tree: &mut Tree, all: &mut BTreeMap<Vec<u8>, usize>) {
        let inode = &self.0[at];
        let mut node = Node {
            kind: '-',
            mode: inode.mode,
            owner: (0, 0),
            size: 0,
            mtime: (inode.mtime, 0),
            device: (0, 0),
            link: Vec::new(),
            digest: [0; 32],
            start: Vec::new(),
            xattrs: BTreeMap::new(),
            same_as: None,
        };
        if let Some(value) = &inode.xattr {
            node.xattrs
                .insert(b"trusted.x".to_vec(), value.clone().into());
        }
        match &inode.thing {
            Thing::Dir { names, opaque, .. } => {
                node.kind = 'd';
                if *opaque {
                    let key = b"trusted.overlay.opaque".to_vec();
                    node.xattrs.insert(key, b"y".to_vec());
                }
                for (inner, &child) in names {
                    let inner = match name {
                        "." => inner.clone(),
                        outer => format!("{outer}/{inner}"),
                    };
                    self.look(child, &inner, tree, all);
                }
            }
            Thing::File(content) => {
                node.size = content.len() as u64;
                node.start = content.clone().into();
            }
            Thing::Symlink(to) => {
                node.kind = 'l';
                node.link = to.clone().into();
            }
            Thing::Fifo => node.kind = 'p',
            Thing::Device => (node.kind, node.device) = ('c', (1, 3)),
            Thing::Whiteout => node.kind = 'c',
        }
        if node.kind != 'd' {
            all.insert(name.into(), at);
        }
        tree.insert(name.into(), node);
    }
}

/// The folder and the last part of a name; nothing for the root.
fn parse(name: &str) -> Result<(String, String), Refused> {
    let parts = name.split('/').filter(|p| !matches!(*p, "" | "."));
    let mut parts: Vec<_> = parts.collect();
    if parts.contains(&"..") {
        return Err(Refused);
    }
    let last = parts.pop().unwrap_or_default().to_owned();
    Ok((parts.join("/"), last))
}
