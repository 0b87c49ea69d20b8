//! What the two benchmarks share: a CPU clock, the ceremonies with every party's part measured apart, a real server as
//! a process of its own, and the table.
//!
//! `cargo bench -p halfkey-benches` runs both; what a run means is in `benches/README.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

pub mod ceremonies;
pub mod clock;
pub mod deployment;
pub mod door;
pub mod floor;
pub mod passkey;
pub mod table;
