//! Files with holes: GNU's own format and its PAX formats 0.0, 0.1 and 1.0 (GNU tar's manual, "Storing
//! Sparse Files"). The archive holds the parts that are no holes, one behind the other, and a map of
//! where they belong.

use std::io::Read;

use super::super::error::LayerError;
use super::field::{Header, unsigned};
use super::fill;
use super::pax::number;

/// Most extents of a file: they are kept in memory. A file of 1 GiB has no more, if every second
/// block of 4 KiB is a hole.
const MAX_EXTENTS: usize = 128 * 1024;
/// Why a map is refused that cannot even be read.
const MALFORMED: &str = "its sparse map is malformed";

/// A part of a file that is no hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// Records of a PAX header about a sparse file, their common prefix `GNU.sparse.` left out.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The file's name; the header's own is made up for readers who do not know the format.
    pub name: Option<Vec<u8>>,
    version: (Option<u64>, Option<u64>),
    size: Option<u64>,
    blocks: Option<u64>,
    /// Offsets and lengths in turns.
    numbers: Vec<u64>,
}

impl Records {
    /// Takes a record; `None` if it is malformed.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.version.0 = Some(number(value)?),
            b"minor" => self.version.1 = Some(number(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"numblocks" => self.blocks = Some(number(value)?),
            b"offset" if self.numbers.len().is_multiple_of(2) => self.numbers.push(number(value)?),
            b"numbytes" if !self.numbers.len().is_multiple_of(2) => {
                self.numbers.push(number(value)?);
            }
            b"offset" | b"numbytes" => return None,
            b"map" => {
                let numbers = value.split(|&b| b == b',').map(number);
                self.numbers = numbers.collect::<Option<_>>()?;
            }
            _ => {}
        }
        Some(())
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.version != (None, None) || !self.numbers.is_empty()
    }

    /// The map of a file with `stored` bytes of content, if it is sparse. Format 1.0 has it at the
    /// content's beginning: it is read, and `stored` is what is left.
    pub(super) fn map(
        &self,
        path: &[u8],
        content: &mut impl Read,
        stored: &mut u64,
    ) -> Result<Option<Map>, LayerError> {
        if !self.is_sparse() {
            return Ok(None);
        }
        let refused = |why: &str| LayerError::refused(path, why);
        let from_content;
        let numbers = match self.version {
            (None, None) | (Some(0), Some(0 | 1)) => {
                if self.blocks != Some(self.numbers.len() as u64 / 2) {
                    return Err(refused(MALFORMED));
                }
                &self.numbers
            }
            (Some(1), Some(0)) => {
                from_content = numbers(path, content, stored)?;
                &from_content
            }
            _ => return Err(refused("it is a sparse file of an unknown version")),
        };
        let (pairs, rest) = numbers.as_chunks::<2>();
        let Some(size) = self.size.filter(|_| rest.is_empty()) else {
            return Err(refused(MALFORMED));
        };
        let extents = pairs
            .iter()
            .map(|&[offset, length]| Extent { offset, length });
        Map::new(path, size, extents.collect()).map(Some)
    }
}

/// The map of format 1.0: decimal numbers, each with a line feed behind it, the first of them how
/// many pairs there are; filled up to a whole block.
fn numbers(path: &[u8], content: &mut impl Read, stored: &mut u64) -> Result<Vec<u64>, LayerError> {
    let malformed = || LayerError::refused(path, MALFORMED);
    let mut block = [0; 512];
    let mut at = block.len();
    let mut next = || {
        let mut digits = Vec::new();
        loop {
            if at == block.len() {
                *stored = stored.checked_sub(512).ok_or_else(malformed)?;
                if fill(content, &mut block)? != block.len() {
                    return Err(LayerError::Tar("it ends within an entry".into()));
                }
                at = 0;
            }
            at += 1;
            match block[at - 1] {
                b'\n' => return number::<u64>(&digits).ok_or_else(malformed),
                // No number of 64 bits is longer.
                _ if digits.len() == 20 => return Err(malformed()),
                digit => digits.push(digit),
            }
        }
    };
    let pairs = next()?;
    if pairs > MAX_EXTENTS as u64 {
        return Err(too_many());
    }
    (0..2 * pairs).map(|_| next()).collect()
}

/// The map of an entry of type `S`: four extents in the header, 21 in each block behind it.
pub(super) fn of_gnu(
    path: &[u8],
    header: &Header,
    content: &mut impl Read,
) -> Result<Map, LayerError> {
    if !header.is_gnu() {
        return Err(LayerError::refused(path, "only GNU's format has this type"));
    }
    let malformed = || LayerError::refused(path, MALFORMED);
    let mut extents = Vec::new();
    let mut take = |slots: &[u8]| {
        for slot in slots.chunks_exact(24) {
            // An unused one.
            if slot[12] == 0 {
                break;
            }
            extents.push(Extent {
                offset: unsigned(&slot[..12]).ok_or_else(malformed)?,
                length: unsigned(&slot[12..]).ok_or_else(malformed)?,
            });
        }
        if extents.len() > MAX_EXTENTS {
            return Err(too_many());
        }
        Ok(())
    };
    take(header.bytes(386..482))?;
    let mut more = header.bytes(482..483) != [0];
    while more {
        let mut block = [0; 512];
        if fill(content, &mut block)? != block.len() {
            return Err(LayerError::Tar("it ends within a header".into()));
        }
        take(&block[..504])?;
        more = block[504] != 0;
    }
    let size = unsigned(header.bytes(483..495)).ok_or_else(malformed)?;
    Map::new(path, size, extents)
}

fn too_many() -> LayerError {
    LayerError::Limit {
        what: "extents of a sparse file",
        limit: MAX_EXTENTS as u64,
    }
}

/// A map that is in order: ascending, nothing twice, nothing beyond the file.
#[derive(Debug)]
pub(super) struct Map {
    /// The file's size, holes included.
    pub size: u64,
    pub extents: Vec<Extent>,
    /// Bytes of all extents.
    pub stored: u64,
}

impl Map {
    fn new(path: &[u8], size: u64, extents: Vec<Extent>) -> Result<Self, LayerError> {
        let refused = |why: &str| LayerError::refused(path, why);
        let (mut end, mut stored) = (0_u64, 0_u64);
        for extent in &extents {
            if extent.offset < end {
                return Err(refused(
                    "its sparse map has extents that overlap or are out of order",
                ));
            }
            end = extent
                .offset
                .checked_add(extent.length)
                .filter(|&end| end <= size)
                .ok_or_else(|| refused("its sparse map goes beyond the file's end"))?;
            // No more than `end`.
            stored += extent.length;
        }
        Ok(Self {
            size,
            extents,
            stored,
        })
    }

    /// The extents, if they are what the archive has content for.
    pub(super) fn for_content(self, path: &[u8], stored: u64) -> Result<Vec<Extent>, LayerError> {
        if self.stored != stored {
            let why = format!(
                "its sparse map is of {} bytes, and {stored} are there",
                self.stored
            );
            return Err(LayerError::refused(path, why));
        }
        Ok(self.extents)
    }
}
