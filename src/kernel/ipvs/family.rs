//! The family's number, which the kernel gives out anew at each boot, and whether there is one.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_sys::Socket;

use super::{Error, Result, socket};

/// `IPVS_GENL_NAME`.
pub(super) const FAMILY: &str = "IPVS";
/// What is asked, for error texts.
const ASK: &str = "look for IPVS";

/// Whether this kernel has IPVS. Where it is a module (alias
/// `net-pf-16-proto-16-family-IPVS` of ip_vs) the question itself loads it, which takes root in
/// the initial user namespace.
pub fn probe() -> Result<bool> {
    resolve(&socket::connect()?).map(|number| number.is_some())
}

/// The family's number; none where the kernel has no IPVS.
pub(super) fn resolve(socket: &Socket) -> Result<Option<u16>> {
    socket::send(socket, &question(), ASK)?;
    verdict(&socket::receive(socket).map_err(|source| Error::Socket {
        what: ASK.into(),
        source,
    })?)
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
fn verdict(bytes: &[u8]) -> Result<Option<u16>> {
    let answer = |why: String| Error::Answer {
        what: ASK.into(),
        why,
    };
    let message = NetlinkMessage::<GenlMessage<GenlCtrl>>::deserialize(bytes)
        .map_err(|e| answer(e.to_string()))?;
    match message.payload {
        NetlinkPayload::InnerMessage(found) => {
            let number = found.payload.nlas.into_iter().find_map(|a| match a {
                GenlCtrlAttrs::FamilyId(number) => Some(number),
                _ => None,
            });
            match number {
                Some(_) => Ok(number),
                None => Err(answer("it has no number".into())),
            }
        }
        NetlinkPayload::Error(e) => match e.raw_code().saturating_neg() {
            libc::ENOENT => Ok(None),
            errno => Err(Error::Socket {
                what: ASK.into(),
                source: io::Error::from_raw_os_error(errno),
            }),
        },
        other => Err(answer(format!("{other:?}"))),
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
        assert_eq!(verdict(&error(libc::ENOENT)).unwrap(), None);
        assert_eq!(
            verdict(&error(libc::EPERM)).unwrap_err().to_string(),
            "cannot look for IPVS over generic netlink: Operation not permitted (os error 1)"
        );
        assert!(verdict(&[1, 2, 3]).is_err());
    }
}
