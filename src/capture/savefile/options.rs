//! Byte order, and the options that blocks of pcapng end with.

use super::MOST_TEXT;

/// The byte order of a file or of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Endian {
    /// The number at the beginning of `bytes`, which are at least two.
    pub(super) fn u16(self, bytes: &[u8]) -> u16 {
        let field = [bytes[0], bytes[1]];
        match self {
            Self::Little => u16::from_le_bytes(field),
            Self::Big => u16::from_be_bytes(field),
        }
    }

    /// The number at the beginning of `bytes`, which are at least four.
    pub(super) fn u32(self, bytes: &[u8]) -> u32 {
        let field = [bytes[0], bytes[1], bytes[2], bytes[3]];
        match self {
            Self::Little => u32::from_le_bytes(field),
            Self::Big => u32::from_be_bytes(field),
        }
    }

    /// A number of 64 bits in the byte order alone, as options have it: at least eight bytes.
    pub(super) fn u64(self, bytes: &[u8]) -> u64 {
        let (first, second) = (u64::from(self.u32(bytes)), u64::from(self.u32(&bytes[4..])));
        match self {
            Self::Little => second << 32 | first,
            Self::Big => first << 32 | second,
        }
    }

    /// A number as two of 32 bits, the higher first in either byte order, as timestamps have it: at
    /// least eight bytes.
    pub(super) fn high_low(self, bytes: &[u8]) -> u64 {
        u64::from(self.u32(bytes)) << 32 | u64::from(self.u32(&bytes[4..]))
    }
}

/// `length` and what fills it up to whole 32-bit words.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The options of a block: code and value of each. Ends at `opt_endofopt`, at the end of the
/// block, or where an option would go beyond it.
#[derive(Debug)]
pub(super) struct Options<'a> {
    endian: Endian,
    left: &'a [u8],
    broken: bool,
}

impl<'a> Options<'a> {
    pub(super) fn new(endian: Endian, bytes: &'a [u8]) -> Self {
        Self {
            endian,
            left: bytes,
            broken: false,
        }
    }

    /// Whether they ended where an option would have gone beyond the block.
    pub(super) fn broken(&self) -> bool {
        self.broken
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let left = std::mem::take(&mut self.left);
        if left.len() < 4 {
            self.broken = true;
            return None;
        }
        let (code, length) = (
            self.endian.u16(left),
            usize::from(self.endian.u16(&left[2..])),
        );
        if code == 0 {
            return None;
        }
        let Some(value) = left.get(4..4 + length) else {
            self.broken = true;
            return None;
        };
        // Some writers leave the padding of the last one out.
        self.left = left.get(4 + padded(length)..).unwrap_or_default();
        Some((code, value))
    }
}

/// What of [`MOST_TEXT`] is left. Without it a file of interfaces and names only would take a
/// multiple of its size.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(MOST_TEXT)
    }

    /// Takes so many bytes off, or says that there are not so many.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }

    /// A text within it. What is not UTF-8 is replaced, as in Wireshark, and a closing zero, which
    /// some writers add, is left out.
    pub(super) fn text(&mut self, value: &[u8]) -> Option<String> {
        let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
        // A byte that is not UTF-8 becomes three.
        self.take(3 * value.len() + size_of::<String>())
            .then(|| String::from_utf8_lossy(value).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_their_end() {
        let bytes = [
            2, 0, 3, 0, b'a', b'b', b'c', 0, 4, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9,
        ];
        let mut options = Options::new(Endian::Little, &bytes);
        assert_eq!(options.next(), Some((2, &b"abc"[..])));
        assert_eq!(options.next(), Some((4, &b""[..])));
        assert_eq!(options.next(), None);
        assert_eq!(options.next(), None);
        assert!(!options.broken());
    }

    #[test]
    fn options_never_leave_their_block() {
        let mut options = Options::new(Endian::Big, &[0, 2, 0, 9, 1, 2, 3, 4]);
        assert_eq!(options.next(), None);
        assert!(options.broken());
        let mut options = Options::new(Endian::Big, &[0, 2, 0, 3, 1, 2, 3]);
        assert_eq!(options.next(), Some((2, &[1, 2, 3][..])));
        assert_eq!(options.next(), None);
        assert!(!options.broken());
    }

    #[test]
    fn numbers_of_64_bits_come_in_two_ways() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(Endian::Little.u64(&bytes), 0x0807_0605_0403_0201);
        assert_eq!(Endian::Big.u64(&bytes), 0x0102_0304_0506_0708);
        assert_eq!(Endian::Little.high_low(&bytes), 0x0403_0201_0807_0605);
        assert_eq!(Endian::Big.high_low(&bytes), 0x0102_0304_0506_0708);
    }

    #[test]
    fn text_has_a_budget() {
        let mut budget = Budget(100);
        assert_eq!(budget.text(b"lb:eth1\0x").as_deref(), Some("lb:eth1"));
        assert_eq!(budget.text(&[0xff]).as_deref(), Some("\u{fffd}"));
        assert_eq!(budget.text(&[b'a'; 20]), None);
        assert!(budget.take(28) && !budget.take(1));
    }
}
