//! `exec`: codes, streams, signals, terminals.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nslab::node::{ExecOptions, Tty};

use super::harness::{Node, alive, options, plain, stderr, until};

#[test]
fn the_exit_code_is_the_commands_own() {
    let node = Node::up(&plain("lb"));
    let code = |argv: &[&str]| node.exec(argv).status.code();
    assert_eq!(code(&["true"]), Some(0));
    assert_eq!(code(&["sh", "-c", "exit 3"]), Some(3));
    assert_eq!(code(&["sh", "-c", "exit 255"]), Some(255));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), Some(143));
    // A real-time signal.
    assert_eq!(code(&["sh", "-c", "kill -40 $$"]), Some(168));
}

#[test]
fn a_command_that_cannot_run_has_the_codes_of_a_shell() {
    let node = Node::up(&plain("lb"));
    for (argv, code, message) in [
        (
            ["curlx", "-L"],
            127,
            "nslab: exec: curlx: command not found in node lb\n",
        ),
        (
            ["/no/such", ""],
            127,
            "nslab: exec: /no/such: no such file in node lb\n",
        ),
        (
            ["/etc/passwd", ""],
            126,
            "nslab: exec: /etc/passwd: cannot be executed in node lb: Permission denied (os error \
             13)\n",
        ),
        (
            ["/etc", ""],
            126,
            "nslab: exec: /etc: cannot be executed in node lb: Permission denied (os error 13)\n",
        ),
    ] {
        let output = node.exec(&argv);
        assert_eq!(
            (output.status.code(), stderr(&output).as_str()),
            (Some(code), message)
        );
    }
    let output = node.command(&options(&[])).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        stderr(&output),
        "nslab: exec: no command given; try `nslab exec lb sh`\n"
    );
    let cwd = ExecOptions {
        cwd: Some("/not/there".into()),
        ..options(&["true"])
    };
    let output = node.command(&cwd).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        stderr(&output),
        "nslab: exec: cannot enter working directory /not/there in node lb: No such file or \
         directory (os error 2)\n"
    );
}

#[test]
fn scripts_run_with_and_without_an_interpreter_line() {
    let node = Node::up(&plain("lb"));
    node.sh("mkdir /tmp/bin; cd /tmp/bin; echo 'echo plain $1' > a; \
         printf '#!/no/shell\\n' > b; chmod 755 a b");
    let mut path = options(&["a", "arg"]);
    path.env
        .push(("PATH".to_owned(), "/nowhere:/tmp/bin".to_owned()));
    let output = node.command(&path).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "plain arg\n");
    let output = node.exec(&["/tmp/bin/b"]);
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(
        stderr(&output),
        "nslab: exec: /tmp/bin/b: the interpreter that it names is missing in node lb\n"
    );
}

#[test]
fn environment_user_and_folder_are_as_asked_for() {
    let node = Node::up(&plain("lb"));
    let mut asked = options(&[
        "sh",
        "-c",
        "echo $LAB $NEW $TERM $HOME; pwd; id -u; id -g; id -G",
    ]);
    asked.env = vec![
        ("NEW".to_owned(), "a b".to_owned()),
        ("LAB".to_owned(), "over".to_owned()),
    ];
    asked.cwd = Some("/usr".into());
    asked.user = Some("1234:77".to_owned());
    let output = node
        .command(&asked)
        .env("TERM", "vt52")
        .env("SECRET", "x")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "over a b vt52 /\n/usr\n1234\n77\n77\n");
    assert_eq!(node.sh("echo \"$SECRET$CARGO_PKG_NAME\""), "\n");
}

