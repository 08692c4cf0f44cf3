//! The way to the kernel and back: a request, and what it brings.

use std::io;

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_NOOP, NLMSG_OVERRUN, NetlinkMessage,
};
use netlink_packet_generic::{GenlFamily, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use super::error::About;
use super::{Error, Result, family};
use crate::kernel::answers::{self, Answer};

/// `IPVS_GENL_VERSION`.
const VERSION: u8 = 1;
/// Bytes of a `struct genlmsghdr` before the attributes.
const GENL_HEADER: usize = 4;
/// `NLM_F_DUMP_INTR`: the table changed while it was read.
const DUMP_INTR: u16 = 0x10;
/// How often a dump that was interrupted is taken again.
const TRIES: usize = 10;

/// A command of the family with its attributes.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    /// `IPVS_CMD_*`.
    pub command: u8,
    pub attributes: Vec<DefaultNla>,
    /// Completes the sentence "cannot ...".
    pub what: String,
    /// What a refusal is about.
    pub about: About<'a>,
}

impl GenlFamily for Request<'_> {
    fn family_name() -> &'static str {
        family::FAMILY
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        VERSION
    }
}

impl Emitable for Request<'_> {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl Request<'_> {
    pub fn bytes(self, family: u16, sequence: u32, flags: u16) -> Vec<u8> {
        let mut message = GenlMessage::from_payload(self);
        message.set_resolved_family_id(family);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}

/// A NETLINK_GENERIC socket in the network namespace of the calling thread.
pub(super) fn connect() -> Result<Socket> {
    let connect = || {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Answers without a copy of the message that they are about, but with the kernel's words.
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        Ok(socket)
    };
    connect().map_err(|source| Error::Socket {
        what: "open a socket to speak to IPVS".into(),
        source,
    })
}

/// Calls again what a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

pub(super) fn send(socket: &Socket, bytes: &[u8], what: &str) -> Result<()> {
    // A datagram goes whole or not at all.
    match retry(|| socket.send(bytes, 0)) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Socket {
            what: what.into(),
            source,
        }),
    }
}

/// A datagram, however long.
pub(super) fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    retry(|| socket.recv_from_full()).map(|(bytes, _)| bytes)
}

/// A socket that speaks to one namespace's IPVS, one request at a time.
#[derive(Debug)]
pub(super) struct Channel {
    socket: Socket,
    family: u16,
    sequence: u32,
}

impl Channel {
    /// In the network namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let socket = connect()?;
        let family = family::resolve(&socket)?.ok_or(Error::NotInKernel)?;
        Ok(Self {
            socket,
            family,
            sequence: 1,
        })
    }

    /// Has a command done, and waits until it is.
    pub fn command(&mut self, request: Request) -> Result<()> {
        self.exchange(request, NLM_F_REQUEST | NLM_F_ACK).map(drop)
    }

    /// Asks for one thing; its attributes.
    pub fn ask(&mut self, request: Request) -> Result<Vec<u8>> {
        let what = request.what.clone();
        self.exchange(request, NLM_F_REQUEST | NLM_F_ACK)?
            .pop()
            .ok_or_else(|| Error::Answer {
                what,
                why: "it was acknowledged and nothing came".into(),
            })
    }

    /// Asks for a list; the attributes of each of its things, of one moment.
    pub fn dump(&mut self, request: &Request) -> Result<Vec<Vec<u8>>> {
        for _ in 0..TRIES {
            let mut collected = Collected::new(self.sequence + 1);
            self.run(request.clone(), NLM_F_REQUEST | NLM_F_DUMP, &mut collected)?;
            if !collected.torn {
                return Ok(collected.found);
            }
        }
        Err(Error::Answer {
            what: request.what.clone(),
            why: format!("the table changed each of the {TRIES} times that it was read"),
        })
    }

    fn exchange(&mut self, request: Request, flags: u16) -> Result<Vec<Vec<u8>>> {
        let what = request.what.clone();
        let mut collected = Collected::new(self.sequence + 1);
        self.run(request, flags, &mut collected)?;
        if collected.torn {
            return Err(Error::Answer {
                what,
                why: "the socket overran, and a part of it is lost".into(),
            });
        }
        Ok(collected.found)
    }

    /// Sends, and reads up to the end of the answer: also when a part was lost, for the kernel
    /// starts no second dump on a socket whose first is not read to its end (EBUSY).
    fn run(&mut self, request: Request, flags: u16, collected: &mut Collected) -> Result<()> {
        let (what, about) = (request.what.clone(), request.about);
        self.sequence += 1;
        let bytes = request.bytes(self.family, self.sequence, flags);
        send(&self.socket, &bytes, &what)?;
        loop {
            let bytes = match receive(&self.socket) {
                Ok(bytes) => bytes,
                // More came than the socket holds. What is lost may be the end: an acknowledgement
                // of a command is never lost that way, for it is alone on the socket.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    collected.torn = true;
                    continue;
                }
                Err(source) => return Err(Error::Socket { what, source }),
            };
            let end = collected.take(&bytes).map_err(|e| Error::Answer {
                what: what.clone(),
                why: e.to_string(),
            })?;
            match end {
                None => {}
                Some(Answer { errno: 0, .. }) => return Ok(()),
                Some(Answer { errno, detail, .. }) => {
                    return Err(Error::refused(what, errno, detail, about));
                }
            }
        }
    }
}

/// What has come of an answer.
#[derive(Debug)]
pub(super) struct Collected {
    sequence: u32,
    /// The attributes of each message.
    pub found: Vec<Vec<u8>>,
    /// Whether something is missing, or of another moment.
    pub torn: bool,
}

impl Collected {
    pub fn new(sequence: u32) -> Self {
        Self {
            sequence,
            found: vec![],
            torn: false,
        }
    }

    /// Takes a datagram; gives the last message's verdict when that is in it.
    pub fn take(
        &mut self,
        bytes: &[u8],
    ) -> Result<Option<Answer>, netlink_packet_core::DecodeError> {
        for message in answers::split(bytes)? {
            // An earlier request's, whose answer could not be read to its end.
            if message.sequence != self.sequence {
                continue;
            }
            self.torn |= message.flags & DUMP_INTR != 0;
            match message.kind {
                NLMSG_NOOP => {}
                NLMSG_OVERRUN => self.torn = true,
                NLMSG_ERROR | NLMSG_DONE => {
                    return answers::answer(message.flags, message.sequence, message.payload)
                        .map(Some);
                }
                _ => {
                    let attributes = message
                        .payload
                        .get(GENL_HEADER..)
                        .ok_or("a message is shorter than its header")?;
                    self.found.push(attributes.to_vec());
                }
            }
        }
        Ok(None)
    }
}
