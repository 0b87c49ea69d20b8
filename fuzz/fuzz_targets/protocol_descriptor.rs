//! See `bodies::descriptor`.
#![no_main]

#[path = "../bodies/protocol.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::descriptor(bytes));
