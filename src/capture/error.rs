//! What can go wrong before captures run.

use std::{io, path::PathBuf};

/// Why captures could not be started. What goes wrong later is in [`super::Stats::error`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// setns(2) refused.
    #[error(
        "enter the network namespace of {node} to capture on {interface}: {source}; this takes root (CAP_SYS_ADMIN)"
    )]
    Enter {
        /// The node.
        node: String,
        /// The interface in it.
        interface: String,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no such interface.
    #[error("capture on {node}:{interface}: the node's network namespace has no such interface")]
    NoInterface {
        /// The node.
        node: String,
        /// The interface asked for.
        interface: String,
    },
    /// libpcap refused, in its own words.
    #[error("capture on {node}:{interface}: {reason}")]
    Open {
        /// The node.
        node: String,
        /// The interface in it.
        interface: String,
        /// libpcap's message.
        reason: String,
    },
    /// libpcap does not take the filter.
    #[error(
        "capture on {node}:{interface}: the filter `{filter}` is not one of pcap-filter(7): {reason}"
    )]
    Filter {
        /// The node.
        node: String,
        /// The interface in it.
        interface: String,
        /// The filter.
        filter: String,
        /// libpcap's message.
        reason: String,
    },
    /// All captures have been closed.
    #[error("the captures have ended; the lab is going down")]
    Closed,
    /// The socket that libpcap opened could not be tied to the interface.
    #[error("bind the capture socket of {node}:{interface} to its interface: {source}")]
    Bind {
        /// The node.
        node: String,
        /// The interface in it.
        interface: String,
        /// The system's reason.
        source: io::Error,
    },
    /// libpcap takes this name for something else than a network interface.
    #[error(
        "capture on {node}:{interface}: libpcap takes the name `{interface}` for {what}; \
         give the interface another name"
    )]
    Reserved {
        /// The node.
        node: String,
        /// The interface in it.
        interface: String,
        /// What libpcap would capture on instead.
        what: &'static str,
    },
    /// Two requests name one file.
    #[error("capture on {node}:{interface}: {file} is already the file of another interface")]
    SameFile {
        /// The node.
        node: String,
        /// The interface in it.
        interface: String,
        /// The file.
        file: PathBuf,
    },
    /// More interfaces than this process may open files.
    #[error(
        "capture needs {need} open files, and the limit is {hard}; raise it \
         (`ulimit -Hn`, or LimitNOFILE= of the systemd unit) or capture on fewer interfaces"
    )]
    Limit {
        /// How many descriptors are needed in all.
        need: u64,
        /// The hard limit.
        hard: u64,
    },
    /// A thread, an epoll or an eventfd could not be had.
    #[error("start the capture threads: {0}")]
    Threads(#[source] io::Error),
    /// A symbolic link where a directory of captures should be.
    #[error(
        "capture directory {path} is a symbolic link, which is not followed; remove it or name the directory it points to"
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// A path that names no directory, such as `..`.
    #[error("capture directory {path} has no name of its own; name a directory")]
    Nameless {
        /// The path as given.
        path: PathBuf,
    },
    /// A directory could not be opened or made.
    #[error("{what} the capture directory {path}: {source}")]
    Directory {
        /// `open`, `read`, `make` or `change the owner of`.
        what: &'static str,
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file could not be made.
    #[error("{what} the capture file {path}: {source}")]
    File {
        /// `replace`, `make`, `change the owner of`, `write`, `remove` or `go on with`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
