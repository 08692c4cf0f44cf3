//! Load-balancing engines behind one trait. An engine turns a [`ServiceSpec`] into a [`Program`]:
//! pure data that `kernel` carries out, so that it can be printed, compared and tested.

mod choose;
pub mod ipvs;
pub mod live;
mod nft;
mod redirect;
mod schedule;
mod spec;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

pub use choose::{Choice, Error, choose};
pub use ipvs::IpvsEngine;
pub use nft::{NftEngine, TABLE, Timeouts};
pub use redirect::realserver_redirect;
pub use spec::{Device, Persistence, ServerSpec, ServiceSpec};

use crate::kernel::ipvs::Table;
use crate::kernel::nft::Ruleset;

/// What an engine wants done in its director's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// For [`crate::kernel::nft::apply`].
    Nft(Ruleset),
    /// For [`crate::kernel::ipvs::Ipvs::apply`].
    Ipvs(Table),
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nft(ruleset) => ruleset.fmt(f),
            Self::Ipvs(table) => table.iter().try_for_each(|(service, destinations)| {
                writeln!(f, "{} scheduler {}", service.key, service.scheduler)?;
                destinations.iter().try_for_each(|d| {
                    let address = std::net::SocketAddr::new(d.address, d.port);
                    writeln!(f, "  -> {address} {} weight {}", d.forwarding, d.weight)
                })
            }),
        }
    }
}

/// A way of load balancing.
pub trait Engine {
    /// Its name in lab files: `nft`, `ipvs`.
    fn name(&self) -> &'static str;

    /// Whether it can do what the service asks for.
    fn supports(&self, service: &ServiceSpec) -> Result<(), Unsupported>;

    /// What makes one director balance all of these services.
    fn program(&self, services: &[ServiceSpec]) -> Result<Program, Unsupported>;
}

/// Why an engine cannot do what a service asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A scheduler that the engine does not have.
    #[error(
        "service {service:?} asks for scheduler {scheduler:?}, which engine \"nft\" does not have \
         (it has rr, wrr and sh)"
    )]
    Scheduler {
        /// The service's name.
        service: String,
        /// The scheduler.
        scheduler: String,
    },
    /// Something that only IPVS does.
    #[error("service {service:?} asks for {what}, which engine \"nft\" does not have")]
    Feature {
        /// The service's name.
        service: String,
        /// What it asks for.
        what: &'static str,
    },
    /// Another protocol than TCP and UDP.
    #[error(
        "service {service:?} is of IP protocol {protocol}; engine \"nft\" balances tcp (6) and \
         udp (17) only"
    )]
    Protocol {
        /// The service's name.
        service: String,
        /// The number.
        protocol: u8,
    },
    /// An IPv6 VIP.
    #[error("service {service:?} has the IPv6 VIP {vip}; engine \"nft\" balances IPv4 only")]
    Ipv6 {
        /// The service's name.
        service: String,
        /// The VIP.
        vip: IpAddr,
    },
    /// A protocol that IPVS does not balance.
    #[error(
        "service {service:?} is of IP protocol {protocol}; engine \"ipvs\" balances tcp (6), udp \
         (17) and sctp (132) only"
    )]
    NoPorts {
        /// The service's name.
        service: String,
        /// The number.
        protocol: u8,
    },
    /// Weights that would take too long a table.
    #[error(
        "the weights of service {service:?} add up to {total}, reduced by their greatest common \
         divisor; engine \"nft\" takes up to {max}: round the weights"
    )]
    Weights {
        /// The service's name.
        service: String,
        /// The sum.
        total: u64,
        /// The most.
        max: u64,
    },
    /// A realserver behind a device that the service does not list.
    #[error(
        "service {service:?} reaches realserver {server:?} by {via:?}, which is none of the \
         director's interfaces"
    )]
    Via {
        /// The service's name.
        service: String,
        /// The server's node name.
        server: String,
        /// The device's name.
        via: String,
    },
    /// Two services at one address.
    #[error("services {first:?} and {second:?} have the same VIP, protocol and port")]
    SameAddress {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
}

/// Refuses two services at one address.
fn same_address<'s>(services: impl Iterator<Item = &'s ServiceSpec>) -> Result<(), Unsupported> {
    let mut seen = HashMap::new();
    for second in services {
        let address = (second.vip, second.protocol, second.port);
        if let Some(first) = seen.insert(address, second.name.clone()) {
            return Err(Unsupported::SameAddress {
                first,
                second: second.name.clone(),
            });
        }
    }
    Ok(())
}
