//! One step of a plan.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::director::{Engine as _, NftEngine, ServiceSpec};
use crate::kernel::cgroup::Limits;
use crate::kernel::{BridgeSpec, MarkedPath, Ns, Sysctl, TunnelSpec, VethSpec, nft};
use crate::lab::EngineChoice;

/// Name of the namespace that holds a lab's bridges. Node names have no `_`, so it is free.
pub const SWITCH: &str = "_switch";

/// One effect, or one thing to wait for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Make and pin a network namespace.
    Netns {
        /// Its name.
        ns: Ns,
    },
    /// Set sysctls.
    Sysctls {
        /// Where.
        ns: Ns,
        /// What.
        values: Vec<Sysctl>,
    },
    /// Make a bridge.
    Bridge {
        /// Where.
        ns: Ns,
        /// What.
        bridge: BridgeSpec,
    },
    /// Make a veth pair.
    Veth(VethSpec),
    /// Turn checksum and segmentation offloads off.
    Offloads {
        /// Where.
        ns: Ns,
        /// On which link.
        link: String,
    },
    /// Add an address.
    Address {
        /// Where.
        ns: Ns,
        /// To which link.
        link: String,
        /// With its prefix length.
        address: IpNet,
    },
    /// Make the end of a tunnel.
    Tunnel {
        /// Where.
        ns: Ns,
        /// What.
        tunnel: TunnelSpec,
    },
    /// Start all captures.
    Capture {
        /// On these interfaces.
        interfaces: Vec<CaptureTarget>,
    },
    /// Set links up.
    Up {
        /// Where.
        ns: Ns,
        /// Which.
        link: String,
    },
    /// Wait until links are operational.
    Operational {
        /// Where.
        ns: Ns,
        /// Which.
        links: Vec<String>,
    },
    /// Add a default route.
    Route {
        /// Where.
        ns: Ns,
        /// The next hop.
        via: IpAddr,
    },
    /// Make a realserver take packets for a VIP.
    Accept {
        /// The realserver's namespace.
        ns: Ns,
        /// Its rules.
        ruleset: nft::Ruleset,
    },
    /// Program a director.
    Director {
        /// The director's namespace.
        ns: Ns,
        /// The engine that the file asks for.
        engine: EngineChoice,
        /// `net.ipv4.vs.*`, for the engine `ipvs`.
        sysctls: Vec<Sysctl>,
        /// The services it balances.
        services: Vec<ServiceSpec>,
    },
    /// Show packets of one health check the way to one server.
    CheckPath {
        /// Where they begin.
        ns: Ns,
        /// The service that is checked.
        service: String,
        /// The server's node.
        server: String,
        /// The way.
        path: MarkedPath,
    },
    /// Make the control group that keeps a node's limits.
    Limits {
        /// Which node.
        node: String,
        /// The group's name, `nslab/<lab>/<node>`. Where it is made is this machine's affair.
        group: String,
        /// What it limits.
        limits: Limits,
    },
    /// Start a node's main process.
    Start {
        /// Which node.
        node: String,
        /// What runs in words, as far as the lab file says it.
        what: String,
    },
    /// Wait until a node is ready.
    Ready {
        /// Which node.
        node: String,
        /// The probe in words.
        probe: String,
    },
}

/// An interface that is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaptureTarget {
    /// The node, which is its namespace's name too.
    pub node: String,
    /// The interface.
    pub interface: String,
}

