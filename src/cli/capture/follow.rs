//! `nslab capture follow`.

use std::collections::{HashMap, hash_map::Entry};
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::super::{Failure, Result, need_root};
use super::Which;
use super::out::{Out, Woken};
use super::stream::Stream;
use crate::capture::filter::Filter;
use crate::capture::follow::{Follow, Start, Step};
use crate::capture::savefile::About;
use crate::capture::{State, Stats, now_ns};
use crate::merge;
use crate::report::{FrameLines, Shown};
use crate::supervisor::{Client, Reply, Request, RunDir, find_lab};
use crate::trace::Topology;

/// How long the files are left alone before they are looked at again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a frame of one interface is kept back for earlier ones of others.
const WINDOW: Duration = Duration::from_millis(100);
/// After so many frames ^C is looked for, also where output never has to wait.
const BREATH: u32 = 1024;

/// Arguments of `nslab capture follow`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo nslab capture follow client:eth1 | wireshark -k -i -
  sudo nslab capture follow all --from-now | tshark -r - -Y http
  sudo nslab capture follow --print lb:eth1 --filter 'tcp port 8080'

Frames that are already in the files come first. Frames of several interfaces are put in the order
of time; those that take longer than 100 ms into their file come late. A reader that is slow holds
nobody up: only frames in files that rotation deletes before they are read are missing, and that is
told. It ends when the lab goes down, at ^C, or when the reader goes away.")]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print a line for each frame (times are in UTC) instead of pcapng
    #[arg(long)]
    print: bool,
    /// Leave out the frames that are already recorded
    #[arg(long)]
    from_now: bool,
    /// End after N frames
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
    /// Only frames that match a filter of pcap-filter(7)
    #[arg(short, long, value_name = "FILTER")]
    filter: Option<String>,
    /// Print MAC addresses, too
    #[arg(short = 'e', long, requires = "print")]
    macs: bool,
    /// Colour the lines
    #[arg(long, value_name = "WHEN", default_value = "auto", requires = "print")]
    color: Colour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Colour {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

pub(super) fn run(args: &Args) -> Result<()> {
    need_root("capture follow")?;
    if !args.print && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "error: `capture follow` writes pcapng, which a terminal cannot show; send it to a program \
             or a file, or print lines:\n  \
             nslab capture follow client:eth1 | wireshark -k -i -\n  \
             nslab capture follow client:eth1 > client.pcapng\n  \
             nslab capture follow --print client:eth1",
        ));
    }
    // Compiled for what lab interfaces are; others are compiled when they come.
    let filter = match &args.filter {
        Some(text) => Some(Filter::compile(1, text).map_err(|why| {
            let text = format!("error: `{text}` is no capture filter (pcap-filter(7)): {why}");
            Failure::usage(text)
        })?),
        None => None,
    };
    let dir = find_lab(args.which.lab.lab.as_deref())?;
    let chosen = choose(&dir, &args.which.interfaces)?;
    let mut following = Following::new(args, &dir, &chosen, filter)?;
    match following.run(&dir, args.count) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::lab(format!("capture follow: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// The captures that are meant.
fn choose(dir: &RunDir, interfaces: &[String]) -> Result<Vec<Stats>> {
    let Reply::Captures { interfaces: all } = Client::connect(dir)?.ask(&Request::Captures)? else {
        return Err(Failure::lab(
            "the supervisor gave another answer than asked for",
        ));
    };
    if all.is_empty() {
        return Err(Failure::lab(format!(
            "lab {} captures nothing; `nslab capture start all` begins",
            dir.lab()
        )));
    }
    if interfaces.iter().any(|name| name == "all") {
        return Ok(all);
    }
    let mut chosen: Vec<Stats> = Vec::new();
    for name in interfaces {
        let Some(of) = all.iter().find(|of| of.name() == *name) else {
            let names: Vec<_> = all.iter().map(Stats::name).collect();
            return Err(Failure::lab(format!(
                "`{name}` is not captured in lab {}; captured are {}",
                dir.lab(),
                names.join(", ")
            )));
        };
        if !chosen.iter().any(|there| there.name() == *name) {
            chosen.push(of.clone());
        }
    }
    Ok(chosen)
}

/// Begins a stream that shows the names of the lab, as merged captures do.
fn stream(out: Out, dir: &RunDir, chosen: &[Stats]) -> Stream {
    let folder = chosen.first().and_then(|of| of.file.parent());
    // Without the lab's shape there are the interfaces' names.
    let topology = folder.and_then(|folder| Topology::read(&folder.join(Topology::FILE)).ok());
    let about = About {
        application: Some(format!("nslab {}", env!("CARGO_PKG_VERSION"))),
        comments: vec![format!("lab {}, followed while it ran", dir.lab())],
        ..About::default()
    };
    let interfaces = chosen
        .iter()
        .map(|of| merge::interface(topology.as_ref(), &of.node, &of.interface))
        .collect();
    let names = topology.as_ref().map(merge::names).unwrap_or_default();
    Stream::new(out, &about, interfaces, names)
}

/// What goes to standard output.
enum Sink {
    Lines {
        out: Out,
        how: FrameLines,
        text: String,
    },
    Stream(Stream),
}

struct Following {
    follow: Follow,
    names: Vec<String>,
    filters: Option<(String, HashMap<u32, Filter>)>,
    sink: Sink,
}

impl Following {
    fn new(args: &Args, dir: &RunDir, chosen: &[Stats], filter: Option<Filter>) -> Result<Self> {
        let start = if args.from_now {
            Start::At(now_ns())
        } else {
            Start::Oldest
        };
        let names: Vec<_> = chosen.iter().map(Stats::name).collect();
        for of in chosen.iter().filter(|of| of.state == State::Stopped) {
            let name = of.name();
            eprintln!("{name} is stopped; `nslab capture start {name}` goes on");
        }
        let out = Out::new().map_err(|e| Failure::lab(format!("standard output: {e}")))?;
        let colour = match args.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        };
        let sink = if args.print {
            Sink::Lines {
                out,
                how: FrameLines::new(names.clone(), colour, args.macs),
                text: String::new(),
            }
        } else {
            Sink::Stream(stream(out, dir, chosen))
        };
        Ok(Self {
            follow: Follow::new(chosen.iter().map(|of| of.file.as_path()), start, WINDOW),
            names,
            filters: args
                .filter
                .clone()
                .zip(filter.map(|f| HashMap::from([(1, f)]))),
            sink,
        })
    }

    /// Until the lab is gone, so many frames were given, or nobody wants more (an error of the kind
    /// [`io::ErrorKind::BrokenPipe`]).
    fn run(&mut self, dir: &RunDir, count: Option<u64>) -> io::Result<()> {
        let supervisor = dir.state().and_then(|state| state.supervisor.open());
        let mut left = count.unwrap_or(u64::MAX);
        // Without a supervisor to watch the lab is gone, and the files are all there is.
        let mut over = supervisor.is_none();
        self.sink.flush()?;
        loop {
            let now = now_ns();
            self.follow.refresh(now)?;
            self.describe()?;
            let mut given = 0_u32;
            while left > 0
                && let Step::Frame(n) = self.follow.step(over)
            {
                left -= u64::from(self.give(n)?);
                self.follow.advance(n, now)?;
                self.tell_missed(n);
                given = given.wrapping_add(1);
                if given.is_multiple_of(BREATH)
                    && self.sink.wait(Duration::ZERO, None)? == Woken::Enough
                {
                    break;
                }
            }
            self.sink.flush()?;
            if over || left == 0 {
                break;
            }
            match self.sink.wait(PAUSE, supervisor.as_ref())? {
                Woken::Time => {}
                Woken::Ended => over = true,
                Woken::Enough => break,
            }
        }
        if self.follow.late() > 0 {
            let late = self.follow.late();
            eprintln!("{late} frames came too late to be put in the order of time");
        }
        Ok(())
    }

    /// Describes interfaces in a stream as soon as they can be.
    fn describe(&mut self) -> io::Result<()> {
        if let Sink::Stream(stream) = &mut self.sink {
            for n in 0..self.names.len() {
                if let Some(kind) = self.follow.kind(n) {
                    stream.describe(n, kind)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a frame to whoever reads; false if the filter does not want it.
    fn give(&mut self, n: usize) -> io::Result<bool> {
        let (link, _) = self.follow.kind(n).unwrap_or_default();
        let Some(frame) = self.follow.frame(n)? else {
            return Ok(false);
        };
        if let Some((text, filters)) = &mut self.filters {
            let filter = match filters.entry(link) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(none) => {
                    none.insert(Filter::compile(link, text).map_err(io::Error::other)?)
                }
            };
            if !filter.wants(frame.data) {
                return Ok(false);
            }
        }
        let shown = Shown {
            interface: n,
            link,
            time_ns: frame.time_ns,
            wire_len: frame.wire_len,
            data: frame.data,
        };
        match &mut self.sink {
            Sink::Lines { out, how, text } => {
                how.line(&shown, text);
                if text.len() >= 64 << 10 {
                    out.write_all(text.as_bytes())?;
                    text.clear();
                }
            }
            Sink::Stream(stream) => stream.frame(&shown)?,
        }
        Ok(true)
    }

    fn tell_missed(&mut self, n: usize) {
        let missed = self.follow.missed(n);
        if missed > 0 {
            let (name, s) = (&self.names[n], if missed == 1 { "" } else { "s" });
            eprintln!(
                "{name}: {missed} full file{s} went before they were read here; their frames are missing \
                 (`keep` in [capture] of the lab file says how many stay)"
            );
        }
    }
}

impl Sink {
    fn wait(&mut self, time: Duration, watched: Option<&OwnedFd>) -> io::Result<Woken> {
        match self {
            Self::Lines { out, .. } => out.wait(time, watched),
            Self::Stream(stream) => stream.out().wait(time, watched),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Lines { out, text, .. } => {
                out.write_all(text.as_bytes())?;
                text.clear();
                Ok(())
            }
            Self::Stream(stream) => stream.flush(),
        }
    }
}
