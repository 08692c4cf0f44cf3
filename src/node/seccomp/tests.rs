//! The filters' programs, run by an interpreter of our own, against the table of names.

use std::collections::{BTreeMap, BTreeSet};

use libc::sock_filter;
use rustix::thread::CapabilitySet as Cap;

use super::tables::{AARCH64, ARM, Abi, I386, X32, X32_BIT, X86_64};
use super::*;

/// What the kernel gives a filter (struct seccomp_data).
#[derive(Clone, Copy)]
struct Call {
    number: u32,
    audit: u32,
    args: [u64; 6],
}

/// Runs a program as the kernel does (net/core/filter.c); anything that it would refuse panics.
fn run(program: &[sock_filter], call: Call) -> SyscallAction {
    let mut data = [0_u32; 16];
    data[0] = call.number;
    data[1] = call.audit;
    for (at, arg) in call.args.iter().enumerate() {
        data[4 + 2 * at] = *arg as u32;
        data[5 + 2 * at] = (arg >> 32) as u32;
    }
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let &sock_filter { code, jt, jf, k } = &program[at];
        at += 1;
        let jump = |yes: bool| usize::from(if yes { jt } else { jf });
        match u32::from(code) {
            0x20 => a = data[k as usize / 4],
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x35 => at += jump(a >= k),
            0x45 => at += jump(a & k != 0),
            0x06 => match k & 0xffff_0000 {
                0x7fff_0000 => return SyscallAction::Allow,
                0x0005_0000 => return SyscallAction::Errno(k as u16),
                other => panic!("returns {other:#x}"),
            },
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn calls(text: &'static str, base: u32) -> BTreeMap<u32, &'static str> {
    let mut found = BTreeMap::new();
    let mut number = base;
    for word in text.split_ascii_whitespace() {
        if let Some(at) = word.strip_prefix('@') {
            number = base + at.parse::<u32>().unwrap();
        } else {
            assert!(found.insert(number, word).is_none());
            number += 1;
        }
    }
    found
}

/// Each ABI with its calls by number.
fn abis() -> Vec<(&'static Abi, BTreeMap<u32, &'static str>)> {
    let x86 = calls(numbers::X86_64, 0);
    let mut x32 = calls(numbers::X32, 512);
    let own: BTreeSet<&str> = x32.values().copied().collect();
    x32.extend(x86.iter().filter(|(_, name)| !own.contains(*name)));
    let mut arm = calls(numbers::ARM, 0);
    arm.extend(calls(numbers::ARM_PRIVATE, 0xf_0000));
    vec![
        (&X86_64, x86),
        (&X32, x32),
        (&I386, calls(numbers::I386, 0)),
        (&AARCH64, calls(numbers::AARCH64, 0)),
        (&ARM, arm),
    ]
}

fn sets() -> Vec<Cap> {
    let default = super::super::DEFAULT_CAPABILITIES
        .iter()
        .map(|&name| name.to_owned())
        .collect::<Vec<_>>();
    let default = parse_capabilities(&default).unwrap();
    let mentioned = PROFILE
        .iter()
        .fold(Cap::empty(), |all, rule| all | rule.with);
    let single = mentioned.iter();
    [Cap::empty(), default, Cap::all(), default | Cap::SYS_ADMIN]
        .into_iter()
        .chain(single)
        .collect()
}

fn programs(capabilities: Cap) -> [Vec<sock_filter>; 2] {
    [
        program::assemble(&[&X86_64, &X32, &I386], capabilities),
        program::assemble(&[&AARCH64, &ARM], capabilities),
    ]
}

/// Which of them is for `abi`.
fn for_arm(abi: &Abi) -> usize {
    usize::from([AARCH64.audit, ARM.audit].contains(&abi.audit))
}

/// What the table says, found by names alone.
fn expected(name: Option<&&str>, capabilities: Cap, args: [u64; 6]) -> SyscallAction {
    let Some(&name) = name else {
        return SyscallAction::Errno(38);
    };
    let rule = PROFILE
        .iter()
        .find(|rule| rule.names.split_ascii_whitespace().any(|n| n == name));
    let Some(rule) = rule else {
        return SyscallAction::Errno(1);
    };
    if !(rule.with & capabilities).is_empty() {
        return SyscallAction::Allow;
    }
    let allowed = match rule.without {
        Verdict::Do(action) => return action,
        Verdict::Among { arg, ranges } => ranges.iter().any(|&(first, last)| {
            (u64::from(first)..=u64::from(last)).contains(&args[usize::from(arg)])
        }),
        Verdict::Except { arg, values } => !values.contains(&(args[usize::from(arg)] as u32)),
        Verdict::Without { arg, bits } => args[usize::from(arg)] & u64::from(bits) == 0,
    };
    if allowed {
        SyscallAction::Allow
    } else {
        SyscallAction::Errno(1)
    }
}

#[test]
fn every_number_of_every_architecture_is_decided_by_the_table() {
    let abis = abis();
    for capabilities in sets() {
        let programs = programs(capabilities);
        for (abi, calls) in &abis {
            let numbers = (0..1200)
                .chain(0xe_fff0..0xf_0020)
                .chain([X32_BIT - 1, !X32_BIT]);
            for number in numbers {
                let call = Call {
                    number: number | abi.bit,
                    audit: abi.audit,
                    args: [0; 6],
                };
                // One of the two programs knows the architecture, the other refuses it.
                let known = for_arm(abi);
                assert_eq!(
                    run(&programs[known], call),
                    expected(calls.get(&number), capabilities, call.args),
                    "{} {number} with {capabilities:?}",
                    abi.name
                );
                assert_eq!(run(&programs[1 - known], call), SyscallAction::Errno(1));
            }
            let skipped = Call {
                number: u32::MAX,
                audit: abi.audit,
                args: [0; 6],
            };
            assert_eq!(
                run(&programs[for_arm(abi)], skipped),
                SyscallAction::Errno(38)
            );
        }
    }
}

#[test]
fn arguments_are_compared_whole() {
    let abis = abis();
    for capabilities in [Cap::empty(), Cap::SYS_ADMIN] {
        let programs = programs(capabilities);
        for (abi, calls) in &abis {
            let values = (0..70)
                .chain([0x2_0000, 0x2_0008, 0x2_0009, 0xffff_ffff, u64::MAX])
                .chain([0x5411, 0x5412, 0x5413, 0x541c, 0x541d])
                .chain((0..64).map(|bit| 1 << bit))
                .flat_map(|value| [value, value | 1 << 32, value | 0x11]);
            for value in values {
                for (&number, name) in calls {
                    if !["socket", "personality", "clone", "clone3", "ioctl", "read"].contains(name)
                    {
                        continue;
                    }
                    let call = Call {
                        number: number | abi.bit,
                        audit: abi.audit,
                        args: [value, value, 5, 5, 5, 5],
                    };
                    let known = for_arm(abi);
                    assert_eq!(
                        run(&programs[known], call),
                        expected(Some(name), capabilities, call.args),
                        "{name}({value:#x}) of {}",
                        abi.name
                    );
                }
            }
        }
    }
}

#[test]
fn what_must_never_be_is_refused_by_default() {
    let default = sets()[1];
    let [x86, _] = programs(default);
    let calls = calls(numbers::X86_64, 0);
    let refused: Vec<&str> = calls
        .iter()
        .filter(|&(&number, _)| {
            let call = Call {
                number,
                audit: X86_64.audit,
                args: [0; 6],
            };
            run(&x86, call) != SyscallAction::Allow
        })
        .map(|(_, name)| *name)
        .collect();
    assert_eq!(
        refused.join(" "),
        "syslog uselib ustat sysfs vhangup pivot_root _sysctl acct settimeofday mount umount2 \
         swapon swapoff reboot sethostname setdomainname iopl ioperm create_module init_module \
         delete_module get_kernel_syms query_module quotactl nfsservctl getpmsg putpmsg \
         afs_syscall tuxcall security lookup_dcookie clock_settime vserver mbind set_mempolicy \
         get_mempolicy kexec_load add_key request_key keyctl migrate_pages unshare move_pages \
         perf_event_open fanotify_init open_by_handle_at setns kcmp finit_module kexec_file_load \
         bpf userfaultfd io_uring_setup io_uring_enter io_uring_register open_tree move_mount \
         fsopen fsconfig fsmount fspick clone3 pidfd_getfd process_madvise mount_setattr \
         quotactl_fd set_mempolicy_home_node lsm_get_self_attr lsm_set_self_attr lsm_list_modules"
    );
}

#[test]
fn each_name_is_in_one_rule_and_has_a_number() {
    let known: BTreeSet<&str> = abis()
        .iter()
        .flat_map(|(_, calls)| calls.values().copied().collect::<Vec<_>>())
        .collect();
    let mut seen = BTreeSet::new();
    for name in PROFILE
        .iter()
        .flat_map(|rule| rule.names.split_ascii_whitespace())
    {
        assert!(seen.insert(name), "{name} is in two rules");
        assert!(known.contains(name), "{name} has no number");
    }
    for verdict in PROFILE.iter().map(|rule| rule.without) {
        if let Verdict::Among { ranges, .. } = verdict {
            let flat: Vec<u32> = ranges.iter().flat_map(|&(a, b)| [a, b]).collect();
            assert!(flat.is_sorted(), "{flat:?}");
        }
    }
}

#[test]
fn the_list_of_rules_says_the_same_as_the_program() {
    for capabilities in sets() {
        let names: Vec<String> = super::super::credentials::capability_names(capabilities);
        let rules = seccomp_rules(&names).unwrap();
        let [program, _] = programs(capabilities);
        for (&number, name) in &calls(numbers::X86_64, 0) {
            for value in (0..50).chain([0x2_0000, 0x2_0008, 0x1000_0000, 0xffff_ffff, 1 << 32]) {
                let call = Call {
                    number,
                    audit: X86_64.audit,
                    args: [value, 0, 0, 0, 0, 0],
                };
                let fits = |rule: &&SyscallRule| {
                    rule.names.contains(name)
                        && rule.arg.is_none_or(|arg| match arg.op {
                            "SCMP_CMP_EQ" => call.args[0] == arg.value,
                            "SCMP_CMP_LT" => call.args[0] < arg.value,
                            "SCMP_CMP_MASKED_EQ" => call.args[0] & arg.value == arg.value_two,
                            other => panic!("{other}"),
                        })
                };
                let action = rules
                    .iter()
                    .find(fits)
                    .map_or(SyscallAction::Errno(1), |rule| rule.action);
                assert_eq!(run(&program, call), action, "{name}({value:#x})");
            }
        }
    }
}

#[test]
fn programs_are_short() {
    for capabilities in sets() {
        for program in programs(capabilities) {
            // BPF_MAXINSNS of the kernel is 4096.
            assert!(program.len() < 1000, "{}", program.len());
        }
    }
}

/// libseccomp's own tool knows the numbers from the same sources; what is newer than it gives -1, and
/// what i386 had as parts of one call once a number of its own below that.
#[test]
fn the_numbers_are_libseccomps() {
    for (abi, calls) in abis() {
        let arch = abi.name.trim_start_matches("SCMP_ARCH_").to_lowercase();
        let names = calls.values().copied().collect::<Vec<_>>().join("\n");
        let mut resolver = std::process::Command::new("xargs")
            .args(["-n1", "scmp_sys_resolver", "-a", &arch])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("xargs runs");
        let mut stdin = resolver.stdin.take().unwrap();
        let writer = std::thread::spawn(move || {
            std::io::Write::write_all(&mut stdin, names.as_bytes()).unwrap();
        });
        let output = resolver.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(
            output.status.success(),
            "scmp_sys_resolver is missing: scripts/setup test"
        );
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().count(), calls.len());
        let mut compared = 0;
        for ((number, name), line) in calls.iter().zip(text.lines()) {
            let theirs: i64 = line.parse().unwrap();
            if theirs >= 0 {
                assert_eq!(theirs, i64::from(number | abi.bit), "{name} of {arch}");
                compared += 1;
            }
        }
        assert!(compared > 280, "only {compared} of {arch} are known");
    }
}
