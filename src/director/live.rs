//! A director that runs: what it counts, and changes that its connections survive.
//!
//! [`Live`] is one director with all of its services. Call it on a thread inside the director's
//! network namespace ([`crate::kernel::netns::run_in`]): it asks the kernel there. Each call is
//! done when it returns, and a change that fails has changed nothing.

mod ipvs;
mod nft;

use std::fmt::Debug;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use ipvs::IpvsLive;
pub use nft::NftLive;

use super::{ServerSpec, ServiceSpec, Unsupported};

/// A running director.
pub trait Live: Debug + Send {
    /// Its services as they are now, servers that were added at run time with them. Cheap: for
    /// who only wants weights.
    ///
    /// # Errors
    /// The kernel could not be asked.
    fn services(&mut self) -> Result<Vec<ServiceSpec>, Error>;

    /// Its services with all that is counted.
    ///
    /// # Errors
    /// The kernel could not be asked.
    fn table(&mut self) -> Result<Vec<ServiceState>, Error>;

    /// Gives a server another weight. Its connections go on, with weight 0 as well: that only
    /// keeps new ones away. `server` is one of the service's by name and port.
    ///
    /// # Errors
    /// There is no such server, the engine cannot do it, or the kernel refuses.
    fn set_weight(&mut self, service: &str, server: &ServerSpec, weight: u32) -> Result<(), Error>;

    /// Adds a server to a service. One that was removed before gets the connections back that
    /// have not been forgotten meanwhile.
    ///
    /// # Errors
    /// It is there already, the engine cannot do it, or the kernel refuses.
    fn add_server(&mut self, service: &str, server: &ServerSpec) -> Result<(), Error>;

    /// Removes a server. What comes of its connections after that is dropped without a word; who
    /// wants them to end well gives the server weight 0 first and waits.
    ///
    /// # Errors
    /// There is no such server, or the kernel refuses.
    fn remove_server(&mut self, service: &str, server: &ServerSpec) -> Result<(), Error>;
}

/// Why a running director could not be asked or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such service.
    #[error("the director has no service {0}")]
    NoService(String),
    /// No such server.
    #[error("service {service} has no server {server}")]
    NoServer {
        /// The service's name.
        service: String,
        /// The server's node name.
        server: String,
    },
    /// The server is there.
    #[error("service {service} has server {server} already")]
    Exists {
        /// The service's name.
        service: String,
        /// The server's node name.
        server: String,
    },
    /// The engine cannot do that.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A change that the engine can make only by beginning anew, which would forget connections.
    #[error("this cannot be changed while the director runs: {0}")]
    NotInPlace(String),
    /// The kernel refused.
    #[error(transparent)]
    Nft(#[from] crate::kernel::nft::Error),
    /// The kernel refused.
    #[error(transparent)]
    Ipvs(#[from] crate::kernel::ipvs::Error),
}

/// A service with what is counted of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// Virtual IP address.
    pub vip: IpAddr,
    /// Port on the VIP.
    pub port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// The scheduler's IPVS name.
    pub scheduler: String,
    /// Sums of all that the service has served, by servers that are gone too where the engine
    /// knows that (ipvs).
    pub counters: Counters,
    /// Per second; `None` if two samples are needed for that and there is only one.
    pub rates: Option<Rates>,
    /// Its servers.
    pub servers: Vec<ServerState>,
}

/// A server of a service with what is counted of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerState {
    /// Its node's name; the address where the lab does not know it (added with ipvsadm(8)).
    pub name: String,
    /// Real address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Weight; 0 takes no new connections.
    pub weight: u32,
    /// Established TCP connections.
    pub active: u64,
    /// All others that are remembered: TCP ones that begin or end, UDP flows.
    pub inactive: u64,
    /// See [`ServiceState::counters`].
    pub counters: Counters,
    /// See [`ServiceState::rates`].
    pub rates: Option<Rates>,
}

/// What was counted since the director was programmed or the server was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Connections that were scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients that came through the director: with method nat only.
    pub packets_out: u64,
    /// Bytes from clients, from the IP header on.
    pub bytes_in: u64,
    /// Bytes to clients, see `packets_out`.
    pub bytes_out: u64,
}

impl Counters {
    /// The sum of several.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |a, b| Self {
            connections: a.connections + b.connections,
            packets_in: a.packets_in + b.packets_in,
            packets_out: a.packets_out + b.packets_out,
            bytes_in: a.bytes_in + b.bytes_in,
            bytes_out: a.bytes_out + b.bytes_out,
        })
    }

    /// What came since `before`, per second. A counter that began anew meanwhile counts from zero.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate of more than 2^53 a second does not exist"
    )]
    pub fn rates(&self, before: &Self, seconds: f64) -> Rates {
        let rate = |new: u64, old: u64| new.checked_sub(old).unwrap_or(new) as f64 / seconds;
        Rates {
            connections: rate(self.connections, before.connections),
            packets_in: rate(self.packets_in, before.packets_in),
            packets_out: rate(self.packets_out, before.packets_out),
            bytes_in: rate(self.bytes_in, before.bytes_in),
            bytes_out: rate(self.bytes_out, before.bytes_out),
        }
    }
}

/// The same per second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Connections.
    pub connections: f64,
    /// Packets from clients.
    pub packets_in: f64,
    /// Packets to clients.
    pub packets_out: f64,
    /// Bytes from clients.
    pub bytes_in: f64,
    /// Bytes to clients.
    pub bytes_out: f64,
}

/// The running director of that engine ([`super::Engine::name`]) in the calling thread's namespace,
/// which has just been programmed with these services.
///
/// # Errors
/// The engine cannot do that, or the kernel could not be asked.
pub fn open(engine: &str, services: &[ServiceSpec]) -> Result<Box<dyn Live>, Error> {
    if engine == "ipvs" {
        return Ok(Box::new(IpvsLive::open(services)?));
    }
    Ok(Box::new(NftLive::new(
        super::NftEngine::default(),
        services,
    )?))
}

/// Whether two are one server: a node can serve at several ports (method nat).
fn same(a: &ServerSpec, b: &ServerSpec) -> bool {
    a.name == b.name && a.port == b.port
}

/// The service of that name.
fn find<'a>(services: &'a mut [ServiceSpec], name: &str) -> Result<&'a mut ServiceSpec, Error> {
    services
        .iter_mut()
        .find(|s| s.name == name)
        .ok_or_else(|| Error::NoService(name.to_owned()))
}

fn no_server(service: &str, server: &ServerSpec) -> Error {
    Error::NoServer {
        service: service.to_owned(),
        server: server.name.clone(),
    }
}
