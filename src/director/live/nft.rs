//! A running director of the nft engine. Each change is the difference between two tables, taken
//! in one transaction; the maps in which connections are remembered are in both and stay.

use std::collections::HashMap;
use std::time::Duration;

use super::{
    Counters, Error, Live, ServerSpec, ServerState, ServiceSpec, ServiceState, find, no_server,
    same,
};
use crate::director::NftEngine;
use crate::director::nft::{self, TABLE};
use crate::kernel::nft::{CounterValue, Family, Mapped, Table, between, change, counters, mapped};

/// See the module.
#[derive(Debug)]
pub struct NftLive {
    engine: NftEngine,
    /// With servers that have been removed: their places, and so everybody's numbers, stay.
    services: Vec<ServiceSpec>,
    /// Places of removed servers, by service.
    gone: Vec<Vec<usize>>,
    /// What the kernel has.
    table: Table,
}

impl NftLive {
    /// Of a director that has just been programmed with these services.
    ///
    /// # Errors
    /// The engine cannot do that; then it was not.
    pub fn new(engine: NftEngine, services: &[ServiceSpec]) -> Result<Self, Error> {
        let gone = vec![Vec::new(); services.len()];
        let table = table_of(&engine, services, &gone)?;
        Ok(Self {
            engine,
            services: services.to_vec(),
            gone,
            table,
        })
    }

    /// Makes the kernel's table that of these services, or nothing.
    fn become_table(
        &mut self,
        services: Vec<ServiceSpec>,
        gone: Vec<Vec<usize>>,
    ) -> Result<(), Error> {
        let table = table_of(&self.engine, &services, &gone)?;
        let changes = between(&self.table, &table).map_err(Error::NotInPlace)?;
        change(Family::Netdev, TABLE, &changes)?;
        (self.services, self.gone, self.table) = (services, gone, table);
        Ok(())
    }

    /// Where a service is, and where in it a server.
    fn place(&self, service: &str, server: &ServerSpec) -> Result<(usize, Option<usize>), Error> {
        let at = self.services.iter().position(|s| s.name == service);
        let at = at.ok_or_else(|| Error::NoService(service.to_owned()))?;
        let mut servers = self.services[at].servers.iter();
        Ok((at, servers.position(|s| same(s, server))))
    }

    /// The place of a server that has not been removed.
    fn present(&self, service: &str, server: &ServerSpec) -> Result<(usize, usize), Error> {
        match self.place(service, server)? {
            (at, Some(n)) if !self.gone[at].contains(&n) => Ok((at, n)),
            _ => Err(no_server(service, server)),
        }
    }
}

fn table_of(
    engine: &NftEngine,
    services: &[ServiceSpec],
    gone: &[Vec<usize>],
) -> Result<Table, Error> {
    let all: Vec<_> = services
        .iter()
        .zip(gone)
        .map(|(s, gone)| (s, gone.as_slice()))
        .collect();
    Ok(engine.table(&all)?)
}

impl Live for NftLive {
    fn services(&mut self) -> Result<Vec<ServiceSpec>, Error> {
        let mut services = self.services.clone();
        for (service, gone) in services.iter_mut().zip(&self.gone) {
            let mut n = 0;
            service.servers.retain(|_| {
                n += 1;
                !gone.contains(&(n - 1))
            });
        }
        Ok(services)
    }

    fn table(&mut self) -> Result<Vec<ServiceState>, Error> {
        let counted = counters(Family::Netdev, TABLE)?;
        let counted: HashMap<_, _> = counted.iter().map(|c| (c.name.as_str(), c)).collect();
        let services = self.services.iter().zip(&self.gone);
        services
            .map(|(service, gone)| {
                let known = mapped(Family::Netdev, TABLE, &nft::conns(&service.name))?;
                // A map that is not there (UDP) has no elements.
                let closing = mapped(Family::Netdev, TABLE, &nft::closing(&service.name))?;
                let connections = Connections {
                    known: &known,
                    closing: &closing,
                    begun: self.engine.timeouts.syn,
                    tcp: service.protocol == 6,
                };
                let servers = service.servers.iter().enumerate();
                let servers = servers
                    .filter(|(n, _)| !gone.contains(n))
                    .map(|(n, server)| state(service, server, n as u32, &counted, &connections))
                    .collect();
                Ok(of_service(service, servers))
            })
            .collect()
    }

