//! Capture filters: whether libpcap takes one. Needs neither an interface nor root.

use pcap::{Capture, Linktype};

/// Compiles a filter of pcap-filter(7) for Ethernet. The error is libpcap's own, as `syntax
/// error`. Names of hosts are looked up in the resolver of whoever asks, not of the lab.
pub fn check(filter: &str) -> Result<(), String> {
    let words = |e: pcap::Error| match e {
        pcap::Error::PcapError(text) => text,
        e => e.to_string(),
    };
    let dead = Capture::dead(Linktype::ETHERNET).map_err(words)?;
    dead.compile(filter, true).map(drop).map_err(words)
}

#[cfg(test)]
mod tests {
    use super::check;

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
}
