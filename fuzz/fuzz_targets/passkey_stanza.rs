//! See `bodies::stanza`.
#![no_main]

#[path = "../bodies/passkey.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::stanza(bytes));
