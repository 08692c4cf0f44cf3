//! Closing many captures at once.

use std::{sync::Mutex, thread};

use pcap::{Active, Capture};

use super::lock;

/// How many threads open or close captures. They sleep nearly all the time: an AF_PACKET socket
/// waits for RCU grace periods when its ring is set up and when it goes (`packet_set_ring` and
/// `packet_release` in net/packet/af_packet.c call `synchronize_net`), some 10 ms each, and
/// threads that wait at the same time share the same grace period.
pub(super) const THREADS: usize = 256;

/// Closes all captures, side by side. Where no thread can be had, this one does it alone.
pub(super) fn all(captures: Vec<Capture<Active>>) {
    let threads = captures.len().min(THREADS);
    let left = Mutex::new(captures);
    let work = || {
        loop {
            let next = lock(&left).pop();
            let Some(capture) = next else { break };
            drop(capture);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let spawned = thread::Builder::new()
                .name("capture-close".into())
                .spawn_scoped(scope, work);
            if spawned.is_err() {
                break;
            }
        }
        work();
    });
}
