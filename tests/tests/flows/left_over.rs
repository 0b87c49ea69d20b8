//! What lies in the pending slot may be the only share of something that the server has made Active: nothing else takes
//! its place before that is settled.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use halfkey_api::route;
use halfkey_client::{BlobSlot, Error, OldDevices, Resumed, StorageReason};
use halfkey_envelope::wallet::Method;
use halfkey_server::store::Store;

use crate::{
    signs,
    world::{Loss, OTHER_PASSWORD, PASSWORD, Phone, World, backup_with, recover, with, with_code},
};

/// A phone whose wallet was created, but which has not heard so.
async fn created_unheard(world: &World, token: &str) -> Phone {
    let count = world.phone(&world.client().await);
    count.halfkey.create_wallet().await.unwrap();
    let phone = world.phone(token);
    phone.network.lose(count.network.sent() - 1, Loss::Answer);
    assert!(matches!(phone.halfkey.create_wallet().await, Err(Error::Transport(_))));
    phone
}

/// From now on the answer to the `nth` ceremony step (from 1) is spoilt.
fn spoil_step(phone: &Phone, nth: usize) {
    let steps = Arc::new(AtomicUsize::new(0));
    phone.network.tamper(move |path, body| {
        let spoilt = path == route::CEREMONIES && steps.fetch_add(1, Ordering::SeqCst) + 1 == nth;
        if spoilt { Vec::new() } else { body }
    });
}

#[tokio::test]
async fn a_created_wallet_is_not_given_up_for_another_account_or_a_recovery() {
    let world = World::start().await;
    let token = world.client().await;
    let phone = created_unheard(&world, &token).await;
    let stranger = phone.signed_in_as(&world.client().await);
    let other_owner = Error::Storage(StorageReason::OtherOwner);
    assert_eq!(stranger.halfkey.resume().await, Err(other_owner.clone()));
    assert_eq!(stranger.halfkey.create_wallet().await, Err(other_owner.clone()));
    assert_eq!(recover(&stranger, with(PASSWORD), OldDevices::Keep, None).await, Err(other_owner));

    let phone = phone.restarted();
    assert_eq!(recover(&phone, with(PASSWORD), OldDevices::Keep, None).await, Err(Error::NotBackedUp));
    let addresses = phone.halfkey.addresses().await.unwrap();
    signs(&phone, &addresses).await.unwrap();
}

#[tokio::test]
async fn a_committed_recovery_is_not_given_up_for_the_next() {
    let world = World::start().await;
    let token = world.client().await;
    let old = world.phone(&token);
    let addresses = old.halfkey.create_wallet().await.unwrap();
    old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    old.halfkey.backup_wallet(halfkey_client::BackupMethod::RecoveryCode).await.unwrap();

    let new = world.phone(&token);
    spoil_step(&new, 5);
    recover(&new, with(PASSWORD), OldDevices::Revoke, None).await.unwrap_err();
    new.network.honest();
    let new = new.restarted();
    assert_eq!(recover(&new, with_code("rubbish"), OldDevices::Keep, None).await, Err(Error::NotACode));
    assert_eq!(new.halfkey.addresses().await.unwrap(), addresses);
    signs(&new, &addresses).await.unwrap();
}

#[tokio::test]
async fn a_recovery_whose_device_was_revoked_with_it_blocks_no_other() {
    let world = World::start().await;
    let token = world.client().await;
    let old = world.phone(&token);
    let addresses = old.halfkey.create_wallet().await.unwrap();
    old.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    old.halfkey.backup_wallet(halfkey_client::BackupMethod::RecoveryCode).await.unwrap();
    let code = old.paper.code.lock().unwrap().clone().unwrap();

    let begin_and_cancel = async |phone: &Phone| {
        spoil_step(phone, 1);
        recover(phone, with_code(&code), OldDevices::Keep, None).await.unwrap_err();
        phone.network.honest();
        let open = old.halfkey.recoveries().await.unwrap();
        old.halfkey.cancel_recovery(open[0].id).await.unwrap();
    };
    let new = world.phone(&token);
    begin_and_cancel(&new).await;
    assert_eq!(
        recover(&new, with_code(&code), OldDevices::Keep, None).await,
        Err(Error::Frozen),
        "a new one was asked for"
    );
    let recovered = recover(&new.restarted(), with(PASSWORD), OldDevices::Keep, None).await.unwrap();
    assert_eq!(recovered.addresses, addresses);

    old.halfkey.backup_wallet(halfkey_client::BackupMethod::RecoveryCode).await.unwrap();
    let code = old.paper.code.lock().unwrap().clone().unwrap();
    let third = world.phone(&token);
    spoil_step(&third, 1);
    recover(&third, with_code(&code), OldDevices::Keep, None).await.unwrap_err();
    third.network.honest();
    let open = old.halfkey.recoveries().await.unwrap();
    old.halfkey.cancel_recovery(open[0].id).await.unwrap();
    assert_eq!(third.restarted().halfkey.resume().await, Ok(Resumed::RecoveryDiscarded));
}

#[tokio::test]
async fn a_device_that_lost_its_wrapping_key_recovers_its_wallet() {
    let world = World::start().await;
    let phone = world.phone(&world.client().await);
    let addresses = phone.halfkey.create_wallet().await.unwrap();
    phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
    let sealed = phone.blobs.peek(BlobSlot::Current).unwrap();
    phone.secrets.wipe();
    let lost = Error::Storage(StorageReason::WrappingKey);
    assert_eq!(phone.halfkey.addresses().await, Err(lost.clone()));
    assert_eq!(phone.halfkey.create_wallet().await, Err(lost));
    let wrong = recover(&phone, with(OTHER_PASSWORD), OldDevices::Revoke, None).await;
    assert!(matches!(wrong, Err(Error::WrongSecret { .. })), "{wrong:?}");
    assert!(phone.blobs.peek(BlobSlot::Current).unwrap() == sealed, "untouched until the commit");
    let recovered = recover(&phone.restarted(), with(PASSWORD), OldDevices::Revoke, None).await.unwrap();
    assert_eq!(recovered.addresses, addresses);
    recovered.fresh_backup.unwrap();
    signs(&phone, &addresses).await.unwrap();
}

/// METHODS.md B: the registration of a backup that never counted goes too, and a keeper that is away is told later.
#[tokio::test]
async fn the_door_of_an_abandoned_backup_is_closed() {
    for keeper_is_there in [true, false] {
        let world = World::start().await;
        let phone = world.phone(&world.client().await);
        phone.halfkey.create_wallet().await.unwrap();
        let before = phone.network.sent();
        phone.halfkey.backup_wallet(backup_with(PASSWORD)).await.unwrap();
        let last = phone.network.sent() - before - 1;
        phone.network.lose(last, Loss::Request);
        phone.halfkey.backup_wallet(backup_with(OTHER_PASSWORD)).await.unwrap_err();
        assert_eq!(phone.restarted().halfkey.resume().await, Ok(Resumed::BackupDiscarded(Method::Password)));
        if !keeper_is_there {
            world.keeper.abort();
        }
        world.state.housekeep().await;
        let database = format!("sqlite:{}", world.folder.path().join("server/halfkey.db").display());
        let left = Store::connect(&database).await.unwrap().doors_to_close(9).await.unwrap();
        assert_eq!(left.len(), usize::from(!keeper_is_there));
        if keeper_is_there {
            phone.halfkey.verify_backup(with(PASSWORD)).await.unwrap();
        }
    }
}
