//! What packet(7) sockets are asked that neither libpcap nor nix asks for us.

use std::{io, mem, os::fd::AsRawFd};

use nix::sys::socket::{getsockopt, sockopt};
use pcap::{Active, Capture};

/// The length of an address when given to the kernel. It gives back fewer bytes, as many as the
/// hardware address has, which is why nix's `LinkAddr` will not have them.
const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// The interface that the socket is bound to, or -1 once that has been deleted
/// (`packet_notifier` in net/packet/af_packet.c).
fn interface(capture: &Capture<Active>) -> io::Result<i32> {
    // SAFETY: sockaddr_ll is made of integers, for which zeros are valid.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    let mut length = LENGTH;
    // SAFETY: the address and its length are live and writable through the call, the length says
    // how much may be written; the descriptor belongs to the capture, which is borrowed.
    let result = unsafe {
        libc::getsockname(
            capture.as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if i32::from(address.sll_family) != libc::AF_PACKET {
        return Err(io::Error::from_raw_os_error(libc::ENOTSOCK));
    }
    Ok(address.sll_ifindex)
}

/// Whether the captured interface has been deleted. The kernel tells a packet socket so only if
/// the interface was up, and libpcap notices only on the next read.
pub(super) fn gone(capture: &Capture<Active>) -> bool {
    interface(capture).is_ok_and(|index| index == -1)
}

/// Binds the socket to the interface that libpcap found, now for every protocol. On an interface
/// that is down it starts to receive when that comes up.
pub(super) fn listen(capture: &Capture<Active>) -> io::Result<()> {
    let index = interface(capture)?;
    if index <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the address is a whole sockaddr_ll that lives through the call, and the length is
    // its own; the descriptor belongs to the capture, which is borrowed.
    let result = unsafe { libc::bind(capture.as_raw_fd(), (&raw const address).cast(), LENGTH) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // That it is down is kept as a pending error, and taking it clears it.
    match getsockopt(capture, sockopt::SocketError)? {
        0 | libc::ENETDOWN => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
