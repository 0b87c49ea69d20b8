//! Stores in memory, with scripted faults: for tests, and for apps that try things out. They keep nothing.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    host::{
        BlobSlot, BlobStore, Clock, CustomError, CustomMethod, SecretStore, StoreError, SyncedError, SyncedSecretStore,
        Timer,
    },
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

/// A [`Timer`] that lets no time pass, and notes what it was asked for.
#[derive(Default)]
pub struct NotingTimer(Mutex<Vec<u64>>);

impl NotingTimer {
    /// The waits that were asked for since the last call, in milliseconds.
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *lock(&self.0))
    }
}

#[async_trait]
impl Timer for NotingTimer {
    async fn wait(&self, ms: u64) {
        lock(&self.0).push(ms);
    }
}

/// One device's view of a user's synchronised items, in memory. Other devices of the user are made with
/// [`Self::another_device`]; what one adds the others see at once, unless synchronisation is held back.
pub struct MemorySyncedStore {
    account: Arc<Mutex<SyncedAccount>>,
    device: u64,
    faults: Mutex<VecDeque<Option<SyncedError>>>,
}

#[derive(Default)]
struct SyncedAccount {
    items: Vec<SyncedItem>,
    devices: u64,
    held_back: bool,
}

struct SyncedItem {
    name: String,
    value: Vec<u8>,
    /// `None`: on every device.
    only_on: Option<u64>,
}

impl Default for MemorySyncedStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemorySyncedStore {
    /// The first device of a user who has no items yet.
    #[must_use]
    pub fn new() -> Self {
        Self { account: Arc::default(), device: 0, faults: Mutex::default() }
    }

    /// Another device of the same user.
    #[must_use]
    pub fn another_device(&self) -> Self {
        let mut account = lock(&self.account);
        account.devices += 1;
        Self { account: Arc::clone(&self.account), device: account.devices, faults: Mutex::default() }
    }

    /// What the next calls on this device do: `None` lets one work.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<SyncedError>>) {
        lock(&self.faults).extend(faults);
    }

    /// Whether new items stay on the device that adds them: synchronisation is off, or slow.
    pub fn hold_back(&self, held_back: bool) {
        lock(&self.account).held_back = held_back;
    }

    /// What was held back reaches every device.
    pub fn synchronise(&self) {
        lock(&self.account).items.iter_mut().for_each(|item| item.only_on = None);
    }

    /// Another device of the user deletes everything.
    pub fn delete_everywhere(&self) {
        lock(&self.account).items.clear();
    }

    /// Adds an item past every rule: beside one of the same name, if there is one.
    pub fn plant(&self, name: &str, value: &[u8]) {
        let item = SyncedItem { name: name.to_owned(), value: value.to_vec(), only_on: None };
        lock(&self.account).items.insert(0, item);
    }

    /// Names and values of all items, on whatever device.
    #[must_use]
    pub fn items(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.account).items.iter().map(|item| (item.name.clone(), item.value.clone())).collect()
    }

    /// Changes every value.
    pub fn damage(&self, change: impl Fn(&mut Vec<u8>)) {
        lock(&self.account).items.iter_mut().for_each(|item| change(&mut item.value));
    }

    fn obey<T>(&self, call: impl FnOnce(&mut SyncedAccount) -> T) -> Result<T, SyncedError> {
        match lock(&self.faults).pop_front().flatten() {
            Some(error) => Err(error),
            None => Ok(call(&mut lock(&self.account))),
        }
    }

    fn sees(&self, item: &SyncedItem) -> bool {
        item.only_on.is_none_or(|device| device == self.device)
    }
}

#[async_trait]
impl SyncedSecretStore for MemorySyncedStore {
    async fn put(&self, name: &str, value: &[u8]) -> Result<(), SyncedError> {
        self.obey(|account| {
            let there = account.items.iter().any(|item| item.name == name && item.value == value && self.sees(item));
            if !there {
                let only_on = account.held_back.then_some(self.device);
                account.items.push(SyncedItem { name: name.to_owned(), value: value.to_vec(), only_on });
            }
        })
    }

    async fn get(&self, name: &str) -> Result<Vec<Vec<u8>>, SyncedError> {
        self.obey(|account| {
            let found = account.items.iter().filter(|item| item.name == name && self.sees(item));
            found.map(|item| item.value.clone()).collect()
        })
    }

    async fn delete(&self, name: &str) -> Result<(), SyncedError> {
        self.obey(|account| account.items.retain(|item| item.name != name))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, SyncedError> {
        self.obey(|account| {
            let found = account.items.iter().filter(|item| item.name.starts_with(prefix) && self.sees(item));
            found.map(|item| item.name.clone()).collect::<BTreeSet<_>>().into_iter().collect()
        })
    }
}

/// Names and contents.
type Records = Vec<(String, Vec<u8>)>;

/// A [`CustomMethod`] in memory. Clones are one store.
#[derive(Clone, Default)]
pub struct MemoryCustomStore {
    records: Arc<Mutex<Records>>,
    faults: Arc<Mutex<VecDeque<Option<CustomError>>>>,
}

impl MemoryCustomStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the next calls do: `None` lets one work.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<CustomError>>) {
        lock(&self.faults).extend(faults);
    }

    /// Names and contents of all records.
    #[must_use]
    pub fn records(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.records).clone()
    }

    /// Adds a record past every rule: beside one of the same name, if there is one.
    pub fn plant(&self, name: &str, record: &[u8]) {
        lock(&self.records).insert(0, (name.to_owned(), record.to_vec()));
    }

    /// Deletes everything.
    pub fn wipe(&self) {
        lock(&self.records).clear();
    }

    /// Changes every record.
    pub fn damage(&self, change: impl Fn(&mut Vec<u8>)) {
        lock(&self.records).iter_mut().for_each(|(_, record)| change(record));
    }

    fn obey<T>(&self, call: impl FnOnce(&mut Records) -> T) -> Result<T, CustomError> {
        match lock(&self.faults).pop_front().flatten() {
            Some(error) => Err(error),
            None => Ok(call(&mut lock(&self.records))),
        }
    }
}

#[async_trait]
impl CustomMethod for MemoryCustomStore {
    async fn put(&self, name: &str, record: &[u8]) -> Result<(), CustomError> {
        self.obey(|records| {
            if !records.iter().any(|(known, there)| known == name && there == record) {
                records.push((name.to_owned(), record.to_vec()));
            }
        })
    }

    async fn get(&self, name: &str) -> Result<Vec<Vec<u8>>, CustomError> {
        self.obey(|records| {
            let found = records.iter().filter(|(known, _)| known == name);
            found.map(|(_, record)| record.clone()).collect()
        })
    }

    async fn delete(&self, name: &str) -> Result<(), CustomError> {
        self.obey(|records| records.retain(|(known, _)| known != name))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, CustomError> {
        self.obey(|records| {
            let found = records.iter().filter(|(name, _)| name.starts_with(prefix));
            found.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>().into_iter().collect()
        })
    }
}
