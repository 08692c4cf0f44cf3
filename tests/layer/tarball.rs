//! A tar writer without any sense of decency: whatever a test asks for is written.

/// Bytes of a tar stream.
#[derive(Clone, Default)]
pub struct Tarball(pub Vec<u8>);

/// One header.
#[derive(Clone)]
pub struct Head<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub link: &'a [u8],
    pub device: (u32, u32),
    /// Content; the header's size is its length unless `size` says otherwise.
    pub data: &'a [u8],
    pub size: Option<u64>,
}

pub fn head(kind: u8, name: &str) -> Head<'_> {
    Head {
        name: name.as_bytes(),
        kind,
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1_000_000_000,
        link: b"",
        device: (0, 0),
        data: b"",
        size: None,
    }
}

impl Tarball {
    pub fn put(self, head: &Head<'_>) -> Self {
        self.put_with(head, |_| {})
    }

    /// A header whose block is changed before its checksum is made.
    pub fn put_with(mut self, head: &Head<'_>, change: impl FnOnce(&mut [u8; 512])) -> Self {
        let mut block = [0u8; 512];
        let octal = |at: usize, len: usize, value: u64, block: &mut [u8; 512]| {
            let text = format!("{value:0width$o}\0", width = len - 1);
            block[at..at + len].copy_from_slice(&text.as_bytes()[text.len() - len..]);
        };
        assert!(head.name.len() <= 100 && head.link.len() <= 100);
        block[..head.name.len()].copy_from_slice(head.name);
        octal(100, 8, head.mode.into(), &mut block);
        octal(108, 8, head.uid.into(), &mut block);
        octal(116, 8, head.gid.into(), &mut block);
        octal(
            124,
            12,
            head.size.unwrap_or(head.data.len() as u64),
            &mut block,
        );
        octal(136, 12, head.mtime, &mut block);
        block[156] = head.kind;
        block[157..157 + head.link.len()].copy_from_slice(head.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(329, 8, head.device.0.into(), &mut block);
        octal(337, 8, head.device.1.into(), &mut block);
        change(&mut block);
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        octal(148, 7, sum.into(), &mut block);
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(head.data);
        self.pad()
    }

    pub fn dir(self, name: &str) -> Self {
        self.put(&head(b'5', name))
    }

    pub fn file(self, name: &str, data: &str) -> Self {
        self.put(&Head {
            data: data.as_bytes(),
            ..head(b'0', name)
        })
    }

    pub fn symlink(self, name: &str, to: &str) -> Self {
        self.put(&Head {
            link: to.as_bytes(),
            ..head(b'2', name)
        })
    }

    pub fn hardlink(self, name: &str, to: &str) -> Self {
        self.put(&Head {
            link: to.as_bytes(),
            ..head(b'1', name)
        })
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// PAX records for the entry that follows.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.records(b'x', records)
    }

    /// PAX records for the entry that follows (`x`) or for all that follow (`g`).
    pub fn records(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length += 1;
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.put(&Head {
            data: &data,
            ..head(kind, "pax")
        })
    }

    /// A GNU long name (`L`) or long link (`K`) for the entry that follows.
    pub fn long(self, kind: u8, name: &[u8]) -> Self {
        let data = [name, b"\0"].concat();
        self.put(&Head {
            data: &data,
            ..head(kind, "././@LongLink")
        })
    }

    /// GNU's own sparse file: extents of offset and length, the first four in the header, the others
    /// in blocks behind it, each number as `number` writes it into its 12 bytes.
    pub fn sparse(self, name: &str, size: u64, extents: &[(u64, u64)], data: &[u8]) -> Self {
        let slots = |extents: &[(u64, u64)], to: &mut [u8]| {
            for (&(offset, length), slot) in extents.iter().zip(to.chunks_exact_mut(24)) {
                slot[..12].copy_from_slice(&number(offset));
                slot[12..].copy_from_slice(&number(length));
            }
        };
        let (first, rest) = extents.split_at(extents.len().min(4));
        let more: Vec<_> = rest.chunks(21).collect();
        let head = Head {
            size: Some(data.len() as u64),
            ..head(b'S', name)
        };
        let mut all = self.put_with(&head, |block| {
            block[257..265].copy_from_slice(b"ustar  \0");
            slots(first, &mut block[386..482]);
            block[482] = u8::from(!more.is_empty());
            block[483..495].copy_from_slice(&number(size));
        });
        for (i, extents) in more.iter().enumerate() {
            let mut block = [0; 512];
            slots(extents, &mut block[..504]);
            block[504] = u8::from(i + 1 < more.len());
            all = all.raw(&block);
        }
        all.raw(data).pad()
    }

    /// Fills up the last block.
    pub fn pad(mut self) -> Self {
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The stream with its end.
    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A number in 12 bytes: octal, or base 256 if it is too large for that.
pub fn number(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    if value < 1 << 33 {
        field[..11].copy_from_slice(format!("{value:011o}").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
    field
}
