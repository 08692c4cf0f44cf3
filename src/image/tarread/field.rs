//! A header block's fields.

use super::super::error::LayerError;

/// One header of 512 bytes whose checksum is right (POSIX.1-2017, pax, "ustar Interchange Format").
pub(super) struct Header([u8; 512]);

impl Header {
    pub(super) fn parse(block: &[u8; 512]) -> Result<Self, LayerError> {
        let wrong = || LayerError::Tar("a header's checksum is wrong".into());
        let want = unsigned(&block[148..156]).ok_or_else(wrong)?;
        // The sum of all bytes with the sum's own field as blanks; old writers added signed bytes.
        let mut sums = (8 * 32_u64, 8 * 32_i64);
        for &byte in block[..148].iter().chain(&block[156..]) {
            sums.0 += u64::from(byte);
            sums.1 += i64::from(byte.cast_signed());
        }
        if want != sums.0 && i64::try_from(want) != Ok(sums.1) {
            return Err(wrong());
        }
        Ok(Self(*block))
    }

    /// The type.
    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    /// Whether it is GNU's own format, in which other fields are where ustar has a prefix.
    pub(super) fn is_gnu(&self) -> bool {
        self.0[257..265] == *b"ustar  \0"
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = until_zero(&self.0[..100]);
        let prefix = until_zero(&self.0[345..500]);
        if self.0[257..263] != *b"ustar\0" || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, name].join(&b'/')
    }

    pub(super) fn link(&self) -> Vec<u8> {
        until_zero(&self.0[157..257]).to_vec()
    }

    pub(super) fn size(&self) -> Result<u64, LayerError> {
        self.number(124..136, "size")
    }

    /// Permission bits, 0o7777.
    pub(super) fn mode(&self) -> Result<u32, LayerError> {
        let mode: u64 = self.number(100..108, "mode")?;
        Ok((mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u64, LayerError> {
        self.number(108..116, "uid")
    }

    pub(super) fn gid(&self) -> Result<u64, LayerError> {
        self.number(116..124, "gid")
    }

    /// Seconds since 1970.
    pub(super) fn mtime(&self) -> Result<i64, LayerError> {
        self.number(136..148, "mtime")
    }

    /// Major and minor number; 0 in the formats before ustar, which have none.
    pub(super) fn device(&self) -> Result<(u32, u32), LayerError> {
        if self.0[257..262] != *b"ustar" {
            return Ok((0, 0));
        }
        Ok((
            self.number(329..337, "device number")?,
            self.number(337..345, "device number")?,
        ))
    }

    /// Bytes of the block, for what only one format has.
    pub(super) fn bytes(&self, at: std::ops::Range<usize>) -> &[u8] {
        &self.0[at]
    }

    fn number<T: TryFrom<i128>>(
        &self,
        at: std::ops::Range<usize>,
        what: &str,
    ) -> Result<T, LayerError> {
        number(&self.0[at])
            .and_then(|n| n.try_into().ok())
            .ok_or_else(|| LayerError::Tar(format!("a header's {what} is not a number it can be")))
    }
}

/// A numeric field that cannot be negative.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    number(field)?.try_into().ok()
}

/// A numeric field: octal digits between blanks and zeros, nothing at all for 0, or GNU's base 256
/// for what has no room otherwise: big-endian two's complement, the highest bit set to tell.
fn number(field: &[u8]) -> Option<i128> {
    if field[0] & 0x80 != 0 {
        // Bit 6 is the sign.
        let first = i128::from(((field[0] << 1).cast_signed()) >> 1);
        return Some(
            field[1..]
                .iter()
                .fold(first, |n, &b| n << 8 | i128::from(b)),
        );
    }
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(blank) {
        return None;
    }
    digits[..end].iter().try_fold(0, |n, &b| match b {
        b'0'..=b'7' => Some(n << 3 | i128::from(b - b'0')),
        _ => None,
    })
}

pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, want) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\x80\0\0\0\xff\xff\xff\xfe", Some(0xffff_fffe)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i128::from(i64::MAX)),
            ),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"06 44\0\0\0", None),
            (b"0x644\0\0\0", None),
        ] {
            assert_eq!(number(field), want, "{}", field.escape_ascii());
        }
        assert_eq!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
