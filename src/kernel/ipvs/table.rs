//! The table of a network namespace: what can be asked of it and done to it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{DecodeError, DefaultNla};
use serde::Serialize;

use super::attributes::{self, Attributes};
use super::error::About;
use super::socket::{Channel, Request};
use super::{Destination, DestinationConf, Error, Result, Service, ServiceConf, ServiceKey};

/// `IPVS_CMD_*`.
pub(super) mod command {
    pub const NEW_SERVICE: u8 = 1;
    pub const SET_SERVICE: u8 = 2;
    pub const DEL_SERVICE: u8 = 3;
    pub const GET_SERVICE: u8 = 4;
    pub const NEW_DEST: u8 = 5;
    pub const SET_DEST: u8 = 6;
    pub const DEL_DEST: u8 = 7;
    pub const GET_DEST: u8 = 8;
    pub const SET_CONFIG: u8 = 12;
    pub const GET_CONFIG: u8 = 13;
    pub const GET_INFO: u8 = 15;
    pub const ZERO: u8 = 16;
    pub const FLUSH: u8 = 17;
}

/// `IPVS_CMD_ATTR_*`.
const SERVICE: u16 = 1;
const DEST: u16 = 2;
const TIMEOUT_TCP: u16 = 4;
const TIMEOUT_TCP_FIN: u16 = 5;
const TIMEOUT_UDP: u16 = 6;

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
        let request = request(command::GET_INFO, vec![], "ask IPVS for its version");
        self.ask(request, "the information", |a| {
            let [_, major, minor, patch] = a.u32(INFO_VERSION)?.to_be_bytes();
            Ok(Info {
                version: [major, minor, patch],
                connection_table_size: a.u32(INFO_CONN_TAB_SIZE)?,
            })
        })
    }

    /// All services, in the kernel's order.
    pub fn services(&mut self) -> Result<Vec<Service>> {
        let request = request(command::GET_SERVICE, vec![], "list the services");
        self.dump(&request, SERVICE, "a service", Service::read)
    }

    /// One service.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others.
    pub fn service(&mut self, key: &ServiceKey) -> Result<Service> {
        let request = request(
            command::GET_SERVICE,
            vec![name(key)],
            format!("look at service {key}"),
        );
        self.ask(request, "a service", |a| {
            let service = a.nested("a service", SERVICE)?;
            Service::read(&service.ok_or("the service is empty")?)
        })
    }

    /// A service's destinations, the last one added first.
    ///
    /// # Errors
    /// [`Error::NotFound`] and others.
    pub fn destinations(&mut self, key: &ServiceKey) -> Result<Vec<Destination>> {
        let what = format!("list the destinations of service {key}");
        let request = request(command::GET_DEST, vec![name(key)], what);
        let all = self.dump(&request, DEST, "a destination", |a| {
            Destination::read(a, key.is_ipv6())
        })?;
        // To the kernel a service that is not there has no destinations.
        if all.is_empty() {
            self.service(key)?;
        }
        Ok(all)
    }

    /// All of it, as `apply` would take it: services in the kernel's order, destinations in the order in
    /// which they were added.
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
        self.put_service(command::NEW_SERVICE, "add", service)
    }

    /// Changes all of a service but its key; its destinations and connections stay.
    pub fn edit_service(&mut self, service: &ServiceConf) -> Result<()> {
        self.put_service(command::SET_SERVICE, "edit", service)
    }

    /// Deletes a service with its destinations.
    pub fn delete_service(&mut self, key: &ServiceKey) -> Result<()> {
        self.channel.command(request(
            command::DEL_SERVICE,
            vec![name(key)],
            format!("delete service {key}"),
        ))
    }

    /// Adds a destination to a service.
    pub fn add_destination(&mut self, key: &ServiceKey, to: &DestinationConf) -> Result<()> {
        self.put_destination(command::NEW_DEST, "add", key, to)
    }

    /// Changes all of a destination but its address and port; its connections stay.
    pub fn edit_destination(&mut self, key: &ServiceKey, to: &DestinationConf) -> Result<()> {
        self.put_destination(command::SET_DEST, "edit", key, to)
    }

    /// Deletes a destination. Packets of its connections are dropped from then on, unless the
    /// sysctl `net.ipv4.vs.expire_nodest_conn` ends them.
    pub fn delete_destination(
        &mut self,
        key: &ServiceKey,
        address: IpAddr,
        port: u16,
    ) -> Result<()> {
        let to = SocketAddr::new(address, port);
        self.channel.command(Request {
            about: About::Destination,
            ..request(
                command::DEL_DEST,
                vec![
                    name(key),
                    attributes::nest(DEST, &DestinationConf::key(address, port)),
                ],
                format!("delete destination {to} of service {key}"),
            )
        })
    }

    /// Deletes all services.
    pub fn flush(&mut self) -> Result<()> {
        self.channel
            .command(request(command::FLUSH, vec![], "delete all services"))
    }

    /// Zeroes a service's counters and its destinations', or everybody's.
    pub fn zero(&mut self, key: Option<&ServiceKey>) -> Result<()> {
        let what = match key {
            Some(key) => format!("zero the counters of service {key}"),
            None => "zero all counters".into(),
        };
        let names = key.map(name).into_iter().collect();
        self.channel.command(request(command::ZERO, names, what))
    }

    /// The timeouts.
    pub fn timeouts(&mut self) -> Result<Timeouts> {
        let request = request(command::GET_CONFIG, vec![], "ask IPVS for its timeouts");
        self.ask(request, "the timeouts", |a| {
            // A kernel without the protocol leaves its timeout out.
            let seconds = |kind| a.get(kind).map_or(Ok(0), |_| a.u32(kind));
            Ok(Timeouts {
                tcp: seconds(TIMEOUT_TCP)?,
                tcp_fin: seconds(TIMEOUT_TCP_FIN)?,
                udp: seconds(TIMEOUT_UDP)?,
            })
        })
    }

    /// Sets the timeouts; 0 leaves one as it is.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        let all = vec![
            attributes::u32(TIMEOUT_TCP, timeouts.tcp),
            attributes::u32(TIMEOUT_TCP_FIN, timeouts.tcp_fin),
            attributes::u32(TIMEOUT_UDP, timeouts.udp),
        ];
        let request = request(command::SET_CONFIG, all, "set the timeouts of IPVS");
        self.channel.command(request)
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

    fn put_service(&mut self, command: u8, verb: &str, service: &ServiceConf) -> Result<()> {
        self.channel
            .command(service_request(command, verb, service))
    }

    fn put_destination(
        &mut self,
        command: u8,
        verb: &str,
        key: &ServiceKey,
        to: &DestinationConf,
    ) -> Result<()> {
        self.channel
            .command(destination_request(command, verb, key, to))
    }

    fn ask<T>(
        &mut self,
        request: Request,
        of: &'static str,
        read: impl FnOnce(&Attributes) -> Result<T, DecodeError>,
    ) -> Result<T> {
        let what = request.what.clone();
        let bytes = self.channel.ask(request)?;
        Attributes::read(of, &bytes)
            .and_then(|a| read(&a))
            .map_err(|e| unreadable(what, &e))
    }

    fn dump<T>(
        &mut self,
        request: &Request,
        nest: u16,
        of: &'static str,
        read: impl Fn(&Attributes) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>> {
        self.channel
            .dump(request)?
            .iter()
            .map(|bytes| {
                let outer = Attributes::read(of, bytes)?;
                let inner = outer.nested(of, nest)?;
                read(&inner.ok_or_else(|| DecodeError::from(format!("{of} is empty")))?)
            })
            .collect::<Result<_, DecodeError>>()
            .map_err(|e| unreadable(request.what.clone(), &e))
    }
}

