//! A server that says its name, and connections of a lab's client to it that stay open.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Bench;

/// A program for python3: on port 80 it answers each line with its hostname.
pub const SERVE: &str = "import socketserver, socket\n\
        class H(socketserver.StreamRequestHandler):\n    \
            def handle(self):\n        \
                for line in self.rfile: self.wfile.write((socket.gethostname() + '\\n').encode())\n\
        socketserver.ThreadingTCPServer.allow_reuse_address = True\n\
        socketserver.ThreadingTCPServer(('', 80), H).serve_forever()\n";

/// A TCP connection of the client to the VIP that stays.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(bench: &Bench, lab: &str, vip: [u8; 4]) -> Self {
        let pin = File::open(bench.ns(lab, "client")).unwrap();
        let vip = SocketAddr::from((vip, 80));
        let stream = std::thread::spawn(move || {
            nix::sched::setns(pin, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            TcpStream::connect_timeout(&vip, Duration::from_secs(10)).unwrap()
        });
        let stream = stream.join().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        Self(BufReader::new(stream))
    }

    /// Asks for the server's name.
    pub fn ask(&mut self) -> String {
        self.send();
        self.answer()
    }

    pub fn send(&mut self) {
        self.0.get_mut().write_all(b"who\n").unwrap();
    }

    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn port(&self) -> u16 {
        self.0.get_ref().local_addr().unwrap().port()
    }

    /// Closes it and waits for the server to do the same.
    pub fn close(mut self) {
        self.0
            .get_mut()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}
