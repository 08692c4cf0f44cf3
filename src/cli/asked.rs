//! What `proof` and `report` are asked, and the proof of it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Result;
use super::traced::{self, Traced};
use crate::trace::proof::{self, Draw, Proof, Question};

/// Which captures, and what is known of them.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Asked {
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

impl Asked {
    /// The captures.
    pub(super) fn traced(&self) -> Result<Traced> {
        traced::named(&self.what, &self.exchange)
    }

    /// Proves what they show, and has that drawn if asked for.
    pub(super) fn prove(&self, traced: &Traced, draw: Option<Draw>) -> Result<Proof> {
        let question = Question {
            vip: self.vip.as_ref().map(|v| v.address),
            port: self.vip.as_ref().and_then(|v| v.port),
            protocol: self.vip.as_ref().and_then(|v| v.protocol.clone()),
            expect: self.expect.clone(),
            director: self.director.clone(),
            draw,
        };
        let mut proof = match traced {
            Traced::Lab { folder, up } => {
                let mut proof = proof::of_lab(&folder.topology, &folder.sources, &question)?;
                if *up {
                    proof.notes.push(
                        "the lab is up: frames of the last moments may be in some files and not yet \
                         in others"
                            .to_owned(),
                    );
                }
                proof
            }
            Traced::Files(sources) => proof::of_files(sources, &question)?,
        };
        proof.notes.dedup();
        Ok(proof)
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
