//! PAX extension records: `<length> <key>=<value>\n`, the length in decimal and counting all of it.

use std::collections::BTreeMap;

use super::super::error::LayerError;
use super::sparse;

/// The records of one header that a layer's reader needs. Others (atime, ctime, charset, comment,
/// vendors' own) say nothing that a root filesystem needs.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse: sparse::Records,
}

impl Records {
    pub(super) fn parse(mut records: &[u8]) -> Result<Self, LayerError> {
        let bad = || LayerError::Tar("a PAX header is malformed".into());
        let mut all = Self::default();
        while !records.is_empty() {
            let space = records.iter().position(|&b| b == b' ').ok_or_else(bad)?;
            let length: usize = number(&records[..space]).ok_or_else(bad)?;
            if length > records.len() || length < space + 3 || records[length - 1] != b'\n' {
                return Err(bad());
            }
            let record = &records[space + 1..length - 1];
            records = &records[length..];
            let equals = record.iter().position(|&b| b == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            all.record(key, value).ok_or_else(bad)?;
        }
        Ok(all)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            // An empty value deletes other records, but is a value of an attribute.
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Some(());
        }
        match key {
            b"path" => set(&mut self.path, value, |v| Some(v.to_vec()))?,
            b"linkpath" => set(&mut self.link, value, |v| Some(v.to_vec()))?,
            b"size" => set(&mut self.size, value, number)?,
            b"uid" => set(&mut self.uid, value, number)?,
            b"gid" => set(&mut self.gid, value, number)?,
            b"mtime" => set(&mut self.mtime, value, time)?,
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.record(key, value)?;
                }
            }
        }
        Some(())
    }
}

/// Sets what a record says; an empty value stands for no record (POSIX). `None` if it is malformed.
fn set<T>(field: &mut Option<T>, value: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Option<()> {
    *field = match value {
        b"" => None,
        value => Some(parse(value)?),
    };
    Some(())
}

/// Decimal digits alone: no sign and no space, which `str::parse` would take in part.
pub(super) fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `1700000000.123456789`, also negative; digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match value.iter().position(|&b| b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds: i64 = number(whole)?;
    let nanos = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |n, d| n * 10 + u32::from(d - b'0'));
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_round_down() {
        assert_eq!(time(b"1700000000.000000001"), Some((1_700_000_000, 1)));
        assert_eq!(time(b"1700000000.5"), Some((1_700_000_000, 500_000_000)));
        assert_eq!(time(b"1.12345678999"), Some((1, 123_456_789)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        for bad in [&b""[..], b"-", b".5", b"1.x", b"+1", b"--1", b"1.-5"] {
            assert_eq!(time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"0 \n"[..],
            b"99 path=x\n",
            b"9 path=xx",
            b"x path=a\n",
            b"-9 path=a\n",
            b"5 pat\n",
            b"3 \n\n",
            b"18446744073709551616 path=a\n",
            b"11 size=-1\n",
            b"11 uid=abc\n",
            b"24 GNU.sparse.numbytes=1\n",
            b"20 GNU.sparse.map=,\n",
        ] {
            assert!(Records::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn empty_attributes_are_kept_and_the_last_of_a_name_wins() {
        let records =
            b"24 SCHILY.xattr.user.a=\n25 SCHILY.xattr.user.b=x\n25 SCHILY.xattr.user.b=y\n";
        let records = Records::parse(records).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            records.xattrs.into_iter().collect::<Vec<_>>(),
            [
                (b"user.a".to_vec(), b"".to_vec()),
                (b"user.b".to_vec(), b"y".to_vec())
            ]
        );
    }

    #[test]
    fn an_empty_value_deletes_a_record() {
        let records = Records::parse(b"9 uid=77\n7 uid=\n9 path=a\n8 path=\n");
        let records = records.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((records.uid, records.path), (None, None));
    }
}