#[test]
fn ten_megabytes_go_in_and_out_unchanged() {
    let node = Node::up(&plain("lb"));
    let mut state = 1_u64;
    let data: Vec<u8> = (0..10 << 20)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let mut child = node
        .command(&options(&["cat"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = data.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stdout == data,
        "{} bytes came back",
        output.stdout.len()
    );
}

#[test]
fn a_reader_that_has_enough_ends_the_command() {
    let node = Node::up(&plain("lb"));
    let mut child = node
        .command(&options(&["yes"]))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\ny\n");
    assert_eq!(child.wait().unwrap().code(), Some(128 + 13));
}

#[test]
fn only_the_three_streams_are_inherited() {
    let node = Node::up(&plain("lb"));
    let mut command = node.command(&options(&["ls", "/proc/self/fd"]));
    let extra = File::open("/etc/passwd").unwrap();
    let number = extra.as_raw_fd();
    // SAFETY: dup2 is async-signal-safe; 77 is nobody's.
    unsafe {
        command.pre_exec(move || {
            if libc::dup2(number, 77) < 0 {
                Err(std::io::Error::last_os_error())
            } else {
                Ok(())
            }
        });
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    // 3 is the folder that ls itself has open.
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n1\n2\n3\n");
}

/// Starts a script that reports on standard output, and waits for its first line.
fn reporting(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, lines)
}

#[test]
fn signals_are_passed_on() {
    let node = Node::up(&plain("lb"));
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"] {
        let script = format!(
            "trap 'echo got {signal}; exit 9' {signal}; echo ready; while :; do sleep 0.01; done"
        );
        let (mut child, mut lines) = reporting(&mut node.command(&options(&["sh", "-c", &script])));
        let number: Signal = format!("SIG{signal}").parse().unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), number).unwrap();
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, format!("got {signal}\n"));
        assert_eq!(child.wait().unwrap().code(), Some(9));
    }
    let (mut child, _lines) =
        reporting(&mut node.command(&options(&["sh", "-c", "echo ready; exec sleep 1000"])));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_command_does_not_outlive_a_killed_exec() {
    let node = Node::up(&plain("lb"));
    for user in ["", "65534"] {
        let mut asked = options(&["sh", "-c", "echo ready; exec sleep 1000"]);
        asked.user = Some(user.to_owned());
        let (mut child, _lines) = reporting(&mut node.command(&asked));
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let command: i32 = fs::read_to_string(children)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        until("the end of the command", || {
            !alive(command)
                || fs::read_to_string(format!("/proc/{command}/stat"))
                    .is_ok_and(|stat| stat.contains(") Z "))
        });
    }
}

