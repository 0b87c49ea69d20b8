//! See `bodies::exit_record`.
#![no_main]

#[path = "../bodies/door.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::exit_record(bytes));
