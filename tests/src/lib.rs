//! Simulation, end to end, golden files and mutants; nobody depends on this crate.

pub mod postgres;
pub mod sim;
