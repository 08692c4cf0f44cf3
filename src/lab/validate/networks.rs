//! Networks: subnets, MTUs, the host's place.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Checker, KnownNetwork};
use crate::lab::model::{HostSide, Network};
use crate::lab::names::{IfName, LabName, Mac, NetworkName};
use crate::spec::{At, Code, Diagnostic, RawNetwork, quote};

/// Networks by name, in the file's order.
pub(super) type Networks = Vec<(String, KnownNetwork)>;

impl Checker {
    pub(super) fn networks(&mut self, lab: &LabName, raw: &[RawNetwork]) -> Networks {
        let mut used = HashSet::new();
        let mut networks: Networks = Vec::new();
        for r in raw {
            let network = self.network(lab, r, &mut used);
            networks.push((r.name.value.clone(), KnownNetwork { network }));
        }
        self.overlaps(raw, &networks);
        networks
    }

    fn network(
        &mut self,
        lab: &LabName,
        raw: &RawNetwork,
        used: &mut HashSet<String>,
    ) -> Option<Network> {
        let name = self.name("network", &raw.name, NetworkName::new);
        let subnet = raw.subnet.get().and_then(|at| self.subnet(at));
        let ipv6_asked = raw.ipv6.get().is_some_and(|at| at.value);
        let ipv6 = ipv6_asked || subnet.is_some_and(|s| matches!(s, IpNet::V6(_)));
        if let (Some(at), Some(IpNet::V6(_))) = (raw.ipv6.get().filter(|at| !at.value), subnet) {
            let message = format!(
                "network {} has an IPv6 subnet and `ipv6 = false`",
                quote(&raw.name.value)
            );
            self.report(
                Code::Ipv6Off,
                at.span,
                message,
                "IPv6 is switched off",
                "remove `ipv6 = false`",
            );
        }
        let mut mtu = 1500;
        if let Some(at) = raw.mtu.get() {
            let least = if ipv6 { 1280 } else { 68 };
            match u32::try_from(at.value) {
                Ok(n) if (least..=65_535).contains(&n) => mtu = n,
                _ => {
                    let message = format!("MTU {} is out of range", at.value);
                    let help = format!("write a number of bytes from {least} to 65535");
                    self.report(Code::BadMtu, at.span, message, "out of range", help);
                }
            }
        }
        let (name, subnet) = (name?, subnet?);
        let host = match raw.host.get() {
            None => None,
            Some(at) => {
                let address = self.inside(at, subnet, name.as_str())?;
                self.claim(address, "the host", at.span);
                let ifname = host_ifname(lab, &name, used)?;
                let mac = Mac::from_seed(&[lab.as_str(), "", name.as_str()]);
                let address = IpNet::new(address, subnet.prefix_len()).ok()?;
                Some(HostSide {
                    ifname,
                    address,
                    mac,
                })
            }
        };
        Some(Network {
            name,
            subnet,
            mtu,
            ipv6,
            host,
        })
    }

    fn subnet(&mut self, at: &At<String>) -> Option<IpNet> {
        let Ok(net) = at.value.parse::<IpNet>() else {
            let message = format!("{} is not a subnet", quote(&at.value));
            let help = "write an address and a prefix length, like `192.168.10.0/24`";
            self.report(Code::BadAddress, at.span, message, "not a subnet", help);
            return None;
        };
        if net.trunc() != net {
            let message = format!("subnet {net} has host bits set");
            let help = format!("the subnet of that address is `{}`", net.trunc());
            self.report(
                Code::HostBits,
                at.span,
                message,
                "an address, not a subnet",
                help,
            );
            return None;
        }
        Some(net)
    }

    fn overlaps(&mut self, raw: &[RawNetwork], networks: &Networks) {
        let good: Vec<_> = raw
            .iter()
            .zip(networks)
            .filter_map(|(r, (_, n))| Some((r, n.network.as_ref()?, r.subnet.get()?)))
            .collect();
        // Sorted by address an overlapping pair is a neighbouring one, but for nesting; labs have
        // few networks, so every pair is looked at.
        for (n, (_, later, at)) in good.iter().enumerate() {
            for (_, earlier, first) in &good[..n] {
                if later.subnet.contains(&earlier.subnet) || earlier.subnet.contains(&later.subnet)
                {
                    let message = format!(
                        "subnet {} of network `{}` overlaps {} of network `{}`",
                        later.subnet, later.name, earlier.subnet, earlier.name
                    );
                    let d = Diagnostic::new(
                        Code::Overlap,
                        at.span,
                        message,
                        "overlaps",
                        "give each network a subnet of its own",
                    )
                    .and(first.span, format!("network `{}`", earlier.name));
                    self.push(d);
                }
            }
        }
    }

    /// An address inside a subnet that a machine can have; without a prefix length, or with the
    /// subnet's own.
    pub(super) fn inside(
        &mut self,
        at: &At<String>,
        subnet: IpNet,
        network: &str,
    ) -> Option<IpAddr> {
        let address = match at.value.parse::<IpNet>() {
            Ok(net) if net.prefix_len() != subnet.prefix_len() => {
                let message =
                    format!("address {net} has another prefix length than its subnet {subnet}");
                let help = format!("write `{}`; the prefix length is the subnet's", net.addr());
                self.report(
                    Code::PrefixMismatch,
                    at.span,
                    message,
                    "another prefix length",
                    help,
                );
                return None;
            }
            Ok(net) => net.addr(),
            Err(_) => self.address(at)?,
        };
        if !subnet.contains(&address) {
            let message =
                format!("address {address} is outside {subnet}, the subnet of network `{network}`");
            let help = format!("take an address from {} to {}", first(subnet), last(subnet));
            self.report(
                Code::OutsideSubnet,
                at.span,
                message,
                "outside the subnet",
                help,
            );
            return None;
        }
        let edge = match subnet {
            // RFC 3021: a /31 has no network and broadcast address.
            IpNet::V4(net) if net.prefix_len() < 31 && address == net.network() => {
                Some("the network's own address")
            }
            IpNet::V4(net) if net.prefix_len() < 31 && address == net.broadcast() => {
                Some("the broadcast address")
            }
            _ => None,
        };
        if let Some(edge) = edge {
            let message = format!("{address} is {edge} of {subnet}");
            let help = format!("take an address from {} to {}", first(subnet), last(subnet));
            self.report(
                Code::UnusableAddress,
                at.span,
                message,
                "no machine can have it",
                help,
            );
            return None;
        }
        Some(address)
    }
}

fn first(subnet: IpNet) -> IpAddr {
    subnet.hosts().next().unwrap_or(subnet.addr())
}

fn last(subnet: IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            IpAddr::V4((u32::from(net.broadcast()) - 1).into())
        }
        net => net.broadcast(),
    }
}

/// `<lab>-<network>` where it fits; else cut, with a number that keeps it apart.
fn host_ifname(lab: &LabName, network: &NetworkName, used: &mut HashSet<String>) -> Option<IfName> {
    let whole = format!("{lab}-{network}");
    let [.., a, b] = Mac::from_seed(&[lab.as_str(), network.as_str()]).octets();
    let cut = || format!("{:.10}-{a:02x}{b:02x}", whole);
    let candidates = std::iter::once(whole.clone())
        .filter(|w| w.len() <= 15)
        .chain(std::iter::once_with(cut))
        .chain((0..).map(|n| format!("{:.9}-{n}", whole)));
    let name = candidates.into_iter().find(|c| used.insert(c.clone()))?;
    IfName::new(&name).ok()
}
