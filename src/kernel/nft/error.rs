//! What can go wrong.

use std::io;

/// Why a ruleset did not get into the kernel. Nothing of it is in force then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket.
    #[error(
        "cannot open a NETLINK_NETFILTER socket: {source}; the kernel needs \
         CONFIG_NETFILTER_NETLINK (module nfnetlink)"
    )]
    Socket {
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket failed under way.
    #[error("cannot {what} on the NETLINK_NETFILTER socket: {source}")]
    Transfer {
        /// `send ... bytes`, `receive`.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a message, and with it the batch.
    #[error(
        "the kernel refused {what}: {source}{}{}",
        show(", ", detail.as_deref()),
        show("; ", hint.as_deref())
    )]
    Refused {
        /// The object: `rule 2 of chain x in table netdev nslab`.
        what: String,
        /// The errno.
        source: io::Error,
        /// The kernel's own words (extended ack), if it had any.
        detail: Option<String>,
        /// What to do about it, where that is known.
        hint: Option<String>,
    },
    /// A ruleset names a device that is not there.
    #[error("{what} needs the interface {device:?}, which is not in this network namespace")]
    NoDevice {
        /// The object that needs it.
        what: String,
        /// Its name.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The ruleset makes no sense.
    #[error("{what} {why}")]
    Invalid {
        /// The object.
        what: String,
        /// Why, as prose that can follow.
        why: String,
    },
    /// The answer cannot be read, or there was none.
    #[error("the kernel's answer about {what} cannot be understood: {why}")]
    Answer {
        /// What was asked.
        what: String,
        /// Why.
        why: String,
    },
}

fn show(before: &str, text: Option<&str>) -> String {
    text.map(|t| format!("{before}{t}")).unwrap_or_default()
}

/// What to do about an errno, where that is known. `needs` are kernel options that the object
/// takes, ENOENT and EOPNOTSUPP from which mean that one is missing.
pub(super) fn hint(errno: i32, needs: &[&str]) -> Option<String> {
    match errno {
        libc::EPERM => {
            Some("it takes CAP_NET_ADMIN in the network namespace's user namespace".into())
        }
        libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT if !needs.is_empty() => {
            Some(format!("the kernel may lack {}", needs.join(", ")))
        }
        libc::EBUSY => Some("something else in the ruleset still uses it".into()),
        _ => None,
    }
}
