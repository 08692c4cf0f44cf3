//! rtnetlink: one connection a namespace. The crates of the netlink family break in each 0.x, so
//! nothing of them shows outside this module.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::IpProtocol;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, CacheInfo};
use netlink_packet_route::link::{
    BridgeStpState, InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::rule::RuleAction;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rtnetlink::{
    Handle, LinkBridge, LinkIp6Tnl, LinkIpIp, LinkUnspec, LinkVeth, RouteMessageBuilder,
};
use tokio::runtime::Runtime;

use super::error::Context;
use super::{BridgeSpec, Error, MarkedPath, Result, TunnelSpec};

/// The kernel's errno out of rtnetlink's error; its other variants are faults of the exchange
/// itself.
fn errno(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// A route netlink connection into one network namespace.
#[derive(Debug)]
pub(super) struct Connection {
    handle: Handle,
}

impl Connection {
    /// Connects to the network namespace that the calling thread is in; it stays connected to it.
    pub(super) fn open(rt: &Runtime) -> Result<Self> {
        let what = || "open a route netlink socket".to_owned();
        let _guard = rt.enter();
        let mut socket = TokioSocket::new(NETLINK_ROUTE).op(what)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0)).op(what)?;
        let (connection, handle, _) = rtnetlink::from_socket(socket);
        rt.spawn(connection);
        Ok(Self { handle })
    }

    /// Index of a link; `None` if there is no such link.
    pub(super) fn index(&self, rt: &Runtime, name: &str) -> Result<Option<u32>> {
        let answer = rt.block_on(
            self.handle
                .link()
                .get()
                .match_name(name.to_owned())
                .execute()
                .try_next(),
        );
        match answer.map_err(errno) {
            Ok(link) => Ok(link.map(|l| l.header.index)),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(Error::new(format!("look for interface {name}"), e)),
        }
    }

    pub(super) fn add_bridge(&self, rt: &Runtime, bridge: &BridgeSpec, index: u32) -> Result<()> {
        let mut message = LinkBridge::new(&bridge.name)
            .index(index)
            .mtu(bridge.mtu)
            .stp_state(BridgeStpState::Disabled)
            .mcast_snooping(false)
            .up();
        if let Some(mac) = bridge.mac {
            message = message.address(mac.to_vec());
        }
        rt.block_on(self.handle.link().add(message.build()).execute())
            .map_err(errno)
            .op(|| format!("add bridge {}", bridge.name))
    }

    /// A veth pair whose far end is a port of a bridge in this namespace; both ends are down.
    ///
    /// The bridge is told the near end's MAC address: a switch that has to learn floods the first
    /// frame to a silent machine, and captures of its neighbours would hold frames that were never
    /// meant for them.
    ///
    /// The near end must not be set up in the same message: veth_open() would find it without a
    /// peer (ENOTCONN), and undoing that costs an RCU grace period.
    ///
    /// One queue each, where the kernel's default is one for each processor: they only matter to
    /// XDP and GRO, and every one is an object in sysfs that has to be made and removed.
    pub(super) fn add_veth(
        &self,
        rt: &Runtime,
        near: &VethEnd<'_>,
        port: (&str, u32),
        bridge: u32,
    ) -> Result<()> {
        let (port, port_index) = port;
        let mut peer = LinkUnspec::new_with_name(near.name)
            .address(near.mac.to_vec())
            .mtu(near.mtu)
            .setns_by_fd(near.ns)
            .append_extra_attribute(LinkAttribute::NumTxQueues(1))
            .append_extra_attribute(LinkAttribute::NumRxQueues(1));
        if let Some(index) = near.index {
            peer = peer.index(index);
        }
        let message = LinkVeth::new(port, near.name)
            .index(port_index)
            .mtu(near.mtu)
            .controller(bridge)
            .append_extra_attribute(LinkAttribute::NumTxQueues(1))
            .append_extra_attribute(LinkAttribute::NumRxQueues(1))
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        rt.block_on(self.handle.link().add(message).execute())
            .map_err(errno)
            .op(|| format!("add a veth pair {} - {port}", near.name))?;
        let mut known = self.handle.neighbours().add_bridge(port_index, &near.mac);
        // `bridge fdb add ... master static`: NUD_PERMANENT, rtnetlink's own choice, would make it an
        // address of the bridge itself.
        known.message_mut().header.state = NeighbourState::Noarp;
        rt.block_on(known.execute())
            .map_err(errno)
            .op(|| format!("tell the bridge who is behind {port}"))
    }

    /// The end of tunnels from anywhere to one address. Where the kernel has the kind as a module,
    /// the request itself loads it.
    pub(super) fn add_tunnel(&self, rt: &Runtime, tunnel: &TunnelSpec) -> Result<()> {
        let message = match tunnel.local {
            IpAddr::V4(local) => LinkIpIp::new(&tunnel.name).local(local).build(),
            // Without a protocol ip6tnl carries IPv4 too; the VIP is an IPv6 address.
            IpAddr::V6(local) => LinkIp6Tnl::new(&tunnel.name)
                .local(local)
                .protocol(IpProtocol::Ipv6)
                .build(),
        };
        let made = rt.block_on(self.handle.link().add(message).execute());
        made.map_err(|e| {
            let error = errno(e);
            let op = format!("add {tunnel}");
            if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
                return Error::new(op, error);
            }
            let (module, option) = match tunnel.local {
                IpAddr::V4(_) => ("ipip", "NET_IPIP"),
                IpAddr::V6(_) => ("ip6_tunnel", "IPV6_TUNNEL"),
            };
            let why = format!(
                "this kernel has no such tunnels (CONFIG_{option}, module {module}): load it with \
                 `modprobe {module}`; on Ubuntu the module is in package \
                 linux-modules-extra-$(uname -r)"
            );
            Error::new(op, io::Error::other(why))
        })
    }

    pub(super) fn set_alias(&self, rt: &Runtime, index: u32, alias: &str) -> Result<()> {
        let message = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::IfAlias(alias.to_owned()))
            .build();
        rt.block_on(self.handle.link().set(message).execute())
            .map_err(errno)
            .op(|| format!("mark interface {index} as {alias}"))
    }

    pub(super) fn set_up(&self, rt: &Runtime, name: &str, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        rt.block_on(self.handle.link().set(message).execute())
            .map_err(errno)
            .op(|| format!("set interface {name} up"))
    }

    /// All links of this namespace.
    fn links(&self, rt: &Runtime) -> Result<Vec<LinkMessage>> {
        rt.block_on(self.handle.link().get().execute().try_collect())
            .map_err(errno)
            .op(|| "list interfaces".into())
    }

    /// Names of the links that are operational (IFF_RUNNING, RFC 2863's operational status).
    pub(super) fn running(&self, rt: &Runtime) -> Result<HashSet<String>> {
        let links = self.links(rt)?;
        Ok(links
            .iter()
            .filter(|l| l.header.flags.contains(LinkFlags::Running))
            .filter_map(link_name)
            .collect())
    }

    pub(super) fn delete(&self, rt: &Runtime, name: &str, index: u32) -> Result<()> {
        match rt
            .block_on(self.handle.link().del(index).execute())
            .map_err(errno)
        {
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other.op(|| format!("delete interface {name}")),
        }
    }

    pub(super) fn add_address(
        &self,
        rt: &Runtime,
        name: &str,
        index: u32,
        address: IpNet,
    ) -> Result<()> {
        let mut request = self
            .handle
            .address()
            .add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            // Usable at once: no wait for an answer from whoever might have the address.
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
            if address.prefix_len() == 128 {
                // An alias, or a VIP: deprecated, so that no connection of the node's own begins from
                // it (RFC 6724, rule 3). By rule 8 a /128 would be the first choice, and what a
                // director sends through tunnels would come from the VIP.
                let mut lifetimes = CacheInfo::default();
                lifetimes.ifa_preferred = 0;
                lifetimes.ifa_valid = u32::MAX;
                let lifetimes = AddressAttribute::CacheInfo(lifetimes);
                request.message_mut().attributes.push(lifetimes);
            }
        }
        rt.block_on(request.execute())
            .map_err(errno)
            .op(|| format!("add address {address} to {name}"))
    }

    pub(super) fn add_default_route(&self, rt: &Runtime, via: IpAddr) -> Result<()> {
        let message = match via {
            IpAddr::V4(via) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .gateway(via)
                .build(),
            IpAddr::V6(via) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .gateway(via)
                .build(),
        };
        rt.block_on(self.handle.route().add(message).execute())
            .map_err(errno)
            .op(|| format!("add a default route via {via}"))
    }

    /// `ip rule add fwmark MARK table T`, `ip route add TO via VIA dev LINK onlink table T` and
    /// `ip neigh replace VIA lladdr MAC nud permanent dev LINK`.
    pub(super) fn add_marked_path(
        &self,
        rt: &Runtime,
        path: &MarkedPath,
        index: u32,
    ) -> Result<()> {
        // Clear of the tables that have names (255 and below, rt_tables(5)).
        let table = 1000 + path.mark;
        let whole = if path.to.is_ipv4() { 32 } else { 128 };
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(path.to, whole)
            .and_then(|route| route.gateway(path.via))
            .map_err(|e| Error::new(format!("make a route for {path}"), io::Error::other(e)))?
            .output_interface(index)
            .onlink()
            .table_id(table)
            .build();
        let rule = self.handle.rule().add().fw_mark(path.mark);
        let rule = rule.action(RuleAction::ToTable).table_id(table);
        rt.block_on(async {
            let neighbours = self.handle.neighbours();
            let neighbour = neighbours.add(index, path.via);
            let neighbour = neighbour.link_layer_address(&path.mac).replace();
            neighbour.execute().await?;
            self.handle.route().add(route).execute().await?;
            match path.to {
                IpAddr::V4(_) => rule.v4().execute().await,
                IpAddr::V6(_) => rule.v6().execute().await,
            }
        })
        .map_err(errno)
        .op(|| format!("add a path for {path}"))
    }

    /// Destinations of this namespace's routes (default routes left out) with their interface
    /// indexes, both families, the local and broadcast ones left out.
    pub(super) fn routes(&self, rt: &Runtime) -> Result<Vec<(IpNet, u32)>> {
        let mut found = Vec::new();
        for query in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let routes: Vec<RouteMessage> = rt
                .block_on(self.handle.route().get(query).execute().try_collect())
                .map_err(errno)
                .op(|| "list routes".into())?;
            found.extend(routes.iter().filter_map(route_destination));
        }
        Ok(found)
    }

    /// Links whose alias is `alias`, and one without an alias that has this name and MAC address:
    /// (index, name).
    pub(super) fn links_of_ours(
        &self,
        rt: &Runtime,
        alias: &str,
        (name, mac): (&str, [u8; 6]),
    ) -> Result<Vec<(u32, String)>> {
        let ours = |link: &&LinkMessage| {
            let has = |wanted: &dyn Fn(&LinkAttribute) -> bool| link.attributes.iter().any(wanted);
            let unmarked = !has(&|a| matches!(a, LinkAttribute::IfAlias(x) if !x.is_empty()));
            has(&|a| matches!(a, LinkAttribute::IfAlias(x) if x == alias))
                || unmarked
                    && has(&|a| matches!(a, LinkAttribute::IfName(x) if x == name))
                    && has(&|a| matches!(a, LinkAttribute::Address(x) if *x == mac))
        };
        let links = self.links(rt)?;
        Ok(links
            .iter()
            .filter(ours)
            .map(|l| (l.header.index, link_name(l).unwrap_or_default()))
            .collect())
    }
}

fn link_name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// The near end of a veth pair as the kernel has to know it.
#[derive(Debug)]
pub(super) struct VethEnd<'a> {
    pub(super) name: &'a str,
    pub(super) index: Option<u32>,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    /// Borrowed for the call.
    pub(super) ns: RawFd,
}

/// A unicast route's destination and output interface; `None` for default, local and others.
fn route_destination(message: &RouteMessage) -> Option<(IpNet, u32)> {
    const RT_TABLE_LOCAL: u8 = 255;
    if message.header.table == RT_TABLE_LOCAL || message.header.destination_prefix_length == 0 {
        return None;
    }
    let mut destination = None;
    let mut oif = 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(a)) => {
                destination = Some(IpAddr::V4(*a));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => {
                destination = Some(IpAddr::V6(*a));
            }
            RouteAttribute::Oif(index) => oif = *index,
            _ => {}
        }
    }
    let net = IpNet::new(destination?, message.header.destination_prefix_length).ok()?;
    Some((net, oif))
}
