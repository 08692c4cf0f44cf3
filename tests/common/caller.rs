//! A server that says its name, and a client in a node that opens connections one by one and keeps
//! them: `caller.py`, run by the host's Python in nodes without image.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::Bench;

const PROGRAM: &str = include_str!("caller.py");

/// The lines of a lab file that make a node a server on these ports.
pub fn server(ports: &[u16]) -> String {
    assert!(!PROGRAM.contains("'''"));
    let words: Vec<_> = ports.iter().map(|p| format!(", \"{p}\"")).collect();
    format!(
        "command = [\"python3\", \"-c\", '''{PROGRAM}''', \"serve\"{}]\nready = {{ tcp = {} }}\n",
        words.concat(),
        ports[0]
    )
}

/// The client.
pub struct Caller {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

/// Where a connection goes, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub host: &'a str,
    pub port: u16,
    /// Its own address, `-` for any.
    pub source: &'a str,
    /// Its own port, 0 for any.
    pub source_port: u16,
}

impl<'a> Call<'a> {
    pub fn to(host: &'a str, port: u16) -> Self {
        Self {
            host,
            port,
            source: "-",
            source_port: 0,
        }
    }

    fn words(self) -> String {
        let Self {
            host,
            port,
            source,
            source_port,
        } = self;
        format!("{host} {port} {source} {source_port}")
    }
}

impl Caller {
    pub fn new(bench: &Bench, node: &str) -> Self {
        let mut child = bench
            .nslab()
            .args(["exec", node, "python3", "-c", PROGRAM, "call"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            to: child.stdin.take(),
            from: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn say(&mut self, line: &str) -> Result<String, String> {
        writeln!(self.to.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        assert!(answer.ends_with('\n'), "the client ended after {line:?}");
        match answer.trim_end().strip_prefix("error: ") {
            Some(why) => Err(why.to_owned()),
            None => Ok(answer.trim_end().to_owned()),
        }
    }

    /// Opens a connection and keeps it: its number and the server's name.
    pub fn tcp(&mut self, call: Call) -> Result<(usize, String), String> {
        let answer = self.say(&format!("tcp {}", call.words()))?;
        let (number, name) = answer.split_once(' ').unwrap();
        Ok((number.parse().unwrap(), name.to_owned()))
    }

    /// A datagram's answer: the server's name.
    pub fn udp(&mut self, call: Call) -> Result<String, String> {
        self.say(&format!("udp {}", call.words()))
    }

    /// Speaks on a connection that is open.
    pub fn again(&mut self, number: usize) -> Result<String, String> {
        self.say(&format!("again {number}"))
    }

    /// Ends all connections with a RST each.
    pub fn reset(&mut self) {
        self.say("reset").unwrap();
    }

    /// Opens connections, keeps them all, and gives the servers' names in order.
    pub fn hold(&mut self, count: usize, call: Call) -> Vec<String> {
        (0..count).map(|_| self.tcp(call).unwrap().1).collect()
    }

    /// Opens connections one after the other, none while another is open.
    pub fn one_by_one(&mut self, count: usize, call: Call) -> Vec<String> {
        let one = |_| {
            let (_, name) = self.tcp(call).unwrap();
            self.reset();
            name
        };
        (0..count).map(one).collect()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

/// How often each name is in a list.
pub fn shares(names: &[String]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for name in names {
        *shares.entry(name.as_str()).or_default() += 1;
    }
    shares
}
