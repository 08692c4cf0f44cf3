//! What can go wrong, in words.

use std::io;

/// Where modules are to be had that are not there to load.
const PACKAGE: &str = "on Ubuntu the module is in package linux-modules-extra-$(uname -r)";

/// Why IPVS did not do what it was told, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no family "IPVS", and loaded none.
    #[error(
        "this kernel has no IPVS (CONFIG_IP_VS, module ip_vs): load it with `modprobe ip_vs`; \
         {PACKAGE}"
    )]
    NotInKernel,
    /// The socket failed.
    #[error("cannot {what} over generic netlink: {source}")]
    Socket {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// An answer that cannot be read, or none.
    #[error("cannot understand the kernel's answer to \"{what}\": {why}")]
    Answer {
        /// What was asked.
        what: String,
        /// Why.
        why: String,
    },
    /// The kernel has no such scheduler, and found no module of it.
    #[error(
        "cannot {what}: this kernel has no scheduler {name:?}, which is module ip_vs_{name} \
         (CONFIG_IP_VS_{}): load it with `modprobe ip_vs_{name}`; {PACKAGE}",
        name.to_uppercase()
    )]
    Scheduler {
        /// What was tried.
        what: String,
        /// The scheduler.
        name: String,
    },
    /// The kernel has no such persistence engine, and found no module of it.
    #[error(
        "cannot {what}: this kernel has no persistence engine {name:?}, which is module \
         ip_vs_pe_{name} (CONFIG_IP_VS_PE_{}): load it with `modprobe ip_vs_pe_{name}`; \
         {PACKAGE}",
        name.to_uppercase()
    )]
    PersistenceEngine {
        /// What was tried.
        what: String,
        /// The persistence engine.
        name: String,
    },
    /// It is there already.
    #[error("cannot {what}: it exists already")]
    Exists {
        /// What was tried.
        what: String,
    },
    /// It is not there.
    #[error("cannot {what}: there is no such {kind}")]
    NotFound {
        /// What was tried.
        what: String,
        /// `service` or `destination`.
        kind: &'static str,
    },
    /// Not root.
    #[error(
        "cannot {what}: Operation not permitted (IPVS takes CAP_NET_ADMIN in the initial user \
         namespace: run it with sudo)"
    )]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// The kernel refused it for another reason.
    #[error("cannot {what}: {source}{}{hint}", words(detail.as_deref()))]
    Refused {
        /// What was tried.
        what: String,
        /// The errno.
        source: io::Error,
        /// The kernel's own words (extended ack), if it had any.
        detail: Option<String>,
        /// What the errno means here; begins with a blank, empty where that is not known.
        hint: &'static str,
    },
    /// A table went in by half, and that half could not be taken out again.
    #[error("{cause}; what was added before it is still there: {left}")]
    Left {
        /// Why the table did not go in.
        cause: Box<Error>,
        /// Why it is not out again.
        left: Box<Error>,
    },
}

fn words(detail: Option<&str>) -> String {
    detail.map(|d| format!(", {d}")).unwrap_or_default()
}

/// What the kernel's "no" was about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    /// A whole service, with what it needs of the kernel.
    Service {
        scheduler: &'a str,
        engine: Option<&'a str>,
    },
    /// A destination of a service.
    Destination,
    /// Anything else.
    Table,
}

impl Error {
    /// What an errno of `ip_vs_genl_set_cmd` and below means.
    pub(super) fn refused(
        what: String,
        errno: i32,
        detail: Option<String>,
        about: About<'_>,
    ) -> Self {
        let hint = match (errno, about) {
            (libc::EPERM | libc::EACCES, _) => return Self::NotPermitted { what },
            (libc::EEXIST, _) => return Self::Exists { what },
            (libc::ESRCH, _) => {
                let kind = "service";
                return Self::NotFound { what, kind };
            }
            (libc::ENOENT, About::Destination) => {
                let kind = "destination";
                return Self::NotFound { what, kind };
            }
            (libc::ENOENT, About::Service { scheduler, engine }) => {
                return match engine {
                    Some(name) => Self::PersistenceEngine {
                        what,
                        name: name.to_owned(),
                    },
                    None => Self::Scheduler {
                        what,
                        name: scheduler.to_owned(),
                    },
                };
            }
            (libc::ERANGE, About::Destination) => {
                " (weights go up to 2147483647, and the lower threshold is at most the upper one)"
            }
            (libc::EINVAL, About::Destination) => {
                " (a destination has to be a unicast address to the director, which takes an \
                 interface that is up and has an address; one of the other address family takes a \
                 tunnel; a GUE tunnel takes a port)"
            }
            (libc::EINVAL, About::Service { .. }) => {
                " (a scheduler's name has at most 15 bytes; an IPv6 prefix length is 1 to 128)"
            }
            (libc::EAFNOSUPPORT, _) => {
                " (this kernel's IPVS is without IPv6: it takes CONFIG_IP_VS_IPV6)"
            }
            _ => "",
        };
        Self::Refused {
            what,
            source: io::Error::from_raw_os_error(errno),
            detail,
            hint,
        }
    }
}
