//! See `bodies::door_bodies`.
#![no_main]

#[path = "../bodies/door.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::door_bodies(bytes));
