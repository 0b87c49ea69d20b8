//! Simulation, end to end, golden files and mutants; nobody depends on this crate.

pub mod anvil;
pub mod chains;
pub mod litesvm;
pub mod postgres;
pub mod sim;
pub mod verify;
