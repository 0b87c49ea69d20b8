//! Simulation, end to end, golden files and mutants; nobody depends on this crate.

pub mod anvil;
pub mod attack;
pub mod authenticator;
pub mod browser;
pub mod chains;
pub mod deployment;
pub mod drive;
pub mod keeper;
pub mod keys;
pub mod litesvm;
pub mod oauth;
pub mod phone;
pub mod postgres;
pub mod proxy;
pub mod search;
pub mod sim;
pub mod spend;
pub mod swtpm;
pub mod tpm_keeper;
pub mod user;
pub mod verify;
pub mod watch;
pub mod wire;
