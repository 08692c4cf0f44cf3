//! The thread that carries a plan out: it moves between namespaces, so it does nothing else.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::apply::{self, Directed, Limited};
use super::error::{Error, OnPath};
use super::journal::{Journal, Undo};
use super::launch::Launch;
use super::recording::request;
use super::{Result, RunDir};
use crate::capture::{self, Captures};
use crate::kernel::{Linux, Ns, cgroup, mount};
use crate::merge;
use crate::plan::{CaptureTarget, Plan};

/// What the apply thread works with, and gives back.
pub(super) struct Worker {
    pub(super) journal: Option<Journal>,
    pub(super) launch: Launch,
    pub(super) capture: crate::lab::Capture,
    pub(super) captured: bool,
    pub(super) captures: Option<Arc<Captures>>,
    pub(super) directed: Vec<Directed>,
    pub(super) limited: Vec<Limited>,
    pub(super) progress: Arc<AtomicUsize>,
    /// Where limits are kept here; looked for when the first node has some.
    pub(super) cgroups: Option<cgroup::Layout>,
}

impl Worker {
    pub(super) fn work(
        &mut self,
        dir: &RunDir,
        plan: &Plan,
        host_subnets: &[(String, ipnet::IpNet)],
        cancel: &AtomicBool,
    ) -> Result<()> {
        let pins = dir.pins();
        fs::create_dir(&pins).on("create", &pins)?;
        apply::Host::<Linux>::journal(self, Undo::Mount { path: pins.clone() })?;
        mount::pin_folder(&pins)?;
        let mut kernel = Linux::new(pins)?;
        check_host(&mut kernel, plan, host_subnets)?;
        apply::network(plan, &mut kernel, self, cancel)
    }
}

/// The host's own network must not clash with what the lab puts into it.
fn check_host(kernel: &mut Linux, plan: &Plan, subnets: &[(String, ipnet::IpNet)]) -> Result<()> {
    for link in plan.host_links() {
        if nix::net::if_::if_nametoindex(link.name.as_str()).is_ok() {
            return Err(Error::HostLinkExists(link.name.clone()));
        }
    }
    if subnets.is_empty() {
        return Ok(());
    }
    for (route, _) in kernel.routes(&Ns::Host)? {
        let overlaps = |s: &ipnet::IpNet| s.contains(&route) || route.contains(s);
        if let Some((network, subnet)) = subnets.iter().find(|(_, s)| overlaps(s)) {
            return Err(Error::RouteOverlap {
                route: route.to_string(),
                network: network.clone(),
                subnet: subnet.to_string(),
            });
        }
    }
    Ok(())
}

impl apply::Host<Linux> for Worker {
    fn journal(&mut self, undo: Undo) -> Result<()> {
        self.journal
            .as_mut()
            .map_or(Ok(()), |journal| journal.note(&undo))
    }

    fn capture(&mut self, kernel: &mut Linux, interfaces: &[CaptureTarget]) -> Result<()> {
        if !self.captured {
            return Ok(());
        }
        let owner = self.launch.owner.map(|o| (o.uid, o.gid));
        capture::prepare_dir(&self.launch.exchange, owner)?;
        merge::forget(&self.launch.exchange)?;
        let mut requests = Vec::with_capacity(interfaces.len());
        for target in interfaces {
            let netns = kernel.share_netns(&Ns::named(&target.node))?;
            requests.push(request(&self.launch, &self.capture, target, netns));
        }
        self.captures = Some(Arc::new(Captures::start(requests, owner)?));
        Ok(())
    }

    fn has_ipvs(&mut self) -> bool {
        crate::kernel::ipvs::probe().unwrap_or(false)
    }

    fn cgroups(&mut self) -> cgroup::Layout {
        self.cgroups
            .get_or_insert_with(cgroup::Layout::find)
            .clone()
    }

    fn limited(&mut self, limited: Limited) {
        self.limited.push(limited);
    }

    fn directed(&mut self, directed: Directed) {
        self.directed.push(directed);
    }

    fn progress(&mut self, done: usize) {
        self.progress.store(done, Ordering::Relaxed);
    }
}
