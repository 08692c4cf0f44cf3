//! Capture filters of pcap-filter(7). Needs neither an interface nor root.
//!
//! Names of hosts in a filter are looked up in the resolver of whoever asks, not of the lab.

use pcap::{BpfProgram, Capture, Linktype};

/// Whether libpcap takes a filter for Ethernet. The error is libpcap's own, as `syntax error`.
pub fn check(filter: &str) -> Result<(), String> {
    Filter::compile(Linktype::ETHERNET.0.cast_unsigned(), filter).map(drop)
}

/// A compiled filter, for frames that have been captured already.
pub struct Filter(BpfProgram);

impl Filter {
    /// Compiles a filter for frames of a link type (`LINKTYPE_*`, as files have it).
    pub fn compile(link: u32, filter: &str) -> Result<Self, String> {
        let words = |e: pcap::Error| match e {
            pcap::Error::PcapError(text) => text,
            e => e.to_string(),
        };
        // libpcap's own number of raw IP, the only one that differs for interfaces on Linux.
        let link = Linktype(if link == 101 { 12 } else { link.cast_signed() });
        let dead = Capture::dead(link).map_err(words)?;
        dead.compile(filter, true).map(Self).map_err(words)
    }

    /// Whether it wants a frame, judged by what was captured of it: where a snapshot length has cut
    /// it, its length is taken for that.
    pub fn wants(&self, captured: &[u8]) -> bool {
        self.0.filter(captured)
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Filter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libpcap_judges_filters() {
        assert_eq!(check("tcp port 8080"), Ok(()));
        assert_eq!(check("host fd00::1 and not arp"), Ok(()));
        assert_eq!(check("ether[0] & 1 != 0"), Ok(()));
        let wrong = check("tcp prot 8080").unwrap_err();
        assert!(wrong.contains("syntax error"), "{wrong}");
        assert!(check("port 99999").is_err());
        assert!(check("tcp\0").is_err());
    }

    #[test]
    fn frames_are_judged_by_their_bytes() {
        let mut arp = [0; 42];
        (arp[12], arp[13]) = (8, 6);
        let wants = |filter, frame: &[u8]| Filter::compile(1, filter).unwrap().wants(frame);
        assert!(wants("arp", &arp));
        assert!(!wants("ip", &arp));
        assert!(wants("less 60", &arp));
        assert!(!wants("arp", &arp[..13]), "the type is cut in two");
        assert!(wants("", &arp));
        // Raw IP has no Ethernet header before it.
        let mut ip = [0; 20];
        (ip[0], ip[9]) = (0x45, 17);
        assert!(Filter::compile(101, "udp").unwrap().wants(&ip));
    }
}
