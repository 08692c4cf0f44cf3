//! What the tests of whole labs share: running nslab and the field's own tools, and looking at the
//! host from outside.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod browser;
pub mod caller;
pub mod failover;
pub mod images;
pub mod tape;

pub mod talk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One lab at a time: some tests compare the host before and after.
static TURN: Mutex<()> = Mutex::new(());

/// A place to run nslab in: own run folder, own exchange folder; whatever is up in it at the end is
/// taken down.
pub struct Bench {
    pub dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    pub fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root (scripts/test does)"
        );
        Self {
            dir: tempfile::tempdir().unwrap(),
            _turn: turn,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A lab file of the given text.
    pub fn lab(&self, text: &str) -> PathBuf {
        let name = text.split('"').nth(1).expect("a name");
        let path = self.path(&format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn nslab(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nslab"));
        command
            .env("NSLAB_RUN", self.path("run"))
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        // Images that a test makes go into a store of the test's own: the machine's keeps nothing of them.
        if self.path("images").is_dir() {
            command.env("NSLAB_STORE", self.path("store"));
        }
        command
    }

    /// Runs nslab with these words (split at spaces) and wants it to succeed; its output.
    pub fn ok(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(
            output.status.success(),
            "nslab {words}: {}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    pub fn run(&self, words: &str) -> Output {
        self.nslab()
            .args(words.split_whitespace())
            .output()
            .unwrap()
    }

    /// Runs it and wants it to fail with this code; its standard error.
    pub fn fails(&self, words: &str, code: i32) -> String {
        let output = self.run(words);
        let stderr = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(code),
            "nslab {words}: {stderr}{}",
            text(&output.stdout)
        );
        stderr
    }

    pub fn up(&self, lab: &Path) {
        self.ok(&format!("up {}", lab.display()));
    }

    pub fn json(&self, words: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }

    /// Pin of a node's network namespace.
    pub fn ns(&self, lab: &str, node: &str) -> PathBuf {
        self.path("run").join(lab).join("ns").join(node)
    }

    /// Runs a tool of the host inside a node's network namespace: nslab is not asked.
    pub fn outside(&self, lab: &str, node: &str, command: &str) -> String {
        let net = format!("--net={}", self.ns(lab, node).display());
        tool(
            "nsenter",
            &[&[net.as_str()], &command.split(' ').collect::<Vec<_>>()[..]].concat(),
        )
    }

    pub fn capture_file(&self, lab: &str, interface: &str) -> PathBuf {
        self.path("exchange")
            .join(lab)
            .join(format!("{}.pcap", interface.replace(':', "_")))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let Ok(labs) = std::fs::read_dir(self.path("run")) else {
            return;
        };
        for lab in labs.flatten() {
            let name = lab.file_name().into_string().unwrap_or_default();
            let _ = self.run(&format!("down {name}"));
            let _ = self.run(&format!("down --force {name}"));
        }
    }
}

/// Ends a test of kernel IPVS on a kernel without it: it never passes unseen.
pub fn needs_ipvs() {
    let _ = Command::new("modprobe").args(["-q", "ip_vs"]).status();
    assert!(
        Path::new("/proc/net/ip_vs").exists(),
        "this kernel has no IPVS: run this test by scripts/with-ipvs"
    );
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Output of a tool that has to be there and to succeed.
pub fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} cannot be run ({e}); scripts/test installs it"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Frames of a capture file that match a filter, as tshark sees them, one line each of these
/// fields.
pub fn frames(file: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let file = file.to_str().unwrap();
    let mut args = vec![
        "-n",
        "-r",
        file,
        "-o",
        "ip.check_checksum:TRUE",
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "udp.check_checksum:TRUE",
        "-Y",
        filter,
        "-T",
        "fields",
    ];
    for field in fields {
        args.extend(["-e", field]);
    }
    tool("tshark", &args).lines().map(str::to_owned).collect()
}

/// How many frames of a capture file match a filter.
pub fn count(file: &Path, filter: &str) -> usize {
    frames(file, filter, &["frame.number"]).len()
}

/// Everything of the host that a lab could leave something in.
pub fn host() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for command in [
        "ip -j link show",
        "ip -j -4 addr show",
        "ip -j -6 addr show",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip -4 rule show",
        "ip -6 rule show",
        "ip -4 neigh show nud permanent",
        // -s: without counters.
        "nft -s list ruleset",
    ] {
        let words: Vec<_> = command.split(' ').collect();
        all.insert(
            command.to_owned(),
            without_clocks(&tool(words[0], &words[1..])),
        );
    }
    // What counts or ages by itself is left out, and what comes with a kernel module: the first
    // nat rule on a host loads nf_conntrack, which stays.
    let volatile = [
        "net.netfilter.",
        "net.nf_conntrack_max",
        "net.netfilter.nf_conntrack_count",
        "net.ipv4.tcp_fastopen_key",
    ];
    let sysctls = Command::new("sysctl")
        .arg("-a")
        .arg("-r")
        .arg("^net\\.")
        .output()
        .unwrap();
    let sysctls: Vec<_> = text(&sysctls.stdout)
        .lines()
        .filter(|l| !volatile.iter().any(|v| l.starts_with(v)))
        .map(str::to_owned)
        .collect();
    all.insert("sysctl".into(), sysctls.join("\n"));
    all.insert(
        "mounts".into(),
        std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
    );
    all.insert(
        "namespaces".into(),
        tool("lsns", &["-n", "-o", "NS,TYPE,COMMAND", "-t", "net"]),
    );
    let processes: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|p| std::fs::read(p.path().join("cmdline")).ok())
        .map(|c| text(&c).replace('\0', " "))
        .filter(|c| c.starts_with("nslab-"))
        .collect();
    all.insert("processes".into(), processes.join("\n"));
    // Others make folders there too, so only what bears our name counts.
    for (dir, depth) in [
        ("/sys/fs/cgroup", 4),
        ("/run", 2),
        ("/var/lib/nslab/nodes", 2),
    ] {
        let mut names = Vec::new();
        folders(Path::new(dir), depth, &mut names);
        names.retain(|n| n.contains("nslab"));
        // Control groups are the whole machine's, and tests/limits.rs may run beside this.
        names.retain(|n| !n.ends_with("/nslab") && !n.contains("/nslab/limits-"));
        all.insert(dir.into(), names.join("\n"));
    }
    all
}

