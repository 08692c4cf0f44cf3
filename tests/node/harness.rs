//! Nodes made straight from an [`InitSpec`], without a lab or a supervisor.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nslab::node::{
    DEFAULT_CAPABILITIES, ExecOptions, Init, InitEvent, InitSpec, MountTemplate, Process,
    RestartPolicy, Rootfs, SpawnOptions, Target, Tty, spawn_with,
};

/// The binary under test.
pub const NSLAB: &str = env!("CARGO_BIN_EXE_nslab");

/// How long a test waits for something that must come, before it fails.
const PATIENCE_MS: u16 = 20_000;

/// Fails the test when it does not run as root.
pub fn need_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes real namespaces: run it as root (sudo -E cargo test --test node)"
    );
}

/// A new network namespace, alive as long as the descriptor.
pub fn netns() -> OwnedFd {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        OwnedFd::from(File::open("/proc/thread-self/ns/net").expect("its file"))
    });
    thread.join().expect("the thread that makes it")
}

/// A node without image and process.
pub fn plain(name: &str) -> InitSpec {
    InitSpec {
        hostname: name.to_owned(),
        rootfs: Rootfs::Host,
        hosts: "127.0.0.1 localhost\n10.0.0.3 VIP\n".to_owned(),
        binds: Vec::new(),
        env: vec![("LAB".to_owned(), "test".to_owned())],
        user: String::new(),
        cwd: PathBuf::new(),
        capabilities: DEFAULT_CAPABILITIES
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
        process: None,
        grace_ms: 3000,
        stop_signal: libc::SIGTERM,
        tmpfs: Vec::new(),
        seccomp: true,
        cgroups: Vec::new(),
    }
}

/// A node that runs a shell script.
pub fn running(name: &str, script: &str, restart: RestartPolicy) -> InitSpec {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    InitSpec {
        process: Some(Process { argv, restart }),
        ..plain(name)
    }
}

/// A running node; dropping it kills and reaps the init.
pub struct Node {
    pub init: Init,
    pub target: Target,
    status: BufReader<File>,
    /// What init told before `Up`.
    pub early: VecDeque<InitEvent>,
    folder: tempfile::TempDir,
    reaped: bool,
}

impl Node {
    /// Spawns an init and reads events up to `Up`, or to the end.
    pub fn spawn(spec: &InitSpec) -> Self {
        Self::spawn_from(spec, None)
    }

    /// The same from a template of mounts.
    pub fn spawn_from(spec: &InitSpec, mounts: Option<Arc<MountTemplate>>) -> Self {
        Self::spawn_by(NSLAB.as_ref(), spec, mounts)
    }

    /// The same with another copy of the binary.
    pub fn spawn_by(exe: &Path, spec: &InitSpec, mounts: Option<Arc<MountTemplate>>) -> Self {
        need_root();
        let options = SpawnOptions {
            exe: Some(exe.to_owned()),
            mounts,
        };
        let init = spawn_with(spec, netns().as_fd(), &options).expect("the init starts");
        let status = BufReader::new(File::from(init.status.try_clone().expect("a descriptor")));
        let target = Target::new(spec, &init);
        let folder = tempfile::tempdir().expect("a folder");
        let mut node = Self {
            init,
            target,
            status,
            early: VecDeque::new(),
            folder,
            reaped: false,
        };
        while let Some(event) = node.event() {
            let up = event == InitEvent::Up;
            node.early.push_back(event);
            if up {
                break;
            }
        }
        node
    }

    /// Spawns a node that must come up without a warning.
    pub fn up(spec: &InitSpec) -> Self {
        let node = Self::spawn(spec);
        assert_eq!(node.early, [InitEvent::Up], "events until up");
        node
    }

    /// The next event; `None` at the end.
    pub fn event(&mut self) -> Option<InitEvent> {
        if self.status.buffer().is_empty() {
            let mut fds = [PollFd::new(
                self.status.get_ref().as_fd(),
                PollFlags::POLLIN,
            )];
            let ready = poll(&mut fds, PollTimeout::from(PATIENCE_MS)).expect("poll");
            assert_eq!(ready, 1, "no event from init in {PATIENCE_MS} ms");
        }
        let mut line = String::new();
        self.status.read_line(&mut line).expect("an event");
        (!line.is_empty()).then(|| serde_json::from_str(&line).expect("an event in JSON"))
    }

    /// The main process' pid inside, from its `Started`.
    pub fn started(&mut self) -> i32 {
        match self.event() {
            Some(InitEvent::Started { pid }) => pid,
            other => panic!("expected the main process to start, got {other:?}"),
        }
    }

