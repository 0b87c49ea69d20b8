//! See `bodies::exit_user_file`.
#![no_main]

#[path = "../bodies/door.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::exit_user_file(bytes));
