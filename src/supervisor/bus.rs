//! The lab's events: each is numbered and dated, goes into the supervisor's log, and to whoever
//! follows (`nslab events`).
//!
//! Nobody who follows can hold the supervisor up: what is sent goes into one bounded queue, each
//! follower reads it at its own pace in a task of its own, and one that falls behind by more than
//! [`QUEUE`] events is told how many it has missed.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

use super::answer::reply;
use super::logs::{self, Log};
use super::protocol::Reply;
use super::{Error, Event, Result, RunDir};

/// Events that are kept for a follower who does not read. A lab has some dozens at `up` and one a
/// change afterwards.
const QUEUE: usize = 1024;
/// How long the end of a lab waits for followers to read what is left.
const FAREWELL: Duration = Duration::from_millis(500);

/// An event as it is in the log and as `nslab events --json` prints it: one JSON object, the
/// event's own members beside the number and the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counts up from 1 in the life of a supervisor.
    pub number: u64,
    /// When: RFC 3339 in UTC, to the millisecond.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// See the module.
pub(super) struct Bus {
    log: RefCell<Option<Log>>,
    last: Cell<u64>,
    queue: RefCell<Option<broadcast::Sender<Arc<Record>>>>,
    followers: RefCell<Vec<JoinHandle<()>>>,
}

impl Bus {
    /// `log` may be missing: a full /run must not stop a lab.
    pub(super) fn new(log: Option<Log>) -> Self {
        Self {
            log: RefCell::new(log),
            last: Cell::new(0),
            queue: RefCell::new(Some(broadcast::channel(QUEUE).0)),
            followers: RefCell::new(Vec::new()),
        }
    }

    /// Writes an event down and sends it to all who follow. Never waits.
    pub(super) fn publish(&self, event: &Event) {
        let record = Record {
            number: self.last.get() + 1,
            time: rfc3339(SystemTime::now()),
            event: event.clone(),
        };
        self.last.set(record.number);
        if let (Some(log), Ok(mut line)) =
            (self.log.borrow_mut().as_mut(), serde_json::to_vec(&record))
        {
            line.push(b'\n');
            // As for the nodes' logs: the event is lost then, not the lab.
            let _ = log.write(&line);
        }
        if let Some(queue) = self.queue.borrow().as_ref() {
            // An error means that nobody follows.
            let _ = queue.send(Arc::new(record));
        }
    }

    /// Sends the follower what happens from now on. What has happened is in the log: all records
    /// up to the number that the first reply names.
    pub(super) fn follow(&self, stream: UnixStream) {
        let Some(events) = self
            .queue
            .borrow()
            .as_ref()
            .map(broadcast::Sender::subscribe)
        else {
            return;
        };
        let task = tokio::task::spawn_local(send(stream, self.last.get(), events));
        let mut followers = self.followers.borrow_mut();
        followers.retain(|f| !f.is_finished());
        followers.push(task);
    }

    /// No more events: followers get what is left, if they read it soon.
    pub(super) async fn close(&self) {
        self.queue.borrow_mut().take();
        let followers = std::mem::take(&mut *self.followers.borrow_mut());
        let all = async {
            for follower in followers {
                let _ = follower.await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, all).await;
    }
}

/// One follower, until it goes or the lab does.
async fn send(mut stream: UnixStream, after: u64, mut events: broadcast::Receiver<Arc<Record>>) {
    if reply(&mut stream, &Reply::Following { after })
        .await
        .is_err()
    {
        return;
    }
    loop {
        let mut byte = [0];
        let next = tokio::select! {
            event = events.recv() => match event {
                Ok(record) => Reply::Record { record: (*record).clone() },
                Err(RecvError::Lagged(events)) => Reply::Skipped { events },
                Err(RecvError::Closed) => return,
            },
            // A follower says nothing more: whatever can be read is its end.
            _ = stream.read(&mut byte) => return,
        };
        if reply(&mut stream, &next).await.is_err() {
            return;
        }
    }
}

/// All that is still in a lab's log, oldest first. Needs no supervisor.
///
/// # Errors
/// Another version of nslab wrote the log.
pub fn history(dir: &RunDir) -> Result<Vec<Record>> {
    let lines = logs::tail(&dir.supervisor_log(), usize::MAX);
    let mut records = Vec::with_capacity(lines.len());
    for (n, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            // Being written, or cut off when its writer was killed.
            Err(e) if e.is_eof() && n + 1 == lines.len() => {}
            Err(e) => {
                return Err(Error::Refused(format!(
                    "the log of lab {} cannot be read: {e}; was nslab upgraded while the lab was \
                     up? The log is {}",
                    dir.lab(),
                    dir.supervisor_log().display()
                )));
            }
        }
    }
    Ok(records)
}

