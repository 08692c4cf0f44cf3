//! What went wrong in the kernel: the operation in words, the errno, and what to do about it.

use std::io;

/// A failed kernel operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op}: {source}{}", hint_text(.source))]
pub struct Error {
    op: String,
    source: io::Error,
}

impl Error {
    /// `op` completes the sentence "cannot ...".
    pub fn new(op: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            op: op.into(),
            source: source.into(),
        }
    }

    /// The errno, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// What the errno means to somebody who runs a lab runner; empty where it says nothing more.
fn hint_text(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            " (nslab changes namespaces and links: run it with sudo)"
        }
        Some(libc::EMFILE | libc::ENFILE) => " (too many open files: raise `ulimit -n`)",
        Some(libc::EOPNOTSUPP) => " (this kernel was built without it)",
        Some(libc::ENOSPC) => " (a kernel limit is reached: see /proc/sys/user/max_net_namespaces)",
        _ => "",
    }
}

/// Adds the operation's words to an error; for `nix`, `rustix` and `std` results alike.
pub(crate) trait Context<T> {
    /// `op` completes the sentence "cannot ...".
    fn op(self, op: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn op(self, op: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|e| Error::new(op(), e))
    }
}
