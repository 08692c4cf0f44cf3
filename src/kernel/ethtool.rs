//! Offload switches by the ethtool ioctl (include/uapi/linux/ethtool.h; ethtool(8) `-K` falls back
//! to the same calls).

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Result;
use super::error::Context;

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_SGRO: u32 = 0x2c;

/// Turns tx-checksum, TSO, GSO and GRO off on a link of the calling thread's namespace.
pub(super) fn disable_offloads(link: &str) -> Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .op(|| "open a socket for ethtool".into())?;
    for (cmd, what) in [
        (ETHTOOL_STXCSUM, "tx-checksum"),
        (ETHTOOL_STSO, "tso"),
        (ETHTOOL_SGSO, "gso"),
        (ETHTOOL_SGRO, "gro"),
    ] {
        let mut value = EthtoolValue { cmd, data: 0 };
        // SAFETY: ifreq is plain old data for which all zeros is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // IfName is at most 15 bytes; the last byte of ifr_name stays zero whatever is given here.
        for (to, from) in request.ifr_name.iter_mut().take(15).zip(link.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: SIOCETHTOOL reads `ifr_name` and a struct ethtool_value behind `ifru_data`;
        // both outlive the call.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        nix::errno::Errno::result(done).op(|| format!("turn {what} off on {link}"))?;
    }
    Ok(())
}