/// A time in UTC, to the millisecond (RFC 3339, 5.6).
fn rfc3339(time: SystemTime) -> String {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March end with the leap day; 400 of them have 146 097 days. 719 468 lie
    // between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, BufReader};

    use super::*;

    fn warning(n: u64) -> Event {
        Event::Warning {
            text: format!("{n} {}", "x".repeat(500)),
        }
    }

    fn run<T>(job: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, job)
    }

    async fn read_all(stream: UnixStream) -> Vec<Reply> {
        let mut lines = BufReader::new(stream).lines();
        let mut replies = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            replies.push(serde_json::from_str(&line).unwrap());
        }
        replies
    }

    #[test]
    fn a_follower_that_does_not_read_loses_events_is_told_how_many_and_holds_nobody_up() {
        run(async {
            let bus = Bus::new(None);
            let (ours, theirs) = UnixStream::pair().unwrap();
            bus.publish(&warning(1));
            bus.follow(ours);
            let sent = 5000;
            for n in 2..=sent {
                bus.publish(&warning(n));
                // Lets the follower's task fill the socket until it can no more.
                tokio::task::yield_now().await;
            }
            bus.queue.borrow_mut().take();
            let replies = read_all(theirs).await;
            assert!(matches!(replies[0], Reply::Following { after: 1 }));
            let (mut next, mut skipped) = (2, 0);
            for reply in &replies[1..] {
                match reply {
                    Reply::Skipped { events } => {
                        skipped += events;
                        next += events;
                    }
                    Reply::Record { record } => {
                        assert_eq!((record.number, &record.event), (next, &warning(next)));
                        next += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(next, sent + 1, "events that are neither there nor told");
            assert!(skipped > 1000, "{skipped}");
        });
    }

    #[test]
    fn a_follower_that_is_gone_is_forgotten_and_one_that_sleeps_delays_the_end_by_half_a_second() {
        run(async {
            let bus = Bus::new(None);
            let (ours, theirs) = UnixStream::pair().unwrap();
            bus.follow(ours);
            drop(theirs);
            let (ours, _asleep) = UnixStream::pair().unwrap();
            while !bus.followers.borrow()[0].is_finished() {
                tokio::task::yield_now().await;
            }
            bus.follow(ours);
            assert_eq!(bus.followers.borrow().len(), 1);
            for n in 0..5000 {
                bus.publish(&warning(n));
                tokio::task::yield_now().await;
            }
            tokio::time::timeout(Duration::from_secs(20), bus.close())
                .await
                .unwrap();
        });
    }

    #[test]
    fn records_are_numbered_and_a_torn_last_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::at("x", dir.path());
        let bus = Bus::new(Log::open(&run.supervisor_log()).ok());
        bus.publish(&warning(1));
        bus.publish(&Event::Started { node: "a".into() });
        let mut text = std::fs::read_to_string(run.supervisor_log()).unwrap();
        let last = text.lines().last().unwrap().to_owned();
        assert!(last.starts_with(r#"{"number":2,"time":"2"#), "{last}");
        assert!(
            last.ends_with(r#"Z","event":"started","node":"a"}"#),
            "{last}"
        );
        text.push_str(&last[..last.len() / 2]);
        std::fs::write(run.supervisor_log(), &text).unwrap();
        let records = history(&run).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[1].number, 2);
        std::fs::write(run.supervisor_log(), "0.123 {\"event\":\"up\"}\n").unwrap();
        let said = history(&run).unwrap_err().to_string();
        assert!(
            said.starts_with("the log of lab x cannot be read: ")
                && said.contains("was nslab upgraded while the lab was up?"),
            "{said}"
        );
    }

    #[test]
    fn times() {
        let at = |s, ms: u32| rfc3339(SystemTime::UNIX_EPOCH + Duration::new(s, ms * 1_000_000));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399, 999), "2000-02-28T23:59:59.999Z");
        assert_eq!(at(951_782_400, 1), "2000-02-29T00:00:00.001Z");
        assert_eq!(at(1_709_251_200, 0), "2024-03-01T00:00:00.000Z");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28T23:59:59.000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(at(1_735_689_599, 0), "2024-12-31T23:59:59.000Z");
    }
}