/// Lifetimes of leased addresses and learned routes run down while a test runs.
fn without_clocks(text: &str) -> String {
    let mut text = text.to_owned();
    for key in [
        "\"valid_life_time\":",
        "\"preferred_life_time\":",
        "expires ",
    ] {
        let parts: Vec<_> = text
            .split(key)
            .enumerate()
            .map(|(n, part)| {
                if n == 0 {
                    part
                } else {
                    part.trim_start_matches(|c: char| c.is_ascii_digit())
                }
            })
            .collect();
        text = parts.join(key);
    }
    text
}

fn folders(dir: &Path, depth: usize, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries
        .iter()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    {
        found.push(entry.path().display().to_string());
        if depth > 1 {
            folders(&entry.path(), depth - 1, found);
        }
    }
}

/// Compares the host with what it was, and says what differs.
pub fn same_host(before: &BTreeMap<String, String>) {
    let after = host();
    for (what, text) in before {
        pretty(what, text, &after[what]);
    }
}

fn pretty(what: &str, before: &str, after: &str) {
    if before == after {
        return;
    }
    let gone = before.lines().filter(|l| !after.lines().any(|a| a == *l));
    let new = after.lines().filter(|l| !before.lines().any(|b| b == *l));
    let gone: Vec<_> = gone.map(|l| format!("- {l}")).collect();
    let new: Vec<_> = new.map(|l| format!("+ {l}")).collect();
    panic!(
        "{what} is not as before:\n{}\n{}",
        gone.join("\n"),
        new.join("\n")
    );
}

/// Waits until something is so; 20 s at most.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("waited in vain until {what}");
}

/// A program in a terminal of its own (a pseudo-terminal made here), typed at and read.
pub struct Terminal {
    child: std::process::Child,
    master: std::fs::File,
    seen: std::sync::Arc<Mutex<String>>,
}

impl Terminal {
    pub fn start(script: &str) -> Self {
        use std::io::Read;
        use std::os::unix::process::CommandExt;
        let pty = nix::pty::openpty(None, None).unwrap();
        let slave = std::fs::File::from(pty.slave);
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        // SAFETY: setsid(2) and ioctl(2) are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                if libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop(command);
        let master = std::fs::File::from(pty.master);
        let seen = std::sync::Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (master.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                to.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&chunk[..n]));
            }
        });
        Self {
            child,
            master,
            seen,
        }
    }

    pub fn type_line(&mut self, line: &str) {
        use std::io::Write;
        self.master
            .write_all(format!("{line}\r").as_bytes())
            .unwrap();
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        use std::os::fd::AsRawFd;
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCSWINSZ reads one winsize.
        let done =
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0);
    }

    pub fn wait_for(&self, what: &str) {
        until(what, || self.seen.lock().unwrap().contains(what));
    }

    pub fn code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}
