//! Each thing that can be asked of IPVS, as a request.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::DefaultNla;

use super::attributes;
use super::error::About;
use super::socket::Request;
use super::{DestinationConf, ServiceConf, ServiceKey, Timeouts};

/// `IPVS_CMD_*`.
const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
const NEW_DEST: u8 = 5;
const SET_DEST: u8 = 6;
const DEL_DEST: u8 = 7;
const GET_DEST: u8 = 8;
const SET_CONFIG: u8 = 12;
const GET_CONFIG: u8 = 13;
const GET_INFO: u8 = 15;
const ZERO: u8 = 16;
const FLUSH: u8 = 17;

/// `IPVS_CMD_ATTR_*`.
pub(super) const SERVICE: u16 = 1;
pub(super) const DEST: u16 = 2;
pub(super) const TIMEOUT_TCP: u16 = 4;
pub(super) const TIMEOUT_TCP_FIN: u16 = 5;
pub(super) const TIMEOUT_UDP: u16 = 6;

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

pub(super) fn info() -> Request<'static> {
    request(GET_INFO, vec![], "ask IPVS for its version")
}

pub(super) fn services() -> Request<'static> {
    request(GET_SERVICE, vec![], "list the services")
}

pub(super) fn service(key: &ServiceKey) -> Request<'static> {
    let what = format!("look at service {key}");
    request(GET_SERVICE, vec![name(key)], what)
}

pub(super) fn add_service(service: &ServiceConf) -> Request<'_> {
    put_service(NEW_SERVICE, "add", service)
}

pub(super) fn edit_service(service: &ServiceConf) -> Request<'_> {
    put_service(SET_SERVICE, "edit", service)
}

fn put_service<'a>(command: u8, verb: &str, service: &'a ServiceConf) -> Request<'a> {
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

pub(super) fn delete_service(key: &ServiceKey) -> Request<'static> {
    let what = format!("delete service {key}");
    request(DEL_SERVICE, vec![name(key)], what)
}

pub(super) fn destinations(key: &ServiceKey) -> Request<'static> {
    let what = format!("list the destinations of service {key}");
    request(GET_DEST, vec![name(key)], what)
}

pub(super) fn add_destination(key: &ServiceKey, to: &DestinationConf) -> Request<'static> {
    destination(
        NEW_DEST,
        "add",
        key,
        (to.address, to.port),
        &to.attributes(),
    )
}

pub(super) fn edit_destination(key: &ServiceKey, to: &DestinationConf) -> Request<'static> {
    destination(
        SET_DEST,
        "edit",
        key,
        (to.address, to.port),
        &to.attributes(),
    )
}

pub(super) fn delete_destination(key: &ServiceKey, address: IpAddr, port: u16) -> Request<'static> {
    let name = DestinationConf::name(address, port);
    destination(DEL_DEST, "delete", key, (address, port), &name)
}

fn destination(
    command: u8,
    verb: &str,
    key: &ServiceKey,
    address: (IpAddr, u16),
    attributes: &[DefaultNla],
) -> Request<'static> {
    let address = SocketAddr::from(address);
    Request {
        about: About::Destination,
        ..request(
            command,
            vec![name(key), attributes::nest(DEST, attributes)],
            format!("{verb} destination {address} of service {key}"),
        )
    }
}

pub(super) fn flush() -> Request<'static> {
    request(FLUSH, vec![], "delete all services")
}

pub(super) fn zero(key: Option<&ServiceKey>) -> Request<'static> {
    let what = match key {
        Some(key) => format!("zero the counters of service {key}"),
        None => "zero all counters".into(),
    };
    request(ZERO, key.map(name).into_iter().collect(), what)
}

pub(super) fn timeouts() -> Request<'static> {
    request(GET_CONFIG, vec![], "ask IPVS for its timeouts")
}

pub(super) fn set_timeouts(timeouts: Timeouts) -> Request<'static> {
    let all = vec![
        attributes::u32(TIMEOUT_TCP, timeouts.tcp),
        attributes::u32(TIMEOUT_TCP_FIN, timeouts.tcp_fin),
        attributes::u32(TIMEOUT_UDP, timeouts.udp),
    ];
    request(SET_CONFIG, all, "set the timeouts of IPVS")
}
