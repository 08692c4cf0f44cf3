//! The program of a filter, in classic BPF (seccomp(2), Documentation/networking/filter.rst).
//!
//! Numbers with the same verdict make a run; the runs are searched by halving, six or seven
//! comparisons for any system call. The kernel (5.11 and later) tries each number once when the
//! filter is installed, and does not run it any more for those that are allowed whatever their
//! arguments are.

use libc::sock_filter;
use rustix::thread::CapabilitySet;

use super::SyscallAction;
use super::profile::{ALLOW, ENOSYS, EPERM, PROFILE, Verdict};
use super::tables::{Abi, UNKNOWN, UNNAMED};

/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_FROM: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The program for all of `abis`.
pub(super) fn assemble(abis: &[&Abi], capabilities: CapabilitySet) -> Vec<sock_filter> {
    let mut program = Program(Vec::with_capacity(768));
    program.push(LOAD, ARCH);
    let mut abis = abis.iter().peekable();
    while let Some(abi) = abis.next() {
        program.when(IF_EQUAL, abi.audit, |program| {
            program.push(LOAD, NUMBER);
            if let Some(x32) = abis.next_if(|next| next.audit == abi.audit) {
                program.when(IF_FROM, x32.bit, |program| {
                    program.push(AND, !x32.bit);
                    program.search(&runs(x32, capabilities));
                });
            }
            program.search(&runs(abi, capabilities));
        });
    }
    // An architecture that this machine does not have.
    program.verdict(EPERM);
    program.0
}

/// From which number on which verdict holds, ascending from 0.
pub(super) fn runs(abi: &Abi, capabilities: CapabilitySet) -> Vec<(u32, Verdict)> {
    let mut runs: Vec<(u32, Verdict)> = Vec::with_capacity(256);
    let mut push = |number: u32, verdict: Verdict| {
        if runs.last().is_none_or(|(_, before)| *before != verdict) {
            runs.push((number, verdict));
        }
    };
    let verdicts: Vec<Verdict> = PROFILE
        .iter()
        .map(|rule| rule.verdict(capabilities))
        .collect();
    for &(base, rules) in abi.segments {
        for (number, &rule) in (base..).zip(rules) {
            push(
                number,
                match rule {
                    UNKNOWN => ENOSYS,
                    UNNAMED => EPERM,
                    rule => verdicts[usize::from(rule)],
                },
            );
        }
        push(base + rules.len() as u32, ENOSYS);
    }
    runs
}

/// Instructions so far. What is added by the methods that search or decide ends with a return.
struct Program(Vec<sock_filter>);

impl Program {
    fn push(&mut self, code: u16, k: u32) {
        self.0.push(sock_filter {
            code,
            jt: 0,
            jf: 0,
            k,
        });
    }

    /// Runs `body` if the accumulator meets the condition, and goes on behind it if not.
    fn when(&mut self, condition: u16, k: u32, body: impl FnOnce(&mut Self)) {
        self.0.push(sock_filter {
            code: condition,
            jt: 1,
            jf: 0,
            k,
        });
        let jump = self.0.len();
        self.push(JUMP, 0);
        body(self);
        self.0[jump].k = (self.0.len() - jump - 1) as u32;
    }

    /// Carries out the verdict of the run that the accumulator lies in.
    fn search(&mut self, runs: &[(u32, Verdict)]) {
        let (lower, upper) = runs.split_at(runs.len() / 2);
        let [(from, verdict), ..] = upper else {
            return;
        };
        if lower.is_empty() {
            return self.verdict(*verdict);
        }
        let branch = self.0.len();
        self.push(IF_FROM, *from);
        self.search(lower);
        // A condition leads over 255 instructions at most.
        let over = self.0.len() - branch - 1;
        if let Ok(over) = u8::try_from(over) {
            self.0[branch].jt = over;
        } else {
            self.0[branch].jf = 1;
            let jump = sock_filter {
                code: JUMP,
                jt: 0,
                jf: 0,
                k: over as u32,
            };
            self.0.insert(branch + 1, jump);
        }
        self.search(upper);
    }

    fn verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Do(SyscallAction::Allow) => self.push(RETURN, libc::SECCOMP_RET_ALLOW),
            Verdict::Do(SyscallAction::Errno(number)) => {
                self.push(RETURN, libc::SECCOMP_RET_ERRNO | u32::from(number));
            }
            Verdict::Among { arg, ranges } => {
                let low = ARGS + 8 * u32::from(arg);
                self.push(LOAD, low + 4);
                self.when(IF_FROM, 1, |program| program.verdict(EPERM));
                self.push(LOAD, low);
                let mut runs = Vec::with_capacity(2 * ranges.len() + 1);
                if !ranges.iter().any(|&(first, _)| first == 0) {
                    runs.push((0, EPERM));
                }
                for &(first, last) in ranges {
                    runs.push((first, ALLOW));
                    runs.extend(last.checked_add(1).map(|next| (next, EPERM)));
                }
                self.search(&runs);
            }
            Verdict::Except { arg, values } => {
                self.push(LOAD, ARGS + 8 * u32::from(arg));
                for &value in values {
                    self.when(IF_EQUAL, value, |program| program.verdict(EPERM));
                }
                self.verdict(ALLOW);
            }
            Verdict::Without { arg, bits } => {
                self.push(LOAD, ARGS + 8 * u32::from(arg));
                self.when(IF_BITS, bits, |program| program.verdict(EPERM));
                self.verdict(ALLOW);
            }
        }
    }
}
