//! Opening sniffers: many at once, each inside its namespace, on interfaces that may be down.

use std::{
    collections::HashSet,
    ffi::{c_int, c_void},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use pcap::{Active, Capture, Linktype, Precision};
use rustix::io::FdFlags;

use super::{Error, Request, close, lock, socket};

/// An EtherType that libpcap takes for a choice and that is 0 to the kernel.
///
/// libpcap will not activate on an interface that is down: binding to it with a protocol makes
/// the kernel say ENETDOWN, although the socket then works as soon as the interface comes up. A
/// packet socket of protocol 0 receives nothing and so meets no such error, but 0 itself libpcap
/// replaces by `ETH_P_ALL` (`pcap_protocol` in pcap-linux.c, 1.9 to 1.11) before it cuts the
/// number to 16 bits with `htons`. With this value everything is set up but nothing is received
/// until [`socket::listen`] binds for good. Should a libpcap come that does it otherwise, an interface
/// that is down is refused with its message "That device is not up".
const PROTOCOL_NONE: c_int = 0x1_0000;

unsafe extern "C" {
    /// `pcap_set_protocol_linux(3PCAP)`, since libpcap 1.9; the pcap crate leaves it out.
    fn pcap_set_protocol_linux(handle: *mut c_void, protocol: c_int) -> c_int;
    /// In pcap/pcap.h: the length of a slot in the ring (`create_ring` in pcap-linux.c).
    fn pcap_bufsize(handle: *mut c_void) -> c_int;
}

/// What a slot is taken for should libpcap not tell: its header and alignment
/// (`TPACKET2_HDRLEN`), in bytes.
const SMALLEST_SLOT: usize = 64;

/// An open handle, and how many frames its ring holds.
pub(super) struct Sniffer {
    pub(super) capture: Capture<Active>,
    pub(super) slots: usize,
}

/// Refuses what libpcap would misunderstand, and two captures into one file.
pub(super) fn check<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Result<(), Error> {
    let mut files = HashSet::new();
    for request in requests {
        let (node, interface) = (request.node.clone(), request.interface.clone());
        if let Some(what) = reserved(&request.interface) {
            return Err(Error::Reserved {
                node,
                interface,
                what,
            });
        }
        if !files.insert(&request.file) {
            return Err(Error::SameFile {
                node,
                interface,
                file: request.file.clone(),
            });
        }
    }
    Ok(())
}

/// What libpcap captures on when given this name, if not an interface (`capture_source_types` in
/// pcap.c).
fn reserved(interface: &str) -> Option<&'static str> {
    let numbered = |prefix: &str| {
        let rest = interface.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match interface {
        "any" => Some("all interfaces at once"),
        "dbus-system" | "dbus-session" => Some("a D-Bus"),
        "bluetooth-monitor" => Some("a Bluetooth adapter"),
        "nflog" | "nfqueue" => Some("a netfilter log"),
        _ if interface.starts_with("dbus://") => Some("a D-Bus"),
        _ if numbered("usbmon") => Some("a USB bus"),
        _ if numbered("bluetooth") => Some("a Bluetooth adapter"),
        _ if interface.contains(':') => Some("a port or group of a device"),
        _ => None,
    }
}

/// Makes room for the descriptors of `interfaces` captures: socket and file each, and one that
/// libpcap holds for a moment.
pub(super) fn raise_limit(interfaces: usize) -> Result<(), Error> {
    const SPARE: usize = 256;
    let threads = |errno: nix::Error| Error::Threads(errno.into());
    let used = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let need = (used + 3 * interfaces + SPARE) as u64;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(threads)?;
    if soft >= need {
        return Ok(());
    }
    if hard >= need {
        return setrlimit(Resource::RLIMIT_NOFILE, need, hard).map_err(threads);
    }
    // Only root may.
    setrlimit(Resource::RLIMIT_NOFILE, need, need).map_err(|_| Error::Limit { need, hard })
}

/// Opens a sniffer for each request, in their order; all or none. Where no ring size is asked for,
/// it is such that `interfaces` in all can have it.
pub(super) fn open_all(requests: &[&Request], interfaces: usize) -> Result<Vec<Sniffer>, Error> {
    let next = AtomicUsize::new(0);
    let opened = Mutex::new(Vec::with_capacity(requests.len()));
    let failure = Mutex::new(None);
    let work = || {
        while lock(&failure).is_none() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = requests.get(index) else {
                break;
            };
            match open(request, interfaces) {
                Ok(sniffer) => lock(&opened).push((index, sniffer)),
                Err(error) => {
                    lock(&failure).get_or_insert(error);
                }
            }
        }
    };
    // Never on this thread: these end up in other namespaces.
    let mut unspawned = None;
    thread::scope(|scope| {
        for started in 0..requests.len().min(close::THREADS) {
            let builder = thread::Builder::new().name("capture-open".into());
            if let Err(error) = builder.spawn_scoped(scope, work) {
                // Fewer threads are only slower; none at all is a failure.
                unspawned = (started == 0).then_some(error);
                break;
            }
        }
    });
    let failure = failure
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut opened = opened
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(error) = failure.or(unspawned.map(Error::Threads)) {
        close::all(opened.into_iter().map(|(_, of)| of.capture).collect());
        return Err(error);
    }
    opened.sort_unstable_by_key(|(index, _)| *index);
    Ok(opened.into_iter().map(|(_, of)| of).collect())
}

