//! [`Kernel`] for real.
//!
//! A [`Linux`] lives on a thread of its own, because it moves that thread between network
//! namespaces; the thread's last namespace is remembered, so that a plan which stays in a
//! namespace for several steps pays for one setns(2).

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tokio::runtime::Runtime;

use super::error::Context;
use super::netlink::{Connection, VethEnd};
use super::{
    BridgeSpec, Error, FIRST_INDEX, Kernel, MarkedPath, Ns, Result, Sysctl, TunnelSpec, VethSpec,
    cgroup, ethtool, ipvs, netns, nft, sysctl,
};

/// One namespace that this value has worked in.
#[derive(Debug)]
struct Space {
    fd: OwnedFd,
    connection: Option<Connection>,
    /// Indexes that were chosen or asked for already.
    links: HashMap<String, u32>,
}

/// The running kernel. Not `Send` in spirit: use it on the thread that made it, and use that
/// thread for nothing else.
#[derive(Debug)]
pub struct Linux {
    pins: PathBuf,
    rt: Runtime,
    spaces: HashMap<Ns, Space>,
    current: Ns,
    sysctls: sysctl::Writer,
}

impl Linux {
    /// `pins` is the folder in which namespaces are pinned by name; it exists. The calling
    /// thread's network namespace is taken as the host's.
    pub fn new(pins: PathBuf) -> Result<Self> {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .op(|| "start a runtime for netlink".into())?;
        let home = Space {
            fd: netns::current()?,
            connection: None,
            links: HashMap::new(),
        };
        Ok(Self {
            pins,
            rt,
            spaces: HashMap::from([(Ns::Host, home)]),
            current: Ns::Host,
            sysctls: sysctl::Writer::default(),
        })
    }

    /// Names in which namespaces are pinned.
    fn pin(&self, name: &str) -> PathBuf {
        self.pins.join(name)
    }

    /// A second descriptor of a namespace, for those who open sockets in it (captures, node
    /// processes).
    pub fn share_netns(&mut self, ns: &Ns) -> Result<OwnedFd> {
        let space = self.space(ns)?;
        space
            .fd
            .try_clone()
            .op(|| format!("duplicate the descriptor of namespace {ns}"))
    }

    /// Routes of a namespace's main table as (destination, interface index), default routes left
    /// out.
    pub fn routes(&mut self, ns: &Ns) -> Result<Vec<(IpNet, u32)>> {
        self.connect(ns)?;
        self.connection(ns)?.routes(&self.rt)
    }

    /// Deletes every link of the host's namespace that carries this mark, and one of this name and
    /// MAC address that carries none yet: who made it was killed before it could mark it.
    pub fn delete_host_links(&mut self, mark: &str, name: &str, mac: [u8; 6]) -> Result<()> {
        self.connect(&Ns::Host)?;
        let connection = self.connection(&Ns::Host)?;
        for (index, name) in connection.links_of_ours(&self.rt, mark, (name, mac))? {
            connection.delete(&self.rt, &name, index)?;
        }
        Ok(())
    }

    fn space(&mut self, ns: &Ns) -> Result<&mut Space> {
        if !self.spaces.contains_key(ns) {
            let Ns::Named(name) = ns else {
                unreachable!("the host's space is made by new()")
            };
            let fd = netns::open(&self.pin(name))?;
            let space = Space {
                fd,
                connection: None,
                links: HashMap::new(),
            };
            self.spaces.insert(ns.clone(), space);
        }
        self.spaces.get_mut(ns).ok_or_else(|| missing(ns))
    }

    /// Moves the thread into `ns`.
    fn enter(&mut self, ns: &Ns) -> Result<()> {
        if self.current != *ns {
            let space = self.space(ns)?;
            netns::enter(&space.fd)?;
            self.current = ns.clone();
        }
        Ok(())
    }

    /// Sees to it that `ns` has a netlink connection.
    fn connect(&mut self, ns: &Ns) -> Result<()> {
        if self.space(ns)?.connection.is_none() {
            self.enter(ns)?;
            let connection = Connection::open(&self.rt)?;
            self.space(ns)?.connection = Some(connection);
        }
        Ok(())
    }

    /// The index of the next link in a namespace where all links are made here, but for those of
    /// the kernel's own that [`FIRST_INDEX`] makes room for. Chosen instead of asked for afterwards.
    fn next_index(&mut self, ns: &Ns) -> Result<u32> {
        Ok(FIRST_INDEX + self.space(ns)?.links.len() as u32)
    }

    fn connection(&self, ns: &Ns) -> Result<&Connection> {
        self.spaces
            .get(ns)
            .and_then(|s| s.connection.as_ref())
            .ok_or_else(|| missing(ns))
    }

    /// Index of a link of `ns`, remembered or asked for.
    fn index(&mut self, ns: &Ns, link: &str) -> Result<u32> {
        if link == "lo" {
            return Ok(1); // LOOPBACK_IFINDEX, include/net/flow.h
        }
        if let Some(index) = self.space(ns)?.links.get(link) {
            return Ok(*index);
        }
        self.connect(ns)?;
        let index = self
            .connection(ns)?
            .index(&self.rt, link)?
            .ok_or(nix::errno::Errno::ENODEV)
            .op(|| format!("find interface {link} in {ns}"))?;
        self.space(ns)?.links.insert(link.to_owned(), index);
        Ok(index)
    }
}

fn missing(ns: &Ns) -> Error {
    Error::new(format!("work in namespace {ns}"), nix::errno::Errno::ENOENT)
}

