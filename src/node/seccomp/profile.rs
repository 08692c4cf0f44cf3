//! What a node's programs may ask the kernel for: Docker's default profile as data.
//!
//! Source: moby/profiles, `seccomp/default.json` as of July 2026 (Docker Engine 29), here ordered by
//! subject. It differs in two things. By socketcall(2) 32-bit x86 programs could open the sockets that
//! [`SOCKETS`] leaves out; Docker refuses those in its AppArmor profile, which a node has not, so that
//! call is refused. And a command of `nslab exec` may have the caller's own terminal, which nobody
//! should type into ([`TYPING`]).

use rustix::thread::CapabilitySet as Cap;

use super::SyscallAction as Action;

/// A line of the table. Each system call is in one at most; those in none are refused with EPERM,
/// and numbers that have no name yet with ENOSYS, so that a C library falls back on what it used before.
#[derive(Debug)]
pub(super) struct Rule {
    /// Names as libseccomp has them, with blanks between.
    pub(super) names: &'static str,
    /// Each of these capabilities allows them.
    pub(super) with: Cap,
    /// What becomes of them without.
    pub(super) without: Verdict,
}

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same always.
    Do(Action),
    /// Allowed if argument number `arg` lies in one of the ranges, ends included, which ascend; else
    /// EPERM.
    Among {
        arg: u8,
        ranges: &'static [(u32, u32)],
    },
    /// Allowed unless the lower half of argument number `arg`, all that the kernel looks at, is one
    /// of the values; then EPERM.
    Except { arg: u8, values: &'static [u32] },
    /// Allowed if argument number `arg` has none of the bits; else EPERM.
    Without { arg: u8, bits: u32 },
}

pub(super) const EPERM: Verdict = Verdict::Do(Action::Errno(libc::EPERM as u16));
pub(super) const ENOSYS: Verdict = Verdict::Do(Action::Errno(libc::ENOSYS as u16));
pub(super) const ALLOW: Verdict = Verdict::Do(Action::Allow);

/// Protocol families of socket(2) that may be opened (linux/socket.h): all but those that are gone
/// from the kernel, `AF_ALG` (38: the kernel's cryptography, CVE-2026-31431) and `AF_VSOCK` (40:
/// reaches the hypervisor and other machines from every network namespace).
const SOCKETS: &[(u32, u32)] = &[
    (0, 11),
    (13, 18),
    (21, 22),
    (24, 24),
    (26, 33),
    (35, 36),
    (39, 39),
    (41, 45),
];

/// Requests of ioctl(2) that put words into the mouth of who sits at a terminal: `TIOCSTI` and
/// `TIOCLINUX` (ioctl_tty(2), ioctl_console(2)).
const TYPING: &[u32] = &[0x5412, 0x541c];

/// Personalities (personality(2)): Linux and `PER_LINUX32`, each with and without `UNAME26`, and the
/// question for the present one.
const PERSONALITIES: &[(u32, u32)] = &[
    (0, 0),
    (8, 8),
    (0x2_0000, 0x2_0000),
    (0x2_0008, 0x2_0008),
    (u32::MAX, u32::MAX),
];

/// Flags of clone(2) that make namespaces.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u32;

const fn always(names: &'static str, what: Verdict) -> Rule {
    Rule {
        names,
        with: Cap::empty(),
        without: what,
    }
}

const fn with(capabilities: Cap, names: &'static str) -> Rule {
    Rule {
        names,
        with: capabilities,
        without: EPERM,
    }
}

