//! Any bytes at all as a capture file: readers, timeline and writer.
#![no_main]

#[path = "../../tests/savefile/survive.rs"]
mod survive;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| survive::survive(bytes));
