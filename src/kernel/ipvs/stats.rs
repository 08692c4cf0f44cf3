//! What the kernel counts of a service and of a destination.

use netlink_packet_core::DecodeError;
use serde::Serialize;

use super::attributes::Attributes;

/// Counters since the service or destination was made, or since they were zeroed; and rates, which
/// the kernel's estimator averages and renews every two seconds (ip_vs_est.c). Packets and bytes
/// `out` are those that come back through the director: with Direct Routing and tunnels none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients, from the IP header on.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Connections a second.
    pub cps: u64,
    /// Packets from clients a second.
    pub pps_in: u64,
    /// Packets to clients a second.
    pub pps_out: u64,
    /// Bytes from clients a second.
    pub bps_in: u64,
    /// Bytes to clients a second.
    pub bps_out: u64,
}

impl Stats {
    /// The 64-bit ones where the kernel sends them (since Linux 4.1), else those of 32 bits, which
    /// wrap around. Both nests number their attributes alike.
    pub(super) fn read(of: &Attributes, wide: u16, narrow: u16) -> Result<Self, DecodeError> {
        let Some(a) = of
            .nested("the 64-bit counters", wide)?
            .map_or_else(|| of.nested("the counters", narrow), |wide| Ok(Some(wide)))?
        else {
            return Err(DecodeError::from("there are no counters"));
        };
        // IPVS_STATS_ATTR_CONNS and on, in this order.
        Ok(Self {
            connections: a.counter(1)?,
            packets_in: a.counter(2)?,
            packets_out: a.counter(3)?,
            bytes_in: a.counter(4)?,
            bytes_out: a.counter(5)?,
            cps: a.counter(6)?,
            pps_in: a.counter(7)?,
            pps_out: a.counter(8)?,
            bps_in: a.counter(9)?,
            bps_out: a.counter(10)?,
        })
    }
}
