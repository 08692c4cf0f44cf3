//! The kernel's networking, tried in a network namespace that nobody else sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Check, State};
use crate::director::realserver_redirect;
use crate::director::{Device, Engine, NftEngine, Program, ServerSpec, ServiceSpec};
use crate::kernel::ipvs::{Error, Ipvs, ServiceConf, ServiceKey, Transport};
use crate::kernel::{BridgeSpec, Kernel, Linux, Ns, TunnelSpec, VethSpec, nft, probe};
use crate::lab::Method;

/// What is looked at here, in this order.
pub(super) const SUBJECTS: [&str; 10] = [
    "namespaces",
    "bridge and veth",
    "nftables",
    "nat",
    "packet sockets",
    "ipvs",
    "ipvs schedulers",
    "ipvs ipv6",
    "ipip",
    "ip6tnl",
];
/// Every scheduler of the kernel (net/netfilter/ipvs/Kconfig).
const SCHEDULERS: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos",
];
/// An address of the throwaway namespace's services.
const VIP: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// All of [`SUBJECTS`].
pub(super) fn all() -> Vec<Check> {
    let mut checks = vec![Check::of(
        "namespaces",
        probe::other_namespaces(),
        "network, mount, UTS and IPC namespaces can be made",
        State::Missing,
        "run a kernel with CONFIG_NET_NS, CONFIG_UTS_NS, CONFIG_IPC_NS and CONFIG_PID_NS",
    )];
    match probe::in_new_netns(inside) {
        Ok(inside) => checks.extend(inside),
        Err(e) => {
            checks[0] = Check::new(
                "namespaces",
                State::Missing,
                e.to_string(),
                Some(
                    "run a kernel with CONFIG_NET_NS, and look at /proc/sys/user/max_net_namespaces",
                ),
            );
            let detail = "cannot be tried without a network namespace";
            for subject in &SUBJECTS[1..] {
                checks.push(Check::new(subject, State::Unknown, detail, None));
            }
        }
    }
    checks
}

/// In the new namespace, which [`Linux`] takes for the host's.
fn inside() -> Vec<Check> {
    let links = Linux::new("/nonexistent".into()).and_then(|mut kernel| links(&mut kernel));
    let mut checks = vec![
        Check::of(
            "bridge and veth",
            links,
            "networks can be built",
            State::Missing,
            "load them with `modprobe -a bridge veth`",
        ),
        Check::of(
            "nftables",
            director(),
            "engine nft: a director on netdev ingress",
            State::Missing,
            "load it with `modprobe -a nf_tables nft_fwd_netdev nft_numgen nft_hash`",
        ),
        Check::of(
            "nat",
            nft::apply(&realserver_redirect(&[(VIP.into(), 6, 80)])),
            "accept = \"redirect\": REDIRECT with conntrack",
            State::Missing,
            "load it with `modprobe -a nft_redir nft_chain_nat nf_conntrack`, or give services \
             accept = \"loopback\"",
        ),
        Check::of(
            "packet sockets",
            probe::packet_socket(),
            "interfaces can be captured",
            State::Missing,
            "load it with `modprobe af_packet`, or give the lab capture.interfaces = \"off\"",
        ),
    ];
    checks.extend(ipvs());
    let tunnel = |name: &str, local: IpAddr| {
        let name = name.to_owned();
        Linux::new("/nonexistent".into())
            .and_then(|mut kernel| kernel.add_tunnel(&Ns::Host, &TunnelSpec { name, local }))
    };
    checks.push(Check::of(
        "ipip",
        tunnel("tun4", VIP.into()),
        "method = \"tun\": IPv4 tunnels on servers",
        State::Lacking,
        "without it services with method = \"tun\" need another method",
    ));
    checks.push(Check::of(
        "ip6tnl",
        tunnel("tun6", Ipv6Addr::LOCALHOST.into()),
        "method = \"tun\": IPv6 tunnels on servers",
        State::Lacking,
        "without it IPv6 services with method = \"tun\" need another method",
    ));
    checks
}

