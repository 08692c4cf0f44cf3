//! The command line: clap structs, one file a command. Nothing here calls the kernel.

mod asked;
mod capture;
mod check;
mod completions;
mod doctor;
mod down;
mod env_file;
mod events;
mod exec;
mod explain;
mod graph;
mod image;
mod lab_file;
mod logs;
mod output;
mod plan;
mod proof;
mod ps;
mod report;
mod schema;
mod service;
mod traced;
mod up;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args as _, FromArgMatches as _, Parser, Subcommand};

/// Network-namespace labs with real load balancing and every packet on record.
#[derive(Debug, Parser)]
#[command(
    name = "nslab",
    version,
    max_term_width = 100,
    disable_help_subcommand = true
)]
#[command(after_help = "\
Exit codes: 0 done; 1 the lab or a check failed; 2 usage or lab file; `exec` and `shell` give the
command's own code, 125 when nslab itself failed, 126 and 127 as a shell does.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring a lab up
    Up(up::Args),
    /// Take a lab down, and leave nothing
    Down(down::Args),
    /// Show labs, their nodes and services
    Ps(ps::Args),
    /// Run a command in a node
    Exec(exec::Args),
    /// Open a shell in a node
    Shell(exec::ShellArgs),
    /// Show what a node's main process printed
    Logs(logs::Args),
    /// Show services with their servers, connections and rates; change servers while the lab runs
    Service(service::Args),
    /// Show what has happened in a lab, and what happens
    Events(events::Args),
    /// List captures: interface, packets, bytes, drops, file
    Capture(capture::Args),
    /// Say what captures prove: Direct Routing, NAT, a tunnel, or a director that was bypassed
    Proof(proof::Args),
    /// Follow a request and its answer through the lab, hop by hop
    Explain(explain::Args),
    /// Say what this machine can do for nslab, and what to do about what is missing
    Doctor(doctor::Args),
    /// Check a lab file (no root needed)
    Check(check::Args),
    /// Print what `up` would do, step by step (no root needed)
    Plan(plan::Args),
    /// Draw what captures prove, as one HTML file
    Report(report::Args),
    /// Draw a lab file as mermaid, Graphviz dot or SVG (no root needed)
    Graph(graph::Args),
    /// Print the JSON schema of lab files, for editors (no root needed)
    Schema(schema::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Build, pull, list, inspect and remove images
    Image(image::ImageArgs),
}

/// Which lab a command is about.
#[derive(Debug, clap::Args)]
struct LabArg {
    /// The lab's name; may be left out while only one lab is up
    #[arg(short, long, value_name = "LAB")]
    lab: Option<String>,
}

/// A failed command: what is printed and the exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// The lab or a check failed.
    fn lab(message: impl std::fmt::Display) -> Self {
        Self {
            code: 1,
            message: format!("error: {message}"),
        }
    }

    /// The command line or the lab file is wrong. `message` is complete.
    fn usage(message: impl Into<String>) -> Self {
        Self {
            code: 2,
            message: message.into(),
        }
    }

    /// A failure that has been printed already.
    fn silent(code: u8) -> Self {
        Self {
            code,
            message: String::new(),
        }
    }
}

macro_rules! lab_failure {
    ($($error:ty),*) => { $(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::lab(error)
            }
        }
    )* };
}
lab_failure!(
    crate::supervisor::Error,
    crate::image::Error,
    crate::merge::Error
);

/// The arguments of a faultless `nslab exec`, without what clap builds for the other commands: a third
/// of the time that `exec` takes of its own. Help and errors are left to the whole command line.
fn exec_alone(line: &[OsString]) -> Option<exec::Args> {
    let rest = line
        .get(1..)
        .filter(|rest| rest.first().is_some_and(|word| word == "exec"))?;
    let command = exec::Args::augment_args(clap::Command::new("exec"));
    let matches = command.try_get_matches_from(rest).ok()?;
    exec::Args::from_arg_matches(&matches).ok()
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    if let Some(args) = exec_alone(&line) {
        return exec::run(args);
    }
    let outcome = match Cli::parse_from(line).command {
        Command::Up(args) => up::run(&args),
        Command::Down(args) => down::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Exec(args) => return exec::run(args),
        Command::Shell(args) => return exec::shell(args),
        Command::Logs(args) => logs::run(&args),
        Command::Service(args) => service::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Proof(args) => proof::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::run::<Cli>(&args),
        Command::Image(args) => image::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("{}", failure.message.trim_end());
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Prints to standard output; a reader that went away (`| head`) is not an error.
fn print(text: &str) -> Result<()> {
    print_on(text).map(drop)
}

/// The same for commands that go on: whether the reader is still there.
fn print_on(text: &str) -> Result<bool> {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Failure::lab(format!(
            "cannot write to standard output: {e}"
        ))),
    }
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::lab)?;
    print(&format!("{text}\n"))
}

/// Ends early, and says so, where a command cannot work without root.
fn need_root(command: &'static str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(Failure::from(crate::supervisor::Error::NeedsRoot(command)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_alone_is_the_exec_of_the_whole_command_line() {
        for line in [
            "nslab exec client curl -s VIP:8080",
            "nslab exec -l dsr -e A=1 --env B= --user tomcat:web -T --workdir /tmp client -- sh -c id",
            "nslab exec --lab=dsr client ls --help",
        ] {
            let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let Command::Exec(whole) = Cli::parse_from(&argv).command else {
                panic!("{line}");
            };
            let alone = exec_alone(&argv).map(|args| format!("{args:?}"));
            assert_eq!(alone, Some(format!("{whole:?}")), "{line}");
        }
        for line in [
            "nslab",
            "nslab ps",
            "nslab exec",
            "nslab exec --help",
            "nslab exec -x a b",
        ] {
            let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(exec_alone(&argv).is_none(), "{line}");
        }
    }
}
