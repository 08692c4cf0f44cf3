//! Networks: subnets, MTUs, the host's place on them.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::values::{edge, pick_from, special};
use super::{Net, Owner, Validator, unique_mac};
use crate::lab::model::{HostSide, Network};
use crate::lab::names::{IfName, NetworkName};
use crate::spec::text::quote;
use crate::spec::{At, Code, Diagnostic, Field, RawNetwork, Span};

impl Validator<'_> {
    pub(super) fn read_networks(&mut self) {
        for raw in &self.raw.networks {
            let net = self.read_network(raw);
            self.networks.push(net);
        }
        self.overlaps();
        // The host's addresses need the subnets.
        for n in 0..self.networks.len() {
            self.networks[n].host = match &self.raw.networks[n].host {
                Field::Absent => Field::Absent,
                Field::Bad => Field::Bad,
                Field::Set(at) => self.placed(at, Some(n)).map_or(Field::Bad, Field::Set),
            };
        }
    }

    fn read_network(&mut self, raw: &RawNetwork) -> Net {
        let name = self.name(
            &raw.name,
            "network",
            Code::BadName,
            "the network",
            NetworkName::new,
        );
        let subnet = raw.subnet.get().and_then(|at| self.subnet(at));
        let ipv6 = match (&raw.ipv6, &subnet) {
            (
                _,
                Some(At {
                    value: IpNet::V6(_),
                    ..
                }),
            ) => Some(true),
            (Field::Set(at), _) => Some(at.value),
            (Field::Absent, Some(_)) => Some(false),
            (Field::Absent, None) | (Field::Bad, _) => None,
        };
        let mtu = match &raw.mtu {
            Field::Absent => Some(1500),
            Field::Bad => None,
            // 68: RFC 791 and ETH_MIN_MTU; 1280: RFC 8200, below which the kernel turns IPv6 off.
            Field::Set(at) => {
                let (least, why) = match ipv6 {
                    Some(true) => (1280, "IPv6 needs 1280 bytes; 1500 is Ethernet's default"),
                    _ => (68, "1500 is Ethernet's default, 9000 a jumbo frame"),
                };
                self.number(at, "an MTU", least..=65535, Code::BadMtu, why)
            }
        };
        Net {
            name,
            subnet,
            mtu,
            ipv6,
            host: Field::Absent,
        }
    }

    fn subnet(&mut self, at: &At<String>) -> Option<At<IpNet>> {
        let Ok(net) = at.value.parse::<IpNet>() else {
            let help = if at.value.parse::<IpAddr>().is_ok() {
                format!("add the prefix length: `{}/24`", at.value)
            } else {
                "write the network address and the prefix length, as `192.168.10.0/24`".to_owned()
            };
            self.report(
                Code::BadAddress,
                at.span,
                format!("{} is not a subnet", quote(&at.value)),
                "not a subnet",
                help,
            );
            return None;
        };
        if let Some(why) = special(net.network()) {
            self.report(
                Code::UnusableAddress,
                at.span,
                format!("no network can have the subnet {net}"),
                format!("its network address is {why}"),
                "take a private one, as `192.168.10.0/24`",
            );
            return None;
        }
        if net.addr() != net.network() {
            self.report(
                Code::HostBits,
                at.span,
                format!("subnet {net} has host bits set"),
                format!("an address, not a network of {} bits", net.prefix_len()),
                format!("write `{}`", net.trunc()),
            );
        }
        // With host bits it is still clear which subnet is meant.
        Some(At {
            value: net.trunc(),
            span: at.span,
        })
    }

    /// Two subnets are disjoint or one is in the other, so in the order of their addresses, wider
    /// ones first, each has to be compared with the last one that contains others only.
    fn overlaps(&mut self) {
        let mut subnets: Vec<(IpNet, Span, usize)> = self
            .networks
            .iter()
            .enumerate()
            .filter_map(|(n, net)| net.subnet.as_ref().map(|s| (s.value, s.span, n)))
            .collect();
        subnets.sort_by_key(|(net, span, _)| (net.network(), net.prefix_len(), *span));
        let mut widest: Option<(IpNet, Span, usize)> = None;
        for this in subnets {
            match widest {
                Some(other) if other.0.contains(&this.0.network()) => {
                    let (first, second) = if other.1 < this.1 {
                        (other, this)
                    } else {
                        (this, other)
                    };
                    let name = |n: usize| quote(&self.raw.networks[n].name.value);
                    let d = Diagnostic::new(
                        Code::Overlap,
                        second.1,
                        format!(
                            "subnet {} of network {} overlaps {} of {}",
                            second.0,
                            name(second.2),
                            first.0,
                            name(first.2)
                        ),
                        "overlaps",
                        "give each network a subnet of its own",
                    )
                    .and(first.1, "with this one");
                    self.diagnostics.push(d);
                }
                _ => widest = Some(this),
            }
        }
    }

    /// An address on a network: right in itself, of the subnet, and none of its edges. What is
    /// only in the wrong place is still returned: it is clear which address is meant.
    pub(super) fn placed(&mut self, at: &At<String>, network: Option<usize>) -> Option<At<IpAddr>> {
        let subnet = network.and_then(|n| self.networks[n].subnet.clone().map(|s| (s, n)));
        let (address, prefix) = match at.value.parse::<IpNet>() {
            Ok(net) => (net.addr(), Some(net.prefix_len())),
            Err(_) => (self.address(at)?, None),
        };
        let address = At {
            value: address,
            span: at.span,
        };
        if !self.usable(&address) {
            return None;
        }
        let Some((subnet, n)) = subnet else {
            return Some(address);
        };
        let network = quote(&self.raw.networks[n].name.value);
        let net = subnet.value;
        let a = address.value;
        let report = if !net.contains(&a) {
            Some(Diagnostic::new(
                Code::OutsideSubnet,
                at.span,
                format!("address {a} is outside network {network}"),
                format!("not in {net}"),
                pick_from(net),
            ))
        } else if let Some(prefix) = prefix.filter(|p| *p != net.prefix_len()) {
            Some(Diagnostic::new(
                Code::PrefixMismatch,
                at.span,
                format!("prefix length {prefix} is not that of network {network}"),
                format!("the subnet has {} bits", net.prefix_len()),
                format!("write `{a}`: the prefix length is the subnet's"),
            ))
        } else {
            edge(a, net).map(|what| {
                Diagnostic::new(
                    Code::UnusableAddress,
                    at.span,
                    format!("address {a} is the {what} of network {network}"),
                    format!("{what} of {net}"),
                    pick_from(net),
                )
            })
        };
        self.diagnostics
            .extend(report.map(|d| d.and(subnet.span, "the subnet")));
        Some(address)
    }

    /// The hosts' addresses as claims, for the search for duplicates.
    pub(super) fn host_claims(&self) -> impl Iterator<Item = (At<IpAddr>, Owner)> {
        self.networks
            .iter()
            .filter_map(|n| n.host.get().map(|h| (h.clone(), Owner::Host)))
    }

    pub(super) fn build_networks(&mut self) -> Option<Vec<Network>> {
        let lab = self.lab.clone()?;
        let mut taken = HashSet::new();
        let mut list = Vec::with_capacity(self.networks.len());
        for net in &self.networks {
            let name = net.name.clone()?;
            let subnet = net.subnet.as_ref()?.value;
            let host = match &net.host {
                Field::Absent => None,
                Field::Bad => return None,
                Field::Set(at) => Some(HostSide {
                    ifname: host_ifname(&mut taken, lab.as_str(), name.as_str())?,
                    address: IpNet::new(at.value, subnet.prefix_len()).ok()?,
                    // No node has an empty name, so this seed is the host's alone.
                    mac: unique_mac(&mut self.macs, &[lab.as_str(), "", name.as_str()]),
                }),
            };
            list.push(Network {
                name,
                subnet,
                mtu: net.mtu?,
                ipv6: net.ipv6?,
                host,
            });
        }
        Some(list)
    }
}

