//! The recording double: it writes down what it is told, and can be made to fail at any call.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    BridgeSpec, Error, Kernel, MarkedPath, Ns, Result, Sysctl, TunnelSpec, VethSpec, cgroup, ipvs,
    nft,
};

/// A [`Kernel`] without effects.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Each call in order, as one line of text.
    pub calls: Vec<String>,
    /// Number of the call, counted from 1, that fails with `EBUSY`.
    pub fail_at: Option<usize>,
}

impl Recorder {
    fn note(&mut self, call: String) -> Result<()> {
        self.calls.push(call.clone());
        if self.fail_at == Some(self.calls.len()) {
            return Err(Error::new(call, nix::errno::Errno::EBUSY));
        }
        Ok(())
    }
}

impl Kernel for Recorder {
    fn add_netns(&mut self, ns: &Ns) -> Result<()> {
        self.note(format!("add netns {ns}"))
    }

    fn set_sysctls(&mut self, ns: &Ns, values: &[Sysctl]) -> Result<()> {
        values
            .iter()
            .try_for_each(|v| self.note(format!("{ns}: set {v}")))
    }

    fn add_bridge(&mut self, ns: &Ns, bridge: &BridgeSpec) -> Result<()> {
        self.note(format!("{ns}: add bridge {}", bridge.name))
    }

    fn add_veth(&mut self, veth: &VethSpec) -> Result<()> {
        self.note(format!(
            "add veth {}:{} - {}:{} on {}",
            veth.ns, veth.name, veth.switch, veth.port, veth.bridge
        ))
    }

    fn add_tunnel(&mut self, ns: &Ns, tunnel: &TunnelSpec) -> Result<()> {
        self.note(format!("{ns}: add {tunnel}"))
    }

    fn disable_offloads(&mut self, ns: &Ns, link: &str) -> Result<()> {
        self.note(format!("{ns}: offloads off on {link}"))
    }

    fn add_address(&mut self, ns: &Ns, link: &str, address: IpNet) -> Result<()> {
        self.note(format!("{ns}: add address {address} to {link}"))
    }

    fn set_link_up(&mut self, ns: &Ns, link: &str) -> Result<()> {
        self.note(format!("{ns}: set {link} up"))
    }

    fn wait_operational(&mut self, ns: &Ns, links: &[String]) -> Result<()> {
        self.note(format!("{ns}: wait for {}", links.join(" ")))
    }

    fn add_default_route(&mut self, ns: &Ns, via: IpAddr) -> Result<()> {
        self.note(format!("{ns}: add default route via {via}"))
    }

    fn add_marked_path(&mut self, ns: &Ns, path: &MarkedPath) -> Result<()> {
        self.note(format!("{ns}: add path for {path}"))
    }

    fn delete_link(&mut self, ns: &Ns, link: &str) -> Result<()> {
        self.note(format!("{ns}: delete {link}"))
    }

    fn apply_nft(&mut self, ns: &Ns, _: &nft::Ruleset) -> Result<()> {
        self.note(format!("{ns}: apply nft ruleset"))
    }

    fn apply_ipvs(&mut self, ns: &Ns, table: &ipvs::Table) -> Result<()> {
        let servers: usize = table.iter().map(|(_, d)| d.len()).sum();
        let services = table.len();
        self.note(format!(
            "{ns}: apply ipvs, {services} services, {servers} servers"
        ))
    }

    fn clear_cgroup(&mut self, folder: &cgroup::Folder) -> Result<()> {
        self.note(format!("clear cgroup {}", folder.path().display()))
    }

    fn add_cgroup(
        &mut self,
        folder: &cgroup::Folder,
    ) -> Result<Vec<(cgroup::Controller, cgroup::Lack)>> {
        let settings: Vec<_> = folder
            .settings
            .iter()
            .map(|s| format!(" {}={}", s.file, s.value))
            .collect();
        let path = folder.path();
        self.note(format!(
            "add cgroup {}{}",
            path.display(),
            settings.concat()
        ))?;
        Ok(Vec::new())
    }
}
