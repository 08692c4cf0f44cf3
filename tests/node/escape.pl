# Tries to get out of a node, or at what is the host's, as root inside; prints what became of each try:
# its name and the error, `ok` where it worked. Nothing here does harm where it works.
#
# Arguments: a pid of the host; a folder of the host that the node has not; NAME=NUMBER of each system
# call that is used. No module is, so that an image needs perl alone.
my ($host_pid, $secret, @numbers) = @ARGV;
my $c;
my %nr = map { split /=/ } @numbers;
my %names = (1, "EPERM", 2, "ENOENT", 3, "ESRCH", 9, "EBADF", 13, "EACCES", 14, "EFAULT",
    19, "ENODEV", 20, "ENOTDIR", 22, "EINVAL", 25, "ENOTTY", 30, "EROFS", 38, "ENOSYS");
$| = 1;

sub told { my ($name, $error) = @_; print "$name ", $error ? $names{$error} // $error : "ok", "\n" }
sub call {
    my ($name, $number, @args) = @_;
    $! = 0;
    my $failed = syscall($nr{$number} // die($number), @args) == -1;
    told($name, $failed ? $! + 0 : 0);
}
# O_WRONLY; nothing is written.
sub writable { my ($name, $path) = @_; told($name, sysopen(my $file, $path, 1) ? 0 : $! + 0) }
sub readable { my ($name, $path) = @_; told($name, sysopen(my $file, $path, 0) ? 0 : $! + 0) }

# Mounts and namespaces.
my $own = "/tmp/escape-$$";
mkdir $own or die "mkdir: $!";
call("mount tmpfs", "mount", $a = "none", $b = $own, $c = "tmpfs", 0, 0);
call("mount host's disk", "mount", $a = "/dev/disk", $b = $own, $c = "ext4", 0, 0);
call("mount cgroup", "mount", $a = "none", $b = $own, $c = "cgroup", 0, 0);
call("remount / writable", "mount", 0, $a = "/", 0, 0x1020, 0);
call("umount", "umount2", $a = $own, 2);
call("open_tree", "open_tree", -100, $a = "/proc/1/root", 1);
call("fsopen", "fsopen", $a = "tmpfs", 0);
call("pivot_root", "pivot_root", $a = "/no/folder", $b = "/no/folder");
# Each in a child of its own, whose rights they would change.
for (["unshare user", "unshare", 0x10000000], ["unshare mount", "unshare", 0x20000],
    ["clone user", "clone", 0x10000000 | 17, 0, 0, 0, 0]) {
    if (!fork) { call(@$_); exit }
    wait;
}
call("setns", "setns", 0, 0);
readable("open init's mount namespace", "/proc/1/ns/mnt");
call("sethostname", "sethostname", $a = "evil", 4);
# The kernel.
call("init_module", "init_module", 0, 0, $a = "");
call("finit_module", "finit_module", -1, $a = "", 0);
call("delete_module", "delete_module", $a = "no_such_module", 0);
call("kexec_load", "kexec_load", 0, 0, 0, 0xffff << 16);
call("reboot", "reboot", 0, 0, 0, 0);
call("swapon", "swapon", $a = "/tmp", 0);
call("settimeofday", "settimeofday", 0, 0);
call("clock_settime", "clock_settime", 0, 0);
call("kernel log", "syslog", 10, 0, 0);
call("acct", "acct", $a = "/no/file");
call("bpf", "bpf", 0, 0, 0);
call("perf_event_open", "perf_event_open", 0, 0, 0, -1, 0);
call("userfaultfd", "userfaultfd", 0);
call("io_uring_setup", "io_uring_setup", 1, 0);
call("keyctl", "keyctl", 0, -3, 0);
call("add_key", "add_key", $a = "user", $b = "evil", $c = "x", 1, -3);
call("iopl", "iopl", 3) if $nr{iopl};
call("personality", "personality", 0x0400000);
call("socket AF_ALG", "socket", 38, 5, 0);
call("socket AF_VSOCK", "socket", 40, 1, 0);
writable("sysrq", "/proc/sysrq-trigger");
writable("core_pattern", "/proc/sys/kernel/core_pattern");
writable("ip_forward", "/proc/sys/net/ipv4/ip_forward");
writable("irq", "/proc/irq/default_smp_affinity");
writable("sysfs", "/sys/class/net/lo/mtu");
writable("cgroup.procs", "/sys/fs/cgroup/cgroup.procs");
writable("release_agent", "/sys/fs/cgroup/release_agent");
readable("/dev/mem", "/dev/mem");
readable("/dev/kmsg", "/dev/kmsg");
readable("/proc/kmsg", "/proc/kmsg");
for my $device (["memory", "c", 1, 1], ["loop disk", "b", 7, 0], ["fuse", "c", 10, 229]) {
    my ($name, $kind, $major, $minor) = @$device;
    call("make $name", "mknodat", -100, $a = "$own/$name", ($kind eq "b" ? 0060666 : 0020666),
        $major << 8 | $minor & 0xff | ($minor & ~0xff) << 12);
    readable("open $name", "$own/$name");
}
opendir(my $dev, "/dev") or die;
told("disk in /dev", (grep { -b "/dev/$_" } readdir $dev) ? 0 : 2);
# Other processes.
told("kill a process of the host", kill(0, $host_pid) ? 0 : $! + 0);
call("ptrace init", "ptrace", 0x4206, 1, 0, 0);
my $bytes = "x" x 8;
my $here = pack("QQ", unpack("Q", pack("P", $bytes)), 8);
my $there = pack("QQ", 0x400000, 8);
call("read init's memory", "process_vm_readv", 1, $here, 1, $there, 1, 0);
readable("open init's memory", "/proc/1/mem");
readable("init's environment", "/proc/1/environ");
readable("init's root", "/proc/1/root/");
readable("init's binary", "/proc/1/exe");
readable("init's output", "/proc/1/fd/1");
call("kcmp", "kcmp", 1, 1, 0, 0, 0);
call("pidfd_getfd", "pidfd_getfd", -1, 0, 0);
told("raise own priority", defined eval { setpriority(0, 0, -5) } && getpriority(0, 0) == -5 ? 0 : 13);
# Files of the host.
sub found { return -e $_[0] ? 0 : $! + 0 }
told("folder of the host", found($secret));
call("open_by_handle_at", "open_by_handle_at", -100, 0, 0);
mkdir "$own/jail";
opendir(my $root, "/") or die;
chroot "$own/jail" or die "chroot: $!";
chdir $root or die "fchdir: $!";
chdir ".." for 1 .. 64;
chroot "." or die "chroot: $!";
told("folder of the host after chroot", found($secret));
told("the same by init's root", found("/proc/1/root$secret"));
opendir(my $fds, "/proc/self/fd") or die;
my @more = grep { /^\d+$/ && $_ > 2 && $_ != fileno($fds) && $_ != fileno($root) && $_ != fileno($dev) } readdir $fds;
told("descriptor of nslab's", @more ? 0 : 2);
# The terminal: TIOCSTI, TIOCLINUX.
my $byte = "x";
told("type into the terminal", ioctl(STDIN, 0x5412, $byte) ? 0 : $! + 0);
told("the console's clipboard", ioctl(STDIN, 0x541c, $byte) ? 0 : $! + 0);
