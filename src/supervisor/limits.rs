//! Nodes with limits: the groups that their processes are in, what they use, and what came of it when
//! a limit was reached.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::Event;
use super::apply::Limited;
use super::protocol::NodeLimits;
use super::serve::Supervisor;
use crate::kernel::cgroup::{Controller, Limits, Usage, bytes};

/// How often the counters of groups are looked at. The kernel would tell of a change itself, by
/// inotify(7) in version 2 and by an eventfd in version 1: two mechanisms to save two reads a second.
const LOOK: Duration = Duration::from_secs(1);
/// A node that reaches a limit again and again is told of this seldom.
const SELDOM: u32 = 60;

/// A node's limits as they are kept.
#[derive(Debug)]
pub(super) struct Kept {
    limits: Limits,
    pub(super) folders: Vec<PathBuf>,
    lacking: Vec<Controller>,
    /// At the last look, and at the one before.
    looks: [Counts; 2],
    /// When a main process last ended.
    at_end: Counts,
    /// What was told last, and how many looks ago.
    told: Counts,
    since: u32,
}

/// What only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    oom_kills: u64,
    over_memory: u64,
    forks_refused: u64,
}

impl Counts {
    fn of(folders: &[PathBuf]) -> Self {
        let usage = Usage::read(folders);
        Self {
            oom_kills: usage.oom_kills.unwrap_or(0),
            over_memory: usage.over_memory.unwrap_or(0),
            forks_refused: usage.forks_refused.unwrap_or(0),
        }
    }
}

impl Kept {
    fn new(limited: &Limited) -> Self {
        Self {
            limits: limited.limits,
            folders: limited.folders.clone(),
            lacking: limited.lacking.iter().map(|(c, _)| *c).collect(),
            looks: [Counts::default(); 2],
            at_end: Counts::default(),
            told: Counts::default(),
            since: SELDOM,
        }
    }

    /// What a look has found that is worth telling.
    fn look(&mut self, node: &str, now: Counts) -> Vec<Event> {
        self.looks = [now, self.looks[0]];
        self.since = self.since.saturating_add(1);
        let mut news = Vec::new();
        if now == self.told || self.since < SELDOM {
            return news;
        }
        let mut reached = |limit, most, before: u64, now: u64| {
            if now > before {
                news.push(Event::LimitReached {
                    node: node.to_owned(),
                    limit,
                    most,
                    times: now - before,
                });
            }
        };
        // The machine's own want of memory is not the node's limit.
        if let Some(most) = self.limits.memory.filter(|_| now.over_memory > 0) {
            reached(Controller::Memory, most, self.told.oom_kills, now.oom_kills);
        }
        if let Some(most) = self.limits.pids {
            let before = self.told.forks_refused;
            reached(Controller::Pids, most.into(), before, now.forks_refused);
        }
        self.told = now;
        if !news.is_empty() {
            self.since = 0;
        }
        news
    }

