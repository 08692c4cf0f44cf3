//! Times of frames: whatever a file counts in, to nanoseconds since 1970.

/// How an interface's timestamps are to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    unit: Unit,
    /// `if_tsoffset`, in seconds.
    offset: i64,
}

/// What one tick is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// So many nanoseconds.
    Nanoseconds(u64),
    /// So many of them are a nanosecond.
    PerNanosecond(u128),
    /// 2^-n seconds.
    Binary(u32),
}

const SECOND: i128 = 1_000_000_000;

impl Clock {
    /// By the options `if_tsresol` and `if_tsoffset`.
    pub(super) fn new(resolution: u8, offset: i64) -> Self {
        let exponent = u32::from(resolution & 0x7f);
        let unit = if resolution & 0x80 != 0 {
            Unit::Binary(exponent)
        } else if exponent <= 9 {
            Unit::Nanoseconds(10u64.pow(9 - exponent))
        } else {
            Unit::PerNanosecond(10u128.checked_pow(exponent - 9).unwrap_or(u128::MAX))
        };
        Self { unit, offset }
    }

    /// Nanoseconds since 1970; may be outside of what [`super::Frame::time_ns`] can say.
    pub(super) fn nanoseconds(&self, ticks: u64) -> i128 {
        let since = match self.unit {
            Unit::Nanoseconds(n) => i128::from(ticks) * i128::from(n),
            Unit::PerNanosecond(n) => (u128::from(ticks) / n).cast_signed(),
            Unit::Binary(n) => (i128::from(ticks) * SECOND).checked_shr(n).unwrap_or(0),
        };
        since + i128::from(self.offset) * SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resolution_comes_to_nanoseconds() {
        for (resolution, ticks, says) in [
            (0, 5, 5_000_000_000),
            (6, 1_500_000, 1_500_000_000),
            (9, 1_500_000_001, 1_500_000_001),
            (12, 1_500_999, 1_500),
            (28, u64::MAX, 1),
            (29, u64::MAX, 0),
            (127, u64::MAX, 0),
            (0x80, 3, 3_000_000_000),
            (0x8a, 1536, 1_500_000_000),
            (0xbf, 1 << 62, 500_000_000),
            (0xff, u64::MAX, 0),
        ] {
            let clock = Clock::new(resolution, 0);
            assert_eq!(clock.nanoseconds(ticks), says, "{resolution}");
        }
    }

    #[test]
    fn an_offset_goes_both_ways() {
        assert_eq!(Clock::new(9, 10).nanoseconds(7), 10_000_000_007);
        assert_eq!(Clock::new(9, -1).nanoseconds(7), -999_999_993);
        let most = Clock::new(0, i64::MAX).nanoseconds(u64::MAX);
        assert_eq!(most, (i128::from(u64::MAX) + i128::from(i64::MAX)) * SECOND);
    }
}
