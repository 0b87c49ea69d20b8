//! See `bodies::cose_key`.
#![no_main]

#[path = "../bodies/passkey.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::cose_key(bytes));
