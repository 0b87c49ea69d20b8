//! A store that fails at each write and each delete: a typed error, and nothing is lost.

use halfkey_client::{
    BlobSlot, Error, OldDevices, Resumed, StorageReason, StoreError,
    memory::{Fault, MemoryBlobStore},
};

use super::{
    signs,
    world::{OTHER_PASSWORD, PASSWORD, World, backup_with, recover, with},
};

const BROKEN: Error = Error::Storage(StorageReason::Store(StoreError::Unavailable));

/// Nothing was done, or it was done and reported as failed.
const FAULTS: [Fault; 2] = [Fault::Fail(StoreError::Unavailable), Fault::DoneButReported(StoreError::Unavailable)];

/// The `nth` write or delete from now on fails (counted from 0).
fn break_change(blobs: &MemoryBlobStore, nth: usize, fault: Fault) {
    blobs.script_changes((0..nth).map(|_| Fault::None).chain([fault]));
}

/// Every fault at every change, as long as the call makes so many.
struct Changes {
    nth: usize,
    fault: usize,
}

impl Changes {
    const fn new() -> Self {
        Self { nth: 0, fault: 0 }
    }

    /// Breaks the next one.
    fn scripted(&self, blobs: &MemoryBlobStore) -> String {
        break_change(blobs, self.nth, FAULTS[self.fault]);
        format!("change {} {:?}", self.nth, FAULTS[self.fault])
    }

    /// Goes on, unless the call has made no such change. Says whether all was tried.
    fn over(&mut self, blobs: &MemoryBlobStore) -> bool {
        if blobs.has_changes_scripted() {
            return true;
        }
        self.fault = (self.fault + 1) % FAULTS.len();
        self.nth += usize::from(self.fault == 0);
        false
    }
}

#[tokio::test]
async fn a_creation_survives_a_store_that_fails_at_any_change() {
    let world = World::start().await;
    let mut changes = Changes::new();
    loop {
        let phone = world.phone(&world.client().await);
        let which = changes.scripted(&phone.blobs);
        let result = phone.halfkey.create_wallet().await;
        if changes.over(&phone.blobs) {
            result.unwrap();
            break;
        }
        assert_eq!(result, Err(BROKEN), "{which}");
        let phone = phone.restarted();
        let resumed = phone.halfkey.resume().await.unwrap_or_else(|error| panic!("{which}: {error:?}"));
        if !phone.halfkey.is_wallet_on_device().await.unwrap() {
            let created = phone.halfkey.create_wallet().await;
            created.unwrap_or_else(|error| panic!("{which} after {resumed:?}: {error:?}"));
        }
        let addresses = phone.halfkey.addresses().await.unwrap();
        signs(&phone, &addresses).await.unwrap();
        assert_eq!(phone.blobs.peek(BlobSlot::Pending), None, "{which}");
        assert_eq!(phone.halfkey.resume().await, Ok(Resumed::Nothing), "{which}");
    }
    assert!(changes.nth >= 5, "only {} changes", changes.nth);
}

#[tokio::test]
async fn a_backup_survives_a_store_that_fails_at_any_change() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = world.phone(&token);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let mut changes = Changes::new();
    loop {
        let which = changes.scripted(&phone.blobs);
        let result = phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await;
        if changes.over(&phone.blobs) {
            result.unwrap();
            break;
        }
        assert_eq!(result.map(|_| ()), Err(BROKEN), "{which}");
        // The backup that the server committed last is the one that opens, before anything is put in order and after.
        let again = phone.restarted();
        signs(&again, &addresses).await.unwrap();
        let committed = match again.halfkey.resume().await.unwrap() {
            Resumed::BackupCompleted(_) => true,
            Resumed::BackupDiscarded(_) => false,
            Resumed::Nothing => again.halfkey.verify_backup(with(OTHER_PASSWORD)).await.is_ok(),
            other => panic!("{which}: {other:?}"),
        };
        let opens = if committed { OTHER_PASSWORD } else { PASSWORD };
        let new = world.phone(&token);
        let recovered = recover(&new, with(opens), OldDevices::Keep, Some(addresses.clone())).await;
        recovered.unwrap_or_else(|error| panic!("{which}: {error:?}"));
        signs(&again, &addresses).await.unwrap();
        again.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    }
    assert!(changes.nth >= 2, "only {} changes", changes.nth);
}

#[tokio::test]
async fn a_recovery_survives_a_store_that_fails_at_any_change() {
    let world = World::start().await;
    let token = world.client().await;
    let first = world.phone(&token);
    let addresses = first.halfkey.create_wallet().await.unwrap();
    first.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let mut changes = Changes::new();
    loop {
        let phone = world.phone(&token);
        let which = changes.scripted(&phone.blobs);
        let result = recover(&phone, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await;
        if changes.over(&phone.blobs) {
            result.unwrap().fresh_backup.unwrap();
            break;
        }
        // The wallet is recovered even if its fresh backup is not made; what failed is told either way.
        let told = match result {
            Ok(recovered) => recovered.fresh_backup.map(|_| ()),
            Err(error) => Err(error),
        };
        assert_eq!(told, Err(BROKEN), "{which}");
        let phone = phone.restarted();
        let resumed = phone.halfkey.resume().await.unwrap_or_else(|error| panic!("{which}: {error:?}"));
        if !phone.halfkey.is_wallet_on_device().await.unwrap() {
            let recovered = recover(&phone, with(PASSWORD), OldDevices::Keep, Some(addresses.clone())).await;
            recovered.unwrap_or_else(|error| panic!("{which} after {resumed:?}: {error:?}"));
        }
        assert_eq!(phone.halfkey.addresses().await.unwrap(), addresses);
        signs(&phone, &addresses).await.unwrap();
        assert_eq!(phone.blobs.peek(BlobSlot::Pending), None, "{which}");
        assert_eq!(phone.halfkey.resume().await, Ok(Resumed::Nothing), "{which}");
        phone.halfkey.verify_backup(with(PASSWORD)).await.unwrap_or_else(|error| panic!("{which}: {error:?}"));
    }
    assert!(changes.nth >= 7, "only {} changes", changes.nth);
}

#[tokio::test]
async fn a_store_that_fails_at_any_read_changes_nothing() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    let before = phone.network.sent();
    let locked = || Fault::Fail(StoreError::Locked);
    let told = Err(Error::Storage(StorageReason::Store(StoreError::Locked)));
    phone.blobs.script([locked()]);
    assert_eq!(phone.halfkey.addresses().await, told);
    phone.secrets.script([locked()]);
    assert_eq!(signs(&phone, &addresses).await.map(|()| addresses.clone()), told);
    phone.secrets.script([locked()]);
    assert_eq!(phone.halfkey.resume().await.map(|_| addresses.clone()), told);
    assert_eq!(phone.network.sent(), before, "the server was not asked");
    signs(&phone, &addresses).await.unwrap();
}
