//! The kernel's IPVS: services become a table for generic netlink, as ipvsadm(8) would make it.

use super::{Engine, Program, ServerSpec, ServiceSpec, Unsupported, same_address};
use crate::kernel::ipvs::{
    DestinationConf, Forwarding, Netmask, ServiceConf, ServiceFlags, ServiceKey, Table, Transport,
};
use crate::lab::Method;

/// The engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct IpvsEngine;

impl Engine for IpvsEngine {
    fn name(&self) -> &'static str {
        "ipvs"
    }

    /// What a valid lab can ask for IPVS can do, given its modules. Which of those this kernel has
    /// shows when the table is applied: asking for a scheduler is what loads it.
    fn supports(&self, service: &ServiceSpec) -> Result<(), Unsupported> {
        conf(service).map(drop)
    }

    fn program(&self, services: &[ServiceSpec]) -> Result<Program, Unsupported> {
        same_address(services.iter())?;
        let table: Result<Table, _> = services
            .iter()
            .map(|s| {
                let destinations = s.servers.iter().map(|d| destination(s, d));
                Ok((conf(s)?, destinations.collect()))
            })
            .collect();
        table.map(Program::Ipvs)
    }
}

/// What IPVS is told of a service; its key names it there ([`crate::kernel::ipvs::ServiceKey`]).
pub fn conf(service: &ServiceSpec) -> Result<ServiceConf, Unsupported> {
    let transport = Transport::of_number(service.protocol).ok_or_else(|| Unsupported::NoPorts {
        service: service.name.clone(),
        protocol: service.protocol,
    })?;
    let key = ServiceKey::Address {
        transport,
        address: service.vip,
        port: service.port,
    };
    let mut conf = ServiceConf::new(key, service.scheduler.as_str());
    if let Some(p) = service.persistent {
        let ipv6 = service.vip.is_ipv6();
        let mask = Netmask::of_prefix(ipv6, p.prefix).unwrap_or_else(|| Netmask::host(ipv6));
        conf = conf.persistent(p.timeout_s, mask);
    }
    if service.one_packet {
        conf.flags |= ServiceFlags::ONE_PACKET;
    }
    let flags = service.scheduler_flags.iter();
    for flag in flags.filter_map(|f| ServiceFlags::of_scheduler(f.as_str())) {
        conf.flags |= flag;
    }
    Ok(conf)
}

/// What IPVS is told of a realserver.
pub fn destination(service: &ServiceSpec, server: &ServerSpec) -> DestinationConf {
    let forwarding = match service.method {
        Method::Dr => Forwarding::DirectRoute,
        Method::Nat => Forwarding::Masquerade,
        Method::Tun => Forwarding::Tunnel,
    };
    DestinationConf {
        weight: server.weight,
        upper: server.upper,
        lower: server.lower,
        ..DestinationConf::new(server.address, server.port, forwarding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::Persistence;
    use crate::director::nft::tests::service;
    use crate::lab::SchedulerFlag;

    fn table(services: &[ServiceSpec]) -> Table {
        match IpvsEngine.program(services).unwrap() {
            Program::Ipvs(table) => table,
            Program::Nft(ruleset) => panic!("{ruleset}"),
        }
    }

    #[test]
    fn a_service_becomes_what_ipvsadm_would_make_of_it() {
        let program = IpvsEngine.program(&[service("wrr", &[3, 1])]).unwrap();
        assert_eq!(
            program.to_string(),
            "TCP 172.28.128.3:8080 scheduler wrr\n\
             \x20 -> 172.28.128.4:8080 Route weight 3\n\
             \x20 -> 172.28.128.5:8080 Route weight 1\n"
        );
    }

    #[test]
    fn every_wish_arrives() {
        let mut six = service("mh", &[1]);
        six.vip = "fd00::3".parse().unwrap();
        six.protocol = 17;
        six.one_packet = true;
        six.scheduler_flags = vec![SchedulerFlag::MhPort, SchedulerFlag::MhFallback];
        six.persistent = Some(Persistence {
            timeout_s: 300,
            prefix: 64,
        });
        six.method = Method::Nat;
        six.servers[0].address = "fd00::4".parse().unwrap();
        six.servers[0].port = 81;
        six.servers[0].upper = 10;
        six.servers[0].lower = 5;
        let mut tun = service("sh", &[0]);
        tun.method = Method::Tun;
        tun.protocol = 132;
        tun.scheduler_flags = vec![SchedulerFlag::ShPort];
        tun.persistent = Some(Persistence {
            timeout_s: 60,
            prefix: 24,
        });
        let table = table(&[six, tun]);
        let (six, to) = &table[0];
        assert_eq!(six.key.to_string(), "UDP [fd00::3]:8080");
        assert_eq!(
            six.flags.names("mh"),
            ["persistent", "one-packet", "mh-fallback", "mh-port"]
        );
        assert_eq!((six.timeout_s, six.netmask), (300, Netmask::V6(64)));
        assert_eq!((to[0].port, to[0].forwarding), (81, Forwarding::Masquerade));
        assert_eq!((to[0].upper, to[0].lower), (10, 5));
        let (tun, to) = &table[1];
        assert_eq!(tun.key.to_string(), "SCTP 172.28.128.3:8080");
        assert_eq!(tun.flags.names("sh"), ["persistent", "sh-port"]);
        assert_eq!(tun.netmask.to_string(), "255.255.255.0");
        assert_eq!((to[0].weight, to[0].forwarding), (0, Forwarding::Tunnel));
    }

    #[test]
    fn what_no_engine_can_do() {
        let twice = [service("rr", &[1]), service("lc", &[1])];
        assert!(matches!(
            IpvsEngine.program(&twice),
            Err(Unsupported::SameAddress { .. })
        ));
        let mut icmp = service("rr", &[1]);
        icmp.protocol = 1;
        assert_eq!(
            IpvsEngine.supports(&icmp).unwrap_err().to_string(),
            "service \"thredds\" is of IP protocol 1; engine \"ipvs\" balances tcp (6), udp (17) and \
             sctp (132) only"
        );
    }
}
