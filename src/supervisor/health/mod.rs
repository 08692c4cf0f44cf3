//! Health checks: whether a server still answers for the VIP, and what the director is told.
//!
//! A check sees what clients see, so it is made as close to the director's own packet as can be:
//!
//! - **Direct routing**: the question goes to the VIP's address at the server's MAC address, from
//!   the switch that both are plugged into, which has an address of its own on the network for that
//!   ([`crate::lab::Checker`]). The server's REDIRECT rule, or the VIP on its `lo`, and the process
//!   behind it all have to be there. Not from the director: it has the VIP itself, and where that is
//!   its only address (the flagship lab) the question would come from the VIP. Not from inside the
//!   server either: what a process there sends to the VIP passes OUTPUT and not PREROUTING, so a
//!   REDIRECT would not see it, and the question would go out to the director and be answered by any
//!   server.
//! - **NAT**: to the server's own address and port from the director, which is where the director
//!   sends clients' packets.
//! - **Tunnel**: to the VIP from inside the server, once it is certain that the VIP is the server's
//!   own. That is where a packet is when it has come out of the tunnel.
//!
//! Rooms: `verdict` and `servers` decide, without clock or network; `way` and `probe` ask; `watch`
//! does it every so often and tells the director.

mod changes;
mod probe;
mod servers;
mod verdict;
mod watch;
mod way;

pub(super) use servers::Id;
pub(super) use watch::Checks;
