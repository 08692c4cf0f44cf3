//! Recordings of the director's interface, made by tcpdump, and the frames in them.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lab::{LB_MAC, server_mac, wait_for};

/// What the last packet of a recording holds.
pub const END: &[u8] = b"nslab: end of recording";

/// An Ethernet frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

impl Frame {
    pub fn target(&self) -> &[u8] {
        &self.0[..6]
    }

    pub fn source(&self) -> &[u8] {
        &self.0[6..12]
    }

    /// All but the MAC addresses.
    pub fn body(&self) -> &[u8] {
        &self.0[12..]
    }

    pub fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }

    /// Whether it is IPv4 from this address.
    pub fn is_from(&self, address: Ipv4Addr) -> bool {
        self.ethertype() == 0x0800 && self.0[26..30] == address.octets()
    }

    /// Whether it is IPv4 to this address.
    pub fn is_to(&self, address: Ipv4Addr) -> bool {
        self.ethertype() == 0x0800 && self.0[30..34] == address.octets()
    }

    /// The server that it was sent to by the director.
    pub fn server(&self) -> Option<usize> {
        if self.source() != LB_MAC {
            return None;
        }
        (0..9).find(|n| server_mac(*n) == self.target())
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The servers to which the director sent frames, in order.
pub fn servers_of(frames: &[Frame]) -> Vec<usize> {
    frames.iter().filter_map(Frame::server).collect()
}

pub struct Recorder {
    child: Child,
    file: tempfile::TempDir,
}

impl Recorder {
    pub fn start(ns: &str) -> Self {
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("lb.pcap");
        // -Z root: else tcpdump gives up root and cannot write into the folder.
        let argv = [
            "netns", "exec", ns, "tcpdump", "-Z", "root", "-i", "eth1", "-U", "-w",
        ];
        let mut child = Command::new("ip")
            .args(argv)
            .arg(&path)
            .arg("--immediate-mode")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.contains("listening on"), "tcpdump says: {line}");
        Self { child, file }
    }

    fn frames(&self) -> Vec<Frame> {
        let bytes = std::fs::read(self.file.path().join("lb.pcap")).unwrap();
        let mut rest = bytes.get(24..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some(header) = rest.get(..16) {
            let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
            let Some(frame) = rest.get(16..16 + len) else {
                break;
            };
            frames.push(Frame(frame.to_vec()));
            rest = &rest[16 + len..];
        }
        frames
    }

    pub fn stop(mut self, mark: impl Fn()) -> Vec<Frame> {
        let is_end = |f: &Frame| f.0.ends_with(END);
        let mut looks = 0_u32;
        wait_for("the end of the recording", || {
            // Again after two seconds each time: a frame may get lost.
            if looks.is_multiple_of(80) {
                mark();
            }
            looks += 1;
            self.frames().iter().any(is_end)
        });
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
        let mut frames = self.frames();
        frames.retain(|f| !is_end(f) && f.ethertype() != 0x0806);
        frames
    }
}
