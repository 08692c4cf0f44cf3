//! The way to the kernel and its answers.

use std::io;

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::batch;
use super::encode::Message;
use super::error::{Error, hint};
use crate::kernel::answers;

pub(super) use crate::kernel::answers::{Answer, Raw};

/// Index of a device in the network namespace of the calling thread.
pub(super) fn device_index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// A NETLINK_NETFILTER socket in the network namespace of the calling thread.
pub(super) fn open() -> Result<Socket, Error> {
    let open = || {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Answers without a copy of the message that they are about, but with the kernel's words.
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        Ok(socket)
    };
    open().map_err(|source| Error::Socket { source })
}

/// Sends bytes in one piece, as a batch has to be.
pub(super) fn send(socket: &Socket, bytes: &[u8]) -> Result<(), Error> {
    let fail = |source| Error::Transfer {
        what: format!("send {} bytes", bytes.len()),
        source,
    };
    // The kernel takes a message of at most the send buffer less 32 bytes (netlink_sendmsg), and
    // the default of net.core.wmem_default is 212992.
    let room = bytes.len() + 4096;
    if room > 200 * 1024 {
        setsockopt(socket, sockopt::SndBufForce, &room)
            .or_else(|_| setsockopt(socket, sockopt::SndBuf, &room))
            .map_err(|e| fail(e.into()))?;
    }
    let sent = socket.send(bytes, 0).map_err(fail)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(fail(io::Error::other(format!(
            "only {sent} of them were taken"
        ))))
    }
}

/// Runs a batch.
pub(super) fn run(messages: &[Message]) -> Result<(), Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let socket = open()?;
    let batch = batch::frame(messages);
    send(&socket, &batch.bytes)?;

    // The kernel has done the whole batch, and queued all answers, when send() comes back.
    socket.set_non_blocking(true).map_err(receive_error)?;
    let mut answers = Vec::new();
    let mut overrun = false;
    loop {
        match socket.recv_from_full() {
            Ok((bytes, _)) => answers.extend(read(&bytes)?),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // More answers than the socket holds. Only errors are that many, and the first ones,
            // which count, are still there.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => overrun = true,
            Err(e) => return Err(receive_error(e)),
        }
    }
    judge(messages, batch.last, &answers, overrun)
}

/// What the answers say about the batch.
pub(super) fn judge(
    messages: &[Message],
    last: u32,
    answers: &[Answer],
    overrun: bool,
) -> Result<(), Error> {
    // One wrong message makes those behind it wrong as well: the first is the cause.
    if let Some(first) = answers
        .iter()
        .filter(|a| a.errno != 0)
        .min_by_key(|a| a.sequence)
    {
        let message = batch::of_sequence(messages, first.sequence);
        let (what, needs) = match message {
            Some(m) => (m.what.clone(), m.needs.as_slice()),
            None => (
                format!("the batch of {} messages", messages.len()),
                &["CONFIG_NF_TABLES (module nf_tables)"][..],
            ),
        };
        return Err(Error::Refused {
            what,
            source: io::Error::from_raw_os_error(first.errno),
            detail: first.detail.clone(),
            hint: hint(first.errno, needs),
        });
    }
    if overrun || !answers.iter().any(|a| a.sequence == last) {
        return Err(Error::Answer {
            what: format!("the batch of {} messages", messages.len()),
            why: if overrun {
                "more answers came than the socket holds, and none that says why".to_owned()
            } else {
                "the last message was not acknowledged".to_owned()
            },
        });
    }
    Ok(())
}

/// Takes a datagram apart into messages.
pub(super) fn split(bytes: &[u8]) -> Result<Vec<Raw<'_>>, Error> {
    answers::split(bytes).map_err(|e| answer_error(&e))
}

/// Reads the answers in a datagram.
fn read(bytes: &[u8]) -> Result<Vec<Answer>, Error> {
    split(bytes)?
        .into_iter()
        .filter(|m| m.kind == NLMSG_ERROR || m.kind == NLMSG_DONE)
        .map(|m| answer(m.flags, m.sequence, m.payload))
        .collect()
}

/// Reads a `struct nlmsgerr` with what may follow it.
pub(super) fn answer(flags: u16, sequence: u32, payload: &[u8]) -> Result<Answer, Error> {
    answers::answer(flags, sequence, payload).map_err(|e| answer_error(&e))
}

pub(super) fn receive_error(source: io::Error) -> Error {
    Error::Transfer {
        what: "receive".to_owned(),
        source,
    }
}

fn answer_error(why: &dyn std::fmt::Display) -> Error {
    Error::Answer {
        what: "a batch".to_owned(),
        why: why.to_string(),
    }
}
