//! What a group uses and has met.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The files that count kills for want of memory, in version 2 and 1, under `oom_kill`.
pub const OOM_FILES: [&str; 2] = ["memory.events", "memory.oom_control"];

/// How near to a limit usage is when nothing more fits: the biggest piece that the kernel kills for has
/// 8 pages (`PAGE_ALLOC_COSTLY_ORDER`).
const NEAR: u64 = 8 * 4096;

/// What is read back of a group; `None` where its controller is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of memory, page cache among them.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Microseconds of processor time.
    pub cpu_us: Option<u64>,
    /// Periods (of a tenth of a second) in which it had to wait for the next one.
    pub throttled: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
    /// How often its own limit was in the way of more memory: more than 0 if that ever made the kernel
    /// kill.
    pub over_memory: Option<u64>,
    /// Forks that its limit of tasks has refused.
    pub forks_refused: Option<u64>,
}

impl Usage {
    /// Of a group that is in these folders: one in version 2, one a hierarchy in version 1.
    pub fn read(folders: &[PathBuf]) -> Self {
        let number = |files: &[&str]| {
            let mut texts = texts(folders, files);
            texts.find_map(|t| t.trim().parse().ok())
        };
        let entry = |files: &[&str], key: &str| {
            let mut texts = texts(folders, files);
            texts.find_map(|t| entry(&t, key))
        };
        Self {
            memory: number(&["memory.current", "memory.usage_in_bytes"]),
            pids: number(&["pids.current"]),
            cpu_us: entry(&["cpu.stat"], "usage_usec"),
            throttled: entry(&["cpu.stat"], "nr_throttled"),
            oom_kills: entry(&OOM_FILES, "oom_kill"),
            over_memory: entry(&["memory.events"], "oom").or_else(|| failures(folders)),
            forks_refused: entry(&["pids.events"], "max"),
        }
    }
}

/// Version 1 counts charges that failed, but not in every kernel (6.18 does not). That usage was at
/// the limit shows as well: the kernel kills for a single page that does not fit. Where swap is accounted
/// for, memory and swap together are charged first.
fn failures(folders: &[PathBuf]) -> Option<u64> {
    let of = |what: &str| {
        let number = |file: &str| {
            let file = format!("memory.{what}{file}");
            texts(folders, &[&file]).find_map(|t| t.trim().parse::<u64>().ok())
        };
        let count = number("failcnt")?;
        let most = number("max_usage_in_bytes")?;
        let limit = number("limit_in_bytes")?;
        Some(count.max(u64::from(most.saturating_add(NEAR) >= limit)))
    };
    let both = [of(""), of("memsw.")];
    both.into_iter().flatten().reduce(u64::saturating_add)
}

fn texts(folders: &[PathBuf], files: &[&str]) -> impl Iterator<Item = String> {
    let paths = folders
        .iter()
        .flat_map(move |folder: &PathBuf| files.iter().map(|file| Path::new(folder).join(file)));
    paths.filter_map(|path| fs::read_to_string(path).ok())
}

/// A value of a flat keyed file.
pub fn entry(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}
