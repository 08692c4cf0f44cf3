//! The realservers of a service.

use std::collections::HashMap;

use super::Known;
use super::reach::Reach;
use crate::lab::model::{Method, Scheduler, Server};
use crate::lab::validate::Validator;
use crate::spec::text::quote;
use crate::spec::{At, Code, Diagnostic, Field, RawServer, RawService, Span};

/// What a server's table says beside its node.
struct Numbers {
    port: Option<u16>,
    weight: Option<u32>,
    upper: Option<u32>,
    lower: Option<u32>,
}

impl Validator<'_> {
    pub(super) fn servers(
        &mut self,
        service: &Known<'_>,
        scheduler: Option<Scheduler>,
    ) -> Option<Vec<Server>> {
        let raw = service.raw;
        let list = raw.servers.get()?;
        if list.value.is_empty() {
            self.report(
                Code::NoServers,
                list.span,
                format!("service {} has no servers", quote(&raw.name.value)),
                "nobody would answer",
                "name at least one node, as `servers = [\"server1\"]`",
            );
        }
        let mut seen = HashMap::new();
        let mut all = Some(Vec::new());
        for server in &list.value {
            let once = self.once(service, server, &mut seen);
            let numbers = Numbers {
                port: self.server_port(server, service),
                weight: self.weight(&server.weight, scheduler),
                upper: self.threshold(&server.upper),
                lower: self.threshold(&server.lower),
            };
            self.thresholds(server, &numbers);
            let built = if once {
                self.server(server, service, &numbers)
            } else {
                None
            };
            all = all.zip(built).map(|(mut list, server)| {
                list.push(server);
                list
            });
        }
        self.all_zero(raw, &list.value);
        all
    }

    /// Reports a server that is listed twice. In NAT one node may serve at several ports.
    fn once<'s>(
        &mut self,
        service: &Known<'_>,
        server: &'s RawServer,
        seen: &mut HashMap<(&'s str, i64), Span>,
    ) -> bool {
        let Some(at) = server.node.get() else {
            return true;
        };
        let ports = [&server.port, &service.raw.port];
        let port = ports.iter().find_map(|p| p.get()).map_or(0, |p| p.value);
        let port = if service.method == Some(Method::Nat) {
            port
        } else {
            0
        };
        let Some(first) = seen.insert((&at.value, port), at.span) else {
            return true;
        };
        let d = Diagnostic::new(
            Code::ServerTwice,
            at.span,
            format!("server {} is listed twice", quote(&at.value)),
            "second time",
            "keep one; a higher `weight` with scheduler `wrr` sends it more",
        )
        .and(first, "first time");
        self.diagnostics.push(d);
        false
    }

    fn all_zero(&mut self, raw: &RawService, servers: &[RawServer]) {
        let zero = |s: &RawServer| s.weight.get().is_some_and(|w| w.value == 0);
        if let Some(first) = servers.first().and_then(|s| s.weight.get())
            && servers.iter().all(zero)
        {
            self.report(
                Code::AllWeightsZero,
                first.span,
                format!(
                    "all servers of service {} have weight 0",
                    quote(&raw.name.value)
                ),
                "takes no new connections",
                "give at least one server a weight above 0",
            );
        }
    }

    /// The port at which a server listens. Only NAT changes ports.
    fn server_port(&mut self, raw: &RawServer, service: &Known<'_>) -> Option<u16> {
        let at = match &raw.port {
            Field::Absent => return service.port,
            Field::Bad => return None,
            Field::Set(at) => at,
        };
        let port = self.port(at)?;
        if let Some(wanted) = service.raw.port.get()
            && i64::from(port) != wanted.value
            && let Some(method @ (Method::Dr | Method::Tun)) = service.method
        {
            let (short, why) = match method {
                Method::Dr => ("DR", "direct routing changes MAC addresses only"),
                _ => ("TUN", "tunnelling leaves the packet as it is"),
            };
            let d = Diagnostic::new(
                Code::PortMapping,
                at.span,
                format!(
                    "port mapping from {} to {port} is impossible in {short}",
                    wanted.value
                ),
                format!("the service's port is {}", wanted.value),
                format!(
                    "{why}: let the server listen on port {}, and remove `port` here, or use \
                     `method = \"nat\"`",
                    wanted.value
                ),
            )
            .and(wanted.span, "the service's port");
            self.diagnostics.push(d);
            return None;
        }
        Some(port)
    }

    fn server(
        &mut self,
        raw: &RawServer,
        service: &Known<'_>,
        numbers: &Numbers,
    ) -> Option<Server> {
        let at = raw.node.get()?;
        let node = self.service_node(at, "server")?;
        let director = service.director?;
        if node == director {
            self.report(
                Code::ServerIsDirector,
                at.span,
                format!("server {} is the director", quote(&at.value)),
                "balances this service itself",
                "name another node: a director cannot be one of its own servers",
            );
            return None;
        }
        let (vip, method) = (service.vip?, service.method?);
        let (via, port) = match self.reach(director, node, vip.is_ipv6(), method) {
            Reach::By { via, port } => (via, port),
            Reach::Unsure => return None,
            Reach::Lost => {
                self.out_of_reach(at, director, node, vip.is_ipv6(), method);
                return None;
            }
        };
        let server = Server {
            node: self.nodes[node].name.clone()?,
            address: port.address.as_ref()?.value,
            port: numbers.port?,
            mac: port.mac?,
            interface: port.name.clone()?,
            via: via.name.clone()?,
            weight: numbers.weight?,
            upper: numbers.upper?,
            lower: numbers.lower?,
        };
        let own = via.address.as_ref().map(|a| a.value);
        if method == Method::Tun && own == Some(vip) {
            self.tunnels_from_vip(service, director);
        }
        match method {
            Method::Nat => self.comes_back(at, director, node),
            Method::Dr | Method::Tun => self.leads_past(at, director, node),
        }
        Some(server)
    }

    /// The outer packets come from the director's address towards the server. If that is the VIP,
    /// the server has it too, on its tunnel, and drops them as forged: `fib_validate_source` in
    /// net/ipv4/fib_frontend.c, `ip6_tnl_rcv_ctl` in net/ipv6/ip6_tunnel.c.
    fn tunnels_from_vip(&mut self, service: &Known<'_>, director: usize) {
        let Some(at) = service.raw.vip.get() else {
            return;
        };
        let lb = &self.nodes[director].raw.name;
        let d = Diagnostic::new(
            Code::TunnelFromVip,
            at.span,
            format!(
                "the tunnels of service {} begin at its VIP",
                quote(&service.raw.name.value)
            ),
            "the servers have it too, and drop what comes from it",
            format!(
                "give {} an address of its own, and the VIP as one of its `aliases`",
                quote(&lb.value)
            ),
        )
        .and(lb.span, "the director");
        if !self.diagnostics.contains(&d) {
            self.diagnostics.push(d);
        }
    }

    fn out_of_reach(
        &mut self,
        at: &At<String>,
        director: usize,
        node: usize,
        ipv6: bool,
        method: Method,
    ) {
        let name = &self.nodes[director].raw.name;
        let (server, lb) = (quote(&at.value), quote(&name.value));
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        let (message, help) = if method == Method::Dr {
            (
                format!("server {server} shares no {family} network with director {lb}"),
                "in DR a server is one hop away from its director: put both on one network"
                    .to_owned(),
            )
        } else {
            (
                format!("director {lb} has no {family} route to server {server}"),
                format!("put both on one network, or give {lb} a `gateway` that leads there"),
            )
        };
        let label = "out of reach of the director";
        let d = Diagnostic::new(Code::ServerOutOfReach, at.span, message, label, help)
            .and(name.span, "the director")
            .and(self.nodes[node].raw.name.span, "the server");
        self.diagnostics.push(d);
    }

    fn weight(&mut self, field: &Field<i64>, scheduler: Option<Scheduler>) -> Option<u32> {
        let at = match field {
            Field::Absent => return Some(1),
            Field::Bad => return None,
            Field::Set(at) => at,
        };
        let weight = self.number(
            at,
            "a weight",
            0..=65535,
            Code::BadWeight,
            "1 is the default; 0 takes no new connections",
        )?;
        if let Some(scheduler) = scheduler.filter(|s| !s.weighs())
            && weight > 1
        {
            let (why, help) = match scheduler {
                Scheduler::Rr => (
                    "round robin",
                    "use `scheduler = \"wrr\"`, or remove the weight",
                ),
                Scheduler::Lc => (
                    "least connections",
                    "use `scheduler = \"wlc\"`, or remove the weight",
                ),
                _ => (
                    "this scheduler",
                    "remove the weight, or use another scheduler",
                ),
            };
            self.report(
                Code::WeightIgnored,
                at.span,
                format!(
                    "weight {weight} has no effect with scheduler `{}`",
                    scheduler.as_str()
                ),
                format!("{why} knows 0 and not 0 only"),
                help,
            );
        }
        Some(weight)
    }

    fn threshold(&mut self, field: &Field<i64>) -> Option<u32> {
        match field {
            Field::Absent => Some(0),
            Field::Bad => None,
            Field::Set(at) => self.number(
                at,
                "a threshold",
                0..=65535,
                Code::BadThreshold,
                "a number of connections, as ipvsadm(8) takes it; 0 is no limit",
            ),
        }
    }

    /// `lower` is where a server that has reached `upper` is taken up again: the kernel refuses a
    /// lower one above the upper one (`ip_vs_add_dest` in ip_vs_ctl.c).
    fn thresholds(&mut self, raw: &RawServer, numbers: &Numbers) {
        let (Some(at), Some(upper), Some(lower)) = (raw.lower.get(), numbers.upper, numbers.lower)
        else {
            return;
        };
        if lower <= upper {
            return;
        }
        let mut d = Diagnostic::new(
            Code::BadThreshold,
            at.span,
            if upper == 0 {
                format!("threshold `lower = {lower}` without an `upper` one")
            } else {
                format!("threshold `lower = {lower}` is above `upper = {upper}`")
            },
            "connections at which it is taken up again",
            "a server at `upper` connections rests until it has fewer than `lower`: make `lower` \
             at most `upper`, or remove it",
        );
        if let Some(upper) = raw.upper.get() {
            d = d.and(upper.span, "connections at which it rests");
        }
        self.diagnostics.push(d);
    }
}
