//! Labs with servers that can be killed and started again, a client that asks all the time, and the
//! lab's events.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nslab::kernel::netns;
use serde_json::Value;

use crate::common::Bench;
use crate::common::failover::{Client, Events, failures_explained, known};

pub const PORT: u16 = 8080;
/// First of some ports below those that the kernel gives clients (`net.ipv4.ip_local_port_range`
/// begins at 32768).
const FRESH_PORTS: u16 = 20_000;

/// A client, a router, a director and two servers, which run as long as there is no file `stop` in
/// their folder.
pub struct Lab {
    pub bench: Bench,
    pub name: &'static str,
    /// Where clients ask.
    vip: SocketAddr,
    events: Events,
}

/// What a lab is made of.
#[derive(Clone)]
pub struct Recipe {
    /// Its name.
    pub name: &'static str,
    /// Lines of the service.
    pub service: &'static str,
    /// Address that servers listen on; `RIP` is the server's own.
    pub listen: &'static str,
    /// Whether the servers' default route leads to the director, and its own to the router (NAT).
    pub through_director: bool,
    /// The director's address and the VIP, where that is another (tunnels must not begin at the VIP).
    pub director: &'static str,
    /// The networks.
    pub networks: &'static Networks,
}

/// Addresses of a lab: both networks' without the last number, and their prefix length.
pub struct Networks {
    pub outside: &'static str,
    pub servers: &'static str,
    pub length: u8,
}

const IPV4: Networks = Networks {
    outside: "10.85.0.",
    servers: "10.85.1.",
    length: 24,
};

impl Networks {
    fn subnet(&self, start: &str) -> String {
        let zero = if start.ends_with(':') { "" } else { "0" };
        format!("{start}{zero}/{}", self.length)
    }

    fn vip(&self) -> IpAddr {
        format!("{}3", self.servers).parse().unwrap()
    }
}

/// Servers that listen everywhere, and a director whose only address is the VIP.
pub const PLAIN: Recipe = Recipe {
    name: "check",
    service: "",
    listen: "0.0.0.0",
    through_director: false,
    director: "address = \"10.85.1.3\"",
    networks: &IPV4,
};

impl Recipe {
    fn text(&self, folder: &std::path::Path) -> String {
        let Self {
            name,
            service,
            listen,
            through_director,
            director: address,
            networks,
        } = self;
        let Networks {
            outside, servers, ..
        } = networks;
        let vip = networks.vip();
        let server = |n: usize| {
            let rip = format!("{servers}{}", 3 + n);
            let authority = SocketAddr::new(rip.parse().unwrap(), PORT);
            let listen = if *listen == "RIP" { &rip } else { *listen };
            let script = "while :; do if [ -e /tmp/srv/stop ]; then sleep 0.05; \
                          else python3 /tmp/prog/server.py $0 8080; fi; done";
            format!(
                "[nodes.server{n}]\n\
                 command = [\"sh\", \"-c\", \"{script}\", \"{listen}\"]\n\
                 interfaces.eth1 = {{ network = \"servers\", address = \"{rip}\" }}\n\
                 gateway = \"GATEWAY\"\n\
                 volumes = [\"{program}:/tmp/prog:ro\", \"{folder}/server{n}:/tmp/srv\"]\n\
                 ready = {{ http = \"http://{authority}/\" }}\n",
                program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/health"),
                folder = folder.display(),
            )
        };
        let (gateway, director) = if *through_director {
            ("lb", "gateway = \"router\"\nforward = true\n")
        } else {
            ("router", "")
        };
        format!(
            "name = \"{name}\"\n\
             [networks.outside]\n\
             subnet = \"{outside_net}\"\n\
             [networks.servers]\n\
             subnet = \"{servers_net}\"\n\
             [nodes.client]\n\
             interfaces.eth1 = {{ network = \"outside\", address = \"{outside}10\" }}\n\
             gateway = \"router\"\n\
             [nodes.router]\n\
             forward = true\n\
             interfaces.eth1 = {{ network = \"outside\", address = \"{outside}2\" }}\n\
             interfaces.eth2 = {{ network = \"servers\", address = \"{servers}2\" }}\n\
             [nodes.lb]\n\
             interfaces.eth1 = {{ network = \"servers\", {address} }}\n\
             {director}{server1}{server2}\
             [services.web]\n\
             vip = \"{vip}\"\n\
             port = {PORT}\n\
             director = \"lb\"\n\
             servers = [\"server1\", \"server2\"]\n\
             {service}\n",
            outside_net = networks.subnet(outside),
            servers_net = networks.subnet(servers),
            server1 = server(1),
            server2 = server(2),
        )
        .replace("GATEWAY", gateway)
    }

