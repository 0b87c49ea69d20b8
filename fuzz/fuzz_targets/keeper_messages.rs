//! See `bodies::keeper_messages`.
#![no_main]

#[path = "../bodies/envelope.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::keeper_messages(bytes));
