//! The chains of a service: what happens to its packets.

use std::time::Duration;

use super::{FRAGMENT, HASH_SEED, Plan};
use crate::director::redirect::equals;
use crate::director::{Device, ServerSpec};
use crate::kernel::nft::{
    Chain, ETHERTYPE_IPV4, Expr, Field, Match, Meta, Op, PACKET_HOST, Rule, Selector, Statement,
    TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, Value, Verdict,
};

impl Plan<'_> {
    /// What tells the service's packets from others.
    pub(super) fn entrance(&self) -> Rule {
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

    pub(super) fn way_chain(&self, server: &ServerSpec, device: &Device) -> Chain {
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

    /// Counts a connection and goes the server's way.
    pub(super) fn first_chain(&self, server: &ServerSpec) -> Chain {
        let name = self.first(server);
        let rule = Rule::new([Statement::CountInto(name.clone()), goto(self.way(server))]);
        chain(name, vec![rule])
    }

    pub(super) fn tcp_service(&self) -> Chain {
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
                    self.dispatch("servers"),
                ],
            ),
        ];
        chain(self.named("svc"), rules)
    }

    pub(super) fn tcp_known(&self) -> Chain {
        // The entry goes to `closing` first: if that is full the rule ends, and the connection
        // stays known and is served on.
        let ends = |flag, timeout| {
            Rule::new([
                tcp_flags(flag, Op::Ne, 0),
                self.remember("closing", timeout),
                self.forget("conns"),
                self.dispatch("servers"),
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
            Rule::new([self.dispatch("servers")]),
        ];
        chain(self.named("known"), rules)
    }

    pub(super) fn tcp_new(&self) -> Chain {
        // `update` leaves the value of an entry as it is, so an old one has to go first.
        let mut rules = vec![Rule::new([self.forget("closing")])];
        rules.extend(self.schedule(self.timeouts.syn));
        chain(self.named("new"), rules)
    }

    pub(super) fn udp_service(&self) -> Chain {
        let timeout = self.timeouts.udp;
        let mut rules = vec![Rule::new([
            self.recall("conns"),
            self.remember("conns", timeout),
            self.dispatch("servers"),
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
            Rule::new([self.remember("conns", timeout), self.dispatch("firsts")]),
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

    fn dispatch(&self, map: &str) -> Statement {
        Statement::Dispatch {
            key: vec![Selector::Meta(Meta::Mark)],
            map: self.named(map),
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
