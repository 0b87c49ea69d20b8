//! The life of a wallet, simulated: devices, server, two queues, the methods' stores, copies of the database, and
//! crashes between any two durable writes. After every event the [named invariants](invariants::NAMES) hold.
//!
//! The arithmetic is true (shares add up to the key, proofs and signatures verify) and free of oblivious transfer
//! (DECISIONS.md D30). One wallet on one curve stands for all: a backup's pair covers every curve in one slot.

mod ceremonies;
mod device;
pub mod invariants;
mod message;
mod real;
mod rng;
mod run;
mod schedule;
mod server;
mod small;
mod sqlite;
mod store;
mod world;

pub use ceremonies::Ceremonies;
pub use real::{Dkls, Frost, Kind, OtFree, Real};
pub use run::{Failure, replay, run, run_with, violation};
pub use schedule::{Word, parse};
pub use server::Rules;
pub use small::Small;
pub use sqlite::SqliteSlots;
pub use store::SlotStore;
pub use world::Seen;
