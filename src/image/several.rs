//! The layers of an image, several at a time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::Progress;
use super::digest;
use super::error::{Error, IoContext};
use super::layout::Layer;
use super::unpack::{known, unpack};

/// Most layers at a time. Each takes two threads, `ahead::MEMORY` bytes of blocks and what its
/// decoder needs: 256 KiB to read by, and for zstd the window that its frames ask for, at most 100 MiB.
const AT_ONCE: usize = 4;
/// Progress that waits to be shown; whoever is too fast for the screen waits.
const EVENTS: usize = 64;

/// Unpacks the layers that the store does not have, and returns the bytes of all files.
///
/// Of several layers that fail, the error is that of the lowest one, whichever was first: layers
/// above one that failed are given up, those below it go on.
pub(super) fn unpack_all(
    store: &Path,
    layers: &[Layer],
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, Error> {
    let mut bytes = HashMap::new();
    let mut wanted: Vec<&Layer> = Vec::new();
    for layer in layers {
        let there = digest::sha256_hex(&layer.diff_id).and_then(|hex| known(store, hex));
        if let Some(there) = there {
            bytes.insert(&layer.diff_id, there);
        } else if wanted.iter().all(|other| other.diff_id != layer.diff_id) {
            wanted.push(layer);
        }
    }
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(AT_ONCE).min(wanted.len());
    if threads > 1 {
        let done = at_once(threads, store, &wanted, progress)?;
        bytes.extend(wanted.iter().map(|layer| &layer.diff_id).zip(done));
    } else {
        for layer in wanted {
            let done = unpack(store, layer, &|| false, progress)?;
            bytes.insert(&layer.diff_id, done);
        }
    }
    Ok(layers.iter().filter_map(|l| bytes.get(&l.diff_id)).sum())
}

/// The bytes of each layer.
fn at_once(
    threads: usize,
    store: &Path,
    layers: &[&Layer],
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u64>, Error> {
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
    let mut results = thread::scope(|scope| {
        let (events, shown) = sync_channel(EVENTS);
        let mut workers = Vec::new();
        for _ in 0..threads {
            let events = events.clone();
            let (next, failed) = (&next, &failed);
            let worker = thread::Builder::new()
                .name("layers".into())
                .spawn_scoped(scope, move || work(store, layers, next, failed, &events));
            match worker {
                Ok(worker) => workers.push(worker),
                Err(e) => {
                    failed.store(0, Ordering::Relaxed);
                    return Err(e).on("start a thread to unpack into", store);
                }
            }
        }
        drop(events);
        let total = layers.iter().map(|layer| layer.size).sum();
        let mut done = vec![0; layers.len()];
        for (number, event) in shown {
            match event {
                Progress::Bytes {
                    what, done: bytes, ..
                } => {
                    done[number] = bytes;
                    progress(Progress::Bytes {
                        what,
                        done: done.iter().sum(),
                        total: Some(total),
                    });
                }
                event => progress(event),
            }
        }
        let mut results = Vec::new();
        for worker in workers {
            let panicked = |panic| std::panic::resume_unwind(panic);
            results.extend(worker.join().unwrap_or_else(panicked));
        }
        Ok(results)
    })?;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Unpacks one layer after the other, as long as there are some and none below fails.
fn work(
    store: &Path,
    layers: &[&Layer],
    next: &AtomicUsize,
    failed: &AtomicUsize,
    events: &SyncSender<(usize, Progress)>,
) -> Vec<(usize, Result<u64, Error>)> {
    let mut results = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let stop = || failed.load(Ordering::Relaxed) < number;
        let Some(layer) = layers.get(number).filter(|_| !stop()) else {
            return results;
        };
        let mut progress = |event| {
            // Gone if showing it panicked.
            let _ = events.send((number, event));
        };
        let result = unpack(store, layer, &stop, &mut progress);
        if result.is_err() {
            failed.fetch_min(number, Ordering::Relaxed);
        }
        results.push((number, result));
    }
}
