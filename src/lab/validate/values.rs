//! Single values: addresses, numbers in ranges, durations, URLs.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::Validator;
use crate::spec::text::quote;
use crate::spec::{At, Code};

impl Validator<'_> {
    /// An address without a prefix length.
    pub(super) fn address(&mut self, at: &At<String>) -> Option<IpAddr> {
        let Ok(address) = at.value.parse() else {
            self.bad_address(at);
            return None;
        };
        Some(address)
    }

    pub(super) fn bad_address(&mut self, at: &At<String>) {
        let help = match at.value.split_once('/').map(|(a, _)| a) {
            Some(bare) if bare.parse::<IpAddr>().is_ok() => {
                format!("write it without a prefix length: `{bare}`")
            }
            _ => "write four numbers from 0 to 255 without leading zeros, as `192.168.10.2`, or \
                  an IPv6 address, as `fd00::2`"
                .to_owned(),
        };
        self.report(
            Code::BadAddress,
            at.span,
            format!("{} is not an IP address", quote(&at.value)),
            "not an address",
            help,
        );
    }

    /// Whether a machine can have this address at all; reports if not.
    pub(super) fn usable(&mut self, address: &At<IpAddr>) -> bool {
        let Some(why) = special(address.value) else {
            return true;
        };
        self.report(
            Code::UnusableAddress,
            address.span,
            format!("no interface can have the address {}", address.value),
            format!("this is {why}"),
            "take an ordinary unicast address, as `192.168.10.2`",
        );
        false
    }

    /// A number of a range; `code` says which error it is otherwise.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        at: &At<i64>,
        what: &str,
        range: RangeInclusive<i64>,
        code: Code,
        help: &str,
    ) -> Option<T> {
        if range.contains(&at.value)
            && let Ok(n) = T::try_from(at.value)
        {
            return Some(n);
        }
        self.report(
            code,
            at.span,
            format!("{what} must be from {} to {}", range.start(), range.end()),
            "out of range",
            help,
        );
        None
    }

    pub(super) fn port(&mut self, at: &At<i64>) -> Option<u16> {
        self.number(
            at,
            "a port",
            1..=65535,
            Code::BadPort,
            "write the port at which the program listens, as 8080",
        )
    }

    pub(super) fn duration(&mut self, at: &At<String>) -> Option<Duration> {
        let duration = duration(&at.value);
        if duration.is_none() {
            self.report(
                Code::BadDuration,
                at.span,
                format!("{} is not a duration", quote(&at.value)),
                "expected a whole number above 0 and `ms`, `s` or `m`",
                "write it like \"500ms\", \"60s\" or \"2m\"; a day (\"1440m\") is the most",
            );
        }
        duration
    }

    /// The URL of a `what` (`probe`), in its parts.
    pub(super) fn url(
        &mut self,
        at: &At<String>,
        what: &str,
        code: Code,
        like: &str,
    ) -> Option<Url> {
        let url = url(&at.value);
        if let Err(why) = url {
            self.report(
                code,
                at.span,
                format!("{what} URL {} {why}", quote(&at.value)),
                "bad URL",
                format!("write it like `{like}`"),
            );
        }
        url.ok()
    }

    /// A number of bytes within a range, given in powers of 1024.
    pub(super) fn size(
        &mut self,
        at: &At<String>,
        what: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let size = size(&at.value);
        if size.is_some_and(|n| range.contains(&n)) {
            return size;
        }
        let (message, label) = match size {
            None => (
                format!("{} is not a size", quote(&at.value)),
                "expected a whole number and `KiB`, `MiB` or `GiB`, or `k`, `m` or `g`",
            ),
            Some(_) => (
                format!("{what} cannot have {}", quote(&at.value)),
                "out of range",
            ),
        };
        let help = format!(
            "write it like \"4MiB\", from {} to {}",
            in_words(*range.start()),
            in_words(*range.end())
        );
        self.report(Code::BadSize, at.span, message, label, help);
        None
    }
}

/// Bytes in each unit of sizes; the short ones are Docker's, which are powers of 1024 too.
const UNITS: [(&str, u64); 6] = [
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

fn size(s: &str) -> Option<u64> {
    let digits = s.find(|c: char| !c.is_ascii_digit())?;
    let n: u64 = s[..digits].parse().ok()?;
    let (_, bytes) = UNITS.iter().find(|(unit, _)| *unit == &s[digits..])?;
    n.checked_mul(*bytes)
}

/// A size in the largest unit that divides it.
fn in_words(bytes: u64) -> String {
    let whole = UNITS
        .iter()
        .rev()
        .find(|(_, unit)| bytes.is_multiple_of(*unit));
    whole.map_or_else(
        || format!("{bytes} bytes"),
        |(name, unit)| format!("{}{name}", bytes / unit),
    )
}

/// Why no interface can have this address.
pub(super) fn special(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_loopback() {
        return Some("a loopback address, which every node has on `lo`");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    match address {
        IpAddr::V4(a) if a == Ipv4Addr::BROADCAST => Some("the broadcast address"),
        IpAddr::V4(a) if a.octets()[0] == 0 => Some("in 0.0.0.0/8, \"this network\""),
        IpAddr::V6(a) if a.is_unicast_link_local() => {
            Some("a link-local address, which the kernel makes itself")
        }
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        _ => None,
    }
}

/// What an address is in its subnet, if no machine can have it: with 31 and 32 bits (127 and 128
/// in IPv6) all addresses are usable (RFC 3021, RFC 6164).
pub(super) fn edge(address: IpAddr, subnet: IpNet) -> Option<&'static str> {
    match subnet {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            if address == net.network() {
                Some("network address")
            } else if address == net.broadcast() {
                Some("broadcast address")
            } else {
                None
            }
        }
        // RFC 4291, 2.6.1
        IpNet::V6(net) if net.prefix_len() < 127 && address == net.network() => {
            Some("subnet-router anycast address")
        }
        _ => None,
    }
}

