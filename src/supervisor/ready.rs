//! Readiness probes, made on a thread inside the node's own network namespace.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::netns;
use crate::lab::{Ready, ReadyKind};

/// Between two tries. A refused connection costs some microseconds, so this bounds how late `up`
/// notices, not how much it costs.
const PAUSE: Duration = Duration::from_millis(10);

/// Tries until the probe succeeds.
///
/// # Errors
/// In words: the last thing that was wrong when the probe's time was over.
pub(super) fn wait(ready: &Ready, ns: OwnedFd, cancel: &Arc<AtomicBool>) -> Result<(), String> {
    netns::run_in(ns, || {
        let start = Instant::now();
        loop {
            let left = ready.timeout().saturating_sub(start.elapsed());
            let Err(why) = probe(ready.kind(), left.min(Duration::from_secs(10))) else {
                return Ok(());
            };
            if cancel.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            if start.elapsed() + PAUSE >= ready.timeout() {
                return Err(format!(
                    "{why} (waited {} s)",
                    ready.timeout().as_secs_f32()
                ));
            }
            std::thread::sleep(PAUSE);
        }
    })
    .map_err(|e| e.to_string())?
}

/// One try; at most `patience` for each of connecting and answering.
fn probe(kind: &ReadyKind, patience: Duration) -> Result<(), String> {
    let patience = patience.max(Duration::from_millis(1));
    match kind {
        ReadyKind::Tcp(port) => connect("localhost", *port, patience).map(drop),
        ReadyKind::Http { host, port, path } => {
            let url = format!("http://{host}:{port}{path}");
            let mut stream = connect(host, *port, patience)?;
            let failed = |e: std::io::Error| format!("{url} does not answer: {e}");
            stream.set_read_timeout(Some(patience)).map_err(failed)?;
            stream.set_write_timeout(Some(patience)).map_err(failed)?;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: nslab\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).map_err(failed)?;
            let status = status_code(&mut stream).map_err(failed)?;
            match status {
                Some(200..=399) => Ok(()),
                Some(code) => Err(format!("{url} answers {code}")),
                None => Err(format!("{url} answers something that is not HTTP")),
            }
        }
    }
}

/// The code of an HTTP status line (RFC 9112, 4).
fn status_code(stream: &mut impl Read) -> std::io::Result<Option<u16>> {
    let mut line = Vec::new();
    let mut chunk = [0; 64];
    // A status line begins with "HTTP/1.1 200": 12 bytes tell.
    while line.len() < 12 {
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => line.extend_from_slice(&chunk[..n]),
        }
    }
    let line = String::from_utf8_lossy(&line[..12]);
    Ok(line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok()))
}

/// Names other than `localhost` have been checked to be addresses of the node: no name service of
/// the host is asked about the lab.
fn connect(host: &str, port: u16, patience: Duration) -> Result<TcpStream, String> {
    let address: SocketAddr = if host == "localhost" {
        ([127, 0, 0, 1], port).into()
    } else {
        (host, port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut all| all.next())
            .ok_or_else(|| format!("{host} is not an address"))?
    };
    TcpStream::connect_timeout(&address, patience)
        .map_err(|e| format!("nothing accepts connections on {host}:{port}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let code = |text: &str| status_code(&mut text.as_bytes()).unwrap();
        assert_eq!(code("HTTP/1.1 302 \r\n"), Some(302));
        assert_eq!(code("HTTP/1.0 200 OK\r\n"), Some(200));
        assert_eq!(code("SSH-2.0-OpenSSH_9"), None);
        assert!(status_code(&mut "HTTP".as_bytes()).is_err());
    }

    #[test]
    fn a_probe_says_what_it_met() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            stream
                .write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
                .unwrap();
        });
        let kind = ReadyKind::Http {
            host: "localhost".into(),
            port,
            path: "/x".into(),
        };
        let said = probe(&kind, Duration::from_secs(5)).unwrap_err();
        answer.join().unwrap();
        assert_eq!(said, format!("http://localhost:{port}/x answers 503"));
        let said = probe(&kind, Duration::from_secs(5)).unwrap_err();
        assert!(
            said.starts_with(&format!(
                "nothing accepts connections on localhost:{port}: "
            )),
            "{said}"
        );
    }
}
