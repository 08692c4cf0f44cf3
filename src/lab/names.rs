//! Names with their rules built in: a value that exists is valid.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a name was refused, as prose that can follow the name in a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("is empty")]
    Empty,
    /// The name has more bytes than its kind may have.
    #[error("is {len} bytes long; at most {max} are allowed")]
    TooLong {
        /// Bytes that it has.
        len: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// A character that this kind of name may not hold.
    #[error("contains {0:?}; allowed are {1}")]
    BadChar(char, &'static str),
    /// The first or last character is not a letter or digit.
    #[error("must begin and end with a lower-case letter or a digit")]
    BadEdge,
    /// The kernel or nslab keeps this name for itself.
    #[error("is reserved: {0}")]
    Reserved(&'static str),
}

/// Names in /etc/hosts are compared without regard to case (RFC 4343).
const VIP: &str = "`VIP` is the first service's address in every /etc/hosts";

/// RFC 1123 host label in lower case; no `_`, so that `<node>_<if>.pcap` can be taken apart again.
fn host_label(s: &str, max: usize) -> Result<(), NameError> {
    const ALLOWED: &str = "lower-case letters, digits and '-'";
    if s.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(c) = s
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-'))
    {
        return Err(NameError::BadChar(c, ALLOWED));
    }
    if s.len() > max {
        return Err(NameError::TooLong { len: s.len(), max });
    }
    if s.starts_with('-') || s.ends_with('-') {
        return Err(NameError::BadEdge);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps `s`.
            pub fn new(s: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(s)?;
                Ok(Self(s.to_owned()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of a lab: it becomes `/run/nslab/<lab>` and `exchange/<lab>`; at most 32 bytes.
    LabName, |s| host_label(s, 32)
);
name!(
    /// Name of a node: its hostname and its name in every /etc/hosts; at most 63 bytes (RFC 1123).
    NodeName, |s| match s {
        "localhost" => Err(NameError::Reserved("every node is its own localhost")),
        "all" => Err(NameError::Reserved("it means every node in commands")),
        "vip" => Err(NameError::Reserved(VIP)),
        _ => host_label(s, 63),
    }
);
name!(
    /// Name of a network; at most 63 bytes.
    NetworkName, |s| host_label(s, 63)
);
name!(
    /// Name of a service; at most 63 bytes. It is in every node's /etc/hosts as well.
    ServiceName, |s| match s {
        "localhost" => Err(NameError::Reserved("every node is its own localhost")),
        "vip" => Err(NameError::Reserved(VIP)),
        _ => host_label(s, 63),
    }
);
name!(
    /// Name of a network interface: 1 to 15 bytes without '/', ':' and white space
    /// (`dev_valid_name` in net/core/dev.c; IFNAMSIZ is 16 with its closing zero). nslab allows
    /// ASCII letters, digits, '-', '.' and '_' of these.
    IfName, |s| {
        if s.is_empty() {
            return Err(NameError::Empty);
        }
        if s.len() > 15 {
            return Err(NameError::TooLong { len: s.len(), max: 15 });
        }
        if let Some(c) = s.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._".contains(*c))) {
            return Err(NameError::BadChar(c, "ASCII letters, digits, '-', '.' and '_'"));
        }
        match s {
            "." | ".." => Err(NameError::Reserved("the kernel refuses it")),
            "lo" => Err(NameError::Reserved("every node has its loopback already")),
            "all" | "default" => {
                Err(NameError::Reserved("net.ipv4.conf has an entry of this name already"))
            }
            _ => Ok(()),
        }
    }
);

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// A locally administered unicast address (IEEE 802: second-lowest bit of the first byte set,
    /// lowest clear) made from names, so that a lab has the same addresses in each run and `plan`
    /// can print them.
    pub fn from_seed(parts: &[&str]) -> Self {
        // FNV-1a, 64 bit: stable over Rust versions, unlike std's hasher.
        let mut h: u64 = 0xcbf2_9ce4_8422_2325;
        for part in parts {
            for b in part.bytes().chain([0]) {
                h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let b = h.to_be_bytes();
        Self([0x02, b[3] ^ b[0], b[4] ^ b[1], b[5] ^ b[2], b[6], b[7]])
    }

    /// The six bytes in the order in which they are sent.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let colon = if n == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Six bytes in hexadecimal, colons between them.
impl std::str::FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let wrong = || MacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let hex = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(hex).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(octets))
    }
}

/// A text that is no Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no Ethernet address; one looks like 02:1c:9e:00:4f:a3")]
pub struct MacError(String);

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_reads_back() {
        let mac = Mac::from([2, 0x1c, 0x9e, 0, 0x4f, 0xa3]);
        assert_eq!("02:1c:9e:00:4f:a3".parse(), Ok(mac));
        for wrong in [
            "",
            "02:1c:9e:00:4f",
            "02:1c:9e:00:4f:a3:00",
            "02:1c:9e:00:4f:+3",
        ] {
            assert_eq!(
                wrong.parse::<Mac>().unwrap_err().to_string(),
                format!("{wrong:?} is no Ethernet address; one looks like 02:1c:9e:00:4f:a3")
            );
        }
    }

    #[test]
    fn nothing_is_called_vip_but_the_vip() {
        let said = "is reserved: `VIP` is the first service's address in every /etc/hosts";
        assert_eq!(NodeName::new("vip").unwrap_err().to_string(), said);
        assert_eq!(ServiceName::new("vip").unwrap_err().to_string(), said);
    }
}
