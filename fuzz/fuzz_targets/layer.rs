//! Any bytes at all as an image's layer: unpacked next to a canary, as root if you are.
#![no_main]

#[path = "../../tests/layer/survive.rs"]
mod survive;

thread_local!(static PLACE: survive::Place = survive::Place::new());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    PLACE.with(|place| place.survive(&survive::with_checksums(bytes)));
});
