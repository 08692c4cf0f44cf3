//! What health checks found, in words.

use crate::supervisor::Event;

/// An event of health checks; `None` for others.
pub(super) fn words(event: &Event) -> Option<String> {
    let checks = |n: u32| if n == 1 { "check" } else { "checks" };
    Some(match event {
        Event::ServerDied {
            service,
            server,
            port,
            why,
            failed,
            removed,
        } => {
            let done = if *removed { "removed" } else { "weight 0" };
            let checks = checks(*failed);
            format!(
                "service {service}: server {server}:{port} is dead, {done} ({failed} failed \
                 {checks}: {why})"
            )
        }
        Event::ServerRevived {
            service,
            server,
            port,
            passed,
            weight,
        } => {
            let checks = checks(*passed);
            format!(
                "service {service}: server {server}:{port} is alive, weight {weight} ({passed} \
                 passed {checks})"
            )
        }
        Event::NoServers { service } => {
            format!("service {service}: no live server is left, clients get no answer")
        }
        Event::Served { service } => format!("service {service}: served again"),
        _ => return None,
    })
}
