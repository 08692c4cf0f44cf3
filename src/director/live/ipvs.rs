//! A running director of the kernel's IPVS. The kernel's own table is the truth: what ipvsadm(8)
//! has changed meanwhile is seen too.

use super::{Counters, Error, Live, Rates, ServerState, ServiceState, find, no_server, same};
use crate::director::ipvs::{conf, destination};
use crate::director::{ServerSpec, ServiceSpec};
use crate::kernel::ipvs::{Destination, Ipvs, ServiceKey, Stats};

/// See the module.
#[derive(Debug)]
pub struct IpvsLive {
    ipvs: Ipvs,
    /// With every server that was ever there: they give the kernel's addresses their names.
    services: Vec<ServiceSpec>,
}

impl IpvsLive {
    /// Of the calling thread's network namespace, where these services run.
    ///
    /// # Errors
    /// The kernel has no IPVS any more, or a socket fails.
    pub fn open(services: &[ServiceSpec]) -> Result<Self, Error> {
        Ok(Self {
            ipvs: Ipvs::open()?,
            services: services.to_vec(),
        })
    }

    /// A service's key and destinations in the kernel, in the order in which they were added.
    fn ask(&mut self, service: &str) -> Result<(ServiceKey, Vec<Destination>), Error> {
        let key = conf(find(&mut self.services, service)?)?.key;
        let mut destinations = self.ipvs.destinations(&key)?;
        destinations.reverse();
        Ok((key, destinations))
    }

    /// A server's destination in the kernel.
    fn present(
        &mut self,
        service: &str,
        server: &ServerSpec,
    ) -> Result<(ServiceKey, Destination), Error> {
        let (key, destinations) = self.ask(service)?;
        let mut destinations = destinations.into_iter();
        destinations
            .find(|d| is(d, server))
            .map(|d| (key, d))
            .ok_or_else(|| no_server(service, server))
    }
}

fn is(destination: &Destination, server: &ServerSpec) -> bool {
    destination.conf.address == server.address && destination.conf.port == server.port
}

/// What the kernel has, with the names of those that are known.
fn named(service: &ServiceSpec, destination: &Destination) -> ServerSpec {
    let conf = &destination.conf;
    let known = service.servers.iter().find(|s| is(destination, s));
    let mut server = known.cloned().unwrap_or_else(|| ServerSpec {
        name: conf.address.to_string(),
        address: conf.address,
        port: conf.port,
        mac: [0; 6],
        via: String::new(),
        weight: 0,
        upper: 0,
        lower: 0,
    });
    (server.weight, server.upper, server.lower) = (conf.weight, conf.upper, conf.lower);
    server
}

impl Live for IpvsLive {
    fn services(&mut self) -> Result<Vec<ServiceSpec>, Error> {
        let mut services = self.services.clone();
        for service in &mut services {
            let (_, destinations) = self.ask(&service.name)?;
            service.servers = destinations.iter().map(|d| named(service, d)).collect();
        }
        Ok(services)
    }

    fn table(&mut self) -> Result<Vec<ServiceState>, Error> {
        let services = self.services.clone();
        services
            .iter()
            .map(|service| {
                let (key, destinations) = self.ask(&service.name)?;
                let now = self.ipvs.service(&key)?;
                Ok(ServiceState {
                    name: service.name.clone(),
                    vip: service.vip,
                    port: service.port,
                    protocol: service.protocol_name().to_owned(),
                    scheduler: now.conf.scheduler,
                    counters: counters(&now.stats),
                    rates: Some(rates(&now.stats)),
                    servers: destinations.iter().map(|d| state(service, d)).collect(),
                })
            })
            .collect()
    }

    fn set_weight(&mut self, service: &str, server: &ServerSpec, weight: u32) -> Result<(), Error> {
        let (key, destination) = self.present(service, server)?;
        let mut to = destination.conf;
        to.weight = weight;
        Ok(self.ipvs.edit_destination(&key, &to)?)
    }

    fn add_server(&mut self, service: &str, server: &ServerSpec) -> Result<(), Error> {
        let (key, destinations) = self.ask(service)?;
        if destinations.iter().any(|d| is(d, server)) {
            return Err(Error::Exists {
                service: service.to_owned(),
                server: server.name.clone(),
            });
        }
        let spec = find(&mut self.services, service)?;
        self.ipvs
            .add_destination(&key, &destination(spec, server))?;
        spec.servers.retain(|s| !same(s, server));
        spec.servers.push(server.clone());
        Ok(())
    }

    fn remove_server(&mut self, service: &str, server: &ServerSpec) -> Result<(), Error> {
        let (key, _) = self.present(service, server)?;
        Ok(self
            .ipvs
            .delete_destination(&key, server.address, server.port)?)
    }
}

fn state(service: &ServiceSpec, destination: &Destination) -> ServerState {
    let server = named(service, destination);
    ServerState {
        name: server.name,
        address: server.address,
        port: server.port,
        weight: server.weight,
        active: destination.active.into(),
        inactive: destination.inactive.into(),
        counters: counters(&destination.stats),
        rates: Some(rates(&destination.stats)),
    }
}

fn counters(stats: &Stats) -> Counters {
    Counters {
        connections: stats.connections,
        packets_in: stats.packets_in,
        packets_out: stats.packets_out,
        bytes_in: stats.bytes_in,
        bytes_out: stats.bytes_out,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate of more than 2^53 a second does not exist"
)]
fn rates(stats: &Stats) -> Rates {
    Rates {
        connections: stats.cps as f64,
        packets_in: stats.pps_in as f64,
        packets_out: stats.pps_out as f64,
        bytes_in: stats.bps_in as f64,
        bytes_out: stats.bps_out as f64,
    }
}
