//! `nslab proof`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::traced::{self, Traced};
use super::{Failure, Result};
use crate::report;
use crate::trace::proof::{self, Outcome, Question};

/// Arguments of `nslab proof`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads captures, of a lab that is up, of one that was (exchange/LAB, with its lab.json), or of any
origin (pcap or pcapng; then --vip has to be given), and says what they prove. Needs no root where
files can be read.

Exit codes: 0 proven; 1 refuted, or not to be concluded from these captures; 2 usage.")]
pub(super) struct Args {
    /// A lab, its folder or its file, or capture files; the only lab if left out
    #[arg(value_name = "LAB|FILE")]
    what: Vec<String>,
    /// The virtual address, with a port or not, and with a protocol or not: 10.0.0.9:53/udp
    #[arg(long, value_name = "ADDR[:PORT]")]
    vip: Option<Vip>,
    /// The method that it should be, where no lab says
    #[arg(long, value_name = "METHOD", value_parser = ["dr", "nat", "tun"])]
    expect: Option<String>,
    /// The director's capture, as it is called in the table or a file; may be repeated
    #[arg(long, value_name = "NAME")]
    director: Vec<String>,
    /// Folder where labs leave their captures
    #[arg(long, value_name = "DIR", default_value = "exchange")]
    exchange: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the verdicts as JUnit XML as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// `ADDR`, `ADDR:PORT` or `ADDR:PORT/PROTOCOL`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Vip {
    address: IpAddr,
    port: Option<u16>,
    protocol: Option<String>,
}

impl std::str::FromStr for Vip {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (end, protocol) = match text.split_once('/') {
            Some((end, protocol)) => (end, Some(protocol)),
            None => (text, None),
        };
        if let Some(other) = protocol.filter(|p| !matches!(*p, "tcp" | "udp" | "sctp")) {
            return Err(format!("{other:?} is none of tcp, udp and sctp"));
        }
        let protocol = protocol.map(str::to_owned);
        if let Ok(end) = end.parse::<SocketAddr>() {
            return Ok(Self {
                address: end.ip(),
                port: Some(end.port()),
                protocol,
            });
        }
        let address = end
            .parse()
            .map_err(|_| "an address or address:port, as 172.28.128.3:8080 or [fd00::3]:80")?;
        Ok(Self {
            address,
            port: None,
            protocol,
        })
    }
}

pub(super) fn run(args: &Args) -> Result<()> {
    let question = Question {
        vip: args.vip.as_ref().map(|v| v.address),
        port: args.vip.as_ref().and_then(|v| v.port),
        protocol: args.vip.as_ref().and_then(|v| v.protocol.clone()),
        expect: args.expect.clone(),
        director: args.director.clone(),
        changed: Vec::new(),
    };
    let mut proof = match traced::named(&args.what, &args.exchange)? {
        Traced::Lab { folder, up } => {
            let mut proof = proof::of_lab(&folder.topology, &folder.sources, &question)?;
            if up {
                proof.notes.push(
                    "the lab is up: frames of the last moments may be in some files and not yet in \
                     others"
                        .to_owned(),
                );
            }
            proof
        }
        Traced::Files(sources) => proof::of_files(&sources, &question)?,
    };
    proof.notes.dedup();
    if let Some(path) = &args.junit {
        super::output::write(path, &report::proof_junit(&proof))?;
    }
    if args.json {
        super::print_json(&proof)?;
    } else {
        super::print(&report::proof(&proof))?;
    }
    match proof.outcome {
        Outcome::Pass => Ok(()),
        Outcome::Inconclusive | Outcome::Fail => Err(Failure::silent(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_has_a_port_and_a_protocol_or_not() {
        let vip = |text: &str| text.parse::<Vip>();
        let of = |address: &str, port, protocol: Option<&str>| Vip {
            address: address.parse().unwrap(),
            port,
            protocol: protocol.map(str::to_owned),
        };
        assert_eq!(vip("10.0.0.9"), Ok(of("10.0.0.9", None, None)));
        assert_eq!(vip("10.0.0.9:80"), Ok(of("10.0.0.9", Some(80), None)));
        assert_eq!(
            vip("[fd00::9]:53/udp"),
            Ok(of("fd00::9", Some(53), Some("udp")))
        );
        assert_eq!(vip("fd00::9"), Ok(of("fd00::9", None, None)));
        assert_eq!(
            vip("10.0.0.9:80/http").unwrap_err(),
            "\"http\" is none of tcp, udp and sctp"
        );
        assert_eq!(
            vip("web").unwrap_err(),
            "an address or address:port, as 172.28.128.3:8080 or [fd00::3]:80"
        );
    }
}
