//! Health checks.

use std::net::IpAddr;
use std::time::Duration;

use crate::lab::Lab;
use crate::lab::model::{Accept, Check, CheckKind, Protocol};
use crate::lab::validate::Validator;
use crate::spec::text::quote;
use crate::spec::{At, Code, Field, RawCheck, RawService, RawTcp};

/// A shorter interval is no check but a load.
const SHORTEST: Duration = Duration::from_millis(100);

impl Validator<'_> {
    #[expect(
        clippy::option_option,
        reason = "no check and no valid check are two things"
    )]
    pub(super) fn check(
        &mut self,
        raw: &RawService,
        vip: Option<IpAddr>,
        port: Option<u16>,
    ) -> Option<Option<Check>> {
        match &raw.check {
            Field::Absent => {
                if let Some(at) = raw.on_fail.get() {
                    self.report(
                        Code::BadCheck,
                        at.span,
                        "`on_fail` without `check`",
                        "nobody finds out whether a server lives",
                        "add `check = { tcp = true }`, or remove `on_fail`",
                    );
                    return None;
                }
                Some(None)
            }
            Field::Bad => None,
            Field::Set(at) => self.one_check(raw, at, vip, port).map(Some),
        }
    }

    fn one_check(
        &mut self,
        raw: &RawService,
        at: &At<RawCheck>,
        vip: Option<IpAddr>,
        port: Option<u16>,
    ) -> Option<Check> {
        let check = &at.value;
        let every = self.interval(&check.every, Duration::from_secs(2));
        let timeout = self.interval(&check.timeout, Duration::from_secs(1));
        let rise = self.count(&check.rise, "`rise`", 2);
        let fall = self.count(&check.fall, "`fall`", 3);
        if let (Some(at), Some(every)) = (check.every.get(), every)
            && every < SHORTEST
        {
            self.report(
                Code::BadCheck,
                at.span,
                format!("a check every {} is too often", quote(&at.value)),
                "would be a load, not a check",
                "100ms is the least",
            );
        }
        let kind = match (&check.http, &check.tcp, &check.exec) {
            (Field::Bad, _, _) | (_, Field::Bad, _) | (_, _, Field::Bad) => None,
            (Field::Set(url), Field::Absent, Field::Absent) => self.check_http(raw, url, vip),
            (Field::Absent, Field::Set(tcp), Field::Absent) => match tcp.value {
                RawTcp::Service(true) => port.map(CheckKind::Tcp),
                RawTcp::Port(n) => self
                    .port(&At {
                        value: n,
                        span: tcp.span,
                    })
                    .map(CheckKind::Tcp),
                RawTcp::Service(false) => self.one_is_needed(at),
            },
            (Field::Absent, Field::Absent, Field::Set(exec)) => {
                self.command(exec, "the command").map(CheckKind::Exec)
            }
            _ => self.one_is_needed(at),
        };
        Some(Check {
            kind: kind?,
            every: every?,
            timeout: timeout?,
            rise: rise?,
            fall: fall?,
        })
    }

    /// A server that takes packets for the VIP by REDIRECT takes those of the service only.
    pub(super) fn check_is_taken(
        &mut self,
        raw: &RawService,
        check: &Check,
        accept: Accept,
        service: (Protocol, u16),
    ) {
        let port = match check.kind() {
            CheckKind::Http { port, .. } | CheckKind::Tcp(port) => *port,
            CheckKind::Exec(_) => return,
        };
        let (protocol, served) = service;
        if accept != Accept::Redirect || (Protocol::Tcp, port) == service {
            return;
        }
        if let Some(at) = raw.check.get() {
            self.report(
                Code::BadCheck,
                at.span,
                format!("no server answers this check: it asks TCP port {port} of the VIP"),
                format!(
                    "with `accept = \"redirect\"` servers take {} port {served} only",
                    protocol.as_str().to_uppercase()
                ),
                "check that port, take `accept = \"loopback\"`, or check with `exec`",
            );
        }
    }

    /// Checks over the wire come from an address of the servers' network that nobody has.
    pub(in crate::lab::validate) fn checks_have_an_address(&mut self, lab: &Lab) {
        let mut without: Vec<_> = lab
            .wire_checks()
            .filter_map(|(service, server)| {
                let network = lab.network(lab.network_of(server)?.as_str())?;
                let full = lab.free_address(network).is_none();
                full.then(|| (service.name().as_str(), network))
            })
            .collect();
        without.dedup_by_key(|(service, network)| (*service, network.name()));
        for (service, network) in without {
            let raw = self.raw.services.iter().find(|s| s.name.value == service);
            let Some(at) = raw.and_then(|s| s.check.get()) else {
                continue;
            };
            self.report(
                Code::NoCheckAddress,
                at.span,
                format!(
                    "all addresses of network {} ({}) are taken",
                    network.name(),
                    network.subnet()
                ),
                "this check needs one to ask from",
                "give the network a larger `subnet`, or check with `exec`",
            );
        }
    }

    fn one_is_needed<T>(&mut self, at: &At<RawCheck>) -> Option<T> {
        self.report(
            Code::BadCheck,
            at.span,
            "a check tries one of `http`, `tcp` and `exec`",
            "one of the three is needed",
            "write `{ tcp = true }`, `{ http = \"http://VIP:8080/\" }` or `{ exec = [\"true\"] }`",
        );
        None
    }

    fn check_http(
        &mut self,
        raw: &RawService,
        at: &At<String>,
        vip: Option<IpAddr>,
    ) -> Option<CheckKind> {
        let url = self.url(at, "check", Code::BadCheck, "http://VIP:8080/path")?;
        let named = url.host == "VIP" || url.host == raw.name.value;
        // A VIP that is unknown has been reported.
        let vip = vip?;
        if !named && url.host.parse() != Ok(vip) {
            self.report(
                Code::BadCheck,
                at.span,
                format!(
                    "check URL's host {} is not service {} itself",
                    quote(&url.host),
                    quote(&raw.name.value)
                ),
                "each server is asked for the VIP",
                format!("write `VIP` or `{vip}`"),
            );
            return None;
        }
        Some(CheckKind::Http {
            host: url.host,
            port: url.port,
            path: url.path,
        })
    }

    fn interval(&mut self, field: &Field<String>, default: Duration) -> Option<Duration> {
        match field {
            Field::Absent => Some(default),
            Field::Bad => None,
            Field::Set(at) => self.duration(at),
        }
    }

    fn count(&mut self, field: &Field<i64>, what: &str, default: u32) -> Option<u32> {
        match field {
            Field::Absent => Some(default),
            Field::Bad => None,
            Field::Set(at) => self.number(
                at,
                what,
                1..=100,
                Code::BadCheck,
                "so many tries in a row must agree before a server counts as alive or dead",
            ),
        }
    }
}
