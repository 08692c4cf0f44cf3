//! `nslab exec` and `nslab shell`.
//!
//! This is the one command whose speed people feel in loops, so its usual way asks nobody: the
//! node's target file tells which process to join.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{LabArg, Result};
use crate::node::{self, ExecOptions, Target, Tty};
use crate::supervisor::{Client, Error, Reply, Request, RunDir, find_lab};

/// nslab itself failed, as `env`, `nice` and `docker exec` have it.
const OWN_FAILURE: u8 = 125;

/// Arguments of `nslab exec`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    lab: LabArg,
    #[command(flatten)]
    how: How,
    /// The node
    node: String,
    /// The command and its arguments; options of the command need no `--`
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "CMD"
    )]
    command: Vec<String>,
}

/// Arguments of `nslab shell`.
#[derive(Debug, clap::Args)]
pub(super) struct ShellArgs {
    #[command(flatten)]
    lab: LabArg,
    #[command(flatten)]
    how: How,
    /// The node
    node: String,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Working directory inside the node
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// User inside the node: name, uid, name:group or uid:gid
    #[arg(short, long)]
    user: Option<String>,
    /// Never use a terminal of the node's own
    #[arg(short = 'T', long)]
    no_tty: bool,
}

fn variable(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    in_node(&args.lab, &args.node, args.how, args.command)
}

pub(super) fn shell(args: ShellArgs) -> ExitCode {
    // The node's best shell, decided by the node's own root.
    let pick = "if [ -x /bin/bash ]; then exec /bin/bash; else exec /bin/sh; fi";
    let command = ["/bin/sh", "-c", pick].map(str::to_owned).to_vec();
    in_node(&args.lab, &args.node, args.how, command)
}

fn in_node(lab: &LabArg, name: &str, how: How, argv: Vec<String>) -> ExitCode {
    let target = match target(lab, name) {
        Ok(target) => target,
        Err(failure) => {
            eprintln!("{}", failure.message);
            return ExitCode::from(OWN_FAILURE);
        }
    };
    let options = ExecOptions {
        argv,
        env: how.env,
        cwd: how.workdir,
        user: how.user,
        tty: if how.no_tty { Tty::Never } else { Tty::Auto },
    };
    match node::exec(&target, &options) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("nslab: {e}");
            ExitCode::from(e.code())
        }
    }
}

fn target(lab: &LabArg, name: &str) -> Result<Target> {
    super::need_root("exec")?;
    let dir = find_lab(lab.lab.as_deref())?;
    if let Some(target) = read(&dir, name) {
        return Ok(target);
    }
    // Not entered so far: its init is started now.
    match Client::connect(&dir)?.ask(&Request::Enter {
        node: name.to_owned(),
    })? {
        Reply::Entered => {}
        _ => {
            return Err(
                Error::Refused("the supervisor gave another answer than asked for".into()).into(),
            );
        }
    }
    read(&dir, name).ok_or_else(|| {
        Error::Refused(format!(
            "node {name} of lab {} cannot be entered",
            dir.lab()
        ))
        .into()
    })
}

fn read(dir: &RunDir, name: &str) -> Option<Target> {
    // A name with a slash is no node, and must not be a path.
    if name.contains('/') {
        return None;
    }
    serde_json::from_slice(&std::fs::read(dir.target(name)).ok()?).ok()
}

/// An error that names the nodes there are, if `name` is none of them.
pub(super) fn node_exists(dir: &RunDir, name: &str) -> Result<()> {
    let Reply::Status(status) = Client::connect(dir)?.ask(&Request::Status)? else {
        return Ok(());
    };
    if status.nodes.iter().any(|n| n.name == name) {
        return Ok(());
    }
    let names: Vec<_> = status.nodes.iter().map(|n| n.name.as_str()).collect();
    let lab = dir.lab();
    Err(Error::Refused(format!(
        "lab {lab} has no node {name}; its nodes are {}",
        names.join(", ")
    ))
    .into())
}
