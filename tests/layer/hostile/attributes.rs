//! Modes, devices and attributes that give away rights, or that a filesystem cannot take.

use super::{Case, harmless, refused, t};
use crate::tarball::{Head, head};

/// `user::rwx,user:1000:rwx,group::r-x,mask::rwx,other::r-x` as posix_acl_xattr.h has it.
const ACL: &[u8] = b"\x02\0\0\0\
    \x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\xe8\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\
    \x10\0\x07\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff";

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn all() -> Vec<Case> {
    vec![
        harmless(
            "mode-setuid",
            "a program of root's with set-user-ID: it is in the image, and only there",
            t().put(&Head {
                mode: 0o6755,
                data: b"#!/bin/sh\n",
                ..head(b'0', "sh")
            }),
            &["sh 6755 \"#!/bin/sh\\\\n\""],
        ),
        harmless(
            "mode-type",
            "a mode that says it is a link",
            t().put_with(&head(b'0', "f"), |b| {
                b[100..108].copy_from_slice(b"0120777\0");
            }),
            &["f 777 \"\""],
        ),
        harmless(
            "mode-closed",
            "a folder that keeps its own content out",
            t().put(&Head {
                mode: 0,
                ..head(b'5', "d")
            })
            .file("d/f", "x"),
            &["d/ 0", "d/f 644 \"x\""],
        ),
        harmless(
            "device-disk",
            "the host's memory and disk: as in every image, and out of a node's reach",
            t().put(&Head {
                device: (1, 1),
                mode: 0o666,
                ..head(b'3', "mem")
            })
            .put(&Head {
                device: (8, 0),
                mode: 0o666,
                ..head(b'4', "sda")
            })
            .put(&Head {
                device: (4095, (1 << 20) - 1),
                ..head(b'3', "most")
            }),
            &["mem c1/1 666", "most c4095/1048575 644", "sda b8/0 666"],
        ),
        harmless(
            "attribute-label",
            "a label of the host's security module",
            t().pax(&[(
                "SCHILY.xattr.security.selinux",
                b"system_u:object_r:bin_t:s0",
            )])
            .file("f", ""),
            &["f 644 \"\""],
        ),
        refused(
            "attribute-large",
            "an attribute that the kernel does not take",
            t().pax(&[("SCHILY.xattr.trusted.x", &[b'x'; 70_000])])
                .file("f", ""),
            "could not set attribute `trusted.x` of `f`: Argument list too long (os error 7)",
            &["f 600 \"\" @0"],
        ),
        refused(
            "attribute-long-name",
            "a name that the kernel does not take",
            t().pax(&[(
                &format!("SCHILY.xattr.trusted.{}", "x".repeat(300)),
                &b"x"[..],
            )])
            .file("f", ""),
            format!(
                "could not set attribute `trusted.{}` of `f`: Numerical result out of range (os error 34)",
                "x".repeat(293) + "..."
            ),
            &["f 600 \"\" @0"],
        ),
        refused(
            "attribute-zero",
            "a name that ends early for the kernel",
            t().pax(&[("SCHILY.xattr.trusted.x\0y", &b"x"[..])])
                .file("f", ""),
            "could not set attribute `trusted.x\\u{0}y` of `f`: Invalid argument (os error 22)",
            &["f 600 \"\" @0"],
        ),
        harmless(
            "attribute-no-class",
            "a name without a class",
            t().pax(&[("SCHILY.xattr.nonsense", &b"x"[..])])
                .file("f", ""),
            &["f 644 \"\""],
        ),
        harmless(
            "attribute-of-link",
            "an attribute of what a link leads to",
            t().pax(&[("SCHILY.xattr.trusted.x", b"y")])
                .symlink("l", "../canary/file"),
            &["l -> ../canary/file +trusted.x=y"],
        ),
        harmless(
            "attribute-second",
            "a folder's second entry: the attributes of the first are gone",
            t().pax(&[("SCHILY.xattr.trusted.a", b"1")])
                .dir("d")
                .pax(&[("SCHILY.xattr.trusted.b", b"2")])
                .dir("d"),
            &["d/ 755 +trusted.b=2"],
        ),
        harmless(
            "attribute-inherited",
            "an access list that everything in the folder inherits",
            t().pax(&[("SCHILY.xattr.system.posix_acl_default", ACL)])
                .dir("d")
                .dir("d/sub")
                .file("d/f", "x"),
            &[
                "d/ 755 +system.posix_acl_default=\\x02\\x00\\x00\\x00\\x01\\x00\\x07\\x00\\xff\\xff\\xff\\xff\
                 \\x02\\x00\\x07\\x00\\xe8\\x03\\x00\\x00\\x04\\x00\\x05\\x00\\xff\\xff\\xff\\xff\
                 \\x10\\x00\\x07\\x00\\xff\\xff\\xff\\xff \\x00\\x05\\x00\\xff\\xff\\xff\\xff",
                "d/f 644 \"x\"",
                "d/sub/ 755",
            ],
        ),
        refused(
            "attribute-bad-list",
            "an access list that lacks what each has",
            t().pax(&[("SCHILY.xattr.system.posix_acl_access", &ACL[..12])])
                .file("f", ""),
            "could not set attribute `system.posix_acl_access` of `f`: Invalid argument (os error 22)",
            &["f 600 \"\" @0"],
        ),
        refused(
            "attribute-bad-default",
            "the same on a folder, where it is set at the end",
            t().pax(&[("SCHILY.xattr.system.posix_acl_default", &ACL[..12])])
                .dir("d"),
            "could not set the default access list of `d`: Invalid argument (os error 22)",
            &["d/ 755 @0"],
        ),
    ]
}
