//! Kernel IPVS over generic netlink: family "IPVS", include/uapi/linux/ip_vs.h, served by
//! net/netfilter/ipvs/ip_vs_ctl.c. What ipvsadm(8) does by hand: virtual services, their
//! destinations (realservers), counters, timeouts. The sync daemon is left out: a lab has one
//! director a service.
//!
//! An [`Ipvs`] belongs to one network namespace: that of the thread which opened it. Open it in
//! [`super::netns::run_in`] and move it out; it can be used on any thread afterwards.
//!
//! ```no_run
//! use nslab::kernel::ipvs::{DestinationConf, Forwarding, Ipvs, ServiceConf, ServiceKey, Transport};
//!
//! let mut ipvs = Ipvs::open()?;
//! let vip = ServiceKey::Address {
//!     transport: Transport::Tcp,
//!     address: "172.28.128.3".parse().unwrap(),
//!     port: 8080,
//! };
//! let rip = "172.28.128.4".parse().unwrap();
//! ipvs.apply(&vec![(
//!     ServiceConf::new(vip, "rr"),
//!     vec![DestinationConf::new(rip, 8080, Forwarding::DirectRoute)],
//! )])?;
//! for destination in ipvs.destinations(&vip)? {
//!     println!("{} {}", destination.conf, destination.active);
//! }
//! # Ok::<(), nslab::kernel::ipvs::Error>(())
//! ```

mod ability;
mod attributes;
mod destination;
mod error;
mod family;
mod requests;
mod service;
mod socket;
mod stats;
mod table;

pub use destination::{Destination, DestinationConf, Forwarding, Tunnel, TunnelChecksum};
pub use error::Error;
pub use family::probe;
pub use service::{Netmask, Service, ServiceConf, ServiceFlags, ServiceKey, Transport};
pub use stats::Stats;
pub use table::{Info, Ipvs, Table, Timeouts};

/// What a call gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests;
