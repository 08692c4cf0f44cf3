//! How an interface is recorded.

use std::{ffi::OsString, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

/// The snapshot length in bytes when none is asked for: libpcap's largest, so whole frames, also
/// such as an offloading interface makes of up to 64 KiB.
pub const DEFAULT_SNAPLEN: u32 = 262_144;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// How to record one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// How many bytes of each frame to keep; 0 is [`DEFAULT_SNAPLEN`].
    pub snaplen: u32,
    /// The kernel's ring buffer in bytes. By default 256 MiB shared among all interfaces that are
    /// captured, but at least 256 KiB and at most 4 MiB each.
    pub buffer: Option<usize>,
    /// Which frames to record, as pcap-filter(7) has it; all when none. See
    /// [`super::filter::check`].
    pub filter: Option<String>,
    /// When to begin another file; never when none.
    pub rotate: Option<Rotation>,
}

/// When the file is full and another one begins, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rotation {
    /// The most bytes of a file. A file has one frame at least, however large.
    pub size: Option<u64>,
    /// The longest time from a file's first frame to its last, by the frames' own time stamps.
    pub every: Option<Duration>,
    /// How many full files are kept beside the current one, at least one; all when none.
    /// `size * (keep + 1)` is then the most that the interface takes on disk.
    pub keep: Option<u32>,
}

impl Options {
    /// The snapshot length in bytes that is used.
    pub(super) fn snaplen(&self) -> u32 {
        match self.snaplen {
            0 => DEFAULT_SNAPLEN,
            n => n.min(DEFAULT_SNAPLEN),
        }
    }

    /// The ring's bytes where `interfaces` are captured.
    pub(super) fn buffer(&self, interfaces: usize) -> usize {
        let shared = (256 * MIB / interfaces.max(1)).clamp(256 * KIB, 4 * MIB);
        self.buffer.unwrap_or(shared)
    }
}

/// The name of the `n`th full file of a capture, counting from 1, in the same folder:
/// `client_eth1.3.pcap` for `client_eth1.pcap`.
pub fn rotated_name(current: &Path, n: u32) -> OsString {
    let mut name = current.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{n}"));
    if let Some(extension) = current.extension() {
        name.push(".");
        name.push(extension);
    }
    name
}

/// The name of the current file and the number, if `name` is that of a full file.
pub fn split_rotated(name: &Path) -> Option<(OsString, u32)> {
    let (mut current, digits) = (
        Path::new(name.file_stem()?).file_stem()?.to_owned(),
        Path::new(name.file_stem()?).extension()?.to_str()?,
    );
    // No sign, no leading zeros: the names that `rotated_name` makes, no others.
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    current.push(".");
    current.push(name.extension()?);
    Some((current, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_shared_within_bounds() {
        let options = Options::default();
        assert_eq!(options.buffer(0), 4 * MIB);
        assert_eq!(options.buffer(10), 4 * MIB);
        assert_eq!(options.buffer(64), 4 * MIB);
        assert_eq!(options.buffer(128), 2 * MIB);
        assert_eq!(options.buffer(1000), 268_435);
        assert_eq!(options.buffer(10_000), 256 * KIB);
        let own = Options {
            buffer: Some(9),
            ..options
        };
        assert_eq!(own.buffer(10_000), 9);
    }

    #[test]
    fn no_snapshot_length_means_whole_frames() {
        let of = |snaplen| Options {
            snaplen,
            ..Options::default()
        };
        assert_eq!(of(0).snaplen(), 262_144);
        assert_eq!(of(96).snaplen(), 96);
        assert_eq!(of(u32::MAX).snaplen(), 262_144);
    }

    #[test]
    fn names_of_full_files_are_told_from_others() {
        let current = Path::new("exchange/dsr/client_eth1.pcap");
        assert_eq!(rotated_name(current, 12), "client_eth1.12.pcap");
        let number = |name: &str| {
            split_rotated(Path::new(name))
                .filter(|(of, _)| of == "client_eth1.pcap")
                .map(|(_, n)| n)
        };
        assert_eq!(number("client_eth1.12.pcap"), Some(12));
        for other in [
            "client_eth1.pcap",
            "client_eth1..pcap",
            "client_eth1.0.pcap",
            "client_eth1.01.pcap",
            "client_eth1.+1.pcap",
            "client_eth1.1.pcapng",
            "client_eth1.1",
            "client_eth12.1.pcap",
            "client_eth1.99999999999.pcap",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
