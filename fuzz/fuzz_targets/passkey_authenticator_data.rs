//! See `bodies::authenticator_data`.
#![no_main]

#[path = "../bodies/passkey.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::authenticator_data(bytes));
