//! The pcap files: made where no planted link can lead root astray, and never ending in half a
//! record.
//!
//! The format is that of draft-ietf-opsawg-pcap (pcap-savefile(5)), in this machine's byte order,
//! with nanoseconds. It is written here rather than by libpcap's `pcap_dump`, which ignores errors
//! and writes through a 4 KiB stdio buffer.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use pcap::{Linktype, Packet};
use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use super::Error;

/// Bytes of the header that starts a file.
const FILE_HEADER: u64 = 24;
/// Bytes of the header that starts each frame.
const FRAME_HEADER: usize = 16;
/// `pcap` with nanoseconds.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;

/// Makes the directory for captures and, if it is missing too, the one that it is in, and gives
/// those it made to `owner`. For `exchange/dsr` these are `exchange` and `dsr`.
///
/// Neither may be a symbolic link, since root will write there and its user may have planted it.
/// The path above these two is the caller's and may hold links.
pub fn prepare_dir(path: &Path, owner: Option<(u32, u32)>) -> Result<(), Error> {
    walk(path, Missing::Make(owner)).map(drop)
}

/// What to do about a directory that is not there.
#[derive(Clone, Copy)]
pub(super) enum Missing {
    Refuse,
    /// Make it, and give it to this user and group.
    Make(Option<(u32, u32)>),
}

/// Opens `path` without following a link in its last two components, the only ones that may be
/// missing.
pub(super) fn walk(path: &Path, missing: Missing) -> Result<OwnedFd, Error> {
    let nameless = || Error::Nameless { path: path.into() };
    let last = path.file_name().ok_or_else(nameless)?;
    let parent = path.parent().ok_or_else(nameless)?;
    let (base, names) = match (parent.parent(), parent.file_name()) {
        (Some(base), Some(name)) => (base, vec![name, last]),
        _ => (parent, vec![last]),
    };
    let base = if base.as_os_str().is_empty() {
        Path::new(".")
    } else {
        base
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut dir = rustix::fs::open(base, flags, Mode::empty())
        .map_err(|errno| directory("open", base, errno))?;
    let mut at = base.to_path_buf();
    for name in names {
        at.push(name);
        dir = enter(&dir, name, &at, missing)?;
    }
    Ok(dir)
}

fn enter(dir: &OwnedFd, name: &OsStr, path: &Path, missing: Missing) -> Result<OwnedFd, Error> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let open = || rustix::fs::openat(dir, name, flags, Mode::empty());
    let mut opened = open();
    let mut owner = None;
    if let (Err(Errno::NOENT), Missing::Make(new_owner)) = (&opened, missing) {
        match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => owner = new_owner,
            // Someone else made it meanwhile, and it is theirs.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(directory("make", path, errno)),
        }
        opened = open();
    }
    let inner = opened.map_err(|errno| {
        let link = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink());
        if link {
            Error::Link { path: path.into() }
        } else {
            directory("open", path, errno)
        }
    })?;
    if let Some(owner) = owner {
        // The umask may have taken bits away.
        rustix::fs::fchmod(&inner, Mode::from_raw_mode(0o755))
            .and_then(|()| give(&inner, owner))
            .map_err(|errno| directory("change the owner of", path, errno))?;
    }
    Ok(inner)
}

fn directory(what: &'static str, path: &Path, errno: Errno) -> Error {
    Error::Directory {
        what,
        path: path.into(),
        source: errno.into(),
    }
}

/// Changes the owner. File systems that have no owners (FAT, a VirtualBox shared folder) refuse
/// with EPERM even to root; there the mount decides, and the file is as good.
pub(super) fn give(fd: impl AsFd, (uid, gid): (u32, u32)) -> Result<(), Errno> {
    match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// Makes files, and opens each directory only once.
#[derive(Debug)]
pub(super) struct Folders {
    owner: Option<(u32, u32)>,
    open: HashMap<PathBuf, Arc<OwnedFd>>,
}

impl Folders {
    pub(super) fn new(owner: Option<(u32, u32)>) -> Self {
        Self {
            owner,
            open: HashMap::new(),
        }
    }

    /// Makes the file with its header in it, in place of whatever has its name.
    pub(super) fn create(
        &mut self,
        path: &Path,
        link: Linktype,
        snaplen: u32,
    ) -> Result<Recording, Error> {
        let failed = |what, source| Error::File {
            what,
            path: path.into(),
            source,
        };
        let name = path
            .file_name()
            .ok_or_else(|| failed("make", Errno::ISDIR.into()))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let dir = if let Some(dir) = self.open.get(parent) {
            Arc::clone(dir)
        } else {
            let whole = if parent.as_os_str().is_empty() {
                std::env::current_dir().map_err(|error| failed("make", error))?
            } else {
                parent.into()
            };
            let dir = Arc::new(walk(&whole, Missing::Refuse)?);
            self.open.insert(parent.into(), Arc::clone(&dir));
            dir
        };
        let file =
            File::from(create(&dir, name).map_err(|(what, errno)| failed(what, errno.into()))?);
        let mut recording = Recording {
            file,
            dir,
            name: name.into(),
            end: 0,
        };
        if let Err(error) = recording.begin(self.owner, link, snaplen) {
            recording.remove();
            return Err(failed(error.0, error.1));
        }
        Ok(recording)
    }
}

/// Removes what has the name and makes a new file: neither a symbolic link nor a hard link nor a
/// FIFO that a user put there is ever written to.
pub(super) fn create(dir: &OwnedFd, name: &OsStr) -> Result<OwnedFd, (&'static str, Errno)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Someone may put it there again in between; not for ever.
    for _ in 0..8 {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(("replace", errno)),
        }
        match rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|errno| ("make", errno)),
        }
    }
    Err(("replace", Errno::EXIST))
}