    /// Brings it up.
    pub fn up(self) -> Lab {
        let bench = Bench::new();
        for n in 1..=2 {
            std::fs::create_dir(bench.path(&format!("server{n}"))).unwrap();
        }
        let file = bench.lab(&self.text(bench.dir.path()));
        bench.up(&file);
        let events = Events::follow(&bench);
        Lab {
            bench,
            name: self.name,
            vip: SocketAddr::new(self.networks.vip(), PORT),
            events,
        }
    }
}

impl Lab {
    fn stop_file(&self, server: &str) -> PathBuf {
        self.bench.path(server).join("stop")
    }

    /// Kills a server's process, for good. When it was done.
    pub fn kill(&self, server: &str) -> SystemTime {
        std::fs::write(self.stop_file(server), "").unwrap();
        let now = SystemTime::now();
        self.bench
            .ok(&format!("exec {server} pkill -KILL -x python3"));
        now
    }

    /// Starts it again.
    pub fn start(&self, server: &str) {
        std::fs::remove_file(self.stop_file(server)).unwrap();
    }

    /// The next event of this kind, others are passed over; panics where it does not come.
    pub fn event(&mut self, kind: &str) -> Value {
        self.events.next(kind)
    }

    /// Runs a tool of the host in a node's network namespace.
    pub fn outside(&self, node: &str, command: &str) -> String {
        self.bench.outside(self.name, node, command)
    }

    /// A client that asks one question after the other.
    pub fn client(&self) -> Client {
        let pin = self.bench.ns(self.name, "client");
        let to = self.vip;
        Client::start(pin, move || ask(0, to))
    }

    /// The servers' weights as `nslab ps` has them.
    pub fn weights(&self) -> Vec<(String, u64)> {
        let status = self.bench.json("ps --json");
        let servers = status[0]["services"][0]["servers"].as_array().unwrap();
        let weight = |s: &Value| (s[0].as_str().unwrap().to_owned(), s[1].as_u64().unwrap());
        servers.iter().map(weight).collect()
    }

    /// Kills `server1` under a client that asks all the time, and starts it again.
    pub fn kill_and_restart(&mut self) {
        let client = self.client();
        client.more(10);
        let killed = self.kill("server1");
        let died = self.event("server-died");
        assert_eq!(died["server"], "server1");
        assert_eq!(died["failed"], 3);
        client.more(20);
        let asked = client.end();
        let known = known(&died);
        failures_explained(&asked, killed, known);
        for a in asked.iter().filter(|a| a.begun > known) {
            assert_ne!(a.answer.as_deref(), Ok("server1"), "{a:?} {known:?}");
        }
        let weights = |w1: u64| [("server1".to_owned(), w1), ("server2".to_owned(), 1)];
        assert_eq!(self.weights(), weights(0));

        self.start("server1");
        assert_eq!(self.event("server-revived")["weight"], 1);
        assert_eq!(self.weights(), weights(1));
        // Strictly in turn, from ports that no question had before. One that the dead server refused
        // is remembered for a minute, as its client says nothing more that would end it: a new
        // question that happened to get its port would go to the same server and take no turn.
        let from = FRESH_PORTS..FRESH_PORTS + 6;
        let answers: Vec<_> = from.map(|port| self.ask_from(port).unwrap()).collect();
        for pair in answers.windows(2) {
            assert_ne!(pair[0], pair[1], "round robin: {answers:?}");
        }
    }

    /// Asks the VIP once; the server that answered.
    pub fn ask(&self) -> Result<String, String> {
        self.ask_from(0)
    }

    /// Asks the VIP from this port; 0 leaves the choice to the kernel.
    fn ask_from(&self, port: u16) -> Result<String, String> {
        let pin = netns::open(&self.bench.ns(self.name, "client")).unwrap();
        let to = self.vip;
        netns::run_in(pin, || ask(port, to)).unwrap()
    }
}

/// Connects from a port of the client's; 0 leaves the choice to the kernel.
fn connect(from: u16, to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
    if from == 0 {
        return TcpStream::connect_timeout(&to, patience);
    }
    let (family, any) = if to.is_ipv4() {
        (AddressFamily::Inet, IpAddr::from(Ipv4Addr::UNSPECIFIED))
    } else {
        (AddressFamily::Inet6, IpAddr::from(Ipv6Addr::UNSPECIFIED))
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // It bounds connect() as well, socket(7).
    let seconds = patience.as_secs().try_into().unwrap();
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(seconds))?;
    bind(
        fd.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(any, from)),
    )?;
    nix::sys::socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(fd.into())
}

fn ask(from: u16, to: SocketAddr) -> Result<String, String> {
    let patience = Duration::from_secs(2);
    let words = |e: std::io::Error| e.to_string();
    let mut stream = connect(from, to, patience).map_err(words)?;
    stream.set_read_timeout(Some(patience)).map_err(words)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(words)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(words)?;
    let name = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    if answer.starts_with("HTTP/1.0 200") && !name.is_empty() {
        Ok(name.to_owned())
    } else {
        Err(answer)
    }
}
