//! See `bodies::custodian`.
#![no_main]

#[path = "../bodies/envelope.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::custodian(bytes));
