//! Capabilities, and users as the node's own files know them.
//!
//! The host's name service must stay out: a node's `tomcat` is the one of its image, so
//! /etc/passwd and /etc/group are read and parsed here instead of by `getpwnam`.

use std::str::FromStr;
use std::{fs, io};

use caps::Capability;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::Error;

/// Capabilities that a container has by default; Docker's list
/// (moby, `daemon/pkg/oci/caps/defaults.go`).
pub const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What init keeps for itself: to signal any process and to start one as another user.
pub(super) const INIT_CAPABILITIES: CapabilitySet = CapabilitySet::KILL
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// The set of capabilities of those names (`CAP_NET_RAW`).
pub(super) fn parse_capabilities(names: &[String]) -> Result<CapabilitySet, Error> {
    names.iter().try_fold(CapabilitySet::empty(), |set, name| {
        let capability = Capability::from_str(name).map_err(|_| Error::Capability(name.clone()))?;
        Ok(set | CapabilitySet::from_bits_retain(capability.bitmask()))
    })
}

/// Names in `set`, for messages.
pub(super) fn capability_names(set: CapabilitySet) -> Vec<String> {
    let mut names: Vec<String> = caps::all()
        .into_iter()
        .filter(|capability| set.bits() & capability.bitmask() != 0)
        .map(|capability| capability.to_string())
        .collect();
    names.sort();
    names
}

/// This thread's permitted set.
pub(super) fn permitted() -> io::Result<CapabilitySet> {
    Ok(capabilities(None)?.permitted)
}