    /// How a main process ended, if limits have to do with it. `how` is what is known without them.
    fn end(&self, signal: Option<i32>, how: &str, now: Counts) -> Option<String> {
        let kills = now.oom_kills - self.at_end.oom_kills.min(now.oom_kills);
        let refused = now.forks_refused - self.at_end.forks_refused.min(now.forks_refused);
        // The look before the last was at least a second ago, which a process does not take to end.
        let just_now = now.oom_kills > self.looks[1].oom_kills;
        let mut text = match self.limits.memory {
            _ if kills == 0 => how.to_owned(),
            Some(most) if now.over_memory > 0 && signal == Some(libc::SIGKILL) && just_now => {
                format!(
                    "was killed by the memory limit of {} (oom_kill)",
                    bytes(most)
                )
            }
            Some(most) if now.over_memory > 0 => format!(
                "{how}; the memory limit of {} has killed {} (oom_kill)",
                bytes(most),
                count(kills, "process", "processes")
            ),
            _ => format!(
                "{how}; the machine was out of memory, for which the kernel has killed {} (oom_kill)",
                count(kills, "process", "processes")
            ),
        };
        if let Some(most) = self.limits.pids.filter(|_| refused > 0) {
            let refused = count(refused, "fork", "forks");
            let _ = write!(
                text,
                "; the limit of {most} tasks has refused {refused} (pids.events)"
            );
        }
        (text != how).then_some(text)
    }
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

impl Supervisor {
    /// Takes over the groups that were made, says what is not kept, and watches the rest.
    pub(super) fn keep_limits(self: &Rc<Self>, limited: &[Limited]) {
        if limited.is_empty() {
            return;
        }
        let kept: BTreeMap<_, _> = limited
            .iter()
            .map(|l| (l.node.clone(), Kept::new(l)))
            .collect();
        self.state.borrow_mut().limits = kept;
        for Limited { node, lacking, .. } in limited {
            for (controller, why) in lacking {
                let key = controller.key();
                self.event(&Event::Warning {
                    text: format!("limits.{key} of node {node} is not kept: {why}"),
                });
            }
        }
        let this = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(this) = this.upgrade() else { break };
                let mut news = Vec::new();
                for (node, kept) in &mut this.state.borrow_mut().limits {
                    let now = Counts::of(&kept.folders);
                    news.extend(kept.look(node, now));
                }
                for event in &news {
                    this.event(event);
                }
            }
        });
    }

    /// The groups that a node's processes have to be in.
    pub(super) fn groups(&self, node: &str) -> Vec<PathBuf> {
        let live = self.state.borrow();
        let kept = live.limits.get(node);
        kept.map(|k| k.folders.clone()).unwrap_or_default()
    }

    /// How a node's process ended, with what limits have to do with it.
    pub(super) fn with_limits(&self, node: &str, signal: Option<i32>, how: String) -> String {
        let live = self.state.borrow();
        let Some(kept) = live.limits.get(node) else {
            return how;
        };
        kept.end(signal, &how, Counts::of(&kept.folders))
            .unwrap_or(how)
    }

    /// A main process has ended, and it was told how.
    pub(super) fn ended_within_limits(&self, node: &str) {
        if let Some(kept) = self.state.borrow_mut().limits.get_mut(node) {
            kept.at_end = Counts::of(&kept.folders);
            kept.told = kept.at_end;
        }
    }

    /// Limits and usage of a node, for `ps`.
    pub(super) fn limits_of(&self, node: &str) -> Option<NodeLimits> {
        let live = self.state.borrow();
        let kept = live.limits.get(node)?;
        Some(NodeLimits {
            limits: kept.limits,
            not_kept: kept.lacking.clone(),
            usage: Usage::read(&kept.folders),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        Kept::new(&Limited {
            node: "a".into(),
            limits: Limits {
                memory: Some(64 << 20),
                cpus_milli: None,
                pids: Some(20),
            },
            folders: Vec::new(),
            lacking: Vec::new(),
        })
    }

    fn counts(oom_kills: u64, over_memory: u64, forks_refused: u64) -> Counts {
        Counts {
            oom_kills,
            over_memory,
            forks_refused,
        }
    }

    const HOW: &str = "was killed by signal 9";

    #[test]
    fn a_kill_for_memory_is_told_from_others() {
        let kept = kept();
        let end = |signal, how: &str, now| kept.end(signal, how, now);
        assert_eq!(
            end(Some(9), HOW, counts(0, 3, 0)),
            None,
            "reached and reclaimed"
        );
        assert_eq!(
            end(Some(9), HOW, counts(1, 1, 0)).unwrap(),
            "was killed by the memory limit of 64 MiB (oom_kill)"
        );
        assert_eq!(
            end(None, "ended with exit code 1", counts(2, 1, 0)).unwrap(),
            "ended with exit code 1; the memory limit of 64 MiB has killed 2 processes (oom_kill)"
        );
        assert_eq!(
            end(Some(9), HOW, counts(1, 0, 0)).unwrap(),
            "was killed by signal 9; the machine was out of memory, for which the kernel has killed \
             1 process (oom_kill)"
        );
        assert_eq!(
            end(None, "ended with exit code 1", counts(0, 0, 1)).unwrap(),
            "ended with exit code 1; the limit of 20 tasks has refused 1 fork (pids.events)"
        );
    }

    #[test]
    fn an_older_kill_was_another_process() {
        let mut kept = kept();
        let before = counts(1, 1, 0);
        kept.look("a", before);
        // One look can come between a kill and its end.
        let text = kept.end(Some(9), HOW, before).unwrap();
        assert!(text.starts_with("was killed by the memory limit"), "{text}");
        kept.look("a", before);
        assert_eq!(
            kept.end(Some(9), HOW, before).unwrap(),
            "was killed by signal 9; the memory limit of 64 MiB has killed 1 process (oom_kill)"
        );
        kept.at_end = before;
        assert_eq!(kept.end(Some(9), HOW, before), None);
    }

    #[test]
    fn a_limit_that_is_reached_all_the_time_is_told_once_a_minute() {
        let mut kept = kept();
        let mut told = Vec::new();
        for second in 0..121 {
            let news = kept.look("a", counts(0, 0, second + 1));
            told.extend(news.into_iter().map(|event| (second, event)));
        }
        let reached = |times| Event::LimitReached {
            node: "a".into(),
            limit: Controller::Pids,
            most: 20,
            times,
        };
        let expected = [(0, reached(1)), (60, reached(60)), (120, reached(60))];
        assert_eq!(told, expected);
    }

    #[test]
    fn want_of_memory_of_the_machine_is_not_the_nodes_limit() {
        assert!(kept().look("a", counts(1, 0, 0)).is_empty());
        let news = kept().look("a", counts(1, 5, 0));
        assert!(
            matches!(
                news[..],
                [Event::LimitReached {
                    limit: Controller::Memory,
                    most: 67_108_864,
                    times: 1,
                    ..
                }]
            ),
            "{news:?}"
        );
    }
}