/// Opens one sniffer and leaves this thread in its namespace.
fn open(request: &Request, interfaces: usize) -> Result<Sniffer, Error> {
    let (snaplen, buffer) = (
        request.options.snaplen(),
        request.options.buffer(interfaces),
    );
    let (node, interface) = (request.node.clone(), request.interface.clone());
    if let Err(errno) = setns(&request.netns, CloneFlags::CLONE_NEWNET) {
        return Err(Error::Enter {
            node,
            interface,
            source: errno.into(),
        });
    }
    let opened = Capture::from_device(request.interface.as_str()).and_then(|inactive| {
        let inactive = inactive
            .promisc(true)
            .immediate_mode(true)
            .precision(Precision::Nano)
            .snaplen(i32::try_from(snaplen).unwrap_or(i32::MAX))
            .buffer_size(i32::try_from(buffer).unwrap_or(i32::MAX));
        // SAFETY: the pointer is that of a handle that is alive and not yet activated, which is
        // all that pcap_set_protocol_linux asks for. It fails only on activated handles.
        unsafe { pcap_set_protocol_linux(inactive.as_ptr().cast(), PROTOCOL_NONE) };
        inactive.open()?.setnonblock()
    });
    let mut capture = match opened {
        Ok(capture) => capture,
        // libpcap's own words differ from version to version.
        Err(_) if if_nametoindex(request.interface.as_str()) == Err(Errno::ENODEV) => {
            return Err(Error::NoInterface { node, interface });
        }
        Err(error) => {
            return Err(Error::Open {
                node,
                interface,
                reason: reason(&error),
            });
        }
    };
    // Before the socket receives anything: no frame gets in that the filter would keep out.
    if let Some(filter) = &request.options.filter
        && let Err(error) = capture.filter(filter, true)
    {
        return Err(Error::Filter {
            node,
            interface,
            filter: filter.clone(),
            reason: reason(&error),
        });
    }
    // SAFETY: the handle is alive and activated; the function only reads a number from it.
    let slot = unsafe { pcap_bufsize(capture.as_ptr().cast()) };
    let slot = usize::try_from(slot).unwrap_or(0).max(SMALLEST_SLOT);
    // libpcap does not ask for it, and a node's processes must not inherit a sniffer.
    let bound = rustix::io::fcntl_setfd(&capture, FdFlags::CLOEXEC)
        .map_err(Into::into)
        .and_then(|()| socket::listen(&capture));
    match bound {
        Ok(()) => Ok(Sniffer {
            capture,
            slots: (buffer / slot).max(1),
        }),
        Err(source) => Err(Error::Bind {
            node,
            interface,
            source,
        }),
    }
}

/// libpcap's own words, without the crate's.
pub(super) fn reason(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The link type of the frames.
pub(super) fn linktype(capture: &Capture<Active>) -> Linktype {
    capture.get_datalink()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_libpcap_takes_for_something_else() {
        for name in [
            "any",
            "dbus-system",
            "usbmon0",
            "usbmon",
            "bluetooth1",
            "nflog",
            "nflog:3",
            "mlx5_0:1",
        ] {
            assert!(reserved(name).is_some(), "{name}");
        }
        for name in [
            "eth1",
            "anyway",
            "lo",
            "usbmonitor",
            "nflog1",
            "bluetoothed",
            "dbus",
        ] {
            assert_eq!(reserved(name), None, "{name}");
        }
    }
}
