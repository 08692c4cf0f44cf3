//! What this engine leaves to IPVS.

use crate::director::{ServerSpec, ServiceSpec};
use crate::lab::Method;

/// What a service asks for that needs IPVS. The lab file's check knows the same list.
pub(super) fn beyond(service: &ServiceSpec) -> Option<&'static str> {
    let threshold = |s: &ServerSpec| s.upper > 0 || s.lower > 0;
    match service {
        s if s.method == Method::Nat => Some("method \"nat\""),
        s if s.method == Method::Tun => Some("method \"tun\""),
        s if !s.scheduler_flags.is_empty() => Some("scheduler flags"),
        s if s.persistent.is_some() => Some("persistence"),
        s if s.one_packet => Some("one-packet scheduling"),
        s if s.servers.iter().any(threshold) => Some("connection thresholds"),
        _ => None,
    }
}
