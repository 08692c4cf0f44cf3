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
//! | chain and counter `to_NAME_SERVER` | the way to a server, and what went it |
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

use super::redirect::equals;
use super::schedule::{MAX_SLOTS, slots};
use super::{Device, Engine, Program, ServerSpec, ServiceSpec, Unsupported};
use crate::kernel::nft::{
    Chain, ETHERTYPE_IPV4, Element, ElementData, Expr, Family, Field, Hook, HookKind, HookPoint,
    Match, Meta, Op, PACKET_HOST, Rule, Ruleset, Selector, Set, Statement, TCP_ACK, TCP_FIN,
    TCP_RST, TCP_SYN, Table, Transport, Type, Value, Verdict,
};

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
        Plan::new(service, self.timeouts).map(drop)
    }

    fn program(&self, services: &[ServiceSpec]) -> Result<Program, Unsupported> {
        let address = |s: &ServiceSpec| (s.vip, s.protocol, s.port);
        for (n, second) in services.iter().enumerate() {
            if let Some(first) = services[..n].iter().find(|s| address(s) == address(second)) {
                return Err(Unsupported::SameAddress {
                    first: first.name.clone(),
                    second: second.name.clone(),
                });
            }
        }
        let plans = services
            .iter()
            .map(|s| Plan::new(s, self.timeouts))
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
        Ok(Program::Nft(Ruleset {
            tables: vec![table],
        }))
    }
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
    /// Each server's way out.
    ways: Vec<(&'a ServerSpec, &'a Device)>,
}

