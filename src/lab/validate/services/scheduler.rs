//! Scheduling: which server a new connection goes to, and for how long a client stays with it.

use std::net::IpAddr;
use std::time::Duration;

use crate::lab::model::{Persistence, Protocol, Scheduler, SchedulerFlag};
use crate::lab::validate::Validator;
use crate::spec::text::{any_of, nearest, quote};
use crate::spec::{At, Code, Diagnostic, Field, RawService, keys};

/// How a service's connections are spread.
pub(super) struct Scheduling {
    pub(super) scheduler: Scheduler,
    pub(super) flags: Vec<SchedulerFlag>,
    pub(super) persistent: Option<Persistence>,
    pub(super) one_packet: bool,
}

impl Validator<'_> {
    pub(super) fn scheduling(
        &mut self,
        raw: &RawService,
        vip: Option<IpAddr>,
        protocol: Option<Protocol>,
    ) -> Option<Scheduling> {
        let scheduler = self.scheduler(&raw.scheduler);
        let flags = self.flags(raw, scheduler);
        let persistent = self.persistent(raw, vip);
        let one_packet = self.one_packet(raw, protocol);
        Some(Scheduling {
            scheduler: scheduler?,
            flags: flags?,
            persistent: persistent?,
            one_packet: one_packet?,
        })
    }

    fn scheduler(&mut self, field: &Field<String>) -> Option<Scheduler> {
        match field {
            Field::Absent => Some(Scheduler::Rr),
            Field::Bad => None,
            Field::Set(at) => Scheduler::from_word(&at.value).or_else(|| {
                let near = nearest(&at.value, keys::SCHEDULERS);
                let help = if near.is_empty() {
                    format!("it may be {}", any_of(keys::SCHEDULERS))
                } else {
                    format!("did you mean {}?", any_of(&near))
                };
                self.report(
                    Code::UnknownScheduler,
                    at.span,
                    format!("unknown scheduler {}", quote(&at.value)),
                    "no such scheduler",
                    help,
                );
                None
            }),
        }
    }

    fn flags(
        &mut self,
        raw: &RawService,
        scheduler: Option<Scheduler>,
    ) -> Option<Vec<SchedulerFlag>> {
        let list = match &raw.scheduler_flags {
            Field::Absent => return Some(Vec::new()),
            Field::Bad => return None,
            Field::Set(list) => &list.value,
        };
        let mut all = Some(Vec::new());
        for entry in list {
            let flag = entry.get().and_then(|at| {
                let Some(flag) = SchedulerFlag::from_word(&at.value) else {
                    self.unknown_word("scheduler_flags", at, keys::SCHEDULER_FLAGS);
                    return None;
                };
                self.fits(at, flag, scheduler?, raw).then_some(flag)
            });
            all = all.zip(flag).map(|(mut list, flag)| {
                if !list.contains(&flag) {
                    list.push(flag);
                }
                list
            });
        }
        all
    }

    fn fits(
        &mut self,
        at: &At<String>,
        flag: SchedulerFlag,
        scheduler: Scheduler,
        raw: &RawService,
    ) -> bool {
        let owner = flag.scheduler();
        if owner == scheduler {
            return true;
        }
        let d = Diagnostic::new(
            Code::FlagMismatch,
            at.span,
            format!(
                "flag `{}` is unknown to scheduler `{}`",
                flag.as_str(),
                scheduler.as_str()
            ),
            format!("a flag of `{}`", owner.as_str()),
            format!(
                "use `scheduler = \"{}\"`, or remove the flag",
                owner.as_str()
            ),
        );
        let d = match raw.scheduler.get() {
            Some(at) => d.and(at.span, "the scheduler"),
            None => d.and(raw.name.span, "its scheduler is `rr` by default"),
        };
        self.diagnostics.push(d);
        false
    }

    #[expect(
        clippy::option_option,
        reason = "no persistence and no valid persistence are two things"
    )]
    fn persistent(&mut self, raw: &RawService, vip: Option<IpAddr>) -> Option<Option<Persistence>> {
        let timeout = match &raw.persistent {
            Field::Absent => None,
            Field::Bad => return None,
            Field::Set(at) => {
                let timeout = self.duration(at)?;
                if timeout.subsec_nanos() != 0 {
                    self.report(
                        Code::BadPersistence,
                        at.span,
                        format!("persistence of {} is not whole seconds", quote(&at.value)),
                        "the kernel counts seconds here",
                        "write it like \"300s\"",
                    );
                    return None;
                }
                Some(timeout)
            }
        };
        let prefix = self.persistent_mask(raw, vip, timeout)?;
        Some(timeout.map(|timeout| Persistence { timeout, prefix }))
    }

    fn persistent_mask(
        &mut self,
        raw: &RawService,
        vip: Option<IpAddr>,
        timeout: Option<Duration>,
    ) -> Option<u8> {
        let most = if vip.is_some_and(|v| v.is_ipv4()) {
            32
        } else {
            128
        };
        let at = match &raw.persistent_mask {
            Field::Absent => return Some(most),
            Field::Bad => return None,
            Field::Set(at) => at,
        };
        if timeout.is_none() {
            self.report(
                Code::BadPersistence,
                at.span,
                "`persistent_mask` without `persistent`",
                "no client is remembered",
                "add `persistent = \"300s\"`, or remove the mask",
            );
            return None;
        }
        self.number(
            at,
            "a persistence mask",
            1..=i64::from(most),
            Code::BadPersistence,
            "the leading bits of an address that make two clients one: 24 is a whole /24",
        )
    }

    fn one_packet(&mut self, raw: &RawService, protocol: Option<Protocol>) -> Option<bool> {
        let at = match &raw.one_packet {
            Field::Absent => return Some(false),
            Field::Bad => return None,
            Field::Set(at) => at,
        };
        // ip_vs_schedule() in ip_vs_core.c looks at the flag for UDP only.
        if at.value && protocol.is_some_and(|p| p != Protocol::Udp) {
            self.report(
                Code::OnePacketNotUdp,
                at.span,
                "one-packet scheduling is for UDP only",
                "the other protocols have connections, which must stay together",
                "add `protocol = \"udp\"`, or remove `one_packet`",
            );
            return None;
        }
        Some(at.value)
    }
}
