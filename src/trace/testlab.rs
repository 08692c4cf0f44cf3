//! A lab made of frames for tests: a client behind a router, a director and two realservers, whose
//! captures are real pcap files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Source;
use super::packet::testframes::{IpSpec, TcpSpec, arp, ether, ip, mac, spec, tcp};
use super::packet::{ACK, FIN, PSH, SYN};
use crate::lab::Mac;

pub(crate) const VIP: &str = "172.28.128.3";
pub(crate) const CLIENT: &str = "192.168.10.168";
const RIP: [&str; 2] = ["172.28.128.4", "172.28.128.5"];

pub(crate) const CLIENT_MAC: u8 = 1;
/// The router's interface at the client.
pub(crate) const ROUTER1: u8 = 2;
/// The router's interface at the servers.
pub(crate) const ROUTER2: u8 = 3;
pub(crate) const DIRECTOR: u8 = 4;
/// The first realserver's; the second's is one more.
pub(crate) const SERVER: u8 = 5;

/// How a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Nat,
    Tunnel,
    /// Past the director.
    Leak,
    /// Through the director in both directions, unchanged.
    Routed,
    /// The director answers.
    Local,
}

/// Captures as they grow.
#[derive(Debug)]
pub(crate) struct TestLab {
    dir: tempfile::TempDir,
    files: BTreeMap<String, Vec<u8>>,
    /// Nanoseconds; each frame takes one microsecond.
    pub clock: i64,
    /// Added to the clock of an interface's machine.
    pub skew: BTreeMap<String, i64>,
    /// VLAN tags on the servers' network.
    pub vlans: Vec<u16>,
    /// Bytes of each frame that are kept.
    pub snaplen: usize,
    /// What the director takes off the TTL.
    pub director_ttl: u8,
    id: u16,
}

impl TestLab {
    pub fn new() -> Self {
        let names = ["client_eth1", "router_eth1", "router_eth2", "lb_eth1"];
        let servers = ["server1_eth1", "server2_eth1"];
        let mut files = BTreeMap::new();
        for name in names.iter().chain(&servers) {
            files.insert((*name).to_owned(), header());
        }
        Self {
            dir: tempfile::tempdir().unwrap(),
            files,
            clock: 1_600_000_000_000_000_000,
            skew: BTreeMap::new(),
            vlans: Vec::new(),
            snaplen: 65_535,
            director_ttl: 1,
            id: 100,
        }
    }

    /// One frame at one interface.
    pub fn frame(&mut self, point: &str, frame: &[u8]) {
        self.clock += 1000;
        let time = self.clock + self.skew.get(point).copied().unwrap_or(0);
        let kept = &frame[..frame.len().min(self.snaplen)];
        let file = self.files.get_mut(point).unwrap();
        let fields = [
            (time / 1_000_000_000).cast_unsigned() as u32,
            (time % 1_000_000_000).cast_unsigned() as u32,
            kept.len() as u32,
            frame.len() as u32,
        ];
        for field in fields {
            file.extend(field.to_le_bytes());
        }
        file.extend(kept);
    }

    /// A packet on a segment, at the interfaces that see it.
    pub fn segment(&mut self, points: &[&str], from: u8, to: u8, packet: &[u8]) {
        let servers = !points.contains(&"client_eth1") && !points.contains(&"router_eth1");
        let vlans = if servers {
            self.vlans.clone()
        } else {
            Vec::new()
        };
        let frame = ether(mac(from), mac(to), &vlans, packet);
        for point in points {
            self.frame(point, &frame);
        }
    }

    /// Somebody says by ARP to have the VIP; the router hears it.
    pub fn claim(&mut self, who: u8) {
        let frame = arp(2, (mac(who), VIP), (mac(ROUTER2), "172.28.128.2"));
        self.frame("router_eth2", &frame);
    }

