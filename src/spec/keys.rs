//! The keys of each table, with an example of each: what the parser knows, what help lines show,
//! and what the JSON schema is checked against.

/// A key that a table may have.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// A value as it would be written in TOML.
    pub example: &'static str,
    /// Whether the table must have it.
    pub required: bool,
}

impl Key {
    /// Whether its value is a table only.
    pub fn is_table(&self) -> bool {
        self.example.starts_with('{')
    }
}

const fn must(name: &'static str, example: &'static str) -> Key {
    Key {
        name,
        example,
        required: true,
    }
}

const fn may(name: &'static str, example: &'static str) -> Key {
    Key {
        name,
        example,
        required: false,
    }
}

/// Keys of the file itself.
pub const LAB: &[Key] = &[
    must("name", r#""dsr""#),
    may("networks", r#"{ lan = { subnet = "192.168.10.0/24" } }"#),
    may("nodes", r#"{ client = { gateway = "router" } }"#),
    may(
        "services",
        r#"{ web = { vip = "172.28.128.3", port = 8080 } }"#,
    ),
    may("capture", r#"{ interfaces = "all" }"#),
];

/// Keys of `[networks.*]`.
pub const NETWORK: &[Key] = &[
    must("subnet", r#""192.168.10.0/24""#),
    may("host", r#""192.168.10.1""#),
    may("mtu", "1500"),
    may("ipv6", "true"),
];

/// Keys of `[nodes.*]`; help lines list the first ones.
pub const NODE: &[Key] = &[
    may("image", r#""tomcat""#),
    may("command", r#"["python3", "-m", "http.server", "8080"]"#),
    may("entrypoint", r#"["/usr/sbin/nginx"]"#),
    may(
        "interfaces",
        r#"{ eth1 = { network = "lan", address = "192.168.10.2" } }"#,
    ),
    may("gateway", r#""router""#),
    may("forward", "true"),
    may("env", r#"{ NAME = "value" }"#),
    may("volumes", r#"["./site:/srv/site:ro"]"#),
    may("ready", r#"{ http = "http://localhost:8080/" }"#),
    may("restart", r#""on-failure""#),
    may("user", r#""www-data""#),
    may("workdir", r#""/srv/site""#),
    may("env_file", r#""web.env""#),
    may("tmpfs", r#"["/var/cache:size=64m"]"#),
    may("keep", "true"),
    may("stop_signal", r#""SIGQUIT""#),
    may("stop_grace", r#""10s""#),
    may("limits", r#"{ memory = "512m", cpus = 1.5, pids = 200 }"#),
    may("cap_add", r#"["CAP_SYS_PTRACE"]"#),
    may("cap_drop", r#"["CAP_NET_RAW"]"#),
    may("seccomp", r#""unconfined""#),
    may("sysctls", r#"{ "net.ipv4.tcp_syncookies" = "0" }"#),
];

/// Keys of a node's `interfaces.*`.
pub const INTERFACE: &[Key] = &[
    must("network", r#""lan""#),
    must("address", r#""192.168.10.2""#),
    may("aliases", r#"["192.168.10.100"]"#),
];

/// Keys of a volume's table.
pub const VOLUME: &[Key] = &[
    must("source", r#""./site""#),
    must("target", r#""/srv/site""#),
    may("read_only", "true"),
];

/// Keys of a memory filesystem's table.
pub const TMPFS: &[Key] = &[
    must("target", r#""/var/cache""#),
    may("size", r#""64m""#),
    may("mode", r#""1777""#),
    may("exec", "true"),
];

/// Keys of `limits`.
pub const LIMITS: &[Key] = &[
    may("memory", r#""512m""#),
    may("cpus", "1.5"),
    may("pids", "200"),
];

/// Keys of `ready`.
pub const READY: &[Key] = &[
    may("http", r#""http://localhost:8080/""#),
    may("tcp", "8080"),
    may("timeout", r#""60s""#),
];

/// Keys of `[services.*]`.
pub const SERVICE: &[Key] = &[
    must("vip", r#""172.28.128.3""#),
    must("port", "8080"),
    may("protocol", r#""tcp""#),
    must("director", r#""lb""#),
    may("scheduler", r#""rr""#),
    may("scheduler_flags", r#"["sh-port"]"#),
    may("persistent", r#""300s""#),
    may("persistent_mask", "24"),
    may("one_packet", "true"),
    may("method", r#""dr""#),
    may("accept", r#""redirect""#),
    must("servers", r#"["server1", "server2"]"#),
    may("engine", r#""auto""#),
    may("check", r#"{ http = "http://VIP:8080/" }"#),
    may("on_fail", r#""weight""#),
];

/// Keys of a server's table.
pub const SERVER: &[Key] = &[
    must("node", r#""server1""#),
    may("weight", "3"),
    may("port", "8080"),
    may("upper", "100"),
    may("lower", "80"),
];

/// Keys of `check`.
pub const CHECK: &[Key] = &[
    may("http", r#""http://VIP:8080/""#),
    may("tcp", "true"),
    may("exec", r#"["test", "-e", "/run/ready"]"#),
    may("every", r#""2s""#),
    may("timeout", r#""1s""#),
    may("rise", "2"),
    may("fall", "3"),
];

/// Keys of `[capture]`.
pub const CAPTURE: &[Key] = &[
    may("interfaces", r#""all""#),
    may("snaplen", "262144"),
    may("buffer", r#""4MiB""#),
    may("filter", r#""tcp port 8080""#),
    may("rotate", r#"{ size = "64MiB", keep = 8 }"#),
    may("merge", "false"),
    may("on", r#"{ "client:eth1" = { snaplen = 128 } }"#),
];

/// Keys of `[capture.on.*]`.
pub const CAPTURE_ON: &[Key] = &[
    may("snaplen", "262144"),
    may("buffer", r#""4MiB""#),
    may("filter", r#""tcp port 8080""#),
    may("rotate", r#"{ size = "64MiB", keep = 8 }"#),
];

/// Keys of `rotate`.
pub const ROTATE: &[Key] = &[
    may("size", r#""64MiB""#),
    may("every", r#""60s""#),
    may("keep", "8"),
];

/// Words of `restart`.
pub const RESTARTS: &[&str] = &["no", "on-failure", "always"];
/// Words of `seccomp`.
pub const SECCOMPS: &[&str] = &["default", "unconfined"];
/// Words of `protocol`.
pub const PROTOCOLS: &[&str] = &["tcp", "udp", "sctp"];
/// Words of `scheduler`.
pub const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos",
];
/// Words of `scheduler_flags`.
pub const SCHEDULER_FLAGS: &[&str] = &["sh-port", "sh-fallback", "mh-port", "mh-fallback"];
/// Words of `method`.
pub const METHODS: &[&str] = &["dr", "nat", "tun"];
/// Words of `accept`.
pub const ACCEPTS: &[&str] = &["redirect", "loopback"];
/// Words of `engine`.
pub const ENGINES: &[&str] = &["auto", "ipvs", "nft"];
/// Words of `on_fail`.
pub const ON_FAILS: &[&str] = &["weight", "remove"];
/// Words of `interfaces` in `[capture]`.
pub const SCOPES: &[&str] = &["all", "off"];
