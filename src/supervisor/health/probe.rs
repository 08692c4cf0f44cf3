//! One try of a check: a TCP connection, with a question in HTTP, or a command in the server's
//! node. What keeps a try waiting is bounded from outside ([`super::way`]).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::kernel::netns;

/// Longest answer that is read to its end, and how long that may take.
const BODY: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_millis(200);

/// Where a connection is made, and to whom.
#[derive(Debug, Clone)]
pub(super) struct Connect {
    /// The network namespace in which the socket is opened.
    pub pin: std::path::PathBuf,
    /// The socket's mark, see [`crate::kernel::MarkedPath`]; 0 is none.
    pub mark: u32,
    /// Whether the address has to be the namespace's own: else somebody else might answer.
    pub own: bool,
    /// Address that is asked.
    pub to: SocketAddr,
}

impl Connect {
    /// Connects; the error is in words.
    pub async fn connect(&self) -> Result<TcpStream, String> {
        let to = self.to;
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrNotAvailable if self.own => {
                format!("{} is on no interface of the server", to.ip())
            }
            _ => format!("no connection to {to}: {}", plain(&e)),
        };
        let socket = self.socket().map_err(failed)?;
        socket.connect(to).await.map_err(failed)
    }

    fn socket(&self) -> io::Result<TcpSocket> {
        let family = if self.to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let pin = netns::open(&self.pin).map_err(io::Error::other)?;
        // A socket belongs to the namespace that it was opened in.
        let open = || -> io::Result<OwnedFd> {
            if self.own && !is_own(self.to)? {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            Ok(socket(family, SockType::Stream, flags, None)?)
        };
        let fd = netns::run_in(pin, open).map_err(io::Error::other)??;
        if self.mark != 0 {
            setsockopt(&fd, sockopt::Mark, &self.mark)?;
        }
        Ok(TcpSocket::from_std_stream(StdStream::from(fd)))
    }
}

/// Whether an address is one of the calling thread's network namespace: the kernel takes it as the
/// source of what is sent to it then, and nothing is sent to find out.
fn is_own(address: SocketAddr) -> io::Result<bool> {
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    match socket.connect(address) {
        Ok(()) => Ok(socket.local_addr()?.ip() == address.ip()),
        // There is no route to it.
        Err(e) if e.kind() == io::ErrorKind::NetworkUnreachable => Ok(false),
        Err(e) => Err(e),
    }
}

/// Asks for a path; a status from 200 to 399 is an answer.
pub(super) async fn http(connect: &Connect, host: &str, path: &str) -> Result<(), String> {
    let mut stream = connect.connect().await?;
    let to = connect.to;
    let failed = |e: io::Error| format!("{to} does not answer {path}: {}", plain(&e));
    let question = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: nslab\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(question.as_bytes())
        .await
        .map_err(failed)?;
    // A status line begins with "HTTP/1.1 200" (RFC 9112, 4): 12 bytes tell.
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.map_err(failed)?;
    // Whoever closes with an answer unread resets the connection, and the server's log complains;
    // but the status is what counts.
    let mut body = (&mut stream).take(BODY);
    let mut nowhere = tokio::io::sink();
    let rest = tokio::io::copy(&mut body, &mut nowhere);
    let _ = tokio::time::timeout(PATIENCE, rest).await;
    let line = String::from_utf8_lossy(&line);
    let code = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
    match code {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("{to} answers {path} with status {code}")),
        None => Err(format!(
            "{to} answers {path} with something that is not HTTP"
        )),
    }
}

/// Connects, and closes again.
pub(super) async fn tcp(connect: &Connect) -> Result<(), String> {
    let mut stream = connect.connect().await?;
    let _ = stream.shutdown().await;
    Ok(())
}

/// Runs a command in a node and wants code 0. It is killed with this future.
pub(super) async fn exec(lab: &str, node: &str, argv: &[String]) -> Result<(), String> {
    let failed = |e: io::Error| format!("{} cannot be run: {e}", argv.join(" "));
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command
        .args(["exec", "--no-tty", "--lab", lab, node, "--"])
        .args(argv)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let status = command.status().await.map_err(failed)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(format!("{} ended with code {code}", argv.join(" "))),
        None => Err(format!("{}: {status}", argv.join(" "))),
    }
}

/// Without "(os error 111)".
fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