    fn set_weight(&mut self, service: &str, server: &ServerSpec, weight: u32) -> Result<(), Error> {
        let (at, n) = self.present(service, server)?;
        let mut services = self.services.clone();
        services[at].servers[n].weight = weight;
        self.become_table(services, self.gone.clone())
    }

    fn add_server(&mut self, service: &str, server: &ServerSpec) -> Result<(), Error> {
        let (at, place) = self.place(service, server)?;
        let (mut services, mut gone) = (self.services.clone(), self.gone.clone());
        match place {
            Some(n) if gone[at].contains(&n) => {
                gone[at].retain(|g| *g != n);
                services[at].servers[n] = server.clone();
            }
            Some(_) => {
                return Err(Error::Exists {
                    service: service.to_owned(),
                    server: server.name.clone(),
                });
            }
            None => find(&mut services, service)?.servers.push(server.clone()),
        }
        self.become_table(services, gone)
    }

    fn remove_server(&mut self, service: &str, server: &ServerSpec) -> Result<(), Error> {
        let (at, n) = self.present(service, server)?;
        let mut gone = self.gone.clone();
        gone[at].push(n);
        self.become_table(self.services.clone(), gone)
    }
}

/// What a service remembers of its connections.
struct Connections<'a> {
    known: &'a [Mapped],
    closing: &'a [Mapped],
    /// What a connection has left when it has only begun.
    begun: Duration,
    tcp: bool,
}

impl Connections<'_> {
    /// Active and inactive ones of a server, as `ip_vs` counts them: established TCP ones, and all
    /// others. A map's element does not tell whether its connection is established, but how long it
    /// has to live does: one that is idle for all but the last minute of its time counts as inactive
    /// for that minute.
    fn of(&self, server: u32) -> (u64, u64) {
        let established = |m: &&Mapped| self.tcp && m.left.is_some_and(|left| left > self.begun);
        let own = |all: &[Mapped]| all.iter().filter(|m| m.mark == server).count() as u64;
        let known = self.known.iter().filter(|m| m.mark == server);
        let active = known.filter(established).count() as u64;
        (active, own(self.known) - active + own(self.closing))
    }
}

fn state(
    service: &ServiceSpec,
    server: &ServerSpec,
    number: u32,
    counted: &HashMap<&str, &CounterValue>,
    connections: &Connections<'_>,
) -> ServerState {
    let value = |name: String| {
        counted
            .get(name.as_str())
            .map_or((0, 0), |c| (c.packets, c.bytes))
    };
    let (packets_in, bytes_in) = value(nft::way(&service.name, &server.name));
    let (active, inactive) = connections.of(number);
    ServerState {
        name: server.name.clone(),
        address: server.address,
        port: server.port,
        weight: server.weight,
        active,
        inactive,
        counters: Counters {
            connections: value(nft::first(&service.name, &server.name)).0,
            packets_in,
            packets_out: 0,
            bytes_in,
            bytes_out: 0,
        },
        rates: None,
    }
}

fn of_service(service: &ServiceSpec, servers: Vec<ServerState>) -> ServiceState {
    ServiceState {
        name: service.name.clone(),
        vip: service.vip,
        port: service.port,
        protocol: service.protocol_name().to_owned(),
        scheduler: service.scheduler.clone(),
        counters: Counters::sum(servers.iter().map(|s| &s.counters)),
        rates: None,
        servers,
    }
}
