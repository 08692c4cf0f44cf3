//! Opening and closing sniffers. Each costs the kernel RCU grace periods (packet_set_ring() in
//! net/packet/af_packet.c waits for readers), during which nothing happens: so many are opened, and
//! closed, at the same time.

use std::collections::VecDeque;
use std::os::fd::IntoRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use pcap::{Active, Capture, Precision, Savefile};

use super::{Counters, Error, Options, Request, file};
use crate::kernel::netns;

/// Threads that open or close at the same time. They mostly wait.
const THREADS: usize = 64;

/// An opened sniffer with its file.
pub(super) struct Sniffer {
    pub(super) capture: Capture<Active>,
    pub(super) savefile: Savefile,
    pub(super) counters: Arc<Counters>,
}

/// Opens all of them, in the order of the requests.
pub(super) fn open_all(requests: Vec<Request>, options: &Options) -> Result<Vec<Sniffer>, Error> {
    let buffer = options.buffer_for(requests.len());
    let opened = in_parallel(requests, |request| open(request, options, buffer))?;
    let mut sniffers = Vec::with_capacity(opened.len());
    let mut failed = None;
    for result in opened {
        match result {
            Ok(sniffer) => sniffers.push(sniffer),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    match failed {
        None => Ok(sniffers),
        Some(e) => {
            let files: Vec<_> = sniffers.iter().map(|s| s.counters.file.clone()).collect();
            close_all(sniffers);
            for file in files {
                let _ = std::fs::remove_file(file);
            }
            Err(e)
        }
    }
}

/// Closes all of them.
pub(super) fn close_all(sniffers: Vec<Sniffer>) {
    // Without threads it only takes longer.
    let _ = in_parallel(sniffers, drop);
}

/// Runs `job` on every item on up to [`THREADS`] threads; results in the items' order.
fn in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    job: impl Fn(T) -> R + Sync,
) -> Result<Vec<R>, Error> {
    let count = items.len();
    let queue: Mutex<VecDeque<(usize, T)>> = Mutex::new(items.into_iter().enumerate().collect());
    let results = Mutex::new(Vec::with_capacity(count));
    let work = || {
        loop {
            let next = queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some((n, item)) = next else { break };
            let result = job(item);
            results
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((n, result));
        }
    };
    std::thread::scope(|scope| {
        for n in 0..THREADS.min(count) {
            let started = std::thread::Builder::new()
                .name("pcap-open".into())
                .spawn_scoped(scope, work);
            if let Err(e) = started {
                // Fewer threads do as well, but there must be one.
                if n == 0 {
                    return Err(Error::Threads(e));
                }
                break;
            }
        }
        Ok(())
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(n, _)| *n);
    Ok(results.into_iter().map(|(_, r)| r).collect())
}

/// Opens one, on a thread that is in nobody's way: it is left in the interface's namespace.
fn open(request: Request, options: &Options, buffer: usize) -> Result<Sniffer, Error> {
    let failed = |why: String| Error::Open {
        node: request.node.clone(),
        interface: request.interface.clone(),
        why,
    };
    netns::enter(&request.netns).map_err(|e| failed(e.to_string()))?;
    let capture = Capture::from_device(request.interface.as_str())
        .and_then(|capture| {
            capture
                .promisc(true)
                .snaplen(options.snaplen.cast_signed())
                .buffer_size(i32::try_from(buffer).unwrap_or(i32::MAX))
                .immediate_mode(true)
                .precision(Precision::Nano)
                .open()
        })
        .and_then(Capture::setnonblock)
        .map_err(|e| failed(e.to_string()))?;
    let file = file::create(&request.file, options.owner)?;
    // SAFETY: the descriptor is owned by nobody else; libpcap closes it with the savefile, and
    // fdopen() inside is the only thing that can fail.
    let savefile = unsafe { capture.savefile_raw_fd(file.into_raw_fd()) };
    let mut savefile = savefile.map_err(|e| failed(e.to_string()))?;
    // The header, so that the file can be read from now on.
    savefile.flush().map_err(|e| failed(e.to_string()))?;
    let counters = Arc::new(Counters {
        node: request.node,
        interface: request.interface,
        file: request.file,
        packets: 0.into(),
        bytes: 0.into(),
        dropped: 0.into(),
        error: Mutex::new(None),
    });
    Ok(Sniffer {
        capture,
        savefile,
        counters,
    })
}
