//! What can go wrong in this room.

use std::io;
use std::path::{Path, PathBuf};

use super::store::User;

/// An error of the image room: what was tried, on what, why it failed and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call on a file failed.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as an infinitive: `open`, `create folder`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A reference that means nothing, or something that nslab cannot take yet.
    #[error("image `{reference}`: {why}")]
    Reference {
        /// The reference as written.
        reference: String,
        /// Why it was refused, and what would be taken.
        why: String,
    },
    /// `image.toml` is wrong.
    #[error("recipe {}: {why}", path.display())]
    Recipe {
        /// The recipe's folder or file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A program that building needs is not there.
    #[error(
        "building image `{recipe}` needs `{tool}`, which is not there; install package {package}"
    )]
    Tool {
        /// The recipe's name.
        recipe: String,
        /// The program.
        tool: &'static str,
        /// The Debian and Ubuntu package that has it.
        package: &'static str,
    },
    /// The distribution has no such package.
    #[error(
        "no package {} for image `{recipe}` in this distribution; recipes are for Debian 12 and \
         Ubuntu 24.04 (there with the component `universe`)",
        packages.join(" and no ")
    )]
    Packages {
        /// The recipe's name.
        recipe: String,
        /// What was looked for, with alternatives.
        packages: Vec<String>,
    },
    /// The image below a recipe's could not be had.
    #[error("image `{recipe}` is made from {base}, which could not be had: {source}{help}")]
    Base {
        /// The recipe's name.
        recipe: String,
        /// The image below.
        base: String,
        /// Why.
        source: Box<Error>,
        /// `; ` and what to do, or nothing.
        help: String,
    },
    /// apt-get or apt-cache failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    Apt {
        /// The command without its options.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// The build may not make namespaces.
    #[error("building image `{recipe}` needs namespaces, and `unshare` failed: {why}; {help}")]
    Namespaces {
        /// The recipe's name.
        recipe: String,
        /// What unshare said.
        why: String,
        /// The way out.
        help: String,
    },
    /// The recipe's script failed.
    #[error("the build script of image `{recipe}` failed ({status}); its last lines:\n{tail}")]
    Build {
        /// The recipe's name.
        recipe: String,
        /// Its exit status.
        status: String,
        /// The end of what it wrote.
        tail: String,
    },
    /// An OCI image layout is not what the specification says.
    #[error("OCI image layout {}: {why}", path.display())]
    Layout {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A registry does not give an image.
    #[error("image `{reference}`: {why}")]
    Registry {
        /// The reference, complete.
        reference: String,
        /// Why, and what to do.
        why: String,
    },
    /// A bundle cannot be written.
    #[error("bundle {}: {why}", path.display())]
    Bundle {
        /// Its folder.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The user wants no more.
    #[error("interrupted; nothing of {} was left", path.display())]
    Interrupted {
        /// What was being made.
        path: PathBuf,
    },
    /// Content is not what its digest says.
    #[error("{what} is damaged: its digest is {got}, not {want}")]
    Digest {
        /// Which content.
        what: String,
        /// The digest that it should have.
        want: String,
        /// The digest that it has.
        got: String,
    },
    /// A layer holds something that must not be unpacked.
    #[error("layer {digest}: {source}")]
    Layer {
        /// The layer's digest.
        digest: String,
        /// What is wrong, and in which entry.
        source: LayerError,
    },
    /// The store has no such image.
    #[error("no image `{name}` in {}; `nslab image list` shows what is there", store.display())]
    NotInStore {
        /// The name.
        name: String,
        /// The store's folder.
        store: PathBuf,
    },
    /// Somebody uses the image.
    #[error("image `{name}` is used by {}; {}", who(.users), way_out(.users))]
    InUse {
        /// The name.
        name: String,
        /// Who, never empty.
        users: Vec<User>,
    },
    /// Another nslab makes or removes the image.
    #[error("image `{name}` is being worked on by another nslab; try again when that is done")]
    Busy {
        /// The name.
        name: String,
    },
    /// Several images fit.
    #[error("`{name}` may be each of {}; write more of its digest", digests.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// Their digests.
        digests: Vec<String>,
    },
    /// A layer was removed after its image was resolved.
    #[error("{} has been removed meanwhile; run the command again", path.display())]
    Gone {
        /// The layer's folder.
        path: PathBuf,
    },
    /// Another lab has the node's kept files.
    #[error(
        "the kept files of lab {lab} are in use: a lab of the same name is up with another NSLAB_RUN; \
         take that one down first"
    )]
    KeptInUse {
        /// The lab's name.
        lab: String,
    },
    /// Kept files belong to another image.
    #[error(
        "node {node} keeps files (`keep = true`) that it wrote on top of image `{before}` ({was}); \
         `{image}` is another one now ({is}), and files of one on top of the other would be neither: \
         `nslab up LAB.toml --fresh {node}` throws the kept files away and starts from the image as it is now"
    )]
    KeptOnAnother {
        /// The node.
        node: String,
        /// The image's reference now.
        image: String,
        /// Its digest.
        is: String,
        /// The reference then.
        before: String,
        /// The digest then.
        was: String,
    },
}

