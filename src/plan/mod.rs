//! Lab to an ordered list of steps; pure and deterministic. What `nslab plan` prints is what
//! `apply` does.
//!
//! The order is the point of this room. It sees to it that
//! - sysctls of a namespace are set before it has any link, and again on each link while that is
//!   still down;
//! - captures run before the first link has a carrier (its bridge port comes up after them);
//! - addresses and acceptance rules are there before services;
//! - node processes start when their network is complete.

mod accept;
mod build;
mod checks;
mod direct;
mod hosts;
mod step;
mod switch;
mod sysctls;

pub use accept::Acceptance;
pub use build::build;
pub use checks::{check_paths, more_check_places};
pub use direct::{server_spec, service_spec};
pub use hosts::hosts_file;
pub use step::{CaptureTarget, SWITCH, Step};

use serde::Serialize;

use crate::kernel::VethSpec;

/// Everything that `up` will do, in order.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The lab's name.
    pub lab: String,
    /// What is done, first to last.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The links that this plan makes in the host's own namespace.
    pub fn host_links(&self) -> impl Iterator<Item = &VethSpec> {
        self.steps.iter().filter_map(|s| match s {
            Step::Veth(veth) if veth.ns == crate::kernel::Ns::Host => Some(veth),
            _ => None,
        })
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.steps.len().to_string().len();
        for (n, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>width$}  {step}", n + 1)?;
        }
        Ok(())
    }
}
