//! Direct Routing by an nftables chain on netdev ingress: a client's frame leaves the director with
//! other MAC addresses and not one other byte changed, before conntrack, routing and TTL are asked.
//!
//! Per service NAME there are
//!
//! | object | what it is |
//! |---|---|
//! | map `conns_NAME` | client address and port -> server number, of live connections |
//! | map `closing_NAME` | the same of TCP connections that the client has ended, so that its last acknowledgements still reach their server |
//! | map `slots_NAME` | one round of the scheduler: slot -> server number |
//! | map `servers_NAME` | server number -> `goto to_NAME_SERVER` |
//! | chain `svc_NAME` | where the service's packets come in |
//! | chain `known_NAME` | packets of live TCP connections |
//! | chain `new_NAME` | a TCP connection's first packet |
//! | map `firsts_NAME` | server number -> `goto first_NAME_SERVER` |
//! | chain and counter `first_NAME_SERVER` | where a new connection's first packet goes: how many a server was given |
//! | chain and counter `to_NAME_SERVER` | the way to a server, and what went it |
//!
//! A server's number is its place in the list of servers, and stays its own for as long as the
//! director runs: when a server goes at run time, `servers_NAME` drops what still bears its number,
//! as `ip_vs` does with packets to a destination that is gone, and a server that comes back gets
//! the number, and with it the connections, that it had.
//!
//! What follows from this, and how it compares with `ip_vs`:
//!
//! - A connection is in `conns` from its SYN until the client's FIN or RST. A SYN that is sent
//!   again stays with its server; a port that is used again after a FIN is scheduled anew.
//! - The director sees one half of a connection. One that the server alone ends is forgotten by
//!   timeout, as in `ip_vs`, whose timeouts these are.
//! - A TCP packet that belongs to no connection and begins none is left to the local stack.
//! - **Fragments are not balanced**: they are left to the local stack, the first one too. Only the
//!   first has ports; `ip_vs` would reassemble them. TCP does not fragment on its own.
//! - Frames that are not addressed to the director's own MAC address (a bridge floods, an
//!   interface is promiscuous), and frames with a VLAN tag, are left alone.

mod limits;

use std::time::Duration;

use super::schedule::{MAX_SLOTS, slots};
use super::{Device, Engine, Program, ServerSpec, ServiceSpec, Unsupported, same_address};
use crate::kernel::nft::{
    Chain, Element, ElementData, Family, Hook, HookKind, HookPoint, Ruleset, Set, Table, Transport,
    Type, Value, Verdict,
};

mod chains;

/// Name of every table that a lab's nodes get.
pub const TABLE: &str = "nslab";
/// Most connections of a service at a time; a further one is dropped until there is room.
const MAX_CONNECTIONS: u32 = 65_536;
/// Any number will do; a fixed one sends a source to the same server in each run of a lab.
const HASH_SEED: u32 = 0x6e73_6c62;
/// MF and the offset of `ip frag-off`: zero in a packet that is whole (RFC 791, 3.1).
const FRAGMENT: u32 = 0x3fff;

/// How long a connection is remembered after its last packet. In whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, from the second packet on.
    pub established: Duration,
    /// TCP, after the SYN.
    pub syn: Duration,
    /// TCP, after the client's FIN.
    pub fin: Duration,
    /// TCP, after the client's RST.
    pub reset: Duration,
    /// UDP.
    pub udp: Duration,
}

impl Default for Timeouts {
    /// Those of `ip_vs` (tcp_timeouts and udp_timeouts in net/netfilter/ipvs/ip_vs_proto_*.c):
    /// ESTABLISHED 15 min, SYN_RECV 1 min, FIN_WAIT 2 min, CLOSE 10 s, UDP 5 min.
    fn default() -> Self {
        Self {
            established: Duration::from_mins(15),
            syn: Duration::from_mins(1),
            fin: Duration::from_mins(2),
            reset: Duration::from_secs(10),
            udp: Duration::from_mins(5),
        }
    }
}

/// The engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct NftEngine {
    /// How long connections are remembered.
    pub timeouts: Timeouts,
}

