//! A client that asks all the time, a lab's events, and whether the events explain what the client
//! met.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use nslab::kernel::netns;
use serde_json::Value;

use super::{Bench, tool, until};

/// Nobody waits longer than this for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// A question and what came of it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub begun: SystemTime,
    pub ended: SystemTime,
    pub answer: Result<String, String>,
}

/// It asks one question after the other.
pub struct Client {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Asked>>>,
    count: Arc<AtomicUsize>,
}

impl Client {
    /// Asks in the network namespace of this pin until its [`Client::end`].
    pub fn start(pin: PathBuf, ask: impl Fn() -> Result<String, String> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let (end, asked) = (stop.clone(), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            netns::enter(netns::open(&pin).unwrap()).unwrap();
            let mut all = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let begun = SystemTime::now();
                let answer = ask();
                let ended = SystemTime::now();
                all.push(Asked {
                    begun,
                    ended,
                    answer,
                });
                asked.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            all
        });
        Self {
            stop,
            thread: Some(thread),
            count,
        }
    }

    /// Waits until so many more questions are through.
    pub fn more(&self, questions: usize) {
        let goal = self.count.load(Ordering::Relaxed) + questions;
        until("the client has asked", || {
            self.count.load(Ordering::Relaxed) >= goal
        });
    }

    /// All that it asked.
    pub fn end(mut self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// `nslab events --follow --json`.
pub struct Events {
    child: Child,
    lines: Receiver<String>,
}

impl Events {
    /// From now on.
    pub fn follow(bench: &Bench) -> Self {
        let mut child = bench
            .nslab()
            .args(["events", "--follow", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self { child, lines }
    }

    /// The next event of this kind, others are passed over; panics where it does not come.
    pub fn next(&mut self, kind: &str) -> Value {
        let mut passed = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no event {kind}; there were {passed:#?}");
            };
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == kind {
                return event;
            }
            passed.push(line);
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the client met between a kill and the time when the director knew. Nothing that it began
/// afterwards may fail, and nothing fails that was over before.
pub fn failures_explained(asked: &[Asked], killed: SystemTime, known: SystemTime) {
    let failed: Vec<_> = asked.iter().filter(|a| a.answer.is_err()).collect();
    println!(
        "{} of {} questions failed; the dead server was out {} ms after the kill",
        failed.len(),
        asked.len(),
        known.duration_since(killed).unwrap_or_default().as_millis()
    );
    for a in failed {
        assert!(
            a.ended >= killed && a.begun <= known,
            "{a:?} {killed:?} {known:?}"
        );
    }
}

/// A time by which an event was known: it says the millisecond, rounded down, and directors are told
/// before the event.
pub fn known(event: &Value) -> SystemTime {
    let text = tool("date", &["-d", event["time"].as_str().unwrap(), "+%s%3N"]);
    SystemTime::UNIX_EPOCH + Duration::from_millis(text.trim().parse::<u64>().unwrap() + 1)
}
