//! Lab events as lines, as a progress bar on a terminal, or as JSON.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::captures::notes;
use crate::kernel::cgroup::{self, Controller};
use crate::merge::Merged;
use crate::supervisor::{CaptureStats, Event, Record};

/// Consumes events.
#[derive(Debug)]
pub struct Reporter {
    how: How,
    failed: bool,
    /// Nodes that were started and are not ready.
    waiting: Vec<String>,
}

#[derive(Debug)]
enum How {
    /// One JSON object a line on standard output.
    Json,
    /// Lines on standard error.
    Plain,
    /// Lines above a bar that goes away, on standard error.
    Bar(ProgressBar),
}

impl Reporter {
    /// For standard error as it is, or JSON on standard output.
    pub fn new(json: bool) -> Self {
        let how = if json {
            How::Json
        } else {
            let bar = ProgressBar::new_spinner();
            // Hidden is it for no terminal and for one that cannot move its cursor (TERM=dumb, as in
            // Emacs): indicatif would print no line there either.
            if bar.is_hidden() {
                How::Plain
            } else {
                bar.enable_steady_tick(Duration::from_millis(100));
                How::Bar(bar)
            }
        };
        Self {
            how,
            failed: false,
            waiting: Vec::new(),
        }
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event) {
        self.failed |= matches!(event, Event::Failed { .. });
        match &self.how {
            How::Json => {
                if let Ok(mut line) = serde_json::to_vec(event) {
                    line.push(b'\n');
                    let _ = std::io::stdout().write_all(&line);
                }
            }
            How::Plain => {
                if let Some(text) = words(event) {
                    eprintln!("{text}");
                }
            }
            How::Bar(bar) => {
                match event {
                    Event::Step { done, total } => {
                        if bar.length() != Some(*total as u64) {
                            bar.set_style(steps());
                            bar.set_length(*total as u64);
                        }
                        bar.set_position(*done as u64);
                    }
                    Event::NetworkUp { .. } => bar.set_style(ProgressStyle::default_spinner()),
                    Event::Started { node } => self.waiting.push(node.clone()),
                    Event::Ready { node, .. } => self.waiting.retain(|n| n != node),
                    _ => {}
                }
                if !self.waiting.is_empty() {
                    bar.set_message(format!("waiting for {}", self.waiting.join(", ")));
                }
                if let Some(text) = words(event) {
                    bar.println(text);
                }
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }

    /// Whether a failure was shown.
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

/// A bar that counts the plan's steps.
fn steps() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {bar:40} {pos}/{len} steps")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A record for people: when and what. Further lines of an event with several are indented.
/// `None` for what is no news.
pub fn record(record: &Record) -> Option<String> {
    let text = words(&record.event)?;
    Some(format!("{} {}\n", record.time, text.replace('\n', "\n  ")))
}

/// Changes of a service's servers for people.
fn servers(event: &Event) -> Option<String> {
    Some(match event {
        Event::Weight {
            service,
            server,
            from,
            to,
            why,
        } => format!("service {service}: weight of {server} {from} -> {to} ({why})"),
        Event::ServerAdded {
            service,
            server,
            weight,
        } => format!("service {service}: {server} added, weight {weight}"),
        Event::ServerRemoved {
            service,
            server,
            connections: 0,
        } => format!("service {service}: {server} removed"),
        Event::ServerRemoved {
            service,
            server,
            connections,
        } => format!(
            "service {service}: {server} removed with {connections} connection{}, whose packets \
             are dropped now",
            if *connections == 1 { "" } else { "s" }
        ),
        _ => return super::health::words(event),
    })
}

/// An event for people; `None` for what only a bar shows.
fn words(event: &Event) -> Option<String> {
    let s = |n: usize| if n == 1 { "" } else { "s" };
    Some(match event {
        Event::Step { .. } => return None,
        Event::NetworkUp {
            nodes,
            interfaces,
            ms,
        } => {
            format!(
                "network: {nodes} node{}, {interfaces} interface{} ({ms} ms)",
                s(*nodes),
                s(*interfaces)
            )
        }
        Event::Capturing { interfaces, folder } => {
            format!(
                "capturing {interfaces} interface{} into {}",
                s(*interfaces),
                folder.display()
            )
        }
        Event::Director {
            node,
            engine,
            reason,
            services,
        } => {
            format!(
                "director {node}: engine {engine} ({reason}), serving {}",
                services.join(", ")
            )
        }
        Event::Started { node } => format!("{node}: started"),
        Event::Ready { node, ms } => format!("{node}: ready ({ms} ms)"),
        Event::Exited {
            node,
            how,
            restart_in_ms: Some(ms),
        } => {
            format!("{node}: main process {how}; starting it again in {ms} ms")
        }
        Event::Exited {
            node,
            how,
            restart_in_ms: None,
        } => format!("{node}: main process {how}"),
        Event::LimitReached { .. } => return limit_reached(event),
        Event::Warning { text } => format!("warning: {text}"),
        Event::Up { lab, ms } => format!("lab {lab} is up ({ms} ms)"),
        Event::Failed { error, log } if log.is_empty() => format!("error: {error}"),
        Event::Failed { error, log } => {
            let mut text = format!("error: {error}\nits last output:");
            for line in log {
                text.push_str("\n  | ");
                text.push_str(line);
            }
            text
        }
        Event::Stopping { nodes, left_ms } => format!(
            "waiting for {} to end ({} s at most)",
            nodes.join(", "),
            left_ms.div_ceil(1000)
        ),
        Event::CaptureStopped { interfaces } => {
            format!(
                "capture stopped: {}; frames from here on are missing",
                interfaces.join(", ")
            )
        }
        Event::CaptureStarted { interfaces } => {
            format!("capture started: {}", interfaces.join(", "))
        }
        Event::Captured { interfaces } => captured(interfaces),
        Event::Merged(of) => {
            let mut text = merged(of);
            for note in &of.notes {
                let _ = write!(text, "\nwarning: {note}");
            }
            text
        }
        Event::Down { lab, errors } if errors.is_empty() => format!("lab {lab} is down"),
        Event::Down { lab, errors } => {
            let mut text =
                format!("error: lab {lab} is not wholly removed; `nslab down {lab}` tries again");
            for e in errors {
                let _ = write!(text, "\n  {e}");
            }
            text
        }
        // Servers that come, go, die and live.
        other => return servers(other),
    })
}

/// A limit and what came of it.
fn limit_reached(event: &Event) -> Option<String> {
    let Event::LimitReached {
        node,
        limit,
        most,
        times,
    } = event
    else {
        return None;
    };
    let s = |one, many| if *times == 1 { one } else { many };
    let (most, met) = match limit {
        Controller::Memory => (
            format!("memory limit of {}", cgroup::bytes(*most)),
            s("process was killed", "processes were killed"),
        ),
        _ => (
            format!("limit of {most} tasks"),
            s("fork was refused", "forks were refused"),
        ),
    };
    Some(format!("{node}: its {most} is reached: {times} {met}"))
}

/// What captures came to, with a line for each that lost frames.
fn captured(interfaces: &[CaptureStats]) -> String {
    let packets: u64 = interfaces.iter().map(|i| i.packets).sum();
    let mut text = format!(
        "captured {packets} frames on {} interface{}",
        interfaces.len(),
        if interfaces.len() == 1 { "" } else { "s" }
    );
    for note in interfaces.iter().flat_map(notes) {
        let _ = write!(text, "\n{note}");
    }
    text
}

/// What a merge came to, in a line.
pub fn merged(merged: &Merged) -> String {
    let s = |n: u64| if n == 1 { "" } else { "s" };
    let into = match &merged.file {
        Some(file) => format!(" into {}", file.display()),
        None => String::new(),
    };
    format!(
        "merged {} frame{} of {} interface{}{into} ({}, {} ms)",
        merged.frames,
        s(merged.frames),
        merged.interfaces,
        s(merged.interfaces as u64),
        indicatif::BinaryBytes(merged.bytes),
        merged.ms
    )
}