impl CaptureTarget {
    /// Name of its file: `<node>_<if>.pcap`. Node names have no `_`, so it can be taken apart.
    pub fn file_name(&self) -> String {
        format!("{}_{}.pcap", self.node, self.interface)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netns { ns } => write!(f, "{ns}: make network namespace"),
            Self::Sysctls { ns, values } => {
                write!(f, "{ns}: set")?;
                values.iter().try_for_each(|v| write!(f, " {v}"))
            }
            Self::Bridge { ns, bridge } => {
                write!(f, "{ns}: add bridge {} mtu {}", bridge.name, bridge.mtu)?;
                match bridge.mac {
                    Some(mac) => write!(f, " mac {}", crate::lab::Mac::from(mac)),
                    None => Ok(()),
                }
            }
            Self::Veth(v) => write!(
                f,
                "{}: add veth {} mac {} mtu {}, port {} of bridge {} in {}",
                v.ns,
                v.name,
                crate::lab::Mac::from(v.mac),
                v.mtu,
                v.port,
                v.bridge,
                v.switch
            ),
            Self::Offloads { ns, link } => {
                write!(f, "{ns}: turn tx-checksum tso gso gro off on {link}")
            }
            Self::Address { ns, link, address } => {
                write!(f, "{ns}: add address {address} to {link}")
            }
            Self::Tunnel { ns, tunnel } => write!(f, "{ns}: add {tunnel}"),
            Self::Capture { interfaces } => {
                write!(f, "capture")?;
                interfaces
                    .iter()
                    .try_for_each(|i| write!(f, " {}:{}", i.node, i.interface))
            }
            Self::Up { ns, link } => write!(f, "{ns}: set {link} up"),
            Self::Operational { ns, links } => {
                write!(f, "{ns}: wait until operational: {}", links.join(" "))
            }
            Self::Route { ns, via } => write!(f, "{ns}: add route default via {via}"),
            Self::Accept { ns, ruleset } => {
                write!(f, "{ns}: program nftables")?;
                indented(f, &ruleset.to_string())
            }
            Self::Director {
                ns,
                engine,
                sysctls,
                services,
            } => {
                let engine = match engine {
                    EngineChoice::Auto => match NftEngine::default().program(services) {
                        Ok(_) => "ipvs if the kernel has it, else nft".to_owned(),
                        Err(why) => format!("ipvs: {why}"),
                    },
                    EngineChoice::Ipvs => "ipvs".to_owned(),
                    EngineChoice::Nft => "nft".to_owned(),
                };
                write!(f, "{ns}: program director, engine {engine}")?;
                for sysctl in sysctls {
                    indented(f, &format!("set {sysctl} (engine ipvs)"))?;
                }
                services.iter().try_for_each(|s| indented(f, &service(s)))
            }
            Self::CheckPath {
                ns,
                service,
                server,
                path,
            } => write!(f, "{ns}: check {service} at {server}: {path}"),
            Self::Limits {
                node,
                group,
                limits,
            } => write!(f, "{node}: limit {limits} by control group {group}"),
            Self::Start { node, what } => write!(f, "{node}: start its main process, {what}"),
            Self::Ready { node, probe } => write!(f, "{node}: wait for {probe}"),
        }
    }
}

/// A service in words, in the order of `ipvsadm --save`.
fn service(s: &ServiceSpec) -> String {
    let address = SocketAddr::new(s.vip, s.port);
    let mut text = format!(
        "service {} {address}/{} method {} scheduler {}",
        s.name,
        s.protocol_name(),
        s.method.as_str(),
        s.scheduler
    );
    for flag in &s.scheduler_flags {
        let _ = write!(text, " {}", flag.as_str());
    }
    if let Some(p) = s.persistent {
        let _ = write!(text, " persistent {} s by /{}", p.timeout_s, p.prefix);
    }
    if s.one_packet {
        text.push_str(" one-packet");
    }
    for server in &s.servers {
        let _ = write!(
            text,
            "\nserver {} {} mac {} via {} weight {}",
            server.name,
            SocketAddr::new(server.address, server.port),
            crate::lab::Mac::from(server.mac),
            server.via,
            server.weight
        );
        if server.upper > 0 {
            let _ = write!(text, " upper {} lower {}", server.upper, server.lower);
        }
    }
    text
}

fn indented(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.lines()
        .try_for_each(|line| write!(f, "\n        {line}"))
}