/// "take an address from A to B".
pub(super) fn pick_from(subnet: IpNet) -> String {
    match subnet {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            let first = u32::from(net.network()).saturating_add(1);
            let last = u32::from(net.broadcast()).saturating_sub(1);
            format!(
                "take an address from {} to {}",
                Ipv4Addr::from(first),
                Ipv4Addr::from(last)
            )
        }
        _ => format!("take an address of {subnet}"),
    }
}

fn duration(s: &str) -> Option<Duration> {
    let digits = s.find(|c: char| !c.is_ascii_digit())?;
    let n: u64 = s[..digits].parse().ok()?;
    let unit = match &s[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    let day = 24 * 60 * 60 * 1000;
    n.checked_mul(unit)
        .filter(|ms| (1..=day).contains(ms))
        .map(Duration::from_millis)
}

/// An `http://` URL in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) host: String,
    pub(super) port: u16,
    /// With query, beginning with `/`.
    pub(super) path: String,
}

/// Takes an `http://` URL apart, or says why it cannot.
fn url(s: &str) -> Result<Url, &'static str> {
    let Some(rest) = s.strip_prefix("http://") else {
        return Err(if s.starts_with("https://") {
            "wants https, which probes do not speak"
        } else {
            "does not begin with `http://`"
        });
    };
    if rest.chars().any(|c| !c.is_ascii_graphic()) {
        return Err("has white space or characters that must be percent-encoded");
    }
    if rest.contains('#') {
        return Err("has a fragment, which is never sent");
    }
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err("has a user name");
    }
    let (host, port) = if let Some(v6) = authority.strip_prefix('[') {
        let (host, after) = v6
            .split_once(']')
            .ok_or("lacks the `]` of an IPv6 address")?;
        let port = match after {
            "" => None,
            _ => Some(
                after
                    .strip_prefix(':')
                    .ok_or("has text between address and port")?,
            ),
        };
        (host, port)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err("has no host");
    }
    let port = match port {
        None => 80,
        Some(p) if p.bytes().all(|b| b.is_ascii_digit()) => match p.parse() {
            Ok(p) if p > 0 => p,
            _ => return Err("has a port that is not from 1 to 65535"),
        },
        Some(_) => return Err("has a port that is not a number"),
    };
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Ok(Url {
        host: host.to_owned(),
        port,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("60s", Some(60_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1440m", Some(86_400_000)),
            ("1441m", None),
            ("0s", None),
            ("60", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("1 s", None),
            ("1h", None),
            ("99999999999999999999s", None),
            ("18446744073709551615m", None),
        ] {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64KiB", Some(65_536)),
            ("4MiB", Some(4_194_304)),
            ("1GiB", Some(1_073_741_824)),
            ("64k", Some(65_536)),
            ("512m", Some(536_870_912)),
            ("2g", Some(2_147_483_648)),
            ("2G", None),
            ("2b", None),
            ("4MB", None),
            ("4096", None),
            ("MiB", None),
            ("", None),
            ("-1MiB", None),
            ("1.5MiB", None),
            ("99999999999999GiB", None),
        ] {
            assert_eq!(size(text), bytes, "{text:?}");
        }
        assert_eq!(in_words(64 << 10), "64KiB");
        assert_eq!(in_words(1 << 40), "1024GiB");
    }

    #[test]
    fn urls() {
        let ok = |s: &str| {
            let u = url(s).unwrap_or_else(|e| panic!("{s}: {e}"));
            (u.host, u.port, u.path)
        };
        let is = |h: &str, p: u16, path: &str| (h.to_owned(), p, path.to_owned());
        assert_eq!(
            ok("http://localhost:8080/thredds/"),
            is("localhost", 8080, "/thredds/")
        );
        assert_eq!(ok("http://localhost"), is("localhost", 80, "/"));
        assert_eq!(ok("http://10.0.0.1?a=b:c"), is("10.0.0.1", 80, "/?a=b:c"));
        assert_eq!(ok("http://[fd00::1]:81/x"), is("fd00::1", 81, "/x"));
        assert_eq!(ok("http://[::1]"), is("::1", 80, "/"));
        for s in [
            "localhost:8080",
            "https://localhost",
            "http://",
            "http://:80",
            "http://a:0/",
            "http://a:65536/",
            "http://a:x/",
            "http://a:+1/",
            "http://a b/",
            "http://a/#x",
            "http://u@a/",
            "http://[::1",
            "http://[::1]x",
            "HTTP://a",
        ] {
            assert!(url(s).is_err(), "{s}");
        }
    }

    #[test]
    fn edges_of_subnets() {
        let edge = |a: &str, n: &str| edge(a.parse().expect("address"), n.parse().expect("net"));
        assert_eq!(edge("10.0.0.0", "10.0.0.0/24"), Some("network address"));
        assert_eq!(edge("10.0.0.255", "10.0.0.0/24"), Some("broadcast address"));
        assert_eq!(edge("10.0.0.0", "10.0.0.0/31"), None);
        assert_eq!(edge("10.0.0.1", "10.0.0.0/31"), None);
        assert_eq!(edge("10.0.0.1", "10.0.0.1/32"), None);
        assert_eq!(
            edge("fd00::", "fd00::/64"),
            Some("subnet-router anycast address")
        );
        assert_eq!(edge("fd00::", "fd00::/127"), None);
        assert_eq!(
            pick_from("10.0.0.0/30".parse().expect("net")),
            "take an address from 10.0.0.1 to 10.0.0.2"
        );
    }
}
