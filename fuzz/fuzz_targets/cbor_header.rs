//! See `bodies::cbor_header`.
#![no_main]

#[path = "../bodies/envelope.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::cbor_header(bytes));