/// Drops everything but `keep` from the bounding set, which every later process inherits
/// (capabilities(7)). Needs `CAP_SETPCAP`.
pub(super) fn limit_bounding(keep: CapabilitySet) -> io::Result<()> {
    for number in 0..64 {
        let bit = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(bit) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(bit) {
            Ok(()) => {}
            // Beyond the kernel's last capability.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes `set` this thread's permitted and effective set, with nothing inheritable; the kernel then
/// empties the ambient set by itself. One system call, no allocation: fit for a fresh child.
pub(super) fn limit(set: CapabilitySet) -> rustix::io::Result<()> {
    set_capabilities(
        None,
        CapabilitySets {
            effective: set,
            permitted: set,
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// A user of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
}

impl User {
    /// The user that an image config's `User` names, from /etc/passwd and /etc/group below the
    /// current root.
    pub(super) fn lookup(text: &str) -> Result<Self, Error> {
        // A missing file is an empty one: images of a single static program have neither.
        let read = |path| fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
        let passwd = read("/etc/passwd").unwrap_or_default();
        let group = read("/etc/group").unwrap_or_default();
        Self::find(text, &passwd, &group)
    }

    /// The same from the texts of the two files.
    ///
    /// `text` is `""` (root), `name`, `uid`, each with an optional `:group` or `:gid`. As in
    /// moby/sys/user: a number needs no entry, a given group replaces the supplementary ones.
    pub fn find(text: &str, passwd: &str, group: &str) -> Result<Self, Error> {
        let (name, group_name) = match text.split_once(':') {
            Some((name, group_name)) => (name, Some(group_name).filter(|g| !g.is_empty())),
            None => (text, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let number = id(name);
        let entry = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let login = fields.next()?;
            let uid = id(fields.nth(1)?)?;
            let gid = id(fields.next()?)?;
            let home = fields.nth(1).unwrap_or_default();
            (login == name || number == Some(uid)).then_some((login, uid, gid, home))
        });
        let mut user = match (entry, number) {
            (Some((_, uid, gid, home)), _) => {
                let home = if home.is_empty() { "/" } else { home };
                Self {
                    uid,
                    gid,
                    groups: Vec::new(),
                    home: home.to_owned(),
                }
            }
            (None, Some(uid)) => {
                let home = if uid == 0 { "/root" } else { "/" };
                Self {
                    uid,
                    gid: 0,
                    groups: Vec::new(),
                    home: home.to_owned(),
                }
            }
            (None, None) => {
                return Err(Error::Unknown {
                    kind: "user",
                    name: name.to_owned(),
                    file: "/etc/passwd",
                });
            }
        };
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let group_name = fields.next()?;
            let gid = id(fields.nth(1)?)?;
            Some((group_name, gid, fields.next().unwrap_or_default()))
        });
        if let Some(wanted) = group_name {
            let found = groups
                .into_iter()
                .find(|(name, ..)| *name == wanted)
                .map(|(_, gid, _)| gid);
            user.gid = found.or_else(|| id(wanted)).ok_or_else(|| Error::Unknown {
                kind: "group",
                name: wanted.to_owned(),
                file: "/etc/group",
            })?;
        } else if let Some((login, ..)) = entry {
            user.groups = groups
                .filter(|(_, _, members)| members.split(',').any(|member| member.trim() == login))
                .map(|(_, gid, _)| gid)
                .collect();
        }
        Ok(user)
    }
}

/// A user or group id. As in moby/sys/user up to 2^31 - 1: to setresuid(2) the highest number of all
/// means "as it is", which is root here.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| i32::try_from(*id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\n\
        tomcat:x:998:997::/opt/tomcat:/sbin/nologin\nnohome:x:7:8:::\n";
    const GROUP: &str = "root:x:0:\ntomcat:x:997:\nweb:x:50:tomcat,other\nlog:x:51:other, tomcat\n";

    fn find(text: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        User::find(text, PASSWD, GROUP)
            .map(|u| (u.uid, u.gid, u.groups, u.home))
            .map_err(|e| e.to_string())
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let tomcat = || Ok((998, 997, vec![50, 51], "/opt/tomcat".to_owned()));
        assert_eq!(find(""), Ok((0, 0, vec![], "/root".to_owned())));
        assert_eq!(find("root"), Ok((0, 0, vec![], "/root".to_owned())));
        assert_eq!(find("tomcat"), tomcat());
        assert_eq!(find("998"), tomcat());
        assert_eq!(find("tomcat:"), tomcat());
        assert_eq!(find("nohome"), Ok((7, 8, vec![], "/".to_owned())));
    }

    #[test]
    fn a_number_needs_no_entry_and_a_group_replaces_the_others() {
        assert_eq!(find("1234"), Ok((1234, 0, vec![], "/".to_owned())));
        assert_eq!(find("1234:77"), Ok((1234, 77, vec![], "/".to_owned())));
        assert_eq!(
            find("tomcat:web"),
            Ok((998, 50, vec![], "/opt/tomcat".to_owned()))
        );
        assert_eq!(find(":web"), Ok((0, 50, vec![], "/root".to_owned())));
    }

    #[test]
    fn the_unknown_is_named() {
        assert_eq!(
            find("nobody").unwrap_err(),
            "user `nobody` is not in the node's /etc/passwd; use a number, or add it to the image"
        );
        assert_eq!(
            find("tomcat:nogroup").unwrap_err(),
            "group `nogroup` is not in the node's /etc/group; use a number, or add it to the image"
        );
    }

    #[test]
    fn the_number_that_changes_nothing_is_no_user() {
        for text in ["4294967295", "2147483648", "0:4294967295"] {
            let error = find(text).unwrap_err();
            assert!(error.contains("is not in the node's /etc/"), "{error}");
        }
        let passwd = "evil:x:4294967295:0::/:\n";
        assert!(User::find("evil", passwd, "").is_err());
        let group = "evil:x:4294967295:\n";
        assert!(User::find("0:evil", passwd, group).is_err());
    }

    #[test]
    fn no_passwd_at_all_leaves_root() {
        let root = User::find("", "", "").map(|u| (u.uid, u.gid, u.home));
        assert_eq!(root.unwrap(), (0, 0, "/root".to_owned()));
    }

    #[test]
    fn capabilities_by_name() {
        let names = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let default = parse_capabilities(&names(DEFAULT_CAPABILITIES)).unwrap();
        // What a container shows as CapBnd under Docker.
        assert_eq!(default.bits(), 0x0000_0000_a804_25fb);
        assert_eq!(
            capability_names(CapabilitySet::NET_ADMIN),
            ["CAP_NET_ADMIN"]
        );
        assert_eq!(
            parse_capabilities(&names(&["NET_ADMIN"]))
                .unwrap_err()
                .to_string(),
            "unknown capability `NET_ADMIN`; capabilities look like CAP_NET_ADMIN, see \
             capabilities(7)"
        );
    }
}
