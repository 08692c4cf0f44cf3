//! Which way a frame went, from the frame itself.

use super::{Direction, ETHERNET, LINUX_SLL, LINUX_SLL2};

/// Which way a frame went, where its file does not say: pcap has no room for it.
///
/// Cooked captures have the packet type of packet(7) in their header. Of Ethernet frames it is told
/// from the interface's own address: what bears it as its source was sent, which also holds where
/// a director forwards (nftables' `fwd`, kernel IPVS), since both put their own address there; what
/// bears it as its destination, or goes to a group and bears another source, was received.
///
/// What bears it nowhere stays unknown: a bridge or a macvlan behind the interface sends such
/// frames, and a switch that has forgotten a port delivers them. A machine that sends under another's
/// address (a spoofer) to a group is taken for a receiver, and one that receives its own frames back
/// (a loop) for a sender.
pub fn direction(link_type: u32, own: Option<[u8; 6]>, frame: &[u8]) -> Option<Direction> {
    match link_type {
        ETHERNET => {
            let own = own.filter(|own| *own != [0; 6])?;
            let (to, from) = (frame.get(..6)?, frame.get(6..12)?);
            if from == own {
                Some(Direction::Out)
            } else if to == own || to[0] & 1 != 0 {
                Some(Direction::In)
            } else {
                None
            }
        }
        LINUX_SLL => packet_type(u16::from_be_bytes([*frame.first()?, *frame.get(1)?])),
        LINUX_SLL2 => packet_type(u16::from(*frame.get(10)?)),
        _ => None,
    }
}

/// PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING.
fn packet_type(kind: u16) -> Option<Direction> {
    match kind {
        0..=3 => Some(Direction::In),
        4 => Some(Direction::Out),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const THIRD: [u8; 6] = [2, 0, 0, 0, 0, 3];
    const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

    #[test]
    fn ethernet_by_the_interfaces_own_address() {
        let way = |own, to: [u8; 6], from: [u8; 6]| direction(ETHERNET, own, &[to, from].concat());
        assert_eq!(way(Some(OWN), OTHER, OWN), Some(Direction::Out));
        assert_eq!(way(Some(OWN), OWN, OTHER), Some(Direction::In));
        assert_eq!(way(Some(OWN), GROUP, OWN), Some(Direction::Out));
        assert_eq!(way(Some(OWN), GROUP, OTHER), Some(Direction::In));
        assert_eq!(way(Some(OWN), OWN, OWN), Some(Direction::Out));
        assert_eq!(way(Some(OWN), OTHER, THIRD), None);
        assert_eq!(way(None, OTHER, OWN), None);
        // A loopback device has no address of its own.
        assert_eq!(way(Some([0; 6]), [0; 6], [0; 6]), None);
        assert_eq!(direction(ETHERNET, Some(OWN), &OWN), None);
    }

    #[test]
    fn cooked_captures_say_it_themselves() {
        let sll = |kind| direction(LINUX_SLL, None, &[0, kind, 0, 1]);
        let says = [
            Some(Direction::In),
            Some(Direction::In),
            Some(Direction::Out),
            None,
        ];
        assert_eq!([0, 3, 4, 7].map(sll), says);
        let sll2 = |kind| direction(LINUX_SLL2, None, &[8, 0, 0, 0, 0, 0, 0, 3, 0, 1, kind, 6]);
        assert_eq!([0, 3, 4, 7].map(sll2), says);
        assert_eq!(direction(LINUX_SLL, None, &[0]), None);
    }
}