/// The table.
pub(super) const PROFILE: &[Rule] = &[
    // Files: names, content, metadata. Permissions decide what they reach.
    always(
        "open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock \
         read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek \
         sendfile sendfile64 copy_file_range splice tee vmsplice readahead cachestat \
         fadvise64 fadvise64_64 arm_fadvise64_64 fallocate truncate truncate64 ftruncate ftruncate64 \
         sync syncfs fsync fdatasync sync_file_range arm_sync_file_range \
         stat stat64 lstat lstat64 fstat fstat64 newfstatat fstatat64 statx \
         statfs statfs64 fstatfs fstatfs64 statmount listmount \
         access faccessat faccessat2 umask chmod fchmod fchmodat fchmodat2 \
         chown chown32 fchown fchown32 lchown lchown32 fchownat \
         utime utimes futimesat utimensat utimensat_time64 \
         getcwd chdir fchdir getdents getdents64 mkdir mkdirat rmdir mknod mknodat \
         link linkat unlink unlinkat rename renameat renameat2 symlink symlinkat \
         readlink readlinkat name_to_handle_at \
         getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat \
         listxattr llistxattr flistxattr listxattrat \
         removexattr lremovexattr fremovexattr removexattrat \
         inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark \
         io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64",
        ALLOW,
    ),
    // Waiting for files.
    always(
        "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 \
         epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait \
         epoll_pwait2 eventfd eventfd2 signalfd signalfd4 pipe pipe2",
        ALLOW,
    ),
    // Memory.
    always(
        "brk mmap mmap2 munmap mremap mprotect madvise mincore msync remap_file_pages \
         mlock mlock2 mlockall munlock munlockall mseal map_shadow_stack memfd_create memfd_secret \
         pkey_alloc pkey_free pkey_mprotect membarrier cacheflush",
        ALLOW,
    ),
    // Processes, threads, signals. The PID namespace bounds whom they reach. ptrace(2) could get
    // around a filter until Linux 4.8; nslab needs a later one.
    always(
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill \
         pidfd_open pidfd_send_signal process_mrelease \
         ptrace process_vm_readv process_vm_writev uretprobe breakpoint \
         rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
         rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn \
         pause restart_syscall \
         futex futex_time64 futex_wait futex_wake futex_waitv futex_requeue \
         set_robust_list get_robust_list rseq \
         set_tid_address set_thread_area get_thread_area set_tls arch_prctl modify_ldt \
         getpid getppid gettid getpgid getpgrp getsid setpgid setsid prctl getcpu \
         getpriority setpriority ioprio_get ioprio_set sched_yield \
         sched_getaffinity sched_setaffinity sched_getattr sched_setattr \
         sched_getparam sched_setparam sched_getscheduler sched_setscheduler \
         sched_get_priority_max sched_get_priority_min \
         sched_rr_get_interval sched_rr_get_interval_time64 \
         getrlimit ugetrlimit setrlimit prlimit64 getrusage times uname sysinfo getrandom",
        ALLOW,
    ),
    // Users, and giving up rights.
    always(
        "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 \
         getresuid getresuid32 getresgid getresgid32 getgroups getgroups32 \
         setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 \
         setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 \
         setgroups setgroups32 capget capset \
         seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        ALLOW,
    ),
    // Clocks; turning the host's needs CAP_SYS_TIME in adjtimex(2) itself.
    always(
        "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 \
         clock_adjtime clock_adjtime64 adjtimex nanosleep clock_nanosleep clock_nanosleep_time64 \
         alarm getitimer setitimer \
         timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
         timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
         timerfd_settime64",
        ALLOW,
    ),
    // Sockets, and System V and POSIX IPC, which have namespaces of the node's own.
    always(
        "socketpair bind listen accept accept4 connect shutdown getsockname getpeername \
         getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg \
         recvmmsg_time64 \
         ipc semget semop semctl semtimedop semtimedop_time64 shmget shmat shmctl shmdt \
         msgget msgsnd msgrcv msgctl \
         mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 \
         mq_timedreceive mq_timedreceive_time64",
        ALLOW,
    ),
    always(
        "ioctl",
        Verdict::Except {
            arg: 1,
            values: TYPING,
        },
    ),
    always("socket", among(0, SOCKETS)),
    always("socketcall", ENOSYS),
    always("personality", among(0, PERSONALITIES)),
    // Namespaces. The flags of clone3(2) are in memory, where no filter sees them; without it C
    // libraries use clone(2).
    Rule {
        names: "clone",
        with: Cap::SYS_ADMIN,
        without: Verdict::Without {
            arg: 0,
            bits: NAMESPACES,
        },
    },
    Rule {
        names: "clone3",
        with: Cap::SYS_ADMIN,
        without: ENOSYS,
    },
    with(
        Cap::SYS_ADMIN,
        "unshare setns sethostname setdomainname mount umount umount2 mount_setattr move_mount \
         open_tree fsopen fsconfig fsmount fspick quotactl quotactl_fd fanotify_init lookup_dcookie \
         lsm_get_self_attr lsm_set_self_attr lsm_list_modules",
    ),
    with(Cap::SYS_ADMIN.union(Cap::BPF), "bpf"),
    with(Cap::SYS_ADMIN.union(Cap::PERFMON), "perf_event_open"),
    with(Cap::SYS_ADMIN.union(Cap::SYSLOG), "syslog"),
    with(Cap::DAC_READ_SEARCH, "open_by_handle_at"),
    with(Cap::SYS_BOOT, "reboot"),
    with(Cap::SYS_CHROOT, "chroot"),
    with(Cap::SYS_MODULE, "init_module finit_module delete_module"),
    with(Cap::SYS_PACCT, "acct"),
    with(Cap::SYS_PTRACE, "kcmp pidfd_getfd process_madvise"),
    with(Cap::SYS_RAWIO, "iopl ioperm"),
    with(
        Cap::SYS_TIME,
        "settimeofday stime clock_settime clock_settime64",
    ),
    with(Cap::SYS_TTY_CONFIG, "vhangup"),
    with(
        Cap::SYS_NICE,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
];

const fn among(arg: u8, ranges: &'static [(u32, u32)]) -> Verdict {
    Verdict::Among { arg, ranges }
}
