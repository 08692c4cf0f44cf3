//! Sysctls that a plan sets, so that nothing of a namespace depends on the host's own.

use super::checks;
use crate::kernel::Sysctl;
use crate::lab::{Interface, Lab, Node};

/// How a node answers and asks by ARP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arp {
    /// `arp_ignore`.
    pub(super) ignore: u8,
    /// `arp_announce`.
    pub(super) announce: u8,
}

impl Arp {
    /// The kernel's defaults.
    pub(super) const ORDINARY: Self = Self {
        ignore: 0,
        announce: 0,
    };
    /// Of a realserver that has a VIP on `lo` or on a tunnel: it must neither answer ARP for the VIP
    /// nor announce it as the source of its own requests (ip-sysctl.rst, and the LVS-HOWTO's "ARP
    /// problem").
    pub(super) const SILENT: Self = Self {
        ignore: 1,
        announce: 2,
    };
}

/// The switch has no addresses, but where servers are checked from it: no IPv6 of its own on
/// bridges and ports.
pub(super) fn switch_sysctls(lab: &Lab) -> Vec<Sysctl> {
    let mut values = checks::sysctls(lab);
    let off = |c| Sysctl::optional(format!("net.ipv6.conf.{c}.disable_ipv6"), "1");
    values.extend(["all", "default"].map(off));
    values
}

/// What a namespace inherits from the host's is set explicitly: a new one copies the host's
/// `all` and `default` (net.core.devconf_inherit_init_net), so a host with rp_filter=2 or
/// ip_forward=1 would otherwise break the lab.
pub(super) fn namespace_sysctls(node: &Node, arp: Arp) -> Vec<Sysctl> {
    let forward = u8::from(node.forward()).to_string();
    // ip_forward first: changing it resets other keys (ip-sysctl.rst).
    let mut values = vec![Sysctl::new("net.ipv4.ip_forward", &forward)];
    for conf in ["all", "default"] {
        let mut v4 = |key: &str, value: u8| {
            values.push(Sysctl::new(
                format!("net.ipv4.conf.{conf}.{key}"),
                value.to_string(),
            ));
        };
        v4("rp_filter", 0);
        v4("arp_ignore", arp.ignore);
        v4("arp_announce", arp.announce);
        v4("arp_filter", 0);
        v4("accept_redirects", 0);
        v4("send_redirects", 0);
    }
    let ipv6 = node.interfaces().iter().any(Interface::ipv6);
    for conf in ["all", "default"] {
        let key = |key: &str| format!("net.ipv6.conf.{conf}.{key}");
        if ipv6 {
            values.push(Sysctl::new(key("disable_ipv6"), "0"));
            // No wait for duplicates: nslab has checked the addresses.
            values.push(Sysctl::new(key("accept_dad"), "0"));
            values.push(Sysctl::new(key("accept_ra"), "0"));
            values.push(Sysctl::new(key("forwarding"), &forward));
        } else {
            values.push(Sysctl::optional(key("disable_ipv6"), "1"));
        }
    }
    values
}

/// The same for one link: the kernel takes the maximum of `all` and the link's own for some keys
/// and either of them for others, so both are set.
pub(super) fn link_sysctls(interface: &Interface, arp: Arp) -> Vec<Sysctl> {
    let link = interface.name().as_str().replace('.', "/");
    let v4 = |key: &str, value: u8| {
        Sysctl::new(format!("net.ipv4.conf.{link}.{key}"), value.to_string())
    };
    let mut values = vec![
        v4("rp_filter", 0),
        v4("arp_ignore", arp.ignore),
        v4("arp_announce", arp.announce),
    ];
    let key = format!("net.ipv6.conf.{link}.disable_ipv6");
    values.push(if interface.ipv6() {
        Sysctl::new(key, "0")
    } else {
        Sysctl::optional(key, "1")
    });
    values
}