impl Drop for Linux {
    fn drop(&mut self) {
        // The thread may outlive this value; it should be where it was.
        if let Some(home) = self.spaces.get(&Ns::Host) {
            let _ = netns::enter(&home.fd);
        }
    }
}

impl Kernel for Linux {
    fn add_netns(&mut self, ns: &Ns) -> Result<()> {
        let Ns::Named(name) = ns else {
            unreachable!("a plan never makes the host's namespace")
        };
        let fd = netns::create(&self.pin(name))?;
        self.spaces.insert(
            ns.clone(),
            Space {
                fd,
                connection: None,
                links: HashMap::new(),
            },
        );
        self.current = ns.clone();
        Ok(())
    }

    fn set_sysctls(&mut self, ns: &Ns, values: &[Sysctl]) -> Result<()> {
        self.enter(ns)?;
        self.sysctls.set(values)
    }

    fn add_bridge(&mut self, ns: &Ns, bridge: &BridgeSpec) -> Result<()> {
        self.connect(ns)?;
        let index = self.next_index(ns)?;
        self.connection(ns)?.add_bridge(&self.rt, bridge, index)?;
        self.space(ns)?.links.insert(bridge.name.clone(), index);
        Ok(())
    }

    fn add_veth(&mut self, veth: &VethSpec) -> Result<()> {
        let near_fd = self.space(&veth.ns)?.fd.as_raw_fd();
        let bridge = self.index(&veth.switch, &veth.bridge)?;
        self.connect(&veth.switch)?;
        let near = VethEnd {
            name: &veth.name,
            index: veth.index,
            mac: veth.mac,
            mtu: veth.mtu,
            ns: near_fd,
        };
        let port = self.next_index(&veth.switch)?;
        self.connection(&veth.switch)?
            .add_veth(&self.rt, &near, (&veth.port, port), bridge)?;
        self.space(&veth.switch)?
            .links
            .insert(veth.port.clone(), port);
        if let Some(index) = veth.index {
            self.space(&veth.ns)?.links.insert(veth.name.clone(), index);
        }
        if let Some(mark) = &veth.mark {
            let index = self.index(&veth.ns, &veth.name)?;
            self.connect(&veth.ns)?;
            self.connection(&veth.ns)?
                .set_alias(&self.rt, index, mark)?;
        }
        Ok(())
    }

    fn add_tunnel(&mut self, ns: &Ns, tunnel: &TunnelSpec) -> Result<()> {
        self.connect(ns)?;
        self.connection(ns)?.add_tunnel(&self.rt, tunnel)
    }

    fn disable_offloads(&mut self, ns: &Ns, link: &str) -> Result<()> {
        self.enter(ns)?;
        ethtool::disable_offloads(link)
    }

    fn add_address(&mut self, ns: &Ns, link: &str, address: IpNet) -> Result<()> {
        let index = self.index(ns, link)?;
        self.connect(ns)?;
        self.connection(ns)?
            .add_address(&self.rt, link, index, address)
    }

    fn set_link_up(&mut self, ns: &Ns, link: &str) -> Result<()> {
        let index = self.index(ns, link)?;
        self.connect(ns)?;
        self.connection(ns)?.set_up(&self.rt, link, index)
    }

    fn wait_operational(&mut self, ns: &Ns, links: &[String]) -> Result<()> {
        self.connect(ns)?;
        // Waits some milliseconds as a rule; the kernel puts a carrier off for a second at most.
        for _ in 0..5000 {
            let running = self.connection(ns)?.running(&self.rt)?;
            if links.iter().all(|link| running.contains(link)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(nix::errno::Errno::ETIMEDOUT).op(|| format!("see a carrier on every interface of {ns}"))
    }

    fn add_default_route(&mut self, ns: &Ns, via: IpAddr) -> Result<()> {
        self.connect(ns)?;
        self.connection(ns)?.add_default_route(&self.rt, via)
    }

    fn add_marked_path(&mut self, ns: &Ns, path: &MarkedPath) -> Result<()> {
        let index = self.index(ns, &path.link)?;
        self.connect(ns)?;
        self.connection(ns)?.add_marked_path(&self.rt, path, index)
    }

    fn delete_link(&mut self, ns: &Ns, link: &str) -> Result<()> {
        self.connect(ns)?;
        self.space(ns)?.links.remove(link);
        let connection = self.connection(ns)?;
        match connection.index(&self.rt, link)? {
            Some(index) => connection.delete(&self.rt, link, index),
            None => Ok(()),
        }
    }

    fn apply_nft(&mut self, ns: &Ns, ruleset: &nft::Ruleset) -> Result<()> {
        self.enter(ns)?;
        nft::apply(ruleset).map_err(|e| {
            Error::new(
                format!("program nftables in {ns}"),
                std::io::Error::other(e),
            )
        })
    }

    fn apply_ipvs(&mut self, ns: &Ns, table: &ipvs::Table) -> Result<()> {
        self.enter(ns)?;
        ipvs::Ipvs::open()
            .and_then(|mut ipvs| ipvs.apply(table))
            .map_err(|e| Error::new(format!("program IPVS in {ns}"), std::io::Error::other(e)))
    }

    fn clear_cgroup(&mut self, folder: &cgroup::Folder) -> Result<()> {
        cgroup::clear(folder)
    }

    fn add_cgroup(
        &mut self,
        folder: &cgroup::Folder,
    ) -> Result<Vec<(cgroup::Controller, cgroup::Lack)>> {
        cgroup::make(folder)
    }
}
