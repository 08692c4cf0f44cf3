//! The table of a network namespace: what can be asked of it and done to it.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::DecodeError;
use serde::Serialize;

use super::attributes::Attributes;
use super::requests::{self, DEST, SERVICE, TIMEOUT_TCP, TIMEOUT_TCP_FIN, TIMEOUT_UDP};
use super::socket::{Channel, Request};
use super::{Destination, DestinationConf, Error, Result, Service, ServiceConf, ServiceKey};

/// `IPVS_INFO_ATTR_*`.
const INFO_VERSION: u16 = 1;
const INFO_CONN_TAB_SIZE: u16 = 2;

/// Services with their destinations.
pub type Table = Vec<(ServiceConf, Vec<DestinationConf>)>;

/// What IPVS says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Version: major, minor, patch.
    pub version: [u8; 3],
    /// Buckets of the hash table of connections.
    pub connection_table_size: u32,
}

impl Info {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let a = Attributes::read("the information", bytes)?;
        let [_, major, minor, patch] = a.u32(INFO_VERSION)?.to_be_bytes();
        Ok(Self {
            version: [major, minor, patch],
            connection_table_size: a.u32(INFO_CONN_TAB_SIZE)?,
        })
    }
}

/// As `ipvsadm -L` begins.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.version;
        let size = self.connection_table_size;
        write!(
            f,
            "IP Virtual Server version {major}.{minor}.{patch} (size={size})"
        )
    }
}

/// After how many seconds without a packet a connection is forgotten. Per network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Timeouts {
    /// Established TCP connections; the kernel's default is 900.
    pub tcp: u32,
    /// TCP connections after a FIN; 120.
    pub tcp_fin: u32,
    /// UDP; 300.
    pub udp: u32,
}

impl Timeouts {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let a = Attributes::read("the timeouts", bytes)?;
        // A kernel without the protocol leaves its timeout out.
        let seconds = |kind| a.get(kind).map_or(Ok(0), |_| a.u32(kind));
        Ok(Self {
            tcp: seconds(TIMEOUT_TCP)?,
            tcp_fin: seconds(TIMEOUT_TCP_FIN)?,
            udp: seconds(TIMEOUT_UDP)?,
        })
    }
}

/// The IPVS of one network namespace, see [the module](super).
#[derive(Debug)]
pub struct Ipvs {
    channel: Channel,
}

impl Ipvs {
    /// Of the calling thread's network namespace. Loads the module as [`super::probe`] does.
    ///
    /// # Errors
    /// [`Error::NotInKernel`], or the socket fails.
    pub fn open() -> Result<Self> {
        Channel::open().map(|channel| Self { channel })
    }

    /// Version and size of the connection table.
    pub fn info(&mut self) -> Result<Info> {
        self.ask(requests::info(), Info::read)
    }

    /// All services, in the kernel's order.
    pub fn services(&mut self) -> Result<Vec<Service>> {
        self.list(&requests::services(), read_service)
    }

    /// One service.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others.
    pub fn service(&mut self, key: &ServiceKey) -> Result<Service> {
        self.ask(requests::service(key), read_service)
    }

    /// A service's destinations, the last one added first.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others.
    pub fn destinations(&mut self, key: &ServiceKey) -> Result<Vec<Destination>> {
        let all = self.list(&requests::destinations(key), |bytes| {
            read_destination(bytes, key.is_ipv6())
        })?;
        // To the kernel a service that is not there has no destinations.
        if all.is_empty() {
            self.service(key)?;
        }
        Ok(all)
    }

    /// All of it, as `apply` would take it: services in the kernel's order, destinations in the
    /// order in which they were added.
    pub fn table(&mut self) -> Result<Table> {
        let services = self.services()?;
        services
            .into_iter()
            .map(|service| {
                let mut destinations = self.destinations(&service.conf.key)?;
                destinations.reverse();
                let confs = destinations.into_iter().map(|d| d.conf).collect();
                Ok((service.conf, confs))
            })
            .collect()
    }

    /// Adds a service.
    pub fn add_service(&mut self, service: &ServiceConf) -> Result<()> {
        let done = self.command(requests::add_service(service));
        self.find_cause(service, done)
    }

    /// Changes all of a service but its key; its destinations and connections stay.
    pub fn edit_service(&mut self, service: &ServiceConf) -> Result<()> {
        let done = self.command(requests::edit_service(service));
        self.find_cause(service, done)
    }

    /// Deletes a service with its destinations.
    pub fn delete_service(&mut self, key: &ServiceKey) -> Result<()> {
        self.command(requests::delete_service(key))
    }

