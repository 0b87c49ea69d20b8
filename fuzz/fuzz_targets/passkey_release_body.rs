//! See `bodies::release_body`.
#![no_main]

#[path = "../bodies/passkey.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::release_body(bytes));
