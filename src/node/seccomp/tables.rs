//! From names to numbers, while compiling: for each architecture the rule of each number, so that a
//! filter is made without a single comparison of names.

use super::numbers;
use super::profile::PROFILE;

/// In place of an index into [`PROFILE`]: a system call that no rule names.
pub(super) const UNNAMED: u8 = 254;
/// In place of an index: a number that no system call has.
pub(super) const UNKNOWN: u8 = 255;

/// One way to make system calls.
#[derive(Debug)]
pub(super) struct Abi {
    /// As OCI configs call it.
    pub(super) name: &'static str,
    /// `arch` of struct seccomp_data (linux/audit.h).
    pub(super) audit: u32,
    /// Numbers have this bit too.
    pub(super) bit: u32,
    /// From which number on, and the rule of each number.
    pub(super) segments: &'static [(u32, &'static [u8])],
}

/// Bit that x32 numbers have (`__X32_SYSCALL_BIT`, asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The ABIs of this machine; those with the same `audit` follow one another, the one without `bit`
/// first. Empty where there is no table yet: nodes then go without a filter, and say so.
pub(super) const NATIVE: &[&Abi] = if cfg!(target_arch = "x86_64") {
    &[&X86_64, &X32, &I386]
} else if cfg!(target_arch = "aarch64") {
    &[&AARCH64, &ARM]
} else {
    &[]
};

pub(super) static X86_64: Abi = Abi {
    name: "SCMP_ARCH_X86_64",
    audit: 0xc000_003e,
    bit: 0,
    segments: &[(0, &rules::<467>(numbers::X86_64, ""))],
};
pub(super) static X32: Abi = Abi {
    name: "SCMP_ARCH_X32",
    audit: 0xc000_003e,
    bit: X32_BIT,
    segments: &[
        (0, &rules::<467>(numbers::X86_64, numbers::X32)),
        (512, &rules::<36>(numbers::X32, "")),
    ],
};
pub(super) static I386: Abi = Abi {
    name: "SCMP_ARCH_X86",
    audit: 0x4000_0003,
    bit: 0,
    segments: &[(0, &rules::<467>(numbers::I386, ""))],
};
pub(super) static AARCH64: Abi = Abi {
    name: "SCMP_ARCH_AARCH64",
    audit: 0xc000_00b7,
    bit: 0,
    segments: &[(0, &rules::<467>(numbers::AARCH64, ""))],
};
pub(super) static ARM: Abi = Abi {
    name: "SCMP_ARCH_ARM",
    audit: 0x4000_0028,
    bit: 0,
    segments: &[
        (0, &rules::<467>(numbers::ARM, "")),
        (0xf_0000, &rules::<6>(numbers::ARM_PRIVATE, "")),
    ],
};

/// The rule of each number in `text`, but none for names that `without` has.
const fn rules<const N: usize>(text: &str, without: &str) -> [u8; N] {
    let mut table = [UNKNOWN; N];
    let (mut rest, mut number) = (text.as_bytes(), 0);
    while let Some((word, after)) = next_word(rest) {
        rest = after;
        if word[0] == b'@' {
            number = decimal(word);
        } else {
            if !has(without.as_bytes(), word) {
                table[number] = rule_of(word);
            }
            number += 1;
        }
    }
    assert!(number == N, "the table has another length");
    table
}

/// Every name of the profile, and the index of its rule.
const NAMES: [(&[u8], u8); count()] = {
    let mut names: [(&[u8], u8); count()] = [(b"", UNNAMED); count()];
    let (mut at, mut rule) = (0, 0);
    while rule < PROFILE.len() {
        let mut rest = PROFILE[rule].names.as_bytes();
        while let Some((word, after)) = next_word(rest) {
            names[at] = (word, rule as u8);
            rest = after;
            at += 1;
        }
        rule += 1;
    }
    names
};

const fn count() -> usize {
    let (mut count, mut rule) = (0, 0);
    while rule < PROFILE.len() {
        let mut rest = PROFILE[rule].names.as_bytes();
        while let Some((_, after)) = next_word(rest) {
            rest = after;
            count += 1;
        }
        rule += 1;
    }
    count
}

/// Index of the rule that names `word`.
const fn rule_of(word: &[u8]) -> u8 {
    let mut at = 0;
    while at < NAMES.len() {
        if same(NAMES[at].0, word) {
            return NAMES[at].1;
        }
        at += 1;
    }
    UNNAMED
}

/// Whether `word` is among the words of `text`.
const fn has(text: &[u8], word: &[u8]) -> bool {
    let mut rest = text;
    while let Some((other, after)) = next_word(rest) {
        if same(other, word) {
            return true;
        }
        rest = after;
    }
    false
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    // From the end: many names begin alike.
    let mut left = one.len();
    while left > 0 && one[left - 1] == other[left - 1] {
        left -= 1;
    }
    left == 0
}

/// The first word and what follows it.
const fn next_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut start = 0;
    while start < text.len() && text[start] == b' ' {
        start += 1;
    }
    let mut end = start;
    while end < text.len() && text[end] != b' ' {
        end += 1;
    }
    if start == end {
        return None;
    }
    let (head, rest) = text.split_at(end);
    Some((head.split_at(start).1, rest))
}

/// The number in `@NUMBER`.
const fn decimal(word: &[u8]) -> usize {
    let (mut value, mut at) = (0, 1);
    while at < word.len() {
        value = 10 * value + (word[at] - b'0') as usize;
        at += 1;
    }
    value
}
