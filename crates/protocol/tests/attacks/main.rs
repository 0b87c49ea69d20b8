//! The attacks of PROTOCOL.md 5, each under its number, against the public surface of the crate.
//! Those that need a look inside a library's message are in `src/dkls/tests.rs` and `src/frost/tests.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod ceremonies;
mod t03_t04;
mod t07_t09;
mod t14;
mod t19_t20;
mod world;