impl<'a> Plan<'a> {
    fn new(service: &'a ServiceSpec, timeouts: Timeouts) -> Result<Self, Unsupported> {
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
            .map(weight)
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
            .map(|server| {
                let device = service.devices.iter().find(|d| d.name == server.via);
                device.map(|d| (server, d)).ok_or_else(|| Unsupported::Via {
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
        })
    }

    fn named(&self, kind: &str) -> String {
        format!("{kind}_{}", self.service.name)
    }

    fn way(&self, server: &ServerSpec) -> String {
        format!("to_{}_{}", self.service.name, server.name)
    }

    fn add_to(&self, table: &mut Table) {
        table
            .counters
            .extend(self.ways.iter().map(|w| self.way(w.0)));
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
        let ways = self.ways.iter().enumerate();
        table.sets.push(
            self.numbers(
                "servers",
                Type::Verdict,
                ways.map(|(n, w)| (n, ElementData::Verdict(Verdict::Goto(self.way(w.0)))))
                    .collect(),
            ),
        );
        for (server, device) in &self.ways {
            table.chains.push(self.way_chain(server, device));
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

    /// What tells the service's packets from others.
    fn entrance(&self) -> Rule {
        Rule::new([
            equals(Field::EtherType, Value::Number(ETHERTYPE_IPV4)),
            Statement::Match(Match {
                left: Selector::Meta(Meta::PacketType),
                mask: None,
                op: Op::Eq,
                right: Value::Number(PACKET_HOST),
            }),
            equals(Field::Ip4Destination, Value::Address(self.service.vip)),
            masked(Field::Ip4Fragment, FRAGMENT, Op::Eq, 0),
            equals(
                Field::DestinationPort(self.transport),
                Value::Number(u32::from(self.service.port)),
            ),
            goto(self.named("svc")),
        ])
    }

    fn way_chain(&self, server: &ServerSpec, device: &Device) -> Chain {
        let name = self.way(server);
        let rule = Rule {
            statements: vec![
                Statement::CountInto(name.clone()),
                Statement::SetMark(Expr::Number(0)),
                Statement::SetEther {
                    field: Field::EtherSource,
                    mac: device.mac,
                },
                Statement::SetEther {
                    field: Field::EtherDestination,
                    mac: server.mac,
                },
                Statement::Forward {
                    device: device.name.clone(),
                },
            ],
            comment: Some(server.address.to_string()),
        };
        chain(name, vec![rule])
    }

    fn tcp_service(&self) -> Chain {
        let rules = vec![
            Rule::new([self.recall("conns"), goto(self.named("known"))]),
            Rule::new([
                tcp_flags(TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK, Op::Eq, TCP_SYN),
                goto(self.named("new")),
            ]),
            commented(
                "what follows the client's FIN",
                [
                    self.recall("closing"),
                    self.remember("closing", self.timeouts.fin),
                    self.dispatch(),
                ],
            ),
        ];
        chain(self.named("svc"), rules)
    }

    fn tcp_known(&self) -> Chain {
        // The entry goes to `closing` first: if that is full the rule ends, and the connection
        // stays known and is served on.
        let ends = |flag, timeout| {
            Rule::new([
                tcp_flags(flag, Op::Ne, 0),
                self.remember("closing", timeout),
                self.forget("conns"),
                self.dispatch(),
            ])
        };
        let rules = vec![
            ends(TCP_RST, self.timeouts.reset),
            ends(TCP_FIN, self.timeouts.fin),
            // A SYN that is sent again does not make a connection established.
            Rule::new([
                tcp_flags(TCP_SYN, Op::Eq, 0),
                self.remember("conns", self.timeouts.established),
            ]),
            Rule::new([self.dispatch()]),
        ];
        chain(self.named("known"), rules)
    }

    fn tcp_new(&self) -> Chain {
        // `update` leaves the value of an entry as it is, so an old one has to go first.
        let mut rules = vec![Rule::new([self.forget("closing")])];
        rules.extend(self.schedule(self.timeouts.syn));
        chain(self.named("new"), rules)
    }

    fn udp_service(&self) -> Chain {
        let timeout = self.timeouts.udp;
        let mut rules = vec![Rule::new([
            self.recall("conns"),
            self.remember("conns", timeout),
            self.dispatch(),
        ])];
        rules.extend(self.schedule(timeout));
        chain(self.named("svc"), rules)
    }

    /// Chooses a server, remembers it, sends the packet there.
    fn schedule(&self, timeout: Duration) -> Vec<Rule> {
        let drop = |why| commented(why, [Statement::Counter, Statement::Verdict(Verdict::Drop)]);
        let modulus = self.slots.len() as u32;
        if modulus == 0 {
            return vec![drop("no server takes new connections")];
        }
        let slot = if self.by_source {
            Expr::Hash {
                of: Field::Ip4Source,
                modulus,
                seed: HASH_SEED,
            }
        } else {
            Expr::Counting { modulus }
        };
        let map = self.named("slots");
        let server = Expr::Map {
            key: vec![Selector::Meta(Meta::Mark)],
            map,
        };
        vec![
            Rule::new([Statement::SetMark(slot)]),
            Rule::new([Statement::SetMark(server)]),
            Rule::new([self.remember("conns", timeout), self.dispatch()]),
            drop("too many connections"),
        ]
    }

    fn key(&self) -> Vec<Selector> {
        let port = Field::SourcePort(self.transport);
        vec![Selector::Field(Field::Ip4Source), Selector::Field(port)]
    }

    fn recall(&self, map: &str) -> Statement {
        Statement::SetMark(Expr::Map {
            key: self.key(),
            map: self.named(map),
        })
    }

    fn remember(&self, map: &str, timeout: Duration) -> Statement {
        Statement::Update {
            map: self.named(map),
            key: self.key(),
            timeout: Some(timeout),
        }
    }

    fn forget(&self, map: &str) -> Statement {
        Statement::Delete {
            map: self.named(map),
            key: self.key(),
        }
    }

    fn dispatch(&self) -> Statement {
        let key = vec![Selector::Meta(Meta::Mark)];
        Statement::Dispatch {
            key,
            map: self.named("servers"),
        }
    }
}

fn chain(name: String, rules: Vec<Rule>) -> Chain {
    Chain {
        name,
        hook: None,
        rules,
    }
}

fn commented(comment: &str, statements: impl Into<Vec<Statement>>) -> Rule {
    Rule {
        statements: statements.into(),
        comment: Some(comment.to_owned()),
    }
}

fn goto(chain: String) -> Statement {
    Statement::Verdict(Verdict::Goto(chain))
}

fn masked(field: Field, mask: u32, op: Op, right: u32) -> Statement {
    let right = Value::Number(right);
    Statement::Match(Match {
        left: Selector::Field(field),
        mask: Some(mask),
        op,
        right,
    })
}

fn tcp_flags(mask: u32, op: Op, right: u32) -> Statement {
    masked(Field::TcpFlags, mask, op, right)
}

#[cfg(test)]
mod tests;
