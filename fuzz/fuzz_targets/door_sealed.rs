//! See `bodies::door_sealed`.
#![no_main]

#[path = "../bodies/door.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::door_sealed(bytes));
