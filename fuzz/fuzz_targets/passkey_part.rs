//! See `bodies::part`.
#![no_main]

#[path = "../bodies/passkey.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::part(bytes));
