//! Where the server model keeps its slots when it runs on a real database.

use halfkey_protocol::lifecycle::{Slot, SlotKey};

/// Slots in a real store. Panics inside are failures of the run.
pub trait SlotStore {
    /// The slot as it is stored.
    fn load(&mut self, key: &SlotKey) -> Option<Slot>;
    /// Stores these slots in one transaction.
    fn save(&mut self, slots: &[Slot]);
    /// Takes a copy of the database; the newest completed one is what [`Self::restore`] brings back.
    fn copy(&mut self);
    /// The copy is complete.
    fn copied(&mut self);
    /// Back to the newest completed copy.
    fn restore(&mut self);
}
