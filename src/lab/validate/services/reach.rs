//! The ways between a director and its servers, as far as the file tells them: shared networks
//! and gateways.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::lab::model::Method;
use crate::lab::validate::{NextHop, Owner, Port, Validator};
use crate::spec::text::quote;
use crate::spec::{At, Code, Diagnostic};

/// Whether a director reaches a server.
pub(super) enum Reach<'v> {
    /// By this interface of its own, at that one of the server.
    By { via: &'v Port, port: &'v Port },
    /// It does not.
    Lost,
    /// That depends on something that has been reported.
    Unsure,
}

/// Where following gateways ends.
enum End {
    /// Where it should.
    There,
    /// At this node, which has no gateway, or in a circle.
    Lost(usize),
    /// Beyond what the file tells: the host, a gateway that is nobody's, something broken.
    Unknown,
}

impl Validator<'_> {
    /// Whether `port`'s subnet has addresses of that family, or could not be read.
    fn is_of(&self, port: &Port, ipv6: bool) -> bool {
        let subnet = port.network.and_then(|n| self.networks[n].subnet.as_ref());
        subnet.is_none_or(|at| matches!(at.value, IpNet::V6(_)) == ipv6)
    }

    /// The shared network first, in the order of the director's interfaces. Direct routing needs
    /// one; to other servers the director's gateway may lead.
    pub(super) fn reach(
        &self,
        director: usize,
        server: usize,
        ipv6: bool,
        method: Method,
    ) -> Reach<'_> {
        if let Some((via, port)) = self.shared(director, server, |v, p| v.is_of(p, ipv6)) {
            return Reach::By { via, port };
        }
        let unsure = |n: usize| self.nodes[n].networks_unsure;
        if unsure(director) || unsure(server) {
            return Reach::Unsure;
        }
        if method == Method::Dr {
            return Reach::Lost;
        }
        let gateway = match self.nodes[director].next_hop {
            NextHop::Unknown => return Reach::Unsure,
            NextHop::None => return Reach::Lost,
            NextHop::Via(gateway) => gateway,
        };
        let via = self.nodes[director].interfaces.iter().find(|p| {
            let subnet = p.network.and_then(|n| self.networks[n].subnet.as_ref());
            subnet.is_some_and(|at| at.value.contains(&gateway))
        });
        let Some(via) = via.filter(|_| gateway.is_ipv6() == ipv6) else {
            return Reach::Lost;
        };
        let ports = self.nodes[server].interfaces.iter();
        for port in ports.filter(|p| self.is_of(p, ipv6)) {
            let there = |v: &Self, n: usize| {
                let mut interfaces = v.nodes[n].interfaces.iter();
                interfaces.any(|p| p.network == port.network)
            };
            match self.follow(director, there) {
                End::Unknown if port.network.is_none() || port.address.is_none() => {
                    return Reach::Unsure;
                }
                // A way that leaves the lab: its author knows more than the file tells.
                End::There | End::Unknown => return Reach::By { via, port },
                End::Lost(_) => {}
            }
        }
        Reach::Lost
    }

    /// Goes from gateway to gateway until `there`.
    fn follow(&self, from: usize, there: impl Fn(&Self, usize) -> bool) -> End {
        let mut seen = HashSet::new();
        let mut node = from;
        loop {
            if there(self, node) {
                return End::There;
            }
            if !seen.insert(node) {
                return End::Lost(node);
            }
            let via = match self.nodes[node].next_hop {
                NextHop::Unknown => return End::Unknown,
                NextHop::None => return End::Lost(node),
                NextHop::Via(via) => via,
            };
            node = match self.owner(via) {
                Some(Owner::Node(n)) => n,
                Some(Owner::Host) | None => return End::Unknown,
            };
        }
    }

    fn owner(&self, address: IpAddr) -> Option<Owner> {
        self.owners.get(&address).map(|(owner, _)| *owner)
    }

    /// In NAT a server's answers must pass the director, which turns its address back into the
    /// VIP: the client knows of no connection with the server and would reset it.
    pub(super) fn comes_back(&mut self, at: &At<String>, director: usize, server: usize) {
        let End::Lost(end) = self.follow(server, |_, n| n == director) else {
            return;
        };
        let name = |n: usize| quote(&self.nodes[n].raw.name.value);
        let (lb, own) = (name(director), name(server));
        let label = match self.nodes[server].next_hop {
            NextHop::None => "it has no gateway".to_owned(),
            _ => format!("its gateways end at {}", name(end)),
        };
        let place = self.nodes[server].raw;
        let d = Diagnostic::new(
            Code::NatBypassed,
            at.span,
            format!("answers of server {own} do not come back through director {lb}"),
            label,
            format!(
                "the client would see the server's address and reset the connection: add \
                 `gateway = {lb}` to node {own}, unless the lab is broken on purpose",
                lb = lb.replace('`', "\"")
            ),
        )
        .and(
            place.gateway.get().map_or(place.name.span, |g| g.span),
            "the server's way to clients",
        );
        self.diagnostics.push(d);
    }

    /// In direct routing and tunnelling a server's answers come from the VIP. A director that they
    /// pass finds its own address as the source of a packet from outside, and drops it
    /// (`fib_validate_source` in net/ipv4/fib_frontend.c; the LVS-HOWTO on the default gateway of
    /// realservers).
    pub(super) fn leads_past(&mut self, at: &At<String>, director: usize, server: usize) {
        let End::There = self.follow(server, |_, n| n == director) else {
            return;
        };
        let name = |n: usize| quote(&self.nodes[n].raw.name.value);
        let (lb, own) = (name(director), name(server));
        let place = self.nodes[server].raw;
        let d = Diagnostic::new(
            Code::ServerBehind,
            at.span,
            format!("answers of server {own} pass director {lb}, which drops them"),
            format!("its gateways lead to {lb}"),
            format!(
                "they come from the VIP, an address of the director itself: let another router be \
                 the gateway of {own}, or use `method = \"nat\"`"
            ),
        )
        .and(
            place.gateway.get().map_or(place.name.span, |g| g.span),
            "the server's way to clients",
        );
        self.diagnostics.push(d);
    }
}