fn unreadable(what: String, why: &DecodeError) -> Error {
    Error::Answer {
        what,
        why: why.to_string(),
    }
}

fn request(command: u8, attributes: Vec<DefaultNla>, what: impl Into<String>) -> Request<'static> {
    Request {
        command,
        attributes,
        what: what.into(),
        about: About::Table,
    }
}

/// What names a service, as a nest.
fn name(key: &ServiceKey) -> DefaultNla {
    attributes::nest(SERVICE, &key.attributes())
}

pub(super) fn service_request<'a>(
    command: u8,
    verb: &str,
    service: &'a ServiceConf,
) -> Request<'a> {
    Request {
        about: About::Service {
            scheduler: &service.scheduler,
            engine: service.persistence_engine.as_deref(),
        },
        ..request(
            command,
            vec![attributes::nest(SERVICE, &service.attributes())],
            format!("{verb} service {}", service.key),
        )
    }
}

pub(super) fn destination_request(
    command: u8,
    verb: &str,
    key: &ServiceKey,
    to: &DestinationConf,
) -> Request<'static> {
    let address = SocketAddr::new(to.address, to.port);
    Request {
        about: About::Destination,
        ..request(
            command,
            vec![name(key), attributes::nest(DEST, &to.attributes())],
            format!("{verb} destination {address} of service {key}"),
        )
    }
}
