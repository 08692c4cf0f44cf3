//! Directors: what each has to balance.

use super::Step;
use crate::director::{self, Device, ServerSpec, ServiceSpec};
use crate::kernel::{Ns, Sysctl};
use crate::lab::{EngineChoice, Lab, Node, Server, Service};

/// Whether a sysctl is one of IPVS's own: those are there, in each namespace, once the kernel has
/// loaded it, so they are set with the director.
pub(super) fn is_ipvs(key: &str) -> bool {
    key.starts_with("net.ipv4.vs.")
}

/// One step a director, in the order of nodes.
pub(super) fn directors(lab: &Lab) -> Vec<Step> {
    let mut steps = Vec::new();
    for node in lab.nodes() {
        let services: Vec<&Service> = lab
            .services()
            .iter()
            .filter(|s| s.director() == node.name())
            .collect();
        if services.is_empty() {
            continue;
        }
        // One program a director: its services share an engine, because an engine owns the
        // namespace's rules. The lab is valid: no two ask for different ones.
        let mut wishes = services.iter().map(|s| s.engine());
        let engine = wishes.find(|e| *e != EngineChoice::Auto);
        let own = node.sysctls().iter().filter(|(k, _)| is_ipvs(k));
        steps.push(Step::Director {
            ns: Ns::named(node.name().as_str()),
            engine: engine.unwrap_or(EngineChoice::Auto),
            sysctls: own.map(|(k, v)| Sysctl::new(k, v)).collect(),
            services: services.iter().map(|s| service_spec(node, s)).collect(),
        });
    }
    steps
}

/// A service as its director has to know it.
pub fn service_spec(director: &Node, service: &Service) -> ServiceSpec {
    ServiceSpec {
        name: service.name().to_string(),
        vip: service.vip(),
        port: service.port(),
        protocol: service.protocol().number(),
        method: service.method(),
        scheduler: service.scheduler().as_str().to_owned(),
        scheduler_flags: service.scheduler_flags().to_vec(),
        persistent: service.persistent().map(|p| director::Persistence {
            // A day is the most that a file can ask for.
            timeout_s: p.timeout().as_secs() as u32,
            prefix: p.prefix(),
        }),
        one_packet: service.one_packet(),
        devices: director
            .interfaces()
            .iter()
            .map(|i| Device {
                name: i.name().to_string(),
                mac: i.mac().octets(),
            })
            .collect(),
        servers: service.servers().iter().map(server_spec).collect(),
    }
}

/// A realserver as its director has to know it.
pub fn server_spec(server: &Server) -> ServerSpec {
    ServerSpec {
        name: server.node().to_string(),
        address: server.address(),
        port: server.port(),
        mac: server.mac().octets(),
        via: server.via().to_string(),
        weight: server.weight(),
        upper: server.upper(),
        lower: server.lower(),
    }
}