/// `<lab>-<network>` if it fits into an interface name, else its first 10 bytes and four digits
/// that tell it from others that begin alike.
fn host_ifname(taken: &mut HashSet<String>, lab: &str, network: &str) -> Option<IfName> {
    let whole = format!("{lab}-{network}");
    if whole.len() <= 15 && taken.insert(whole.clone()) {
        return IfName::new(&whole).ok();
    }
    // Of 65536 endings one is free: a lab has far fewer networks.
    for salt in 0..=u16::MAX {
        let hash = crate::lab::Mac::from_seed(&[lab, network, &salt.to_string()]).octets();
        let cut = whole.get(..10).unwrap_or(&whole);
        let name = format!("{cut}-{:02x}{:02x}", hash[4], hash[5]);
        if taken.insert(name.clone()) {
            return IfName::new(&name).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_interface_names_fit_and_differ() {
        let mut taken = HashSet::new();
        let mut name = |lab: &str, net: &str| {
            host_ifname(&mut taken, lab, net)
                .expect("a name")
                .as_str()
                .to_owned()
        };
        assert_eq!(name("dsr", "servers"), "dsr-servers");
        assert_eq!(name("dsr", "serversabcd"), "dsr-serversabcd");
        let long = name("dsr", "servers-in-the-basement");
        assert_eq!(long.len(), 15);
        assert!(long.starts_with("dsr-server-"), "{long}");
        let longer = name("dsr", "servers-in-the-attic");
        assert_ne!(long, longer);
        // The same pair again must not take the same name.
        assert_ne!(name("dsr", "servers-in-the-attic"), longer);
    }

    #[test]
    fn host_interface_names_are_stable() {
        let name = host_ifname(&mut HashSet::new(), "a-rather-long-lab", "network");
        assert_eq!(name.expect("a name").as_str(), "a-rather-l-342a");
    }
}