impl Engine for NftEngine {
    fn name(&self) -> &'static str {
        "nft"
    }

    fn supports(&self, service: &ServiceSpec) -> Result<(), Unsupported> {
        Plan::new(service, &[], self.timeouts).map(drop)
    }

    fn program(&self, services: &[ServiceSpec]) -> Result<Program, Unsupported> {
        let services: Vec<_> = services.iter().map(|s| (s, &[][..])).collect();
        Ok(Program::Nft(Ruleset {
            tables: vec![self.table(&services)?],
        }))
    }
}

impl NftEngine {
    /// The table that balances these services, each with the numbers of the servers in its list
    /// that have been removed.
    pub(super) fn table(
        &self,
        services: &[(&ServiceSpec, &[usize])],
    ) -> Result<Table, Unsupported> {
        same_address(services.iter().map(|(s, _)| *s))?;
        let plans = services
            .iter()
            .map(|(s, gone)| Plan::new(s, gone, self.timeouts))
            .collect::<Result<Vec<_>, _>>()?;

        let mut table = Table {
            family: Family::Netdev,
            name: TABLE.to_owned(),
            counters: vec![],
            sets: vec![],
            chains: vec![],
        };
        for plan in &plans {
            plan.add_to(&mut table);
        }
        table.chains.extend(ingress(&plans));
        Ok(table)
    }
}

/// Names of what the live director reads; names of services and nodes have no `_`.
pub(super) fn way(service: &str, server: &str) -> String {
    format!("to_{service}_{server}")
}

/// See [`way`].
pub(super) fn first(service: &str, server: &str) -> String {
    format!("first_{service}_{server}")
}

/// See [`way`].
pub(super) fn conns(service: &str) -> String {
    format!("conns_{service}")
}

/// See [`way`].
pub(super) fn closing(service: &str) -> String {
    format!("closing_{service}")
}

/// One base chain a device, with the services whose clients come in there.
fn ingress(plans: &[Plan<'_>]) -> Vec<Chain> {
    let mut chains: Vec<Chain> = Vec::new();
    for plan in plans {
        for device in &plan.service.devices {
            let name = format!("in_{}", device.name);
            let rule = plan.entrance();
            if let Some(chain) = chains.iter_mut().find(|c| c.name == name) {
                if !chain.rules.contains(&rule) {
                    chain.rules.push(rule);
                }
                continue;
            }
            chains.push(Chain {
                name,
                hook: Some(Hook {
                    kind: HookKind::Filter,
                    point: HookPoint::Ingress,
                    priority: 0,
                    devices: vec![device.name.clone()],
                }),
                rules: vec![rule],
            });
        }
    }
    chains
}

/// A service that this engine can do.
struct Plan<'a> {
    service: &'a ServiceSpec,
    transport: Transport,
    timeouts: Timeouts,
    /// One round: indices of servers. Empty if none takes new connections.
    slots: Vec<usize>,
    /// Whether the client's address, not the turn, chooses the slot.
    by_source: bool,
    /// Each server's number and way out.
    ways: Vec<(usize, &'a ServerSpec, &'a Device)>,
    /// Numbers of servers that have been removed.
    gone: &'a [usize],
}

