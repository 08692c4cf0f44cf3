//! A tar reader for layers that nobody vouches for: header by header, with a bound on everything
//! that it keeps in memory.
//!
//! Formats: ustar, GNU (long names, sparse files) and PAX (POSIX.1-2017, pax, "pax Interchange
//! Format") with GNU's sparse files, as <https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md>
//! asks for. Where those leave a choice, an archive means what it means to Go's archive/tar, which the
//! other engines read layers with: the same layer is the same files everywhere. The `tar` crate's
//! reader takes extension headers of any size into memory and knows no sparse files of PAX.

mod field;
mod pax;
mod sparse;

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::error::LayerError;
use field::{Header, until_zero};
use pax::Records;
pub(super) use sparse::Extent;

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
    /// Bytes of the file, holes included; 0 for all but files.
    pub size: u64,
    /// Of a file with holes: where the content that [`Reader`] gives belongs, in ascending order and
    /// within `size`. Without it the content is the file.
    pub sparse: Option<Vec<Extent>>,
    pub device: (u32, u32),
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Reads entries; between two calls of [`next`](Self::next) it is itself the reader of the
/// entry's content.
pub(super) struct Reader<R> {
    inner: R,
    left: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            left: 0,
            padding: 0,
        }
    }

    /// The stream behind the archive's end.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` at the archive's end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut records = Records::default();
        let (mut path, mut link) = (None, None);
        loop {
            self.skip_content()?;
            // umoci's `insert` ends an archive with the last file's last byte, and Go's archive/tar
            // takes that for the end.
            if !self.skip_padding()? {
                return Ok(None);
            }
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.size()?;
            match header.flag() {
                // The last one counts as a whole.
                b'x' => records = Records::parse(&self.extension(size)?)?,
                // POSIX has them apply to all that follows. No engine does (containerd, Docker and
                // podman ignore them, umoci refuses them), and images are made for engines.
                b'g' => self.content(size),
                b'L' => path = Some(until_zero(&self.extension(size)?).to_vec()),
                b'K' => link = Some(until_zero(&self.extension(size)?).to_vec()),
                _ => {
                    records.path = path.or(records.path);
                    records.link = link.or(records.link);
                    return self.entry(&header, size, records).map(Some);
                }
            }
        }
    }

    fn entry(&mut self, header: &Header, size: u64, records: Records) -> Result<Entry, LayerError> {
        let sparse = &records.sparse;
        let path = sparse.name.clone().filter(|_| sparse.is_sparse());
        let path = path.or(records.path).unwrap_or_else(|| header.path());
        let flag = header.flag();
        let kind = match flag {
            // Before POSIX a folder was a file whose name ends in a slash.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                let why = format!("unknown type {:?}", char::from(other));
                return Err(LayerError::refused(&path, why));
            }
        };
        let (mut stored, mut real, mut map) = (0, 0, None);
        if kind == Kind::File {
            stored = records.size.unwrap_or(size);
            let found = if flag == b'S' {
                Some(sparse::of_gnu(&path, header, &mut self.inner)?)
            } else {
                sparse.map(&path, &mut self.inner, &mut stored)?
            };
            real = stored;
            if let Some(found) = found {
                real = found.size;
                map = Some(found.for_content(&path, stored)?);
            }
        } else if sparse.is_sparse() {
            return Err(LayerError::refused(&path, "only a file can be sparse"));
        }
        // Other kinds have no content whatever their size field says (POSIX; Go's archive/tar).
        self.content(stored);
        Ok(Entry {
            link: records.link.unwrap_or_else(|| header.link()),
            kind,
            mode: header.mode()?,
            uid: records.uid.map_or_else(|| header.uid(), Ok)?,
            gid: records.gid.map_or_else(|| header.gid(), Ok)?,
            mtime: match records.mtime {
                Some(mtime) => mtime,
                None => (header.mtime()?, 0),
            },
            size: real,
            sparse: map,
            device: match kind {
                Kind::Char | Kind::Block => header.device()?,
                _ => (0, 0),
            },
            xattrs: records.xattrs,
            path,
        })
    }

    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        let mut block = [0; 512];
        match fill(&mut self.inner, &mut block)? {
            // No zero blocks at the end: some writers leave them out.
            0 => return Ok(None),
            512 => {}
            _ => return Err(LayerError::Tar("it ends within a header".into())),
        }
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        Header::parse(&block).map(Some)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > MAX_EXTENSION {
            return Err(LayerError::Limit {
                what: "bytes of one extension header",
                limit: MAX_EXTENSION,
            });
        }
        self.content(size);
        let mut data = Vec::new();
        self.read_to_end(&mut data).map_err(LayerError::Read)?;
        if data.len() as u64 != size {
            return Err(LayerError::Tar("it ends within an extension header".into()));
        }
        Ok(data)
    }

    /// So many bytes of content follow.
    fn content(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % 512;
    }

    /// Skips what fills up the last block; `false` at the archive's end.
    fn skip_padding(&mut self) -> Result<bool, LayerError> {
        let padding = std::mem::take(&mut self.padding);
        self.skip(padding)
    }

    /// Skips what nobody read of the entry.
    fn skip_content(&mut self) -> Result<(), LayerError> {
        let left = std::mem::take(&mut self.left);
        if self.skip(left)? {
            Ok(())
        } else {
            Err(LayerError::Tar("it ends within an entry".into()))
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<bool, LayerError> {
        if bytes == 0 {
            return Ok(true);
        }
        io::copy(&mut self.inner.by_ref().take(bytes), &mut io::sink())
            .map(|n| n == bytes)
            .map_err(LayerError::Read)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let n = self.inner.by_ref().take(self.left).read(buf)?;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Reads until the buffer is full or the stream at its end, and returns how much there was.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> Result<usize, LayerError> {
    let mut have = 0;
    while have < buf.len() {
        match from.read(&mut buf[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(LayerError::Read(e)),
        }
    }
    Ok(have)
}
