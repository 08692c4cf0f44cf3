//! A tar reader for layers that nobody vouches for: header by header, with a bound on everything
//! that it keeps in memory.
//!
//! Formats: ustar, GNU long names and PAX (POSIX.1-2017, pax, "pax Interchange Format"), as
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md> asks for. The `tar` crate
//! decodes the header's fields; its own iterator reads extension headers of any size into memory.

use std::io::{self, Read};

use super::error::LayerError;

/// Most bytes of one extension header (a PAX header with every attribute that Linux allows on a
/// file has fewer).
const MAX_EXTENSION: u64 = 1024 * 1024;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Symlink,
    Hardlink,
    Fifo,
    Char,
    Block,
}

/// An entry, its PAX and GNU extensions applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits, 0o7777.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds since 1970 (rounded down) and nanoseconds on top.
    pub mtime: (i64, u32),
    /// Bytes of content; 0 for all but files.
    pub size: u64,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Extension records that are set, from PAX headers and GNU long names.
#[derive(Debug, Clone, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads entries; between two calls of [`next`](Self::next) it is itself the reader of the
/// entry's content.
pub(super) struct Reader<R> {
    inner: R,
    left: u64,
    padding: u64,
    global: Extensions,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            left: 0,
            padding: 0,
            global: Extensions::default(),
        }
    }

    /// The stream behind the archive's end.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut ext = self.global.clone();
        loop {
            self.skip(self.left)?;
            self.left = 0;
            // umoci's `insert` ends an archive with the last file's last byte, and Go's archive/tar,
            // which the field's tools read with, takes that for the end.
            if !self.skip_padding()? {
                return Ok(None);
            }
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header
                .entry_size()
                .map_err(|e| LayerError::Tar(e.to_string()))?;
            let flag = header.entry_type().as_byte();
            match flag {
                b'x' => pax(&self.extension(size)?, &mut ext)?,
                b'g' => {
                    let records = self.extension(size)?;
                    pax(&records, &mut self.global)?;
                    pax(&records, &mut ext)?;
                }
                b'L' => ext.path = Some(until_zero(self.extension(size)?)),
                b'K' => ext.link = Some(until_zero(self.extension(size)?)),
                _ => return self.entry(&header, flag, size, ext).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        flag: u8,
        size: u64,
        ext: Extensions,
    ) -> Result<Entry, LayerError> {
        let bad = |e: io::Error| LayerError::Tar(e.to_string());
        let path = ext.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match flag {
            // Before POSIX a folder was a file whose name ends in a slash.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            b'S' => return Err(refused(&path, "sparse files are not supported")),
            other => {
                let why = format!("unknown type {:?}", char::from(other));
                return Err(refused(&path, &why));
            }
        };
        // Other kinds have no content whatever their size field says (POSIX; Go's archive/tar).
        let size = if kind == Kind::File {
            ext.size.unwrap_or(size)
        } else {
            0
        };
        self.left = size;
        self.padding = size.wrapping_neg() % 512;
        let device = match kind {
            Kind::Char | Kind::Block => (
                header.device_major().map_err(bad)?.unwrap_or(0),
                header.device_minor().map_err(bad)?.unwrap_or(0),
            ),
            _ => (0, 0),
        };
        let link = match ext.link {
            Some(link) => link,
            None => header
                .link_name_bytes()
                .map(std::borrow::Cow::into_owned)
                .unwrap_or_default(),
        };
        let mtime = match ext.mtime {
            Some(mtime) => mtime,
            None => (
                i64::try_from(header.mtime().map_err(bad)?).unwrap_or(i64::MAX),
                0,
            ),
        };
        Ok(Entry {
            link,
            kind,
            mode: header.mode().map_err(bad)? & 0o7777,
            uid: ext.uid.map_or_else(|| header.uid(), Ok).map_err(bad)?,
            gid: ext.gid.map_or_else(|| header.gid(), Ok).map_err(bad)?,
            mtime,
            size,
            device,
            xattrs: ext.xattrs,
            path,
        })
    }

    fn header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut block = [0; 512];
        let mut have = 0;
        while have < block.len() {
            match self
                .inner
                .read(&mut block[have..])
                .map_err(LayerError::Read)?
            {
                // No zero blocks at the end: some writers leave them out.
                0 if have == 0 => return Ok(None),
                0 => return Err(LayerError::Tar("it ends within a header".into())),
                n => have += n,
            }
        }
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let want = header.cksum().map_err(|e| LayerError::Tar(e.to_string()))?;
        // The sum of all bytes with the sum's own field as blanks.
        let got: u32 = block[..148]
            .iter()
            .chain(&block[156..])
            .map(|&b| u32::from(b))
            .sum();
        if got + 8 * 32 != want {
            return Err(LayerError::Tar("a header's checksum is wrong".into()));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > MAX_EXTENSION {
            return Err(LayerError::Limit {
                what: "bytes of one extension header",
                limit: MAX_EXTENSION,
            });
        }
        self.left = size;
        self.padding = size.wrapping_neg() % 512;
        let mut data = Vec::new();
        self.read_to_end(&mut data).map_err(LayerError::Read)?;
        if data.len() as u64 != size {
            return Err(LayerError::Tar("it ends within an extension header".into()));
        }
        Ok(data)
    }

    /// Skips what fills up the last block; `false` at the archive's end.
    fn skip_padding(&mut self) -> Result<bool, LayerError> {
        let padding = std::mem::take(&mut self.padding);
        io::copy(&mut self.inner.by_ref().take(padding), &mut io::sink())
            .map(|n| n == padding)
            .map_err(LayerError::Read)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), LayerError> {
        let n = io::copy(&mut self.inner.by_ref().take(bytes), &mut io::sink())
            .map_err(LayerError::Read)?;
        if n == bytes {
            Ok(())
        } else {
            Err(LayerError::Tar("it ends within an entry".into()))
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.by_ref().take(self.left).read(buf)?;
        self.left -= n as u64;
        Ok(n)
    }
}

fn refused(path: &[u8], why: &str) -> LayerError {
    LayerError::Refused {
        entry: String::from_utf8_lossy(path).into_owned(),
        why: why.to_owned(),
    }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|&b| b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// PAX records: `<length> <key>=<value>\n`, the length in decimal and counting all of it.
fn pax(mut records: &[u8], ext: &mut Extensions) -> Result<(), LayerError> {
    let bad = || LayerError::Tar("a PAX header is malformed".into());
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
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            // An empty value deletes other records, but is a value of an attribute.
            ext.xattrs.retain(|(n, _)| n != name);
            ext.xattrs.push((name.to_vec(), value.to_vec()));
            continue;
        }
        match key {
            b"path" => ext.path = (!value.is_empty()).then(|| value.to_vec()),
            b"linkpath" => ext.link = (!value.is_empty()).then(|| value.to_vec()),
            b"size" => ext.size = Some(number(value).ok_or_else(bad)?),
            b"uid" => ext.uid = Some(number(value).ok_or_else(bad)?),
            b"gid" => ext.gid = Some(number(value).ok_or_else(bad)?),
            b"mtime" => ext.mtime = Some(time(value).ok_or_else(bad)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(LayerError::Tar("sparse files are not supported".into()));
            }
            // atime, ctime, charset, comment, vendors' own: nothing that a root filesystem needs.
            _ => {}
        }
    }
    Ok(())
}

/// Decimal digits alone: no sign and no space, which `str::parse` would take in part.
fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
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
    fn malformed_pax_records_are_refused() {
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
        ] {
            assert!(
                pax(bad, &mut Extensions::default()).is_err(),
                "{:?}",
                bad.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn empty_attributes_are_kept_and_the_last_of_a_name_wins() {
        let mut ext = Extensions::default();
        pax(
            b"24 SCHILY.xattr.user.a=\n25 SCHILY.xattr.user.b=x\n25 SCHILY.xattr.user.b=y\n"
                .as_slice(),
            &mut ext,
        )
        .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            ext.xattrs,
            [
                (b"user.a".to_vec(), b"".to_vec()),
                (b"user.b".to_vec(), b"y".to_vec())
            ]
        );
    }
}
