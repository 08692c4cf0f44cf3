//! A filter of system calls (seccomp(2)) for what runs in a node.
//!
//! | file | job |
//! |---|---|
//! | `profile` | which system calls are allowed, by name: the one table |
//! | `numbers` | the system calls of each architecture in order |
//! | `tables` | both put together while compiling |
//! | `program` | a filter's program from that and a set of capabilities |

mod numbers;
mod profile;
mod program;
mod tables;
#[cfg(test)]
mod tests;

use std::ptr;

use rustix::thread::CapabilitySet;
use serde::Serialize;

use super::Error;
use super::credentials::parse_capabilities;
use profile::{ALLOW, PROFILE, Verdict};

/// What a filter does with a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SyscallAction {
    /// It takes place.
    Allow,
    /// It fails with this error number.
    Errno(u16),
}

/// Some system calls that are treated alike, in the terms of libseccomp and of `linux.seccomp` in
/// the OCI runtime spec (config-linux.md, "Seccomp").
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyscallRule {
    /// Names as libseccomp has them.
    pub names: Vec<&'static str>,
    /// What is done with them.
    pub action: SyscallAction,
    /// Only if this holds too, if it is there.
    pub arg: Option<SyscallArg>,
}

/// A condition on an argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SyscallArg {
    /// Which argument, from 0.
    pub index: u8,
    /// What it is compared with.
    pub value: u64,
    /// The second value, of `SCMP_CMP_MASKED_EQ` only: `argument & value == value_two`.
    pub value_two: u64,
    /// `SCMP_CMP_EQ`, `SCMP_CMP_LT` or `SCMP_CMP_MASKED_EQ`.
    pub op: &'static str,
}

/// Architectures that the profile is for on this machine, by the names of the OCI runtime spec.
pub fn seccomp_architectures() -> Vec<&'static str> {
    tables::NATIVE.iter().map(|abi| abi.name).collect()
}

/// The default profile for a node with these capabilities (`CAP_NET_RAW`): what it allows, and what
/// it refuses with another error than EPERM. All other system calls fail with EPERM.
pub fn seccomp_rules(capabilities: &[String]) -> Result<Vec<SyscallRule>, Error> {
    let capabilities = parse_capabilities(capabilities)?;
    let mut rules = Vec::new();
    for rule in PROFILE {
        let mut push = |action, arg| {
            rules.push(SyscallRule {
                names: rule.names.split_ascii_whitespace().collect(),
                action,
                arg,
            });
        };
        match rule.verdict(capabilities) {
            profile::EPERM => {}
            Verdict::Do(action) => push(action, None),
            // libseccomp compares whole arguments, so that this would be easy to get around; and the
            // terminals of OCI runtimes are their own.
            Verdict::Except { .. } => push(SyscallAction::Allow, None),
            Verdict::Without { arg, bits } => {
                let arg = SyscallArg {
                    index: arg,
                    value: bits.into(),
                    value_two: 0,
                    op: "SCMP_CMP_MASKED_EQ",
                };
                push(SyscallAction::Allow, Some(arg));
            }
            Verdict::Among { arg, ranges } => {
                for &(first, last) in ranges {
                    // runc makes alternatives of several conditions on one argument, so a range
                    // that does not start at 0 is a rule for each value.
                    let below = SyscallArg {
                        index: arg,
                        value: u64::from(last) + 1,
                        value_two: 0,
                        op: "SCMP_CMP_LT",
                    };
                    if first == 0 && last > 0 {
                        push(SyscallAction::Allow, Some(below));
                        continue;
                    }
                    for value in first..=last {
                        let equal = SyscallArg {
                            value: value.into(),
                            op: "SCMP_CMP_EQ",
                            ..below
                        };
                        push(SyscallAction::Allow, Some(equal));
                    }
                }
            }
        }
    }
    Ok(rules)
}

impl profile::Rule {
    /// What becomes of these system calls with `capabilities`.
    fn verdict(&self, capabilities: CapabilitySet) -> Verdict {
        if self.with.intersects(capabilities) {
            ALLOW
        } else {
            self.without
        }
    }
}

/// A filter, ready to be installed.
#[derive(Debug)]
pub(super) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// The default filter for a node with `capabilities`, if one is `wanted`; `None` as well where
    /// this machine's kernel has none, or nslab does not know its numbers.
    pub(super) fn of(wanted: bool, capabilities: CapabilitySet) -> Option<Self> {
        if !wanted || tables::NATIVE.is_empty() || !available() {
            return None;
        }
        Some(Self(program::assemble(tables::NATIVE, capabilities)))
    }

    /// Installs it for this thread, for good: only what the filter allows can come after. Two system
    /// calls at most, no allocation: fit for a fresh child. Needs `no_new_privs`.
    pub(super) fn install(&self) -> rustix::io::Result<()> {
        let program = libc::sock_fprog {
            // It is a few hundred instructions long, see `program`.
            len: self.0.len() as u16,
            filter: self.0.as_ptr().cast_mut(),
        };
        // Without the flag a kernel before 5.16 also switches a defence against Spectre 4 on, at the
        // price of half of Java's speed; runc and Docker leave it off too.
        let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // SAFETY: the program is alive, the kernel only reads it (seccomp(2)).
        let done = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        if done < 0 {
            Err(super::raw::last_errno())
        } else {
            Ok(())
        }
    }
}

/// Whether the kernel has filters (`CONFIG_SECCOMP_FILTER`).
fn available() -> bool {
    // SAFETY: asks only; the filter that is not there is told by EFAULT (seccomp(2)).
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            ptr::null::<libc::sock_fprog>(),
        )
    };
    done < 0 && super::raw::last_errno() == rustix::io::Errno::FAULT
}
