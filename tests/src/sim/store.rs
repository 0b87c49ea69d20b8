//! Where the server model keeps its slots when it runs on a real database.

use halfkey_protocol::lifecycle::{Event, PairState, Slot, SlotKey};

/// Slots in a real store. What goes wrong inside fails the run with a panic.
pub trait SlotStore {
    /// Applies these events in one transaction and gives the slots as they are stored now.
    fn apply(&mut self, changes: &[(SlotKey, Vec<Event>)], now_ms: u64) -> Vec<Slot>;
    /// Closes and opens the database again, as a restarted process does.
    fn reopen(&mut self, now_ms: u64);
    /// Every slot, as stored. Erased pairs are left out.
    fn slots(&mut self) -> Vec<Slot>;
    /// Takes a copy of the database.
    fn copy(&mut self);
    /// The copy is complete; the newest one is what [`Self::restore`] brings back.
    fn copied(&mut self);
    /// Back to the newest completed copy, with the shred store as it is.
    fn restore(&mut self, now_ms: u64);
}

/// The stored slot with the erased pairs that only the model remembers.
pub(super) fn with_erased(mine: Option<&Slot>, mut stored: Slot) -> Slot {
    let erased = mine.into_iter().flat_map(|slot| &slot.pairs).filter(|pair| pair.state == PairState::Erased);
    stored.pairs.retain(|pair| pair.state != PairState::Erased);
    stored.pairs.extend(erased.cloned());
    stored.pairs.sort_by_key(|pair| pair.generation);
    stored
}