#[test]
fn a_foreign_record_is_refused() {
    let mut node = Node::up(&plain("lb"));
    node.target.version = 99;
    let output = node.exec(&["true"]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        stderr(&output),
        "nslab: exec: node lb was started by another nslab (record version 99, this one reads 2); \
         `nslab down` and `up` it with this one\n"
    );
    // The pid of another process, which is there.
    node.target.version = nslab::node::Target::VERSION;
    node.target.start_time += 1;
    let output = node.exec(&["true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr(&output).contains("is not running"),
        "{}",
        stderr(&output)
    );
}

fn window(rows: u16, columns: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Both ends of a pseudoterminal. Not by openpty(3): commands of other tests would inherit them.
fn pty(size: &libc::winsize) -> (File, OwnedFd) {
    let master = File::options()
        .read(true)
        .write(true)
        .open("/dev/ptmx")
        .unwrap();
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let unlocked: libc::c_int = 0;
    // SAFETY: ioctl_tty(2): two read what they are given, one returns a new descriptor.
    let slave = unsafe {
        let fd = master.as_raw_fd();
        assert_eq!(libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlocked), 0);
        assert_eq!(libc::ioctl(fd, libc::TIOCSWINSZ, size), 0);
        let slave = libc::ioctl(fd, libc::TIOCGPTPEER, flags);
        assert!(slave >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(slave)
    };
    (master, slave)
}

/// A terminal with nslab in it.
struct Terminal {
    screen: File,
    seen: String,
    inside: OwnedFd,
    child: Child,
}

impl Terminal {
    fn open(node: &Node, argv: &[&str], rows: u16, columns: u16) -> Self {
        let size = window(rows, columns);
        let (master, slave) = pty(&size);
        let mut command = node.command(&ExecOptions {
            tty: Tty::Auto,
            ..options(argv)
        });
        let stream = || Stdio::from(slave.try_clone().unwrap());
        command
            .env("TERM", "dumb")
            .stdin(stream())
            .stdout(stream())
            .stderr(stream());
        // SAFETY: both calls are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        Self {
            screen: master,
            seen: String::new(),
            inside: slave,
            child,
        }
    }

    fn type_in(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `text` has been on the screen, and forgets what was before it.
    fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let mut fds = [nix::poll::PollFd::new(
                std::os::fd::AsFd::as_fd(&self.screen),
                nix::poll::PollFlags::POLLIN,
            )];
            let ready = nix::poll::poll(&mut fds, 20_000_u16).unwrap();
            assert_eq!(ready, 1, "`{text}` did not come, but {:?}", self.seen);
            let mut buffer = [0; 4096];
            let count = self.screen.read(&mut buffer).unwrap();
            self.seen
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Whether the terminal is as it was before: echo, lines, signals.
    fn is_cooked(&self) -> bool {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let flags = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        tcgetattr(&self.inside).unwrap().local_flags.contains(flags)
    }
}

#[test]
fn a_command_in_a_terminal_has_one_of_the_nodes_own() {
    let node = Node::up(&plain("lb"));
    let mut terminal = Terminal::open(&node, &["sh"], 33, 111);
    terminal.type_in("tty; stty size; test -t 0 -a -t 1 -a -t 2 && echo all=$?\n");
    terminal.wait_for("/dev/pts/0\r\n");
    terminal.wait_for("33 111\r\n");
    terminal.wait_for("all=0\r\n");
    assert!(!terminal.is_cooked());

    terminal.type_in("exit 4\n");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(4));
    assert!(terminal.is_cooked());
    assert_eq!(node.sh("ls /dev/pts"), "ptmx\n");
}

#[test]
fn a_resized_window_is_told_to_the_command() {
    let node = Node::up(&plain("lb"));
    let script = "trap 'stty size; exit 6' WINCH; stty size; while :; do sleep 0.01; done";
    let mut terminal = Terminal::open(&node, &["sh", "-c", script], 24, 80);
    terminal.wait_for("24 80\r\n");
    let size = window(50, 132);
    // SAFETY: reads the structure.
    let done = unsafe {
        libc::ioctl(
            terminal.screen.as_raw_fd(),
            libc::TIOCSWINSZ,
            &raw const size,
        )
    };
    assert_eq!(done, 0);
    terminal.wait_for("50 132\r\n");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(6));
}

#[test]
fn keys_reach_the_command_as_signals_of_its_own_terminal() {
    let node = Node::up(&plain("lb"));
    let mut terminal = Terminal::open(&node, &["bash", "--norc", "-i"], 24, 80);
    let in_foreground = "for stat in /proc/[0-9]*/stat; do
        read pid name state parent group session tty foreground rest < $stat
        [ $name$state = '(sleep)S' ] && [ $group = $foreground ] && exit 0
    done; exit 1";
    let sleeps = || node.exec(&["sh", "-c", in_foreground]).status.success();
    // In two parts, so that the echo of the line is not taken for the prompt.
    terminal.type_in("PS1='rea''dy> '\n");
    terminal.wait_for("ready> ");
    terminal.type_in("sleep 1000\n");
    until("sleep", sleeps);
    // Job control: ^Z stops the command inside and not nslab, ^C ends it.
    terminal.type_in("\u{1a}");
    terminal.wait_for("Stopped");
    terminal.wait_for("ready> ");
    assert!(!sleeps());
    terminal.type_in("fg\n");
    until("sleep again", sleeps);
    terminal.type_in("\u{3}");
    terminal.wait_for("ready> ");
    terminal.type_in("echo code=$?\n");
    terminal.wait_for("code=130\r\n");
    terminal.wait_for("ready> ");
    terminal.type_in("(exit 5)\n");
    terminal.wait_for("ready> ");
    terminal.type_in("\u{4}");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(5));
    assert!(terminal.is_cooked());
}