    /// Everything that the main process wrote, once the node has ended.
    pub fn output(&self) -> String {
        let mut text = String::new();
        let mut file = File::from(self.init.output.try_clone().expect("a descriptor"));
        file.read_to_string(&mut text).expect("the output");
        text
    }

    /// One line of the main process.
    pub fn output_line(&self) -> String {
        let mut file = File::from(self.init.output.try_clone().expect("a descriptor"));
        let mut line = Vec::new();
        let mut byte = [0];
        while file.read(&mut byte).expect("the output") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text")
    }

    /// A command in the node, through `exec` of the binary under test.
    pub fn command(&self, options: &ExecOptions) -> Command {
        self.command_by(NSLAB.as_ref(), options)
    }

    /// The same with another copy of the binary.
    pub fn command_by(&self, exe: &Path, options: &ExecOptions) -> Command {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.folder.path().join(format!("exec-{number}.json"));
        let request = serde_json::json!({ "target": self.target, "options": options });
        fs::write(&path, request.to_string()).expect("a request");
        let mut command = Command::new(exe);
        command.arg0("nslab-exec").arg(path);
        command
    }

    /// Runs `argv` in the node without a terminal.
    pub fn exec(&self, argv: &[&str]) -> Output {
        self.command(&options(argv))
            .stdin(Stdio::null())
            .output()
            .expect("nslab runs")
    }

    /// Standard output of a shell script, which must succeed.
    pub fn sh(&self, script: &str) -> String {
        let output = self.exec(&["sh", "-c", script]);
        assert!(output.status.success(), "`{script}` failed: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Sends a signal to the init and waits for its end; its exit code, or minus the signal.
    pub fn end(&mut self, signal: Signal) -> i32 {
        self.init.signal(signal).expect("a signal");
        self.reap()
    }

    /// Waits for the init to end.
    pub fn reap(&mut self) -> i32 {
        self.reaped = true;
        match waitpid(self.init.pid, None).expect("the init is our child") {
            nix::sys::wait::WaitStatus::Exited(_, code) => code,
            nix::sys::wait::WaitStatus::Signaled(_, signal, _) => -(signal as i32),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.reaped {
            self.end(Signal::SIGKILL);
        }
    }
}

/// Options of a command without a terminal.
pub fn options(argv: &[&str]) -> ExecOptions {
    ExecOptions {
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        tty: Tty::Never,
        ..ExecOptions::default()
    }
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A root filesystem made of the host's own programs, as the lower layers of an overlay, with all
/// writable parts on a tmpfs of its own. Unmounted when dropped.
pub struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    /// Copies `programs` with the libraries they need.
    pub fn new(programs: &[&str]) -> Self {
        need_root();
        let folder = tempfile::tempdir().expect("a folder");
        let image = Self { folder };
        nix::mount::mount(
            Some("tmpfs"),
            image.folder.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("size=256m"),
        )
        .expect("a tmpfs");
        for name in ["base", "top", "upper", "work", "root"] {
            fs::create_dir(image.path(name)).expect("a folder");
        }
        for program in programs {
            let found = run(Command::new("sh").args(["-c", &format!("command -v {program}")]));
            let found = PathBuf::from(found.trim());
            let libraries = run(Command::new("ldd").arg(&found));
            image.copy(&found, &Path::new("/bin").join(program));
            for word in libraries
                .split_whitespace()
                .filter(|word| word.starts_with('/'))
            {
                image.copy(Path::new(word), Path::new(word));
            }
        }
        image.write(
            "base",
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n",
        );
        image.write(
            "top",
            "etc/group",
            "root:x:0:\nweb:x:102:\nlogs:x:103:web\n",
        );
        image.write("base", "etc/layer", "base\n");
        image.write("top", "etc/layer", "top\n");
        image
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn write(&self, layer: &str, path: &str, text: &str) {
        let path = self.path(layer).join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        File::create(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("a file");
    }

    fn copy(&self, from: &Path, to: &Path) {
        let to = self
            .path("base")
            .join(to.strip_prefix("/").expect("an absolute path"));
        fs::create_dir_all(to.parent().expect("a parent")).expect("a folder");
        super::install::install(from, &to);
    }

    pub fn rootfs(&self) -> Rootfs {
        Rootfs::Overlay {
            lower: vec![self.path("top"), self.path("base")],
            upper: self.path("upper"),
            work: self.path("work"),
            kept: false,
            target: self.path("root"),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let flags = nix::mount::MntFlags::MNT_DETACH;
        nix::mount::umount2(self.folder.path(), flags).expect("the tmpfs goes away");
    }
}

/// Standard output of a command that must succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Whether a process still runs (not even as a zombie).
pub fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until `done`; fails after a while.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..PATIENCE_MS / 10 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what} did not happen in {PATIENCE_MS} ms");
}
