//! See `bodies::hashed_parts`.
#![no_main]

#[path = "../bodies/protocol.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::hashed_parts(bytes));
