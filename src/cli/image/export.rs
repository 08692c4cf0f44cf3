//! `nslab image export`.

use std::path::PathBuf;

use indicatif::HumanBytes;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{Failure, Result};
use crate::image::{Bundle, BundleRequest, BundleUser, Image, Runtime};
use crate::node::{self, SyscallAction};
use crate::report::progress::ImageProgress;

/// Arguments of `nslab image export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
DIR gets config.json and rootfs/. `runc run --bundle DIR NAME`, as root, starts it with the
capabilities and the filter of system calls that nodes have, in a network namespace with nothing
in it. A bundle exported without root is for a user namespace: `crun run --bundle DIR NAME`.")]
pub(super) struct Args {
    /// As a lab file has it: a recipe's name, an image of a registry, a layout or an archive
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The bundle: a folder that does not exist, or is empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Run as this user instead of the image's, `name` or `uid`, with `:group` or `:gid`
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Print the bundle as JSON
    #[arg(long)]
    json: bool,
    /// Arguments in place of the image's own (its CMD), behind its entrypoint
    #[arg(last = true, value_name = "ARG")]
    cmd: Vec<String>,
}

/// A bundle as `--json` prints it.
#[derive(Serialize)]
struct Written<'a> {
    bundle: &'a std::path::Path,
    name: &'a str,
    digest: &'a str,
    bytes: u64,
    entries: u64,
    seconds: f64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let store = super::store()?;
    let mut shown = ImageProgress::new();
    let search = [PathBuf::from("images")];
    let image = store.resolve(&args.image, &search, &mut |event| shown.event(event))?;
    drop(shown);
    // From here on a signal does not end the process but the copy, which then tidies up. No thread
    // is left that could take it.
    let signals = Signals::take()?;
    let mut shown = ImageProgress::new();
    let bundle = store.bundle(
        &image,
        &args.dir,
        &BundleRequest {
            args: args.cmd.clone(),
            user: args.user.clone(),
        },
        &runtime()?,
        &mut |event| shown.event(event),
        &|| signals.came(),
    );
    drop(shown);
    print(args.json, &image, &bundle?)
}

/// What a node runs with, for a bundle.
fn runtime() -> Result<Runtime<'static>> {
    Ok(Runtime {
        capabilities: node::DEFAULT_CAPABILITIES,
        masked: node::masked_paths(),
        read_only: node::read_only_paths(),
        path: node::DEFAULT_PATH,
        seccomp: Some(seccomp()?),
        find_user,
    })
}

/// A node's filter of system calls as config.json has it (config-linux.md, "Seccomp").
fn seccomp() -> Result<Value> {
    let names = node::DEFAULT_CAPABILITIES.iter();
    let names: Vec<_> = names.map(|&name| name.to_owned()).collect();
    let rules = node::seccomp_rules(&names).map_err(Failure::lab)?;
    let calls = rules.iter().map(|rule| {
        let mut call = match rule.action {
            SyscallAction::Allow => json!({ "action": "SCMP_ACT_ALLOW" }),
            SyscallAction::Errno(number) => {
                json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": number })
            }
        };
        call["names"] = json!(rule.names);
        if let Some(arg) = rule.arg {
            call["args"] = json!([{
                "index": arg.index,
                "value": arg.value,
                "valueTwo": arg.value_two,
                "op": arg.op,
            }]);
        }
        call
    });
    Ok(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": node::seccomp_architectures(),
        "syscalls": calls.collect::<Vec<_>>(),
    }))
}

fn find_user(text: &str, passwd: &str, group: &str) -> Result<BundleUser, String> {
    match node::User::find(text, passwd, group) {
        Ok(user) => Ok(BundleUser {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            home: user.home,
        }),
        Err(node::Error::Unknown { kind, name, file }) => Err(format!(
            "{kind} `{name}` is not in its {file}; give another with `--user`, such as a number"
        )),
        Err(other) => Err(other.to_string()),
    }
}

fn print(json: bool, image: &Image, bundle: &Bundle) -> Result<()> {
    let seconds = bundle.took.as_secs_f64();
    if json {
        return crate::cli::print_json(&Written {
            bundle: &bundle.path,
            name: &image.reference,
            digest: &image.digest,
            bytes: bundle.bytes,
            entries: bundle.entries,
            seconds,
        });
    }
    crate::cli::print(&format!(
        "{} {} in {}: {} in {seconds:.1} s\n",
        image.reference,
        image.digest,
        bundle.path.display(),
        HumanBytes(bundle.bytes),
    ))
}

/// Signals that would end the process.
struct Signals(SignalFd);

impl Signals {
    fn take() -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        set.thread_block()
            .and_then(|()| SignalFd::with_flags(&set, flags))
            .map(Self)
            .map_err(|e| Failure::lab(format!("cannot wait for signals: {e}")))
    }

    fn came(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }
}
