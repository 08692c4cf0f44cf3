//! Netlink attributes as IPVS has them: numbers in the host's byte order, ports and addresses in
//! the network's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator, parse_string,
};

/// Bytes of `union nf_inet_addr`, in which the kernel keeps both kinds of address.
const ADDRESS: usize = 16;

pub(super) fn u8(kind: u16, value: u8) -> DefaultNla {
    DefaultNla::new(kind, vec![value])
}

pub(super) fn u16(kind: u16, value: u16) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

pub(super) fn u32(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

pub(super) fn port(kind: u16, value: u16) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// NUL-terminated, as NLA_NUL_STRING has to be.
pub(super) fn text(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, [value.as_bytes(), b"\0"].concat())
}

/// An address, always of 16 bytes like ipvsadm's; an IPv4 one stands in the first four.
pub(super) fn address(kind: u16, value: IpAddr) -> DefaultNla {
    let mut bytes = match value {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    bytes.resize(ADDRESS, 0);
    DefaultNla::new(kind, bytes)
}

pub(super) fn nest(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

/// `AF_INET` or `AF_INET6`.
pub(super) fn family(ipv6: bool) -> u16 {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    family.cast_unsigned() as u16
}

/// The attributes of one message or nest, as they came.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    /// What they describe, for error texts.
    of: &'static str,
    all: Vec<(u16, &'a [u8])>,
}

impl<'a> Attributes<'a> {
    pub fn read(of: &'static str, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let all = NlasIterator::new(bytes)
            .map(|nla| {
                let nla = nla.map_err(|e| DecodeError::from(format!("{of}: {e}")))?;
                let (kind, length) = (nla.kind(), usize::from(nla.length()));
                Ok((kind, &nla.into_inner()[NLA_HEADER_SIZE..length]))
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self { of, all })
    }

    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.all.iter().find(|a| a.0 == kind).map(|a| a.1)
    }

    pub fn need(&self, kind: u16) -> Result<&'a [u8], DecodeError> {
        self.get(kind)
            .ok_or_else(|| format!("{} has no attribute {kind}", self.of).into())
    }

    pub fn nested(&self, of: &'static str, kind: u16) -> Result<Option<Self>, DecodeError> {
        self.get(kind).map(|b| Self::read(of, b)).transpose()
    }

    fn sized<const N: usize>(&self, kind: u16) -> Result<[u8; N], DecodeError> {
        let bytes = self.need(kind)?;
        bytes.try_into().map_err(|_| self.odd(kind, bytes.len()))
    }

    fn odd(&self, kind: u16, length: usize) -> DecodeError {
        format!("attribute {kind} of {} has {length} bytes", self.of).into()
    }

    pub fn u8(&self, kind: u16) -> Result<u8, DecodeError> {
        Ok(self.sized::<1>(kind)?[0])
    }

    pub fn u16(&self, kind: u16) -> Result<u16, DecodeError> {
        self.sized(kind).map(u16::from_ne_bytes)
    }

    pub fn u32(&self, kind: u16) -> Result<u32, DecodeError> {
        self.sized(kind).map(u32::from_ne_bytes)
    }

    pub fn port(&self, kind: u16) -> Result<u16, DecodeError> {
        self.sized(kind).map(u16::from_be_bytes)
    }

    /// A counter, of 32 or 64 bits.
    pub fn counter(&self, kind: u16) -> Result<u64, DecodeError> {
        let bytes = self.need(kind)?;
        match bytes.len() {
            4 => self.u32(kind).map(u64::from),
            8 => self.sized(kind).map(u64::from_ne_bytes),
            length => Err(self.odd(kind, length)),
        }
    }

    pub fn text(&self, kind: u16) -> Result<String, DecodeError> {
        parse_string(self.need(kind)?)
    }

    /// `struct ip_vs_flags`: the flags, without their mask.
    pub fn flags(&self, kind: u16) -> Result<u32, DecodeError> {
        let [a, b, c, d, ..] = self.sized::<8>(kind)?;
        Ok(u32::from_ne_bytes([a, b, c, d]))
    }

    /// An address of the given family. The kernel sends 16 bytes; old ones sent an IPv4 address in four.
    pub fn address(&self, kind: u16, ipv6: bool) -> Result<IpAddr, DecodeError> {
        let bytes = self.need(kind)?;
        let address = if ipv6 {
            bytes.first_chunk::<16>().map(|b| Ipv6Addr::from(*b).into())
        } else {
            bytes.first_chunk::<4>().map(|b| Ipv4Addr::from(*b).into())
        };
        address.ok_or_else(|| self.odd(kind, bytes.len()))
    }

    /// Whether an address family is IPv6.
    pub fn ipv6(&self, kind: u16) -> Result<bool, DecodeError> {
        let value = self.u16(kind)?;
        [false, true]
            .into_iter()
            .find(|ipv6| family(*ipv6) == value)
            .ok_or_else(|| format!("{} is of address family {value}", self.of).into())
    }
}
