//! See `bodies::ethereum_transaction`.
#![no_main]

#[path = "../bodies/signing.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::ethereum_transaction(bytes));