    /// A TCP segment between the client's port and the VIP.
    pub fn packet(&mut self, to: bool, port: u16, tcp: Segment) -> Packet {
        self.id += 1;
        Packet {
            to,
            port,
            tcp,
            id: self.id,
        }
    }

    /// A whole connection: opening, one request and its answer, closing.
    pub fn connection(&mut self, port: u16, server: usize, kind: Kind) {
        for packet in self.talk(port) {
            self.send(&packet, server, kind);
        }
    }

    /// The packets of a connection.
    pub fn talk(&mut self, port: u16) -> Vec<Packet> {
        const GET: &[u8] = b"GET /thredds HTTP/1.1\r\n\r\n";
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nhello";
        let isn = u32::from(port) * 1000;
        let (a, b) = (isn + 1, 9001);
        let (got, had) = (a + GET.len() as u32, b + OK.len() as u32);
        let segments: [(bool, Segment); 7] = [
            (true, Segment(SYN, isn, 0, b"")),
            (false, Segment(SYN | ACK, 9000, a, b"")),
            (true, Segment(ACK, a, b, b"")),
            (true, Segment(PSH | ACK, a, b, GET)),
            (false, Segment(PSH | ACK, b, got, OK)),
            (true, Segment(FIN | ACK, got, had, b"")),
            (false, Segment(FIN | ACK, had, got + 1, b"")),
        ];
        segments.map(|(to, s)| self.packet(to, port, s)).to_vec()
    }

    /// Sends a packet all the way.
    pub fn send(&mut self, packet: &Packet, server: usize, kind: Kind) {
        self.start(packet, server, kind);
        self.end(packet, server, kind);
    }

    /// The part of its way up to the director, or from its sender to the router.
    pub fn start(&mut self, packet: &Packet, server: usize, kind: Kind) {
        let here = format!("server{}_eth1", server + 1);
        let (s, real) = (SERVER + server as u8, RIP[server]);
        if packet.to {
            let client = &["client_eth1", "router_eth1"];
            self.segment(client, CLIENT_MAC, ROUTER1, &packet.bytes(VIP, 64));
            let (points, next) = match kind {
                Kind::Leak => (["router_eth2", here.as_str()], s),
                _ => (["router_eth2", "lb_eth1"], DIRECTOR),
            };
            self.segment(&points, ROUTER2, next, &packet.bytes(VIP, 63));
            return;
        }
        let past = &[here.as_str(), "router_eth2"];
        let through = &[here.as_str(), "lb_eth1"];
        match kind {
            Kind::Direct | Kind::Tunnel | Kind::Leak => {
                self.segment(past, s, ROUTER2, &packet.bytes(VIP, 64));
            }
            Kind::Nat => self.segment(through, s, DIRECTOR, &packet.bytes(real, 64)),
            Kind::Routed => self.segment(through, s, DIRECTOR, &packet.bytes(VIP, 64)),
            Kind::Local => {
                self.segment(
                    &["lb_eth1", "router_eth2"],
                    DIRECTOR,
                    ROUTER2,
                    &packet.bytes(VIP, 64),
                );
            }
        }
    }

    /// The rest of its way.
    pub fn end(&mut self, packet: &Packet, server: usize, kind: Kind) {
        let here = format!("server{}_eth1", server + 1);
        let (s, real) = (SERVER + server as u8, RIP[server]);
        let left = 63 - self.director_ttl;
        if packet.to {
            let out = ["lb_eth1", here.as_str()];
            match kind {
                Kind::Direct | Kind::Routed => {
                    self.segment(&out, DIRECTOR, s, &packet.bytes(VIP, left));
                }
                Kind::Nat => self.segment(&out, DIRECTOR, s, &packet.bytes(real, left)),
                Kind::Tunnel => {
                    let outer = spec(VIP, real, 64, packet.id);
                    let wrapped = ip(outer, 4, &packet.bytes(VIP, left));
                    self.segment(&out, DIRECTOR, s, &wrapped);
                }
                Kind::Leak | Kind::Local => {}
            }
            return;
        }
        let mut ttl = 63;
        if matches!(kind, Kind::Nat | Kind::Routed) {
            let out = &["lb_eth1", "router_eth2"];
            self.segment(out, DIRECTOR, ROUTER2, &packet.bytes(VIP, ttl));
            ttl -= 1;
        }
        let client = &["router_eth1", "client_eth1"];
        self.segment(client, ROUTER1, CLIENT_MAC, &packet.bytes(VIP, ttl));
    }