/// A pcap file that grows.
#[derive(Debug)]
pub(super) struct Recording {
    file: File,
    dir: Arc<OwnedFd>,
    name: OsString,
    /// Where the last whole record ends.
    end: u64,
}

/// What of a batch of records got into the file before writing failed.
#[derive(Debug)]
pub(super) struct Partial {
    /// Frames that are in the file.
    pub(super) frames: u64,
    /// Their bytes on the wire.
    pub(super) bytes: u64,
    /// Why the rest is not.
    pub(super) error: io::Error,
}

impl Recording {
    fn begin(
        &mut self,
        owner: Option<(u32, u32)>,
        link: Linktype,
        snaplen: u32,
    ) -> Result<(), (&'static str, io::Error)> {
        // The umask may have taken bits from the mode at creation.
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(0o644))
            .map_err(|errno| ("change the mode of", errno.into()))?;
        if let Some(owner) = owner {
            give(&self.file, owner).map_err(|errno| ("change the owner of", errno.into()))?;
        }
        self.file
            .write_all_at(&header(link, snaplen), 0)
            .map_err(|error| ("write", error))?;
        self.end = FILE_HEADER;
        Ok(())
    }

    /// Appends whole records. When the file cannot take them all, it keeps as many as it took
    /// whole and is cut there, so that it stays readable.
    pub(super) fn append(&mut self, records: &[u8]) -> Result<(), Partial> {
        let mut done = 0;
        let error = loop {
            if done == records.len() {
                self.end += done as u64;
                return Ok(());
            }
            match self.file.write_at(&records[done..], self.end + done as u64) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let (frames, bytes, whole) = whole_records(&records[..done]);
        self.end += whole as u64;
        // Should even this fail, the next record overwrites the torn one.
        let _ = self.file.set_len(self.end);
        Err(Partial {
            frames,
            bytes,
            error,
        })
    }

    /// Removes the file.
    pub(super) fn remove(&self) {
        // Best effort while another error is being reported.
        let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
    }
}

/// The header of a file.
fn header(link: Linktype, snaplen: u32) -> [u8; FILE_HEADER as usize] {
    // Of the types that interfaces on Linux have, only raw IP has another number in files than in
    // libpcap (pcap-linktype(7)).
    let link = match link.0 {
        12 | 14 => 101,
        other => other.cast_unsigned(),
    };
    let mut header = [0; FILE_HEADER as usize];
    header[0..4].copy_from_slice(&MAGIC_NANOSECONDS.to_ne_bytes());
    header[4..6].copy_from_slice(&2u16.to_ne_bytes());
    header[6..8].copy_from_slice(&4u16.to_ne_bytes());
    header[16..20].copy_from_slice(&snaplen.to_ne_bytes());
    header[20..24].copy_from_slice(&link.to_ne_bytes());
    header
}

/// Appends one frame, as a record, to a batch.
pub(super) fn record(batch: &mut Vec<u8>, packet: &Packet) {
    // 32 unsigned bits of seconds are what the format has, until 2106; with nanosecond precision
    // libpcap puts nanoseconds where the microseconds' name is.
    let fields = [
        packet.header.ts.tv_sec.cast_unsigned() as u32,
        packet.header.ts.tv_usec.cast_unsigned() as u32,
        packet.header.caplen,
        packet.header.len,
    ];
    for field in fields {
        batch.extend_from_slice(&field.to_ne_bytes());
    }
    batch.extend_from_slice(packet.data);
}

