//! `nslab service weight|add|remove`: changes of a running director.

use std::time::{Duration, Instant};

use super::super::{Failure, LabArg, Result};
use super::list::ask;
use crate::supervisor::{Client, NewServer, Reply, Request, RunDir, find_lab};

/// Between two looks at a server that is drained.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `nslab service weight`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "nslab service weight [OPTIONS] [SERVICE] SERVER WEIGHT",
    after_help = "\
Established connections stay with their server whatever its weight; 0 keeps new ones away, so it
drains. The service may be left out where the server is in one only. Schedulers rr, lc and others
without weights know 0 and not 0.

A health check changes weights too: what is set here holds until the check's next turn."
)]
pub(super) struct WeightArgs {
    /// The service (where it is not clear), the server (a node, or NODE:PORT), the weight
    #[arg(num_args = 2..=3, required = true, value_name = "SERVICE SERVER WEIGHT")]
    words: Vec<String>,
    #[command(flatten)]
    lab: LabArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `nslab service add`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "nslab service add [OPTIONS] [SERVICE] SERVER",
    after_help = "\
The node has to be in the lab and to be reached as the service's method wants it: the same is checked
as for a server in the lab file. It is made to accept what is addressed to the VIP first (REDIRECT
rule, or VIP on lo with the ARP sysctls, or tunnel), then the director is told.

A server that was removed gets those of its connections back that the director still remembers."
)]
pub(super) struct AddArgs {
    /// The service (where the lab has several), the node
    #[arg(num_args = 1..=2, required = true, value_name = "SERVICE SERVER")]
    words: Vec<String>,
    #[command(flatten)]
    lab: LabArg,
    /// Its weight [default: 1]
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// Its port, with method nat [default: the service's]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Connections at which it takes no new ones (engine ipvs)
    #[arg(long, value_name = "N")]
    upper: Option<u32>,
    /// Connections below which it takes new ones again (engine ipvs)
    #[arg(long, value_name = "N")]
    lower: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `nslab service remove`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "nslab service remove [OPTIONS] [SERVICE] SERVER",
    after_help = "\
Without --drain it is done at once, as `ipvsadm -d` does: packets of the server's established
connections are dropped without a word from then on, so clients hang until they give up. Adding the
server again in time brings the connections back. With engine ipvs, net.ipv4.vs.expire_nodest_conn = 1
in the director's sysctls ends such connections instead.

With --drain the weight is set to 0 first, and the server is removed when its established connections
have ended. Where that takes longer than --timeout, or is interrupted, it stays drained and in the
service.

The node goes on accepting what is addressed to the VIP until `down`. Nobody sends it any, and a
server that comes back needs it."
)]
pub(super) struct RemoveArgs {
    /// The service (where it is not clear), the server (a node, or NODE:PORT)
    #[arg(num_args = 1..=2, required = true, value_name = "SERVICE SERVER")]
    words: Vec<String>,
    #[command(flatten)]
    lab: LabArg,
    /// Let its connections end first
    #[arg(long)]
    drain: bool,
    /// How long to wait for that, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "drain")]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Splits `[SERVICE] SERVER`.
fn service_and_server(words: &[String]) -> (Option<String>, String) {
    match words {
        [service, server, ..] => (Some(service.clone()), server.clone()),
        [server] => (None, server.clone()),
        [] => (None, String::new()),
    }
}

/// Sends a change; the service and the server that it was about.
fn change(dir: &RunDir, request: &Request) -> Result<(String, String)> {
    match Client::connect(dir)?.ask(request)? {
        Reply::Changed {
            service,
            server,
            warnings,
        } => {
            for warning in warnings {
                eprintln!("warning: {warning}");
            }
            Ok((service, server))
        }
        _ => Err(Failure::lab(
            "the supervisor gave another answer than asked for",
        )),
    }
}

fn done(json: bool, what: &str, service: &str, server: &str, weight: Option<u32>) -> Result<()> {
    if !json {
        return Ok(());
    }
    let mut value = serde_json::json!({ "done": what, "service": service, "server": server });
    if let Some(weight) = weight {
        value["weight"] = weight.into();
    }
    super::super::print_json(&value)
}

pub(super) fn weight(args: &WeightArgs) -> Result<()> {
    let (last, first) = args.words.split_last().unwrap_or((&args.words[0], &[]));
    let weight = last.parse::<u32>().ok().filter(|w| *w <= 65_535);
    let Some(weight) = weight else {
        return Err(Failure::usage(format!(
            "error: {last:?} is not a weight: a number from 0 to 65535 is expected"
        )));
    };
    let dir = find_lab(args.lab.lab.as_deref())?;
    let (service, server) = service_and_server(first);
    let request = Request::Weight {
        service,
        server,
        weight,
    };
    let (service, server) = change(&dir, &request)?;
    done(args.json, "weight", &service, &server, Some(weight))
}

pub(super) fn add(args: &AddArgs) -> Result<()> {
    let dir = find_lab(args.lab.lab.as_deref())?;
    let (service, node) = service_and_server(&args.words);
    let server = NewServer {
        node,
        weight: args.weight,
        port: args.port,
        upper: args.upper,
        lower: args.lower,
    };
    let (service, server) = change(&dir, &Request::AddServer { service, server })?;
    done(args.json, "add", &service, &server, None)
}

pub(super) fn remove(args: &RemoveArgs) -> Result<()> {
    let dir = find_lab(args.lab.lab.as_deref())?;
    let (mut service, server) = service_and_server(&args.words);
    if args.drain {
        let request = Request::Weight {
            service,
            server: server.clone(),
            weight: 0,
        };
        let (drained, node) = change(&dir, &request)?;
        wait_until_drained(&dir, &drained, &node, &server, args.timeout)?;
        service = Some(drained);
    }
    let (service, server) = change(&dir, &Request::RemoveServer { service, server })?;
    done(args.json, "remove", &service, &server, None)
}

/// Until a server has no established connections. Those that end are no loss.
fn wait_until_drained(
    dir: &RunDir,
    service: &str,
    node: &str,
    named: &str,
    timeout: u64,
) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(timeout);
    let port: Option<u16> = named.split_once(':').and_then(|(_, p)| p.parse().ok());
    loop {
        let all = ask(dir, Some(service))?;
        let mut servers = all.iter().flat_map(|s| &s.state.servers);
        let own = servers.find(|s| s.name == node && port.is_none_or(|p| p == s.port));
        let left = own.map_or(0, |s| s.active);
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(Failure::lab(format!(
                "server {named} of service {service} still has {left} established connection{} \
                 after {timeout} s; its weight is 0 now. Wait longer with --timeout, or remove it \
                 without --drain, which cuts them",
                if left == 1 { "" } else { "s" }
            )));
        }
        std::thread::sleep(LOOK);
    }
}
