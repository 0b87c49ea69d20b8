//! See `bodies::door_requests`.
#![no_main]

#[path = "../bodies/door.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::door_requests(bytes));