/// A bridge with a port whose other end is `eth1`.
fn links(kernel: &mut Linux) -> crate::kernel::Result<()> {
    let bridge = BridgeSpec {
        name: "br".into(),
        mtu: 1500,
        mac: None,
    };
    kernel.add_bridge(&Ns::Host, &bridge)?;
    kernel.add_veth(&VethSpec {
        ns: Ns::Host,
        name: "eth1".into(),
        index: None,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        switch: Ns::Host,
        port: "port".into(),
        bridge: "br".into(),
        mark: None,
    })
}

/// A director as a lab's, with everything that the engine uses.
fn director() -> Result<(), String> {
    let service = |name: &str, port: u16, scheduler: &str| ServiceSpec {
        name: name.into(),
        vip: VIP.into(),
        port,
        protocol: 6,
        method: Method::Dr,
        scheduler: scheduler.into(),
        scheduler_flags: vec![],
        persistent: None,
        one_packet: false,
        devices: vec![Device {
            name: "eth1".into(),
            mac: [2, 0, 0, 0, 0, 1],
        }],
        servers: vec![ServerSpec {
            name: "server".into(),
            address: Ipv4Addr::new(127, 0, 0, 2).into(),
            port,
            mac: [2, 0, 0, 0, 0, 2],
            via: "eth1".into(),
            weight: 1,
            upper: 0,
            lower: 0,
        }],
    };
    let services = [service("turns", 80, "wrr"), service("hashes", 81, "sh")];
    let engine = NftEngine::default();
    match engine.program(&services).map_err(|e| e.to_string())? {
        Program::Nft(ruleset) => nft::apply(&ruleset).map_err(|e| e.to_string()),
        Program::Ipvs(_) => Ok(()),
    }
}

/// The family, each scheduler, and IPv6.
fn ipvs() -> Vec<Check> {
    let needs = "without it directors have engine \"nft\", which does method \"dr\" over IPv4 only";
    let mut ipvs = match Ipvs::open().and_then(|mut ipvs| ipvs.info().map(|info| (ipvs, info))) {
        Ok((ipvs, info)) => (ipvs, info.to_string()),
        Err(e) => {
            let lacking = |subject| Check::new(subject, State::Lacking, e.to_string(), Some(needs));
            return vec![
                lacking("ipvs"),
                Check::new(
                    "ipvs schedulers",
                    State::Lacking,
                    "engine nft has rr, wrr and sh",
                    Some("all others need IPVS"),
                ),
                Check::new(
                    "ipvs ipv6",
                    State::Lacking,
                    "engine nft balances IPv4 only",
                    Some("IPv6 services need IPVS"),
                ),
            ];
        }
    };
    let mut checks = vec![Check::ok("ipvs", ipvs.1)];
    let (mut there, mut lacking, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (port, scheduler) in (1..).zip(SCHEDULERS) {
        // Asking for it loads it: ip_vs_scheduler_get in net/netfilter/ipvs/ip_vs_sched.c.
        match ipvs.0.add_service(&service(VIP.into(), port, scheduler)) {
            Ok(()) => there.push(scheduler),
            Err(Error::Scheduler { .. }) => lacking.push(scheduler),
            Err(e) => failed.push(e.to_string()),
        }
    }
    checks.push(if lacking.is_empty() && failed.is_empty() {
        Check::ok("ipvs schedulers", there.join(" "))
    } else {
        let modules: Vec<_> = lacking.iter().map(|s| format!("ip_vs_{s}")).collect();
        let mut detail = format!("{}; not {}", there.join(" "), lacking.join(" "));
        for why in failed {
            detail.push_str("; ");
            detail.push_str(&why);
        }
        let advice = format!("load them with `modprobe -a {}`", modules.join(" "));
        Check::new("ipvs schedulers", State::Lacking, detail, Some(&advice))
    });
    let six = service(
        Ipv6Addr::LOCALHOST.into(),
        1,
        there.first().unwrap_or(&"rr"),
    );
    checks.push(Check::of(
        "ipvs ipv6",
        ipvs.0.add_service(&six),
        "IPv6 services",
        State::Lacking,
        "run a kernel with CONFIG_IP_VS_IPV6 for IPv6 services",
    ));
    checks
}

fn service(address: IpAddr, port: u16, scheduler: &str) -> ServiceConf {
    let key = ServiceKey::Address {
        transport: Transport::Tcp,
        address,
        port,
    };
    ServiceConf::new(key, scheduler)
}