#[test]
fn the_terminal_is_restored_when_exec_is_told_to_end_and_when_the_command_is_missing() {
    let node = Node::up(&plain("lb"));
    let mut terminal = Terminal::open(&node, &["sh", "-c", "echo ready; exec sleep 1000"], 24, 80);
    terminal.wait_for("ready\r\n");
    until("raw mode", || !terminal.is_cooked());
    kill(
        Pid::from_raw(terminal.child.id().cast_signed()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(terminal.child.wait().unwrap().code(), Some(143));
    assert!(terminal.is_cooked());

    let mut terminal = Terminal::open(&node, &["nothing"], 24, 80);
    terminal.wait_for("nslab: exec: nothing: command not found in node lb\r\n");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(127));
    assert!(terminal.is_cooked());
}

#[test]
fn a_closed_terminal_ends_the_command() {
    let node = Node::up(&plain("lb"));
    let script = "trap '' HUP; echo ready; exec sleep 1000";
    let mut terminal = Terminal::open(&node, &["sh", "-c", script], 24, 80);
    terminal.wait_for("ready\r\n");
    let Terminal {
        screen,
        inside,
        mut child,
        ..
    } = terminal;
    drop((screen, inside));
    assert_eq!(child.wait().unwrap().code(), Some(129));
    // Init and the asking shell.
    until("the end of sleep", || {
        node.sh("set -- /proc/[0-9]*; echo $#") == "2\n"
    });
}

#[test]
fn long_output_arrives_whole_on_a_terminal() {
    let node = Node::up(&plain("lb"));
    let mut terminal = Terminal::open(&node, &["seq", "1", "200000"], 24, 80);
    terminal.wait_for("\r\n199999\r\n200000\r\n");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_paste_larger_than_any_buffer_does_not_block() {
    let node = Node::up(&plain("lb"));
    // Without echo, which the kernel drops when the way back is full.
    let script = "stty -icanon -echo min 1; echo ready; exec cat";
    let mut terminal = Terminal::open(&node, &["sh", "-c", script], 24, 80);
    terminal.wait_for("ready\r\n");
    let mut writer = terminal.screen.try_clone().unwrap();
    let paste = std::thread::spawn(move || {
        for line in 0..20_000 {
            writeln!(writer, "line {line}").unwrap();
        }
        writeln!(writer, "the end").unwrap();
    });
    for line in 0..20_000 {
        terminal.wait_for(&format!("line {line}\r\n"));
    }
    terminal.wait_for("the end\r\n");
    paste.join().unwrap();
    kill(
        Pid::from_raw(terminal.child.id().cast_signed()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(terminal.child.wait().unwrap().code(), Some(143));
}

#[test]
fn another_users_terminal_belongs_to_the_user() {
    let node = Node::up(&plain("lb"));
    let asked = ExecOptions {
        user: Some("65534:65534".to_owned()),
        tty: Tty::Always,
        ..options(&[
            "sh",
            "-c",
            "tty; stat -c %u:%a $(tty); cat; echo end > /dev/tty",
        ])
    };
    // Always also without a terminal outside; the end of input arrives as ^D.
    let mut child = node
        .command(&asked)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"typed").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in ["/dev/pts/0\r\n", "65534:620\r\n", "typed", "end\r\n"] {
        assert!(text.contains(expected), "{expected:?} in {text:?}");
    }
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn tools_that_want_a_terminal_work() {
    let node = Node::up(&plain("lb"));
    let asked = ExecOptions {
        tty: Tty::Always,
        ..options(&["script", "-qec", "tty", "/dev/null"])
    };
    let output = node.command(&asked).stdin(Stdio::null()).output().unwrap();
    // A terminal in the terminal, both of the node.
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("/dev/pts/1\r\n"), "{text:?}");
}