    /// Adds a destination to a service.
    pub fn add_destination(&mut self, key: &ServiceKey, to: &DestinationConf) -> Result<()> {
        self.command(requests::add_destination(key, to))
    }

    /// Changes all of a destination but its address and port; its connections stay.
    pub fn edit_destination(&mut self, key: &ServiceKey, to: &DestinationConf) -> Result<()> {
        self.command(requests::edit_destination(key, to))
    }

    /// Deletes a destination. Packets of its connections are dropped from then on, unless the
    /// sysctl `net.ipv4.vs.expire_nodest_conn` ends them.
    pub fn delete_destination(
        &mut self,
        key: &ServiceKey,
        address: IpAddr,
        port: u16,
    ) -> Result<()> {
        self.command(requests::delete_destination(key, address, port))
    }

    /// Deletes all services.
    pub fn flush(&mut self) -> Result<()> {
        self.command(requests::flush())
    }

    /// Zeroes a service's counters and its destinations', or everybody's.
    pub fn zero(&mut self, key: Option<&ServiceKey>) -> Result<()> {
        self.command(requests::zero(key))
    }

    /// The timeouts.
    pub fn timeouts(&mut self) -> Result<Timeouts> {
        self.ask(requests::timeouts(), Timeouts::read)
    }

    /// Sets the timeouts; 0 leaves one as it is.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        self.command(requests::set_timeouts(timeouts))
    }

    /// Adds services with their destinations to what is there: all of them or, where one is
    /// refused, none.
    pub fn apply(&mut self, table: &Table) -> Result<()> {
        let mut added: Vec<ServiceKey> = vec![];
        for (service, destinations) in table {
            let mut done = self.add_service(service);
            if done.is_ok() {
                added.push(service.key);
                done = destinations
                    .iter()
                    .try_for_each(|to| self.add_destination(&service.key, to));
            }
            if let Err(cause) = done {
                return Err(self.take_back(&added, cause));
            }
        }
        Ok(())
    }

    fn take_back(&mut self, added: &[ServiceKey], cause: Error) -> Error {
        let mut failed = None;
        for key in added.iter().rev() {
            if let Err(e) = self.delete_service(key) {
                failed.get_or_insert(e);
            }
        }
        match failed {
            None => cause,
            Some(left) => Error::Left {
                cause: Box::new(cause),
                left: Box::new(left),
            },
        }
    }

    /// The kernel says the same of a scheduler and of a persistence engine that it does not have.
    fn find_cause(&mut self, service: &ServiceConf, done: Result<()>) -> Result<()> {
        match done {
            Err(Error::PersistenceEngine { what, .. })
                if self.has_scheduler(&service.scheduler)? == Some(false) =>
            {
                let name = service.scheduler.clone();
                Err(Error::Scheduler { what, name })
            }
            done => done,
        }
    }

    pub(super) fn command(&mut self, request: Request) -> Result<()> {
        self.channel.command(request)
    }

    fn ask<T>(
        &mut self,
        request: Request,
        read: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T> {
        let what = request.what.clone();
        let bytes = self.channel.ask(request)?;
        read(&bytes).map_err(|e| unreadable(what, &e))
    }

    fn list<T>(
        &mut self,
        request: &Request,
        read: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>> {
        let found = self.channel.dump(request)?;
        let all: Result<_, DecodeError> = found.iter().map(|bytes| read(bytes)).collect();
        all.map_err(|e| unreadable(request.what.clone(), &e))
    }
}

fn unreadable(what: String, why: &DecodeError) -> Error {
    Error::Answer {
        what,
        why: why.to_string(),
    }
}

/// Reads the nest that a message consists of.
fn nested<T>(
    bytes: &[u8],
    nest: u16,
    of: &'static str,
    read: impl FnOnce(&Attributes) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let inner = Attributes::read(of, bytes)?.nested(of, nest)?;
    read(&inner.ok_or_else(|| DecodeError::from(format!("{of} is empty")))?)
}

pub(super) fn read_service(bytes: &[u8]) -> Result<Service, DecodeError> {
    nested(bytes, SERVICE, "a service", Service::read)
}

/// A destination; the address family of its service is its own where the kernel tells none.
pub(super) fn read_destination(
    bytes: &[u8],
    service_ipv6: bool,
) -> Result<Destination, DecodeError> {
    nested(bytes, DEST, "a destination", |a| {
        Destination::read(a, service_ipv6)
    })
}
