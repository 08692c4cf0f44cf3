//! A lab made by hand with `ip`, from outside of nslab: client - router - bridge with a director
//! and servers, as labs/dsr.toml has it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt,
    socket, sockopt,
};
use nix::unistd::Pid;
use nslab::director::{Device, ServerSpec, ServiceSpec};
use nslab::kernel::nft;

use super::recorder::{END, Frame, Recorder};
use nslab::lab::Method;

pub const VIP: Ipv4Addr = Ipv4Addr::new(172, 28, 128, 3);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 168);
pub const PORT: u16 = 8080;
pub const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Patience of loops that wait for the kernel or a process; no result depends on it.
const PATIENCE: u32 = 600;
const PAUSE: Duration = Duration::from_millis(25);

pub struct Lab {
    prefix: String,
    pub servers: usize,
    listeners: Vec<TcpListener>,
}

pub fn server_mac(n: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, u8::try_from(n).unwrap()]
}

pub fn server_address(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(172, 28, 128, 4 + u8::try_from(n).unwrap())
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// Runs a command; its standard output, or a panic with all that it said.
pub fn run(argv: &[&str], input: &str) -> String {
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {argv:?}: {e}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{argv:?} failed with {}: {error}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Asks until the answer is yes.
pub fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..PATIENCE {
        if ready() {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("waited in vain for {what}");
}

impl Lab {
    /// Builds it. The servers have no process yet and take nothing for the VIP.
    pub fn new(servers: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("nslabt-{}-{n}", std::process::id());
        let lab = Self {
            prefix,
            servers,
            listeners: vec![],
        };
        let ns = |node: &str| lab.ns(node);
        let mut names: Vec<String> = ["lan", "client", "router", "lb"].map(str::to_owned).into();
        names.extend((0..servers).map(|n| format!("server{n}")));
        for name in &names {
            run(&["ip", "netns", "add", &ns(name)], "");
            let keys = [
                "net.ipv6.conf.all.disable_ipv6=1",
                "net.ipv6.conf.default.disable_ipv6=1",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0",
                if name == "router" {
                    "net.ipv4.ip_forward=1"
                } else {
                    "net.ipv4.ip_forward=0"
                },
            ];
            lab.sysctl(name, &keys);
            lab.ip(name, "link set lo up");
        }
        lab.ip(
            "lan",
            "link add br0 type bridge stp_state 0 mcast_snooping 0",
        );
        lab.ip("lan", "link set br0 up");
        let router = ns("router");
        lab.ip(
            "client",
            &format!("link add eth1 type veth peer name eth1 netns {router}"),
        );
        lab.up(
            "client",
            "eth1",
            [2, 0, 0, 0, 2, 1],
            &format!("{CLIENT}/24"),
        );
        lab.up("router", "eth1", [2, 0, 0, 0, 2, 2], "192.168.10.2/24");
        lab.ip("client", "route add default via 192.168.10.2");
        lab.plug("router", "eth2", ROUTER_MAC, "172.28.128.2/24");
        lab.plug("lb", "eth1", LB_MAC, &format!("{VIP}/24"));
        for n in 0..servers {
            let name = format!("server{n}");
            lab.plug(
                &name,
                "eth1",
                server_mac(n),
                &format!("{}/24", server_address(n)),
            );
            lab.ip(&name, "route add default via 172.28.128.2");
        }
        lab
    }

    /// Name of a node's network namespace.
    pub fn ns(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    pub fn ip(&self, node: &str, args: &str) -> String {
        let ns = self.ns(node);
        let mut command = vec!["ip", "-n", ns.as_str()];
        command.extend(args.split(' '));
        run(&command, "")
    }

    /// Runs a command in a node.
    pub fn exec(&self, node: &str, argv: &[&str], input: &str) -> String {
        let ns = self.ns(node);
        run(&[&["ip", "netns", "exec", &ns], argv].concat(), input)
    }

    fn sysctl(&self, node: &str, settings: &[&str]) {
        self.within(node, || {
            for setting in settings {
                let (key, value) = setting.split_once('=').unwrap();
                let path = PathBuf::from("/proc/sys").join(key.replace('.', "/"));
                // Kernels without IPv6 have no such file, and no IPv6 to switch off.
                if path.exists() {
                    std::fs::write(&path, value).unwrap_or_else(|e| panic!("{setting}: {e}"));
                }
            }
        });
    }

    /// Adds a device between a node and the bridge.
    pub fn plug(&self, node: &str, device: &str, mac: [u8; 6], address: &str) {
        let (ns, port) = (self.ns(node), format!("{node}-{device}"));
        self.ip(
            "lan",
            &format!("link add {port} type veth peer name {device} netns {ns}"),
        );
        self.ip("lan", &format!("link set {port} master br0 up"));
        self.up(node, device, mac, address);
    }

    fn up(&self, node: &str, device: &str, mac: [u8; 6], address: &str) {
        self.ip(
            node,
            &format!("link set {device} address {}", mac_text(mac)),
        );
        self.ip(node, &format!("addr add {address} dev {device}"));
        self.sysctl(node, &[&format!("net.ipv4.conf.{device}.rp_filter=0")]);
        self.ip(node, &format!("link set {device} up"));
    }

    /// Calls `f` on a thread in the node's network namespace.
    pub fn within<T: Send>(&self, node: &str, f: impl FnOnce() -> T + Send) -> T {
        let path = PathBuf::from("/run/netns").join(self.ns(node));
        thread::scope(|s| {
            s.spawn(|| {
                setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                f()
            })
            .join()
            .unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }

    /// Puts an engine's program into the director.
    pub fn direct(&self, ruleset: &nft::Ruleset) {
        self.within("lb", || nft::apply(ruleset)).unwrap();
    }

    /// Starts an HTTP server in each server's namespace that answers with the server's number, and
    /// lets the server take traffic for the VIP.
    pub fn serve(&mut self) {
        let redirect = nslab::director::realserver_redirect(&[(VIP.into(), 6, PORT)]);
        for n in 0..self.servers {
            let node = format!("server{n}");
            let listener = self.within(&node, || {
                nft::apply(&redirect).unwrap();
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap()
            });
            self.listeners.push(listener.try_clone().unwrap());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    thread::spawn(move || serve_connection(stream, n));
                }
            });
        }
    }

    /// Opens a connection from the client to the service.
    pub fn connect(&self) -> TcpStream {
        self.within("client", || {
            let address = SocketAddr::from((VIP, PORT));
            TcpStream::connect_timeout(&address, Duration::from_secs(30)).unwrap()
        })
    }

    /// Opens one from this very address and port.
    pub fn connect_from(&self, address: Ipv4Addr, port: u16) -> TcpStream {
        self.within("client", || {
            let fd = socket(
                AddressFamily::Inet,
                SockType::Stream,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::Tcp,
            )
            .unwrap();
            setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
            let source = SockaddrIn::from(SocketAddrV4::new(address, port));
            nix::sys::socket::bind(fd.as_raw_fd(), &source).unwrap();
            let target = SockaddrIn::from(SocketAddrV4::new(VIP, PORT));
            nix::sys::socket::connect(fd.as_raw_fd(), &target).unwrap();
            TcpStream::from(fd)
        })
    }

    /// Sends IP packets from the client as they are, in this order.
    pub fn inject(&self, packets: &[Vec<u8>]) {
        self.within("client", || {
            on_one_cpu();
            let fd = socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::Raw,
            )
            .unwrap();
            let target = SockaddrIn::from(SocketAddrV4::new(VIP, 0));
            for packet in packets {
                let sent = sendto(fd.as_raw_fd(), packet, &target, MsgFlags::empty());
                assert_eq!(sent, Ok(packet.len()));
            }
        });
    }

    /// Records the director's eth1 while `f` runs.
    pub fn record(&self, f: impl FnOnce()) -> Vec<Frame> {
        let recorder = Recorder::start(&self.ns("lb"));
        f();
        // A last packet: when it is in the file, all before it are.
        self.within("client", || {
            on_one_cpu();
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            recorder.stop(|| {
                socket.send_to(END, (VIP, 9)).unwrap();
            })
        })
    }
}

/// Keeps the thread on the first processor that it may have. A veth queues what is sent by processor
/// (`netif_rx`): what two processors send can arrive in another order.
fn on_one_cpu() {
    let me = Pid::from_raw(0);
    let allowed = sched_getaffinity(me).unwrap();
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|n| allowed.is_set(*n).unwrap());
    one.set(first.unwrap()).unwrap();
    sched_setaffinity(me, &one).unwrap();
}

/// The service with one server a weight.
pub fn service(scheduler: &str, weights: &[u32]) -> ServiceSpec {
    let servers = weights.iter().enumerate().map(|(n, weight)| ServerSpec {
        name: format!("server{n}"),
        address: server_address(n).into(),
        mac: server_mac(n),
        via: "eth1".into(),
        weight: *weight,
        port: PORT,
        upper: 0,
        lower: 0,
    });
    ServiceSpec {
        name: "web".into(),
        vip: VIP.into(),
        port: PORT,
        protocol: 6,
        method: Method::Dr,
        scheduler: scheduler.into(),
        scheduler_flags: vec![],
        persistent: None,
        one_packet: false,
        devices: vec![Device {
            name: "eth1".into(),
            mac: LB_MAC,
        }],
        servers: servers.collect(),
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for listener in &self.listeners {
            let fd = listener.as_raw_fd();
            let _ = nix::sys::socket::shutdown(fd, nix::sys::socket::Shutdown::Both);
        }
        let servers = (0..self.servers).map(|n| format!("server{n}"));
        for node in ["client", "router", "lb", "lan"]
            .map(str::to_owned)
            .into_iter()
            .chain(servers)
        {
            let deleted = Command::new("ip")
                .args(["netns", "del", &self.ns(&node)])
                .output();
            if !deleted.is_ok_and(|o| o.status.success()) {
                eprintln!("cannot delete network namespace {}", self.ns(&node));
            }
        }
    }
}

fn serve_connection(stream: TcpStream, n: usize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line == "\r\n" => {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}");
                if writer.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Ok(_) => {}
        }
    }
}

/// One request on a connection that stays open; the number of the server that answered.
pub fn ask(stream: &mut TcpStream) -> usize {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    stream.read_exact(&mut byte).unwrap();
    usize::from(byte[0] - b'0')
}

/// Ends a connection and waits until the server has, too.
pub fn close(mut stream: TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
}