/// `node a of lab x, node b of lab x and 3 more`.
fn who(users: &[User]) -> String {
    const SHOWN: usize = 3;
    let all: Vec<_> = users.iter().map(ToString::to_string).collect();
    if all.len() > SHOWN + 1 {
        return format!("{} and {} more", all[..SHOWN].join(", "), all.len() - SHOWN);
    }
    match &all[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => all.join(""),
    }
}

/// What has to be done about each of them, once.
fn way_out(users: &[User]) -> String {
    let mut ways: Vec<_> = users.iter().map(User::way_out).collect();
    ways.dedup();
    ways.join(", ")
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The tar stream itself is broken.
    #[error("bad tar stream: {0}")]
    Tar(String),
    /// Reading the blob failed (also: damaged gzip).
    #[error("could not read it: {0}")]
    Read(#[source] io::Error),
    /// An entry is refused.
    #[error("entry `{entry}` is refused: {why}")]
    Refused {
        /// The entry's name.
        entry: String,
        /// Why.
        why: String,
    },
    /// A call for an entry failed.
    #[error("could not {doing} `{entry}`: {source}")]
    Entry {
        /// What was tried.
        doing: &'static str,
        /// The entry's name.
        entry: String,
        /// Why it failed.
        source: io::Error,
    },
    /// An attribute of an entry cannot be set.
    #[error("could not set attribute `{key}` of `{entry}`: {source}")]
    Attribute {
        /// The attribute's name.
        key: String,
        /// The entry's name.
        entry: String,
        /// Why it failed.
        source: io::Error,
    },
    /// It is larger than allowed.
    #[error("more than {limit} {what}: refused as a bomb")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
}

impl LayerError {
    /// An entry that is refused.
    pub(super) fn refused(name: &[u8], why: impl Into<String>) -> Self {
        Self::Refused {
            entry: shown(name),
            why: why.into(),
        }
    }
}

/// A name out of an archive as it may be written on a terminal: what would act there is escaped, and
/// what is too long to read is cut.
pub(super) fn shown(name: &[u8]) -> String {
    const MOST: usize = 300;
    let mut text = String::new();
    for c in String::from_utf8_lossy(name).chars() {
        if text.len() > MOST {
            text.push_str("...");
            break;
        }
        // Marks of writing direction change how all that follows looks.
        if c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// Turns an [`io::Error`] into [`Error::Io`].
pub(super) trait IoContext<T> {
    fn on(self, doing: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn on(self, doing: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|e| Error::Io {
            doing,
            path: path.to_owned(),
            source: e.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_act_on_a_terminal() {
        assert_eq!(shown("usr/bin/é".as_bytes()), "usr/bin/é");
        assert_eq!(shown(b"a\x1b[2Jb\n\xff"), "a\\u{1b}[2Jb\\n\u{fffd}");
        assert_eq!(shown("a\u{202e}gpj".as_bytes()), "a\\u{202e}gpj");
        assert_eq!(shown(&[b'x'; 5000]), format!("{}...", "x".repeat(301)));
    }
}
