//! Kernel IPVS over generic netlink (include/uapi/linux/ip_vs.h). So far: whether it is there.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// `IPVS_GENL_NAME`.
const FAMILY: &str = "IPVS";

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error("cannot {what} to look for IPVS over generic netlink: {source}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// An answer that cannot be read.
    #[error("cannot understand the kernel's answer to the search for IPVS: {0}")]
    Answer(String),
}

/// Whether this kernel has IPVS. Where it is a module (alias
/// `net-pf-16-proto-16-family-IPVS` of ip_vs) the question itself loads it, which takes root in
/// the initial user namespace.
pub fn probe() -> Result<bool, Error> {
    let failed = |what| move |source| Error::Socket { what, source };
    let mut socket = Socket::new(NETLINK_GENERIC).map_err(failed("open a socket"))?;
    socket.bind_auto().map_err(failed("bind a socket"))?;
    socket
        .connect(&SocketAddr::new(0, 0))
        .map_err(failed("connect a socket"))?;
    socket.send(&question(), 0).map_err(failed("send"))?;
    let (bytes, _) = socket.recv_from_full().map_err(failed("receive"))?;
    verdict(&bytes)
}

/// CTRL_CMD_GETFAMILY by name.
fn question() -> Vec<u8> {
    let ask = GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())],
    };
    let mut message = NetlinkMessage::from(GenlMessage::from_payload(ask));
    message.header.flags = NLM_F_REQUEST;
    message.header.sequence_number = 1;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The family's description means yes, ENOENT no.
fn verdict(bytes: &[u8]) -> Result<bool, Error> {
    let message = NetlinkMessage::<GenlMessage<GenlCtrl>>::deserialize(bytes)
        .map_err(|e| Error::Answer(e.to_string()))?;
    match message.payload {
        NetlinkPayload::InnerMessage(_) => Ok(true),
        NetlinkPayload::Error(e) => match e.raw_code().saturating_neg() {
            libc::ENOENT => Ok(false),
            errno => Err(Error::Socket {
                what: "ask",
                source: io::Error::from_raw_os_error(errno),
            }),
        },
        other => Err(Error::Answer(format!("{other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_by_name() {
        let bytes = question();
        #[rustfmt::skip]
        assert_eq!(bytes, [
            [32_u32.to_ne_bytes(), 0x0001_0010_u32.to_ne_bytes(), 1_u32.to_ne_bytes(), [0; 4]]
                .concat(),
            vec![3, 2, 0, 0],                                  // CTRL_CMD_GETFAMILY, version 2
            vec![9, 0, 2, 0, b'I', b'P', b'V', b'S', 0, 0, 0, 0], // CTRL_ATTR_FAMILY_NAME
        ].concat());
    }

    #[test]
    fn enoent_means_no_and_other_errors_are_errors() {
        let error = |errno: i32| {
            let mut bytes = 36_u32.to_ne_bytes().to_vec();
            bytes.extend(2_u16.to_ne_bytes()); // NLMSG_ERROR
            bytes.extend([0; 10]);
            bytes.extend((-errno).to_ne_bytes());
            bytes.extend(question()[..16].iter());
            bytes
        };
        assert!(!verdict(&error(libc::ENOENT)).unwrap());
        assert_eq!(
            verdict(&error(libc::EPERM)).unwrap_err().to_string(),
            "cannot ask to look for IPVS over generic netlink: Operation not permitted (os error 1)"
        );
        assert!(verdict(&[1, 2, 3]).is_err());
    }
}