    /// The bytes of a file so far, to be changed.
    pub fn file(&mut self, point: &str) -> &mut Vec<u8> {
        self.files.get_mut(point).unwrap()
    }

    /// Takes captures away.
    pub fn without(&mut self, points: &[&str]) {
        for point in points {
            self.files.remove(*point).unwrap();
        }
    }

    /// Writes the files.
    pub fn sources(&self) -> Vec<Source> {
        self.paths().iter().map(|p| Source::new(p)).collect()
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.files
            .iter()
            .map(|(name, bytes)| {
                let path = self.dir.path().join(format!("{name}.pcap"));
                std::fs::write(&path, bytes).unwrap();
                path
            })
            .collect()
    }

    /// The same captures as those of a lab, whose interfaces have these MAC addresses.
    pub fn of_lab(&self) -> Vec<Source> {
        self.paths()
            .iter()
            .map(|path| {
                let stem = path.file_stem().unwrap().to_str().unwrap();
                let (node, interface) = stem.split_once('_').unwrap();
                Source::of(path, node, interface)
            })
            .collect()
    }
}

/// Flags, sequence and acknowledgement number, payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment(pub u8, pub u32, pub u32, pub &'static [u8]);

/// A packet of a connection, wherever it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub to: bool,
    pub port: u16,
    pub tcp: Segment,
    pub id: u16,
}

impl Packet {
    /// With the server's side at this address and this TTL.
    pub fn bytes(&self, server: &str, ttl: u8) -> Vec<u8> {
        let Segment(flags, seq, ack, data) = self.tcp;
        let (src, dst, ports) = if self.to {
            (CLIENT, server, (self.port, 8080))
        } else {
            (server, CLIENT, (8080, self.port))
        };
        let at: IpSpec = spec(src, dst, ttl, self.id);
        tcp(
            at,
            TcpSpec {
                ports,
                seq,
                ack,
                flags,
                data,
            },
        )
    }
}

/// pcap with nanoseconds, little endian, Ethernet.
fn header() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0xa1b2_3c4d_u32.to_le_bytes());
    bytes.extend([2, 0, 4, 0]);
    bytes.extend([0; 8]);
    bytes.extend(65_535u32.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes
}

/// The flagship lab with the MAC addresses of these frames.
pub(crate) fn topology(method: &str) -> super::Topology {
    let text = include_str!("../../labs/dsr.toml");
    let lab = crate::lab::load("labs/dsr.toml".as_ref(), text).unwrap();
    let engines = BTreeMap::from([("thredds".to_owned(), "ipvs".to_owned())]);
    let mut topology = super::Topology::new(&lab, &engines);
    let macs: BTreeMap<(&str, &str), Mac> = BTreeMap::from([
        (("client", "eth1"), mac(CLIENT_MAC)),
        (("router", "eth1"), mac(ROUTER1)),
        (("router", "eth2"), mac(ROUTER2)),
        (("lb", "eth1"), mac(DIRECTOR)),
        (("server1", "eth1"), mac(SERVER)),
        (("server2", "eth1"), mac(SERVER + 1)),
    ]);
    for node in &mut topology.nodes {
        for interface in &mut node.interfaces {
            interface.mac = macs[&(node.name.as_str(), interface.name.as_str())];
        }
    }
    method.clone_into(&mut topology.services[0].method);
    topology
}