/// How many whole records a batch begins with: frames, their bytes on the wire, and the length of
/// these records in the batch.
fn whole_records(batch: &[u8]) -> (u64, u64, usize) {
    let field = |at: usize| {
        let bytes = batch.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    let (mut frames, mut bytes, mut whole) = (0, 0, 0);
    while let (Some(captured), Some(wire)) = (field(whole + 8), field(whole + 12)) {
        let next = whole + FRAME_HEADER + captured as usize;
        if next > batch.len() {
            break;
        }
        frames += 1;
        bytes += u64::from(wire);
        whole = next;
    }
    (frames, bytes, whole)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use pcap::PacketHeader;

    use super::*;

    fn batch(frames: &[&[u8]]) -> Vec<u8> {
        let mut batch = Vec::new();
        for data in frames {
            let ts = libc::timeval {
                tv_sec: 1,
                tv_usec: 999_999_999,
            };
            let length = data.len() as u32;
            let header = PacketHeader {
                ts,
                caplen: length,
                len: length + 100,
            };
            record(&mut batch, &Packet::new(&header, data));
        }
        batch
    }

    #[test]
    fn a_file_reads_back_in_libpcap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a_b.pcap");
        let mut recording = Folders::new(None)
            .create(&path, Linktype::ETHERNET, 4096)
            .unwrap();
        recording.append(&batch(&[&[7; 60], &[9; 1514]])).unwrap();
        let mut read =
            pcap::Capture::from_file_with_precision(&path, pcap::Precision::Nano).unwrap();
        assert_eq!(read.get_datalink(), Linktype::ETHERNET);
        let first = read.next_packet().unwrap();
        assert_eq!(
            (first.header.ts.tv_sec, first.header.ts.tv_usec),
            (1, 999_999_999)
        );
        assert_eq!(
            (first.header.caplen, first.header.len, first.data),
            (60, 160, &[7u8; 60][..])
        );
        assert_eq!(read.next_packet().unwrap().data, [9; 1514]);
        assert_eq!(read.next_packet().unwrap_err(), pcap::Error::NoMorePackets);
    }

    #[test]
    fn half_a_record_counts_for_nothing() {
        let batch = batch(&[&[1; 10], &[2; 20]]);
        assert_eq!(whole_records(&batch), (2, 230, 62));
        assert_eq!(whole_records(&batch[..61]), (1, 110, 26));
        assert_eq!(whole_records(&batch[..30]), (1, 110, 26));
        assert_eq!(whole_records(&batch[..25]), (0, 0, 0));
        assert_eq!(whole_records(&[]), (0, 0, 0));
    }

    #[test]
    fn raw_ip_has_its_number_in_files() {
        assert_eq!(header(Linktype(12), 1)[20..], 101u32.to_ne_bytes());
        assert_eq!(header(Linktype(1), 1)[20..], 1u32.to_ne_bytes());
        assert_eq!(header(Linktype(113), 1)[20..], 113u32.to_ne_bytes());
    }

    #[test]
    fn what_has_the_name_is_replaced_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("precious");
        std::fs::write(&target, "keep").unwrap();
        std::fs::create_dir(dir.path().join("lab")).unwrap();
        let path = dir.path().join("lab/x.pcap");
        symlink(&target, &path).unwrap();
        Folders::new(None)
            .create(&path, Linktype::ETHERNET, 1)
            .unwrap();
        assert!(path.symlink_metadata().unwrap().is_file());
        std::fs::remove_file(&path).unwrap();
        std::fs::hard_link(&target, &path).unwrap();
        Folders::new(None)
            .create(&path, Linktype::ETHERNET, 1)
            .unwrap();
        assert_eq!(path.metadata().unwrap().size(), FILE_HEADER);
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o644);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "keep");
    }

    #[test]
    fn a_linked_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let link = dir.path().join("exchange");
        symlink(&elsewhere, &link).unwrap();
        let says = format!(
            "capture directory {} is a symbolic link, which is not followed; remove it or name the \
             directory it points to",
            link.display()
        );
        assert_eq!(
            prepare_dir(&link.join("dsr"), None)
                .unwrap_err()
                .to_string(),
            says
        );
        assert_eq!(prepare_dir(&link, None).unwrap_err().to_string(), says);
        let made = Folders::new(None).create(&link.join("dsr/a.pcap"), Linktype::ETHERNET, 1);
        assert_eq!(made.unwrap_err().to_string(), says);
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn directories_are_made_once_and_need_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exchange/dsr");
        prepare_dir(&path, None).unwrap();
        prepare_dir(&path, None).unwrap();
        assert!(path.is_dir());
        let says = "capture directory .. has no name of its own; name a directory";
        assert_eq!(
            prepare_dir(Path::new(".."), None).unwrap_err().to_string(),
            says
        );
        std::fs::write(path.join("file"), "").unwrap();
        let says = format!(
            "open the capture directory {}: Not a directory (os error 20)",
            path.join("file").display()
        );
        assert_eq!(
            prepare_dir(&path.join("file"), None)
                .unwrap_err()
                .to_string(),
            says
        );
    }
}
