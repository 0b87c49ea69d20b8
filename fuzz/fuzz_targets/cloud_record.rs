//! See `bodies::cloud_record`.
#![no_main]

#[path = "../bodies/envelope.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::cloud_record(bytes));
