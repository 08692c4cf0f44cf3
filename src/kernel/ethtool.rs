//! Offload switches by the ethtool ioctl (include/uapi/linux/ethtool.h; ethtool(8) `-K` falls back
//! to the same calls).
//!
//! Features have names and no fixed numbers, so the kernel is asked for the names once. All
//! switches are set in one call; the older ones for tx-checksum, TSO, GSO and GRO leave newer
//! kinds of segmentation on.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Result;
use super::error::Context;

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`, bytes of a name with its zeros.
const NAME: usize = 32;

/// Numbers of the features that make frames look unlike those of a wire; the same for every link.
static FEATURES: OnceLock<Vec<usize>> = OnceLock::new();

/// Turns tx-checksum, all segmentation (TSO, GSO) and GRO off on a link of the calling thread's
/// namespace. Features that a link has fixed stay as they are.
pub(super) fn disable_offloads(link: &str) -> Result<()> {
    let op = || format!("turn offloads off on {link}");
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .op(op)?;
    let features = if let Some(known) = FEATURES.get() {
        known
    } else {
        let found = features(&socket, link).op(op)?;
        FEATURES.get_or_init(|| found)
    };
    let blocks = features.iter().max().map_or(0, |n| n / 32 + 1);
    // struct ethtool_sfeatures: cmd, size, then `valid` and `requested` of each block.
    let mut request = vec![0_u32; 2 + 2 * blocks];
    request[0] = ETHTOOL_SFEATURES;
    request[1] = blocks as u32;
    for n in features {
        request[2 + 2 * (n / 32)] |= 1 << (n % 32);
    }
    call(&socket, link, &mut request).op(op)
}

/// Asks for the features' names.
fn features(socket: &OwnedFd, link: &str) -> nix::Result<Vec<usize>> {
    // struct ethtool_sset_info: cmd, reserved, the 64-bit mask of sets, a length for each.
    let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
    let mask = (1_u64 << ETH_SS_FEATURES).to_ne_bytes();
    info[2] = u32::from_ne_bytes([mask[0], mask[1], mask[2], mask[3]]);
    info[3] = u32::from_ne_bytes([mask[4], mask[5], mask[6], mask[7]]);
    call(socket, link, &mut info)?;
    let count = info[4] as usize;
    // struct ethtool_gstrings: cmd, set, length, names.
    let mut strings = vec![0_u32; 3 + count * NAME / 4];
    strings[0] = ETHTOOL_GSTRINGS;
    strings[1] = ETH_SS_FEATURES;
    strings[2] = count as u32;
    call(socket, link, &mut strings)?;
    let bytes: Vec<u8> = strings[3..].iter().flat_map(|w| w.to_ne_bytes()).collect();
    let names = bytes.chunks(NAME).map(|name| {
        let end = name.iter().position(|b| *b == 0).unwrap_or(NAME);
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    Ok(names
        .enumerate()
        .filter(|(_, name)| unlike_a_wire(name))
        .map(|(n, _)| n)
        .collect())
}

/// Whether a feature (net/ethtool/common.c, `netdev_features_strings`) lets frames be longer than
/// the MTU, or carry checksums that are not filled in yet.
fn unlike_a_wire(feature: &str) -> bool {
    feature.starts_with("tx-checksum-")
        || feature.ends_with("-segmentation")
        || feature.starts_with("rx-gro")
        || matches!(feature, "tx-gso-list" | "rx-lro" | "rx-udp-gro-forwarding")
}

/// `ioctl(SIOCETHTOOL)` with a buffer that begins with the command.
fn call(socket: &OwnedFd, link: &str, buffer: &mut [u32]) -> nix::Result<()> {
    // SAFETY: ifreq is plain old data for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // A name has at most 15 bytes; the last of ifr_name stays zero whatever is given here.
    for (to, from) in request.ifr_name.iter_mut().take(15).zip(link.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = buffer.as_mut_ptr().cast();
    // SAFETY: SIOCETHTOOL reads `ifr_name`, and reads and writes as much behind `ifru_data` as the
    // lengths in the buffer's own header say, for which the callers have made room; both outlive
    // the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    nix::errno::Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_features_of_these_names() {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        let found = features(&socket.unwrap(), "lo").unwrap();
        // Checksums, TSO, TSO6, GSO, GRO at least.
        assert!(found.len() > 6, "{found:?}");
    }
}
