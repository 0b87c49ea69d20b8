//! Stores in memory, with scripted faults: for tests, and for apps that try things out. They keep nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    host::{BlobSlot, BlobStore, Clock, SecretStore, StoreError},
    machine::lock,
};

/// What a scripted store does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call works.
    None,
    /// The call fails and changes nothing.
    Fail(StoreError),
    /// A write or delete is done, and then reported as failed: the answer was lost.
    DoneButReported(StoreError),
}

/// The script of a store: one entry per call, in order; after its end all calls work.
#[derive(Debug, Default)]
struct Script {
    calls: Mutex<VecDeque<Fault>>,
    changes: Mutex<VecDeque<Fault>>,
}

fn next(script: &Mutex<VecDeque<Fault>>) -> Fault {
    lock(script).pop_front().unwrap_or(Fault::None)
}

impl Script {
    /// Runs a call as the script says.
    fn run<T>(&self, call: impl FnOnce() -> T) -> Result<T, StoreError> {
        Self::obey(next(&self.calls), call)
    }

    /// The same for a write or a delete; a fault of every call goes before.
    fn change<T>(&self, call: impl FnOnce() -> T) -> Result<T, StoreError> {
        let (of_calls, of_changes) = (next(&self.calls), next(&self.changes));
        Self::obey(if of_calls == Fault::None { of_changes } else { of_calls }, call)
    }

    fn obey<T>(fault: Fault, call: impl FnOnce() -> T) -> Result<T, StoreError> {
        match fault {
            Fault::None => Ok(call()),
            Fault::Fail(error) => Err(error),
            Fault::DoneButReported(error) => {
                call();
                Err(error)
            }
        }
    }
}

/// A [`SecretStore`] in memory.
#[derive(Default)]
pub struct MemorySecretStore {
    key: Mutex<Option<Zeroizing<[u8; 32]>>>,
    script: Script,
}

impl MemorySecretStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the next calls do.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.script.calls).extend(faults);
    }

    /// Forgets the key: a wiped keychain.
    pub fn wipe(&self) {
        *lock(&self.key) = None;
    }
}

#[async_trait]
impl SecretStore for MemorySecretStore {
    async fn read(&self) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
        self.script.run(|| lock(&self.key).clone())
    }

    async fn write(&self, key: &[u8; 32]) -> Result<(), StoreError> {
        self.script.run(|| *lock(&self.key) = Some(Zeroizing::new(*key)))
    }
}

/// A [`BlobStore`] in memory.
#[derive(Default)]
pub struct MemoryBlobStore {
    blobs: Mutex<HashMap<BlobSlot, Vec<u8>>>,
    script: Script,
}

impl MemoryBlobStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the next calls do.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.script.calls).extend(faults);
    }

    /// What the next writes and deletes do.
    pub fn script_changes(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.script.changes).extend(faults);
    }

    /// Whether writes or deletes are still scripted.
    #[must_use]
    pub fn has_changes_scripted(&self) -> bool {
        !lock(&self.script.changes).is_empty()
    }

    /// The bytes of a slot as they are: to copy a device, or to damage it.
    #[must_use]
    pub fn peek(&self, slot: BlobSlot) -> Option<Vec<u8>> {
        lock(&self.blobs).get(&slot).cloned()
    }

    /// Puts bytes into a slot, past every script.
    pub fn put(&self, slot: BlobSlot, bytes: Vec<u8>) {
        lock(&self.blobs).insert(slot, bytes);
    }

    /// Empties both slots: a lost device.
    pub fn wipe(&self) {
        lock(&self.blobs).clear();
    }
}

#[async_trait]
impl BlobStore for MemoryBlobStore {
    async fn read(&self, slot: BlobSlot) -> Result<Option<Vec<u8>>, StoreError> {
        self.script.run(|| self.peek(slot))
    }

    async fn write(&self, slot: BlobSlot, bytes: &[u8]) -> Result<(), StoreError> {
        self.script.change(|| self.put(slot, bytes.to_vec()))
    }

    async fn delete(&self, slot: BlobSlot) -> Result<(), StoreError> {
        self.script.change(|| {
            lock(&self.blobs).remove(&slot);
        })
    }
}

/// A [`Clock`] that moves only when told.
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Stands at `now_ms`.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Moves on.
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
