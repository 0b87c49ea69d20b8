//! See `bodies::typed_data`.
#![no_main]

#[path = "../bodies/signing.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::typed_data(bytes));