impl<'a> Plan<'a> {
    fn new(
        service: &'a ServiceSpec,
        gone: &'a [usize],
        timeouts: Timeouts,
    ) -> Result<Self, Unsupported> {
        let name = || service.name.clone();
        let transport =
            Transport::from_number(service.protocol).ok_or_else(|| Unsupported::Protocol {
                service: name(),
                protocol: service.protocol,
            })?;
        if service.vip.is_ipv6() {
            return Err(Unsupported::Ipv6 {
                service: name(),
                vip: service.vip,
            });
        }
        if let Some(what) = limits::beyond(service) {
            return Err(Unsupported::Feature {
                service: name(),
                what,
            });
        }
        let weight = |s: &ServerSpec| match service.scheduler.as_str() {
            // ip_vs_rr knows two weights: none and some.
            "rr" => Some(s.weight.min(1)),
            "wrr" | "sh" => Some(s.weight),
            _ => None,
        };
        let weights = service
            .servers
            .iter()
            .enumerate()
            .map(|(n, s)| weight(s).map(|w| if gone.contains(&n) { 0 } else { w }))
            .collect::<Option<Vec<_>>>();
        let known = matches!(service.scheduler.as_str(), "rr" | "wrr" | "sh");
        let Some(weights) = weights.filter(|_| known) else {
            let scheduler = service.scheduler.clone();
            return Err(Unsupported::Scheduler {
                service: name(),
                scheduler,
            });
        };
        let slots = slots(&weights).map_err(|total| Unsupported::Weights {
            service: name(),
            total,
            max: MAX_SLOTS,
        })?;
        let ways = service
            .servers
            .iter()
            .enumerate()
            .filter(|(n, _)| !gone.contains(n))
            .map(|(n, server)| {
                let device = service.devices.iter().find(|d| d.name == server.via);
                device
                    .map(|d| (n, server, d))
                    .ok_or_else(|| Unsupported::Via {
                        service: name(),
                        server: server.name.clone(),
                        via: server.via.clone(),
                    })
            })
            .collect::<Result<_, _>>()?;
        let by_source = service.scheduler == "sh";
        Ok(Self {
            service,
            transport,
            timeouts,
            slots,
            by_source,
            ways,
            gone,
        })
    }

    fn named(&self, kind: &str) -> String {
        format!("{kind}_{}", self.service.name)
    }

    fn way(&self, server: &ServerSpec) -> String {
        way(&self.service.name, &server.name)
    }

    fn first(&self, server: &ServerSpec) -> String {
        first(&self.service.name, &server.name)
    }

    fn add_to(&self, table: &mut Table) {
        table
            .counters
            .extend(self.ways.iter().map(|w| self.way(w.1)));
        table
            .counters
            .extend(self.ways.iter().map(|w| self.first(w.1)));
        let established = match self.transport {
            Transport::Tcp => self.timeouts.established,
            Transport::Udp => self.timeouts.udp,
        };
        table.sets.push(self.connections("conns", established));
        if self.transport == Transport::Tcp {
            table
                .sets
                .push(self.connections("closing", self.timeouts.fin));
        }
        let slots = self.slots.iter().enumerate();
        table.sets.push(
            self.numbers(
                "slots",
                Type::Mark,
                slots
                    .map(|(n, s)| (n, ElementData::Value(Value::Number(*s as u32))))
                    .collect(),
            ),
        );
        let lead = |to: &dyn Fn(&ServerSpec) -> String| {
            let ways = self.ways.iter();
            ways.map(|(n, server, _)| (*n, ElementData::Verdict(Verdict::Goto(to(server)))))
                .collect::<Vec<_>>()
        };
        let mut servers = lead(&|server| self.way(server));
        let gone = self.gone.iter();
        servers.extend(gone.map(|n| (*n, ElementData::Verdict(Verdict::Drop))));
        let firsts = lead(&|server| self.first(server));
        table
            .sets
            .push(self.numbers("servers", Type::Verdict, servers));
        table
            .sets
            .push(self.numbers("firsts", Type::Verdict, firsts));
        for (_, server, device) in &self.ways {
            table.chains.push(self.way_chain(server, device));
            table.chains.push(self.first_chain(server));
        }
        match self.transport {
            Transport::Tcp => {
                table
                    .chains
                    .extend([self.tcp_new(), self.tcp_known(), self.tcp_service()]);
            }
            Transport::Udp => table.chains.push(self.udp_service()),
        }
    }

    fn connections(&self, kind: &str, timeout: Duration) -> Set {
        Set {
            name: self.named(kind),
            key: vec![Type::Ipv4, Type::Port],
            data: Some(Type::Mark),
            dynamic: true,
            timeout: Some(timeout),
            size: Some(MAX_CONNECTIONS),
            elements: vec![],
        }
    }

    fn numbers(&self, kind: &str, data: Type, elements: Vec<(usize, ElementData)>) -> Set {
        Set {
            name: self.named(kind),
            key: vec![Type::Mark],
            data: Some(data),
            dynamic: false,
            timeout: None,
            size: None,
            elements: elements
                .into_iter()
                .map(|(n, data)| Element {
                    key: vec![Value::Number(n as u32)],
                    data: Some(data),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
