//! Where a server is asked from, so that it answers as it answers clients.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::probe::{self, Connect};
use crate::director::ServerSpec;
use crate::lab::{Check, CheckKind, Lab, Method, Service};
use crate::plan::SWITCH;

/// How one server of one service is tried.
#[derive(Debug, Clone)]
pub(super) struct Way {
    timeout: Duration,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Http {
        connect: Connect,
        host: String,
        path: String,
    },
    Tcp(Connect),
    Exec {
        lab: String,
        node: String,
        argv: Vec<String>,
    },
}

impl Way {
    /// `pins` is the folder of the lab's namespaces, `mark` that of the server's path from the
    /// switch (direct routing).
    pub fn new(
        lab: &Lab,
        pins: &Path,
        service: &Service,
        check: &Check,
        server: &ServerSpec,
        mark: u32,
    ) -> Self {
        let connect = |port| match service.method() {
            // As the director's frame: the VIP's address at the server's MAC. It comes from the
            // switch, for the director may have no other address than the VIP itself.
            Method::Dr => Connect {
                pin: pins.join(SWITCH),
                mark,
                own: false,
                to: SocketAddr::new(service.vip(), port),
            },
            // As the director's packet: to the server's own address and port.
            Method::Nat => Connect {
                pin: pins.join(service.director().as_str()),
                mark: 0,
                own: false,
                to: SocketAddr::new(
                    server.address,
                    if port == service.port() {
                        server.port
                    } else {
                        port
                    },
                ),
            },
            // As the packet that comes out of the tunnel: to the VIP, inside the server.
            Method::Tun => Connect {
                pin: pins.join(&server.name),
                mark: 0,
                own: true,
                to: SocketAddr::new(service.vip(), port),
            },
        };
        let what = match check.kind() {
            CheckKind::Http { host, port, path } => What::Http {
                connect: connect(*port),
                host: if *port == 80 {
                    host.clone()
                } else {
                    format!("{host}:{port}")
                },
                path: path.clone(),
            },
            CheckKind::Tcp(port) => What::Tcp(connect(*port)),
            CheckKind::Exec(argv) => What::Exec {
                lab: lab.name().to_string(),
                node: server.name.clone(),
                argv: argv.clone(),
            },
        };
        Self {
            timeout: check.timeout(),
            what,
        }
    }

    /// One try.
    pub async fn attempt(&self) -> Result<(), String> {
        let attempt = async {
            match &self.what {
                What::Http {
                    connect,
                    host,
                    path,
                } => probe::http(connect, host, path).await,
                What::Tcp(connect) => probe::tcp(connect).await,
                What::Exec { lab, node, argv } => probe::exec(lab, node, argv).await,
            }
        };
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(format!(
                "{} within {:?}",
                match &self.what {
                    What::Http { connect, .. } | What::Tcp(connect) =>
                        format!("no answer from {}", connect.to),
                    What::Exec { argv, .. } => format!("{} did not end", argv.join(" ")),
                },
                self.timeout
            )),
        }
    }
}
